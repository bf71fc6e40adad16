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
