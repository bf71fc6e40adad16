"""Predictions beyond the data: against regression, and above a floor."""

import numpy as np
import pytest
from scipy import stats

from lawfit.fitting.fitting import fit
from lawfit.intervals.prediction import predict_interval

X = 4608.0 * np.arange(1, 7) ** 3
WIDE = np.geomspace(1e4, 1e8, 12)


def _power(seed: int = 0) -> np.ndarray:
    return 2 * (X / 1e5) ** -0.05 * np.exp(0.01 * np.random.default_rng(seed).standard_normal(6))


def _floor(sd: float = 0.01) -> np.ndarray:
    return (0.3 + 0.5 * (WIDE / 1e6) ** -0.1) * np.exp(sd * np.random.default_rng(0).standard_normal(12))


def test_predictions_of_a_power_law_are_those_of_regression() -> None:
    y = _power()
    whole = fit(X, y, "power")
    found = predict_interval(whole, [1e7], level=0.9)
    log = np.log(X) - np.log(X).mean()
    variance = whole.objective / 4
    law = variance * (1 / 6 + (np.log(1e7) - np.log(X).mean()) ** 2 / (log**2).sum())
    t = stats.t.ppf(0.95, 4)
    assert np.log(found.law_high / found.law)[0] == pytest.approx(t * np.sqrt(law), rel=1e-5)
    assert np.log(found.law / found.low)[0] == pytest.approx(t * np.sqrt(law + variance), rel=1e-5)
    assert found.beyond["x"][0] == pytest.approx(1e7 / X.max())


def test_the_noise_of_a_new_run_adds_to_the_prediction_only() -> None:
    whole = fit(X, _power(), "power")
    plain, noisy = predict_interval(whole, [1e7]), predict_interval(whole, [1e7], seed_sd=0.05)
    assert noisy.law_high == pytest.approx(plain.law_high, rel=1e-6)
    half = stats.t.ppf(0.975, 4) * np.sqrt(sum(part[0] ** 2 for part in noisy.sd_parts.values()))
    assert np.log(noisy.high / noisy.law)[0] == pytest.approx(half, rel=1e-4)


def test_far_beyond_the_data_a_floor_bounds_the_prediction_from_below() -> None:
    found = predict_interval(fit(WIDE, _floor(), "power_floor"), [1e9, 1e13, 1e17])
    assert (found.law_low > 0.09).all()
    assert (np.diff(found.law_high / found.law_low) > 0).all()
    assert (found.low < found.law_low).all()


def test_predictions_are_made_in_linear_space_too() -> None:
    y = 100 * _floor(0.001)
    found = predict_interval(fit(WIDE, y, "power_floor", space="linear"), [1e9])
    assert found.low[0] < found.law_low[0] < found.law[0] < found.law_high[0] < found.high[0] < y.min()
