"""Laws at the command line: few runs, rising metrics, ceilings, and answers that there cannot be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from asking import answer, lawfit


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """24 points of an exact power law under two run labels."""
    x = np.geomspace(1e15, 1e20, 24)
    table = pd.DataFrame({"flops": x, "loss": 60 * x**-0.08, "run": ["a", "b"] * 12})
    table.to_csv(tmp_path / "two.csv", index=False)
    return tmp_path / "two.csv"


def test_a_fit_to_two_runs_is_printed_without_intervals(labelled: Path, tmp_path: Path) -> None:
    asked = ("fit", labelled, "--x", "flops", "--form", "power")
    found = answer(*asked)
    assert found["parameters"]["alpha"] == pytest.approx(0.08, rel=1e-6)
    assert found["intervals"]["alpha"] == [None, None]
    done = lawfit(*asked, "--figure", tmp_path / "law.png")
    assert "no interval" in done.stdout
    assert "note: 2 runs behind 24 points" in done.stdout
    assert (tmp_path / "law.png").exists()


def test_other_answers_from_two_runs_have_no_interval_either(labelled: Path) -> None:
    said = answer("forecast", labelled, "--x", "flops", "--form", "power", "--at", "1e22")
    assert said["y"] == pytest.approx(60 * 1e22**-0.08, rel=1e-6)
    assert said["interval"] == [None, None]
    needed = answer("what-if", labelled, "--x", "flops", "--form", "power", "--target", "1.2")
    assert needed["x"] == pytest.approx((60 / 1.2) ** (1 / 0.08), rel=1e-5)
    assert needed["interval"] == [None, None]
    assert needed["warnings"][0].startswith("2 runs behind 24 points")


def test_a_poor_fit_is_noted(tmp_path: Path) -> None:
    x = np.geomspace(1e6, 1e9, 12)
    noisy = 3 * np.exp(0.2 * np.random.default_rng(0).standard_normal(12))
    pd.DataFrame({"x": x, "y": noisy * x**-0.01}).to_csv(tmp_path / "rough.csv", index=False)
    text = lawfit("fit", tmp_path / "rough.csv", "--x", "x", "--y", "y", "--form", "power", "--replicates", "50").stdout
    assert "below 0.95: the form fits poorly" in text


SIZES = np.geomspace(1e6, 1e9, 9)


@pytest.fixture
def rising(tmp_path: Path) -> Path:
    """Accuracy in % and as a share, a score without a known end, a loss that rises, a constant: exact curves."""
    error = 55 * (SIZES / 1e6) ** -0.25
    table = pd.DataFrame({
        "n_params": SIZES, "val_acc": 100 - error, "top1": 1 - error / 100, "pass@1": 100 - error, "err": error,
        "IS": 330 - 250 * (SIZES / 1e6) ** -0.3, "width_of": 3 + error**-1, "loss": 4 - error / 50, "flat": 3.2,
    })  # fmt: skip
    table.to_csv(tmp_path / "rising.csv", index=False)
    return tmp_path / "rising.csv"


@pytest.mark.parametrize(("y", "end"), [("val_acc", 100.0), ("top1", 1.0), ("pass@1", 100.0)])
def test_a_rate_is_forecast_by_its_distance_from_where_it_ends(rising: Path, y: str, end: float) -> None:
    said = answer("forecast", rising, "--x", "n_params", "--y", f"`{y}`" if "@" in y else y, "--at", "1e11")
    assert said["y"] == pytest.approx(end * (1 - 0.55 * 1e5**-0.25), rel=1e-6)
    assert max(said["interval"]) < end
    assert said["y_of"]["ceiling"] == end
    assert f"ends at {end:g}" in said["assumptions"][0]
    assert said["back_tests"][-1]["actual"] == pytest.approx(end * (1 - 0.55 * 1e3**-0.25))


def test_answers_about_a_rate_are_in_the_rate(rising: Path) -> None:
    asked = (rising, "--x", "n_params", "--y", "val_acc", "--form", "power")
    law = answer("fit", *asked, "--replicates", "50")
    assert law["parameters"]["alpha"] == pytest.approx(0.25, rel=1e-6)
    assert law["y"] == {"column": "val_acc", "fitted": "100 - val_acc", "ceiling": 100.0}
    assert lawfit("fit", *asked, "--replicates", "50").stdout.startswith("law of 100 - val_acc:")
    needed = answer("what-if", *asked, "--target", "95", "--replicates", "50")
    assert needed["x"] == pytest.approx(1e6 * 11**4, rel=1e-5)
    assert needed["target"] == 95
    plain = answer("fit", *asked, "--ceiling", "none", "--replicates", "50")
    assert plain["y"]["ceiling"] is None
    assert plain["parameters"]["alpha"] < 0


def test_what_rises_without_a_known_end_is_said_and_stretched(rising: Path) -> None:
    asked = ("forecast", rising, "--x", "n_params", "--y", "IS", "--at", "1e11")
    said = answer(*asked)
    truth = 330 - 250 * 1e5**-0.3
    assert said["interval"][0] < truth < said["interval"][1]
    assert "IS rises with n_params, and a law that rises has no end" in said["warnings"][0]
    assert any("known runs were forecast too high" in line for line in said["warnings"])
    assert answer(*asked, "--ceiling", "330")["y"] == pytest.approx(truth, rel=1e-6)
    unknown = answer("fit", rising, "--x", "n_params", "--y", "width_of", "--replicates", "50")
    assert unknown["warnings"][0].startswith("width_of rises with n_params")
    loss = answer("fit", rising, "--x", "n_params", "--y", "loss", "--replicates", "50")
    assert "though it falls as models get better" in loss["warnings"][0]


def test_what_is_computed_from_a_rate_is_taken_as_it_is(rising: Path, tmp_path: Path) -> None:
    for y in ("100 - val_acc", "err"):
        law = answer("fit", rising, "--x", "n_params", "--y", y, "--form", "power", "--replicates", "50")
        assert law["parameters"]["alpha"] == pytest.approx(0.25, rel=1e-6)
        assert law["y"]["ceiling"] is None
    rows = [(c, n, 100 * np.exp(-0.5 - 0.02 * np.log(n / c**0.5) ** 2)) for c in (1e18, 1e19, 1e20)
            for n in c**0.5 * np.geomspace(0.1, 10, 7)]  # fmt: skip
    pd.DataFrame(rows, columns=["flops", "n_params", "acc"]).to_csv(tmp_path / "slices.csv", index=False)
    for y in ("acc", "100 - acc"):
        found = answer("isoflop", tmp_path / "slices.csv", "--y", y, "--estimator", "akima")
        assert found["n"]["exponent"] == pytest.approx(0.5, abs=0.01)
        assert [valley["n_opt"] for valley in found["valleys"]] == pytest.approx([1e9, 10**9.5, 1e10], rel=0.05)


def test_back_tests_that_miss_to_both_sides_stretch_nothing() -> None:
    from lawfit.questions.forecast import forecast

    noisy = 3 * (SIZES / 1e6) ** -0.1 * np.exp(0.01 * np.array([1, -1, 1, -1, 1, -1, 1, -1, 1]))
    said = forecast(SIZES, noisy, 1e10, form="power")
    assert not any("too high" in line or "too low" in line for line in said.warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--y", "flat"), "no law of flat: it is 3.2 in all 9 rows"),
        (("fit", "--y", "val_acc", "--ceiling", "80"), "is not below the ceiling 80"),
        (("fit", "--y", "val_acc", "--ceiling", "nan"), "--ceiling is nan: expected a number, or none"),
        (("what-if", "--y", "val_acc", "--target", "101"), "--target is 101: val_acc ends at 100"),
        (("what-if", "--y", "IS", "--target", "310"), "--ceiling VALUE"),
        (("what-if", "--y", "err", "--target", "nan"), "--target is nan: expected a finite number"),
        (("isoflop", "--y", "IS", "--budget", "n_params"), "IS rises as models get better"),
        (("forecast", "--y", "err", "--at", "nan"), "place 'nan' is not understood"),
        (("forecast", "--y", "err", "--at", "1e11", "--seed-sd", "inf"), "seed_sd is inf"),
        (("fit", "--y", "err", "--seed", "-1"), "'--seed': Input should be greater"),
        (("fit", "--y", "err", "--replicates", "99999999999"), "'--replicates': Input should be less"),
        (("fit", "--y", "err", "--loss", "huber", "--delta", "inf"), "delta is inf"),
        (("fit", "--y", "err", "--figure", "/dev/null/law.png"), "the picture cannot be written there"),
        (("fit", "--y", "err", "--figure", "/proc/nowhere/law.png"), "the picture cannot be written"),
    ],
)
def test_what_has_no_answer_is_one_line(rising: Path, arguments: tuple[str, ...], message: str) -> None:
    verb, *rest = arguments
    done = lawfit(verb, rising, "--x", "n_params", *rest)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert message in done.stderr
