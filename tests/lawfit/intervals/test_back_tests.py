"""Errors of prediction beyond the data, rolling forward from size to size."""

import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.intervals.back_tests import roll_forward

X = 4608.0 * np.arange(1, 7) ** 3


def test_the_error_is_zero_for_an_exact_law_and_knows_its_sign() -> None:
    y = 2 * (X / 1e5) ** -0.05
    assert [step.error for step in roll_forward(X, y, "power")] == pytest.approx([0, 0, 0], abs=1e-12)
    y[-1] *= 1.1
    assert roll_forward(X, y, "power")[-1].error == pytest.approx(1 / 1.1 - 1, rel=1e-9)


def test_every_seed_of_a_size_is_held_out_with_it() -> None:
    x, y = np.append(X, X[-1]), np.append(2 * (X / 1e5) ** -0.05, 0.0)
    y[-2:] = y[-2] * 1.1, y[-2] * 1.1
    assert roll_forward(x, y, "power")[-1].error == pytest.approx(1 / 1.1 - 1, rel=1e-9)


def test_a_surface_is_held_out_by_what_the_caller_says() -> None:
    generator = np.random.default_rng(0)
    n, d = (10.0 ** generator.uniform(low, low + 3, 12) for low in (7, 9))
    y = 1.8 + 400 * n**-0.34 + 2000 * d**-0.37
    last = roll_forward({"N": n, "D": d}, y, "chinchilla", by=6 * n * d)[-1]
    assert last.at == pytest.approx((6 * n * d).max())
    assert last.error == pytest.approx(0, abs=1e-8)
    with pytest.raises(RecordError, match="by what a run is large"):
        roll_forward({"N": n, "D": d}, y, "chinchilla")


def test_rolling_forward_predicts_each_size_from_the_smaller_ones() -> None:
    y = 2 * (X / 1e5) ** -0.05 * np.array([1, 1.01, 0.99, 1.0, 1.02, 0.98])
    steps = roll_forward(X, y, "power")
    assert [step.at for step in steps] == list(X[3:])
    last = steps[-1]
    assert last.predicted == pytest.approx(fit(X[:5], y[:5], "power").predict(X[5:])[0], rel=1e-12)
    assert last.error == pytest.approx(last.predicted / y[5] - 1, rel=1e-12)
    assert last.ratio == pytest.approx(X[5] / X[4], rel=1e-12)


def test_rolling_forward_needs_one_size_more_than_a_fit() -> None:
    with pytest.raises(RecordError, match="3 sizes"):
        roll_forward(X[:3], X[:3], "power")
