"""The command line: answers, strict JSON, one-line errors and exit codes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from asking import answer, lawfit


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 runs of a surface: n_params, tokens, flops, loss, keep, seed."""
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e10, 4)))
    loss = (1.7 + 400 * n**-0.34 + 2000 * d**-0.37) * np.exp(0.002 * np.random.default_rng(0).standard_normal(24))
    table = pd.DataFrame({"n_params": n.astype(int), "tokens": d.astype(int), "loss": loss, "keep": [1, 1, 1, 0] * 6})
    path = tmp_path_factory.mktemp("cli") / "runs.csv"
    table.assign(flops=6 * n * d, params_M=n / 1e6).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        (f"r{i}", n, d, 6 * n * d, 1.7 + 400 * n**-0.34 + 2000 * d**-0.37)
        for i, n in enumerate(np.geomspace(1e7, 1e9, 8))
        for d in np.geomspace(1e8, 1e11, 30)
    ]
    path = tmp_path_factory.mktemp("cli") / "curves.parquet"
    pd.DataFrame(rows, columns=["run", "n_params", "tokens", "flops", "loss"]).to_parquet(path)
    return path


def test_a_fit_prints_parameters_intervals_objective_and_certificate(runs: Path) -> None:
    found = answer("fit", runs, "--form", "chinchilla", "--n", "n_params", "--d", "tokens", "--y", "loss",
                   "--loss", "huber", "--delta", "1e-3", "--replicates", "100")  # fmt: skip
    assert found["parameters"]["alpha"] == pytest.approx(0.34, abs=0.03)
    assert set(found["intervals"]) == {"E", "A", "B", "alpha", "beta"}
    assert found["reference"]["amplitudes"]["A"] < 2 < found["parameters"]["A"]
    assert found["certificate"]["status"] == "certified"
    assert found["objective"] > 0
    assert (found["loss"], found["delta"]) == ("huber", 1e-3)
    assert {other["loss"] for other in found["alternatives"]} >= {"squared", "lad"}


def test_columns_are_computed_and_rows_filtered(runs: Path) -> None:
    named = answer("fit", runs, "--x", "flops", "--form", "power", "--filter", "keep == 1", "--replicates", "50")
    computed = answer("fit", runs, "--x", "6*n_params*tokens", "--form", "power", "--filter", "keep == 1 and loss < 9",
                      "--replicates", "50")  # fmt: skip
    assert named["n"] == 18
    assert computed["parameters"]["alpha"] == pytest.approx(named["parameters"]["alpha"], rel=1e-5)


def test_repeated_tokens_are_a_column_of_their_own(tmp_path: Path) -> None:
    n, d, epochs = (a.ravel() for a in np.meshgrid([1e7, 1e8, 1e9], [1e9, 1e10, 1e11], [1.0, 4.0, 16.0]))
    table = pd.DataFrame({"n_params": n, "tokens": d, "unique": d / epochs})
    effective = table["unique"] * (1 + 15.4 * (1 - np.exp(-(epochs - 1) / 15.4)))
    table["loss"] = 1.8 + 480 / n**0.35 + 2000 / effective**0.37
    table.to_csv(tmp_path / "repeated.csv", index=False)
    asked = ("fit", tmp_path / "repeated.csv", "--form", "data_constrained", "--n", "n_params", "--d", "tokens")
    found = answer(*asked, "--u", "unique", "--replicates", "50")
    assert set(found["parameters"]) == {"E", "A", "B", "alpha", "beta", "R_D", "R_N"}
    refused = lawfit(*asked)
    assert refused.returncode == 2
    assert "needs --u COLUMN" in refused.stderr


def test_people_read_the_same_answer(runs: Path) -> None:
    text = lawfit("fit", runs, "--x", "n_params", "--form", "power", "--replicates", "50").stdout
    for phrase in ("A·x^-alpha", "parameter", "alpha", "certified optimum", "beside it:", "lad"):
        assert phrase in text


def test_a_frontier_names_its_definition_and_the_others(curves: Path) -> None:
    found = answer("frontier", curves, "--x", "flops", "--y", "loss", "--run", "run", "--replicates", "50")
    assert found["method"] == "hull"
    assert set(found["alternatives"]) == {"binned", "pareto"}
    assert found["n"]["exponent"] + found["d"]["exponent"] == pytest.approx(1, abs=0.02)
    assert "hull frontier:" in lawfit("frontier", curves, "--replicates", "50").stdout
    assert answer("frontier", curves, "--method", "binned", "--replicates", "50")["method"] == "binned"


