"""Errors of linearised fits, of independent points and of runs that share noise."""

import numpy as np
import pytest
from scipy import stats

from lawfit.fitting.fitting import fit
from lawfit.intervals.covariance import linearise

X = 4608.0 * np.arange(1, 7) ** 3
RUNS = np.arange(6)
SLOPE = np.array([0.0, 1.0])


def _noisy(generator: np.random.Generator, x: np.ndarray, sd: float = 0.01) -> np.ndarray:
    return 2 * (x / 1e5) ** -0.05 * np.exp(sd * generator.standard_normal(len(x)))


def test_independent_points_have_the_errors_of_regression() -> None:
    y = _noisy(np.random.default_rng(0), X)
    error = linearise(fit(X, y, "power")).error(SLOPE)
    assert np.sqrt(error.variance) == pytest.approx(stats.linregress(np.log(X), np.log(y)).stderr, rel=1e-8)
    assert error.dof == 4


def test_the_cluster_robust_variance_does_not_believe_in_repeated_points() -> None:
    y = _noisy(np.random.default_rng(0), X)
    once = linearise(fit(X, y, "power"), RUNS, even=False).error(SLOPE)
    often = linearise(fit(np.tile(X, 9), np.tile(y, 9), "power"), np.tile(RUNS, 9)).error(SLOPE)
    assert often.variance == pytest.approx(once.variance, rel=1e-6)
    assert often.dof == pytest.approx(once.dof, rel=1e-6)
    assert once.dof < 4


def test_runs_of_one_point_each_are_independent_points() -> None:
    whole = fit(X, _noisy(np.random.default_rng(0), X), "power")
    assert linearise(whole, RUNS).error(SLOPE) == linearise(whole).error(SLOPE)
