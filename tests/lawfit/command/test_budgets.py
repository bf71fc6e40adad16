"""isoFLOP slices and frontiers at the command line: what is counted how, what is assumed, what a law lacks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from asking import answer, lawfit

FEW = """budget,width,tokens,loss
1e18,512,5.77e9,3.399
1e18,768,2.33e9,3.364
1e18,1024,9.23e8,3.456
3e18,512,1.73e10,3.298
3e18,768,7.00e9,3.204
3e18,1024,2.77e9,3.224
3e18,1280,1.57e9,3.289
"""
"""marin-community/marin#8003: minima at 2.84e9 and 5.08e9 tokens."""

ONE_OF_TWO = """flops,n_params,loss
1e18,1e7,3.6
1e18,3e7,3.7
1e18,1e8,3.9
3e18,1e7,3.45
3e18,3e7,3.4
3e18,1e8,3.5
"""


def uncounted() -> tuple[pd.DataFrame, np.ndarray]:
    """Slices whose C holds a share that shrinks with N, and the exact minima: C, N*, D*."""

    def along(c: float, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d = c / (6 * n * (1 + (2e7 / n) ** 0.5))
        return d, 1.7 + 400 * n**-0.34 + 900 * d**-0.30

    rows, best = [], []
    for c in (1e17, 1e18, 1e19, 1e20):
        n = np.geomspace(1e6, 1e10, 17)
        d, loss = along(c, n)
        kept = loss < 1.25 * loss.min()
        rows += [*zip(np.full(17, c)[kept], n[kept], d[kept], loss[kept], strict=True)]
        fine = np.geomspace(1e6, 1e10, 400_001)
        d, loss = along(c, fine)
        best.append((c, fine[loss.argmin()], d[loss.argmin()]))
    return pd.DataFrame(rows, columns=["flops", "n_params", "tokens", "loss"]), np.array(best)


def test_two_minima_are_printed_in_tokens_with_what_a_law_needs(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text(FEW)
    asked = ("isoflop", tmp_path / "few.csv", "--x", "tokens", "--budget", "budget")
    found = answer(*asked, "--estimator", "parabola", "--seed-sd", "0")
    assert [valley["d_opt"] for valley in found["valleys"]] == pytest.approx([2.84e9, 5.08e9], rel=5e-3)
    assert [valley["n_opt"] for valley in found["valleys"]] == pytest.approx([5.88e7, 9.83e7], rel=5e-3)
    assert found["n"] is None
    assert found["x"] == {"column": "tokens", "is": "D"}
    text = lawfit(*asked, "--figure", tmp_path / "few.png").stdout
    assert "  C      D*         N* " in text
    assert "D* by parabola: 2.83" in text
    assert "2 budgets have a minimum: D*(C) needs 3, so sizes on both sides of the minimum at 1 more budget" in text
    assert "assumed: N* is C/(6·D*), since no column gives it (--d)" in text
    assert "N*(C)" not in text
    assert (tmp_path / "few.png").stat().st_size > 5000


def test_one_minimum_is_printed_and_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(ONE_OF_TWO)
    done = lawfit("isoflop", tmp_path / "one.csv", "--at", "1e20")
    assert done.returncode == 0
    assert (
        "1 budget has a minimum: N*(C) needs 3, so sizes on both sides of the minimum at 2 more budgets" in done.stdout
    )
    none = lawfit("isoflop", tmp_path / "one.csv", "--filter", "flops < 2e18")
    assert (none.returncode, none.stderr.count("\n")) == (2, 1)
    assert "no budget has a minimum" in none.stderr


def test_what_is_neither_size_nor_data_goes_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text(FEW)
    asked = ("isoflop", tmp_path / "few.csv", "--x", "1*width", "--budget", "budget")
    assert "C      width*  D* " in lawfit(*asked).stdout
    assert [valley["x_opt"] for valley in answer(*asked)["valleys"]] == pytest.approx([679, 820], rel=0.01)
    bare = lawfit("isoflop", tmp_path / "few.csv", "--x", "2*width + 0", "--budget", "budget").stdout
    assert "minima of loss over x (2*width + 0)" in bare


@pytest.mark.parametrize(("counted", "span"), [(1.0, "1.04 to 5.47"), (1 / 6, "0.174 to 0.912")])
def test_tokens_of_the_table_are_used_however_compute_is_counted(tmp_path: Path, counted: float, span: str) -> None:
    table, best = uncounted()
    table.assign(flops=counted * table["flops"]).to_csv(tmp_path / "slices.csv", index=False)
    found = answer("isoflop", tmp_path / "slices.csv")
    assert found["estimator"] == "surface"
    assert [valley["n_opt"] for valley in found["valleys"]] == pytest.approx(list(best[:, 1]), rel=2e-3)
    assert [valley["d_opt"] for valley in found["valleys"]] == pytest.approx(list(best[:, 2]), rel=2e-3)
    for name, column in (("n", 1), ("d", 2)):
        truth = np.polyfit(np.log(best[:, 0]), np.log(best[:, column]), 1)[0]
        assert found[name]["exponent"] == pytest.approx(truth, abs=5e-4)
        low, high = found[name]["exponent_interval"]
        assert low < truth < high
    assert any(f"C is {span} times 6·N·D: tokens are those of the table" in line for line in found["warnings"])
    by_data = answer("isoflop", tmp_path / "slices.csv", "--x", "tokens")
    assert [valley["n_opt"] for valley in by_data["valleys"]] == pytest.approx(list(best[:, 1]), rel=1e-2)


def test_tokens_with_gaps_are_not_used_and_that_is_said(tmp_path: Path) -> None:
    table, _ = uncounted()
    table.assign(tokens=[np.nan, *table["tokens"][1:]]).to_csv(tmp_path / "gaps.csv", index=False)
    found = answer("isoflop", tmp_path / "gaps.csv", "--estimator", "akima")
    assert any("column 'tokens' has no number in 1 of" in line for line in found["warnings"])
    first = found["valleys"][0]
    assert first["d_opt"] == pytest.approx(first["budget"] / (6 * first["n_opt"]), rel=1e-9)


def test_the_plain_procedure_is_polyfit_twice(tmp_path: Path) -> None:
    rows = [
        (c, n, np.exp(0.02 * np.log(n / (0.02 * c**0.6)) ** 2 + 1 + 0.01 * np.sin(7 * i + k)))
        for k, c in enumerate((1e18, 1e19, 1e20, 1e21))
        for i, n in enumerate(0.02 * c**0.6 * np.geomspace(0.1, 4 + 3 * k, 6 + k))
    ]
    table = pd.DataFrame(rows, columns=["flops", "n_params", "loss"])
    table.to_csv(tmp_path / "slices.csv", index=False)
    best = []
    for c, part in table.groupby("flops"):
        curve, slope, _ = np.polyfit(np.log(part["n_params"]), np.log(part["loss"]), 2)
        best.append((np.log(c), -slope / (2 * curve)))
    truth = np.polyfit(*zip(*best, strict=True), 1)[0]
    asked = ("isoflop", tmp_path / "slices.csv", "--estimator", "parabola")
    plain = answer(*asked, "--seed-sd", "0", "--weights", "equal")
    assert plain["n"]["exponent"] == pytest.approx(truth, abs=1e-9)
    assert not any("between seeds" in line for line in plain["assumptions"])
    weighted = lawfit(*asked).stdout
    assert "assumed: the loss varies by 0.002 between seeds (--seed-sd)" in weighted
    assert "assumed: minima weigh 1/error² (--weights)" in weighted


def test_a_frontier_of_fewer_than_three_runs_has_no_interval(tmp_path: Path) -> None:
    grid = [(n, d) for n in np.geomspace(1e6, 1e9, 8) for d in np.geomspace(1e8, 1e10, 10)]
    table = pd.DataFrame(grid, columns=["n_params", "tokens"])
    table["flops"], table["run"] = 6 * table["n_params"] * table["tokens"], "sweep"
    table["loss"] = 1.7 + 100 * table["n_params"] ** -0.34 + 900 * table["tokens"] ** -0.3
    table.to_csv(tmp_path / "one.csv", index=False)
    found = answer("frontier", tmp_path / "one.csv", "--replicates", "50")
    assert found["n"]["exponent_interval"] == [None, None]
    assert any(line.startswith("1 run behind 80 points") for line in found["warnings"])
    assert "N* = " in lawfit("frontier", tmp_path / "one.csv", "--replicates", "50").stdout


def test_published_procedures_go_by_name_and_exclude_their_options(tmp_path: Path) -> None:
    uncounted()[0].to_csv(tmp_path / "slices.csv", index=False)
    named = answer("isoflop", tmp_path / "slices.csv", "--as", "porian")
    by_hand = answer("isoflop", tmp_path / "slices.csv", "--estimator", "akima", "--seed-sd", "0.002")
    assert named["n"] == by_hand["n"]
    assert named["assumptions"][0].startswith("as Porian et al. 2024")
    for arguments, message in (
        (("--as", "porian", "--seed-sd", "0"), "--as porian sets seed_sd: give it or --seed-sd, not both"),
        (("--as", "gemstones"), "--as gemstones: it is one of frontier; isoflop has porian"),
        (("--as", "llama3"), "--as llama3: its published numbers do not come out of public measurements"),
        (("--as", "nobody"), "--as nobody: unknown; isoflop has porian"),
        (("--weights", "none"), "weights 'none' are unknown: expected one of variance, equal"),
        (("--at", "nan"), "--at is nan: expected a positive, finite number"),
    ):
        done = lawfit("isoflop", tmp_path / "slices.csv", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