def test_isoflop_prints_valleys_and_names_refusals(tmp_path: Path) -> None:
    rows = [
        (c, n, np.exp(1 + 0.02 * np.log(n / (10 * c**0.5)) ** 2))
        for c in (1e18, 1e19, 1e20, 1e21)
        for n in 10 * c**0.5 * np.geomspace(0.2, 1 if c == 1e18 else 4, 7)
    ]
    path = tmp_path / "iso.csv"
    pd.DataFrame(rows, columns=["flops", "n_params", "loss"]).to_csv(path, index=False)
    found = answer("isoflop", path, "--x", "n_params", "--y", "loss", "--budget", "flops", "--at", "1e22")
    assert [valley["budget"] for valley in found["valleys"]] == [1e19, 1e20, 1e21]
    assert "largest: add larger models" in found["unbracketed"][0]["reason"]
    assert found["n"]["exponent"] == pytest.approx(0.5, abs=0.01)
    assert found["optima"][-1]["n"] == pytest.approx(10 * 1e22**0.5, rel=0.1)
    assert set(found["alternatives"]) == {"parabola", "surface"}
    text = lawfit("isoflop", path).stdout
    assert "note: no minimum at C = 1e+18" in text


def test_a_forecast_lists_what_would_have_been_said_before(runs: Path) -> None:
    found = answer("forecast", runs, "--n", "n_params", "--d", "tokens", "--at", "N=1e10,D=1e11")
    assert found["interval"][0] < found["y"] < found["interval"][1]
    assert found["back_tests"]
    one = lawfit("forecast", runs, "--x", "flops", "--at", "1e21")
    assert "known runs, each forecast from the smaller ones:" in one.stdout


def test_two_studies_are_compared(runs: Path, tmp_path: Path) -> None:
    table = pd.read_csv(runs)
    table.assign(loss=table["loss"] * (table["flops"] / 1e17) ** -0.02).to_csv(tmp_path / "b.csv", index=False)
    found = answer("compare", runs, tmp_path / "b.csv", "--x", "flops", "--form", "power", "--replicates", "400")
    (alpha,) = found["comparisons"]
    assert alpha["difference"] == pytest.approx(0.02, rel=0.01)
    assert alpha["p"] < 0.05
    assert alpha["paired"]


def test_next_runs_and_what_if_answer(runs: Path) -> None:
    surface = ("--n", "n_params", "--d", "tokens")
    found = answer("next-runs", runs, *surface, "--at", "N=1e10,D=1e11", "--budget", "1e19")
    assert len(found["runs"]) == 5
    assert all(run["cost"] <= 1e19 for run in found["runs"])
    needed = answer("what-if", runs, *surface, "--target", "2.3", "--replicates", "200")
    assert needed["status"] == "reachable"
    assert "not reachable" in lawfit("what-if", runs, *surface, "--target", "0.5", "--replicates", "200").stdout


def test_a_size_law_is_priced_by_a_column(runs: Path) -> None:
    found = answer("next-runs", runs, "--x", "n_params", "--form", "power", "--at", "1e10", "--budget", "1e19",
                   "--cost", "flops")  # fmt: skip
    assert all(1e14 < run["cost"] <= 1e19 for run in found["runs"])


def test_answers_come_with_their_picture(runs: Path, curves: Path, tmp_path: Path) -> None:
    size, few = ("--x", "n_params", "--form", "power"), ("--replicates", "50")
    rows = [(c, n, np.exp(1 + 0.02 * np.log(n / c**0.5) ** 2)) for c in (1e18, 1e19, 1e20)
            for n in c**0.5 * np.geomspace(0.1, 10, 5)]  # fmt: skip
    slices = tmp_path.with_suffix(".csv")
    pd.DataFrame(rows, columns=["flops", "n_params", "loss"]).to_csv(slices, index=False)
    commands = {
        "law.png": ("fit", runs, *size, *few),
        "surface.pdf": ("fit", runs, "--form", "chinchilla", *few),
        "curves.svg": ("frontier", curves, *few),
        "forecast.png": ("forecast", runs, *size, "--at", "1e10"),
        "valleys.svg": ("isoflop", slices, "--estimator", "parabola"),
    }
    for name, command in commands.items():
        done = lawfit(*command, "--figure", tmp_path / name)
        assert (done.returncode, done.stderr.strip()) == (0, str(tmp_path / name))
        assert (tmp_path / name).stat().st_size > 5000
    assert {path.name for path in tmp_path.iterdir()} == set(commands)
    refused = lawfit("fit", runs, *size, *few, "--figure", tmp_path / "law.gif")
    assert refused.returncode == 2
    assert "pictures are written as one of .png, .svg, .pdf" in refused.stderr


