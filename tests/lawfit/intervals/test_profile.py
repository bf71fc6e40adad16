"""Profile intervals: against regression, against brute force, and at their limits."""

import numpy as np
import pytest
from scipy import optimize, stats

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.intervals.profile import intervals, profile, reference_intervals

X = 4608.0 * np.arange(1, 7) ** 3
WIDE = np.geomspace(1e4, 1e8, 12)


def _power(seed: int = 0) -> np.ndarray:
    return 2 * (X / 1e5) ** -0.05 * np.exp(0.01 * np.random.default_rng(seed).standard_normal(6))


def _floor(sd: float = 0.01) -> np.ndarray:
    return (0.3 + 0.5 * (WIDE / 1e6) ** -0.1) * np.exp(sd * np.random.default_rng(0).standard_normal(12))


def test_the_profile_of_a_power_law_is_the_t_interval_of_regression() -> None:
    y = _power()
    line = stats.linregress(np.log(X), np.log(y))
    found = intervals(fit(X, y, "power"), level=0.9)
    half = stats.t.ppf(0.95, 4) * line.stderr
    assert (found["alpha"].low, found["alpha"].high) == pytest.approx(
        (-line.slope - half, -line.slope + half), rel=1e-6
    )
    half = stats.t.ppf(0.95, 4) * line.intercept_stderr
    at_one = np.exp([line.intercept - half, line.intercept + half])
    assert (found["A"].low, found["A"].high) == pytest.approx(tuple(at_one), rel=1e-5)


def test_the_profile_of_a_floor_is_that_of_a_grid_of_floors() -> None:
    y = _floor()
    whole = fit(WIDE, y, "power_floor")
    found = profile(whole, "E")

    def best(floor: float) -> float:
        def cost(theta: np.ndarray) -> float:
            residual = np.log(y) - np.log(floor + np.exp(theta[0] - theta[1] * np.log(WIDE / 1e6)))
            return float((residual**2).sum())

        fine = {"xatol": 1e-10, "fatol": 1e-14}
        return float(optimize.minimize(cost, [np.log(0.5), 0.1], method="Nelder-Mead", options=fine).fun)

    limit = whole.objective * (1 + stats.t.ppf(0.975, 9) ** 2 / 9)
    low = optimize.brentq(lambda e: best(e) - limit, 0.0, whole.params["E"])
    high = optimize.brentq(lambda e: best(e) - limit, whole.params["E"], y.min())
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
    assert not found.one_sided
    assert found.estimate - found.low > found.high - found.estimate


def test_a_floor_whose_interval_reaches_zero_is_one_sided() -> None:
    found = profile(fit(WIDE, _floor(0.08), "power_floor"), "E")
    assert found.low == 0.0
    assert found.one_sided
    assert found.high < 1.0


def test_the_interval_stops_at_the_threshold() -> None:
    found = profile(fit(WIDE, _floor(), "power_floor"), "alpha")
    inside = (found.values > found.low) & (found.values < found.high)
    assert (found.rise[inside] < 1).all()
    assert (found.rise[~inside] >= 1).all()
    assert found.rise.min() == pytest.approx(0, abs=1e-9)


def test_amplitudes_are_told_well_at_the_middle_and_badly_at_one() -> None:
    whole = fit(X, _power(), "power")
    middle, at_one = reference_intervals(whole)["A"], profile(whole, "A")
    assert middle.high / middle.low < 1.03 < at_one.high / at_one.low


def test_runs_that_share_noise_widen_the_interval() -> None:
    generator = np.random.default_rng(4)
    x = np.repeat(WIDE, 6) * np.tile(np.linspace(0.9, 1.1, 6), 12)
    run = np.repeat(np.arange(12), 6)
    y = 2 * (x / 1e6) ** -0.1 * np.exp(0.02 * generator.standard_normal(12)[run])
    whole = fit(x, y, "power")
    alone, shared = profile(whole, "alpha"), profile(whole, "alpha", run=run)
    assert shared.high - shared.low > 1.7 * (alone.high - alone.low)
    assert "shared within 12 runs" in shared.method


def test_parameters_that_the_data_do_not_tell_have_no_limits() -> None:
    n = np.geomspace(1e7, 1e10, 12)
    y = (1.7 + 400 * n**-0.35) * np.exp(0.001 * np.random.default_rng(0).standard_normal(12))
    found = reference_intervals(fit({"N": n, "D": 20 * n}, y, "chinchilla_tied"))
    assert found["A"].low < 1e-6 or not np.isfinite(found["A"].low)


def test_an_exact_law_has_a_point_for_an_interval() -> None:
    found = profile(fit(X, 2 * (X / 1e5) ** -0.05, "power"), "alpha")
    assert (found.low, found.high) == pytest.approx((0.05, 0.05), abs=1e-7)


@pytest.mark.parametrize("loss", ["huber", "lad"])
def test_robust_losses_have_profiles_near_those_of_squares(loss: str) -> None:
    x = np.geomspace(1e5, 1e9, 60)
    y = 3 * x**-0.1 * np.exp(0.02 * np.random.default_rng(1).standard_normal(60))
    robust = profile(fit(x, y, "power", loss=loss), "alpha")  # type: ignore[arg-type]
    squares = profile(fit(x, y, "power"), "alpha")
    assert 0.7 < (robust.high - robust.low) / (squares.high - squares.low) < 1.9
    assert f"scale of the {loss} scores" in robust.method


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(RecordError, match="no 'beta': it has A, alpha"):
        profile(fit(X, _power(), "power"), "beta")
