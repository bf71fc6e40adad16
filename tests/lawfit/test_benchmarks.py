"""Short versions of two benchmarks: the global optimum from a default call, and the coverage of intervals."""

import runpy
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.parametrize("form", ["power_floor", "chinchilla", "chinchilla_tied"])
def test_a_default_call_reaches_the_optimum_of_random_restarts(root: Path, form: str) -> None:
    attempt = runpy.run_path(str(root / "benchmarks" / "lawfit_optimum.py"))["attempt"]
    results = [attempt(np.random.default_rng([7, seed]), form, restarts=20) for seed in range(4)]
    assert [reached for reached, _, _ in results] == [True] * 4, results


@pytest.mark.parametrize(
    ("name", "shared"),
    [("power, 10 runs of 4", False), ("power, 10 runs of 4", True), ("floor, 12 sizes", False)],
    ids=["independent", "by run", "floor"],
)
def test_intervals_hold_the_truth_as_often_as_they_say(root: Path, name: str, shared: bool) -> None:
    benchmark = runpy.run_path(str(root / "benchmarks" / "lawfit_coverage.py"))
    design = next(d for d in benchmark["designs"]() if d.name == name)
    studies = [benchmark["simulate"](design, shared, np.random.default_rng([3, i]), 200) for i in range(60)]
    for key in ("alpha profile", "alpha bootstrap", "law profile", "new run profile"):
        held = sum(study[key] for study in studies)
        # Of 60 intervals that cover 95 %, fewer than 52 hold the truth once in 200 times.
        assert held >= 52, (key, held)