def test_mlflow_runs_are_data_too(writer: Any, quick: Any, tmp_path: Path) -> None:
    found = answer("fit", f"{writer.uri}#quick", "--x", "n_params", "--form", "power", "--replicates", "50")
    assert found["n"] == 6
    other = answer("fit", "quick", "--tracking-uri", writer.uri, "--x", "n_params", "--form", "power",
                   "--replicates", "50")  # fmt: skip
    assert other["parameters"] == found["parameters"]
    frontier = answer("frontier", f"{writer.uri}#quick", "--method", "binned", "--replicates", "50")
    assert frontier["points"][-1]["run"] == "d6-s0"
    done = lawfit("report", f"{writer.uri}#quick", "--out", tmp_path / "report", "--replicates", "50")
    assert done.returncode == 0, done.stderr
    assert "falls as N^-0.0490" in done.stdout
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fit", "none.csv", "--x", "a"), 2, "none.csv: no such file"),
        (("fit", "RUNS"), 2, "give --x COLUMN, or --n and --d: the table has n_params"),
        (("fit", "RUNS", "--x", "n_parms"), 2, "column 'n_parms' is missing, did you mean 'n_params'?"),
        (("fit", "RUNS", "--n", "params_M", "--d", "tokens"), 2, "not in single params: use '1e6*params_M'"),
        (("fit", "RUNS", "--x", "n_params", "--form", "cubic"), 2, "form 'cubic' is unknown: expected one of"),
        (("fit", "RUNS", "--x", "n_params", "--loss", "l3"), 2, "loss 'l3' is unknown"),
        (("fit", "RUNS", "--x", "n_params", "--form", "chinchilla"), 2, "give one or the other"),
        (("fit", "RUNS", "--x", "n_params", "--filter", "n_params < 1.1e6"), 2, "1 distinct x among 4 points"),
        (("fit", "RUNS", "--x", "n_params", "--filter", "keep = 1"), 2, "cannot be read"),
        (("isoflop", "RUNS", "--budget", "tokens", "--x", "keep"), 2, "column 'keep': 1 is below 1,000"),
        (("forecast", "RUNS", "--x", "flops", "--at", "big"), 2, "write x=NUMBER"),
        (("fit", "http://127.0.0.1:9#study", "--x", "n"), 1, "nobody answers"),
        (("fit", "RUNS", "--x", "n_params", "--figure", "a.bmp"), 2, "a.bmp: pictures are written as one of .png"),
        (("compare", "RUNS", "TWO", "--x", "n_params"), 2, "two.csv: 2 distinct x among 2 points"),
        (("compare", "RUNS", "TWO", "--x", "flops"), 2, "two.csv: column 'flops' is missing"),
        (("fit", "TWO", "--x", "n_params", "--y", "val/loss"), 2, "for bits use '`val/loss`*log(2)'"),
        (("fit", "TWO", "--x", "n_params", "--y", "test/bpb"), 2, "use '`test/bpb`*log(2)'"),
        (("fit", "TWO", "--x", "n_params", "--y", "a/b"), 2, "a filter such as '`a/b` > 0'"),
        (("report", "sqlite:///none.db#study"), 2, "no database at none.db"),
    ],
)
def test_errors_are_one_line_with_the_right_exit_code(
    runs: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    two = tmp_path / "two.csv"
    two.write_text("n_params,loss,val/loss,test/bpb,a/b\n1000000,3.2,15,1.2,\n2000000,3.0,14,1.1,2\n")
    files = {"RUNS": str(runs), "TWO": str(two)}
    done = lawfit(*(files.get(part, part) for part in arguments))
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("lawfit: ")


def test_a_process_of_its_own_shows_help_and_with_debug_the_traceback() -> None:
    command = [sys.executable, "-m", "lawfit.command.cli"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    for verb in ("fit", "isoflop", "frontier", "forecast", "compare", "next-runs", "what-if", "report"):
        assert verb in shown.stdout
    failed = subprocess.run([*command, "fit", "none.csv", "--x", "a", "--debug"], capture_output=True, text=True)
    assert "Traceback" in failed.stderr
    assert failed.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["fit"], "Missing argument"), (["fit", "a.csv", "--nope"], "No such option"), (["nope"], "No such command")],
)
def test_a_mistyped_command_is_one_line(arguments: list[str], said: str) -> None:
    done = lawfit(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
