"""Bootstrap by run, t interval, hold-out: against known answers and by simulation."""

import numpy as np
import pytest
from scipy import stats

from lawfit.fitting import fit
from lawfit.frontier import Curve, envelope
from lawfit.schema import RecordError
from lawfit.uncertainty import (
    bootstrap,
    bootstrap_frontier,
    hold_out_largest,
    hold_out_largest_curve,
    t_interval,
)

X = 4608.0 * np.arange(1, 7) ** 3
RUNS = np.arange(6)


def _noisy(generator: np.random.Generator, x: np.ndarray, sd: float = 0.01) -> np.ndarray:
    return 2 * (x / 1e5) ** -0.05 * np.exp(sd * generator.standard_normal(len(x)))


def test_without_noise_every_resample_gives_the_law() -> None:
    result = bootstrap(X, 2 * (X / 1e5) ** -0.05, RUNS, "power")
    assert result.intervals["alpha"] == pytest.approx((0.05, 0.05), abs=1e-12)
    np.testing.assert_allclose(result.band_low, 2 * (result.band_x / 1e5) ** -0.05, rtol=1e-12)
    np.testing.assert_allclose(result.band_high, result.band_low, rtol=1e-12)


def test_each_sample_is_the_fit_of_its_resample() -> None:
    """The draws are those of the documented generator: a multinomial of the runs."""
    y = _noisy(np.random.default_rng(0), X)
    samples = bootstrap(X, y, RUNS, "power", replicates=50, seed=3).samples
    counts = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 50)
    checked = 0
    for times, (_, alpha) in zip(counts, samples, strict=True):
        if np.count_nonzero(times) >= 3:
            slope, _ = np.polyfit(np.log(np.repeat(X, times)), np.log(np.repeat(y, times)), 1)
            assert alpha == pytest.approx(-slope, rel=1e-9)
            checked += 1
    assert checked >= 45


def test_points_of_one_run_are_drawn_together() -> None:
    """Repeating every point within its run adds no information: the interval must not shrink."""
    y = _noisy(np.random.default_rng(0), X)
    once = bootstrap(X, y, RUNS, "power", seed=1)
    often = bootstrap(np.tile(X, 9), np.tile(y, 9), np.tile(RUNS, 9), "power", seed=1)
    assert often.intervals["alpha"] == pytest.approx(once.intervals["alpha"], rel=1e-9)


def test_resamples_without_three_sizes_are_redrawn_and_counted() -> None:
    x, y = X[:3], 2 * (X[:3] / 1e5) ** -0.05
    result = bootstrap(x, y, RUNS[:3], "power", replicates=200)
    # Only the permutations of the three runs are usable: 2 of 9 draws.
    assert 200 * 7 / 2 * 0.7 < result.redrawn < 200 * 7 / 2 * 1.3
    assert np.isfinite(result.samples).all()


def test_the_same_seed_gives_the_same_intervals() -> None:
    y = _noisy(np.random.default_rng(0), X)
    first, second, other = (bootstrap(X, y, RUNS, "power", seed=seed) for seed in (5, 5, 6))
    assert first.intervals == second.intervals
    assert first.intervals != other.intervals


def test_a_floor_has_an_interval_too() -> None:
    y = (1.3 + 0.3 * (X / 5e4) ** -0.3) * np.exp(1e-4 * np.random.default_rng(0).standard_normal(6))
    result = bootstrap(X, y, RUNS, "power_floor", replicates=300)
    assert set(result.intervals) == {"E", "A", "alpha"}
    low, high = result.intervals["E"]
    assert 1.29 < low < 1.3 + 1e-3
    assert 1.3 - 1e-3 < high < 1.31


def test_run_labels_must_match_the_points() -> None:
    with pytest.raises(RecordError, match="run has 5 entries for 6 points"):
        bootstrap(X, X, RUNS[:5], "power")


def test_t_interval_is_that_of_the_regression() -> None:
    y = _noisy(np.random.default_rng(0), X)
    line = stats.linregress(np.log(X), np.log(y))
    half = stats.t.ppf(0.95, 4) * line.stderr
    assert t_interval(X, y, level=0.9) == pytest.approx((-line.slope - half, -line.slope + half), rel=1e-10)


def test_with_six_sizes_the_t_interval_covers_and_the_bootstrap_covers_too_little() -> None:
    """The claim in the docstring of `t_interval`, with fewer simulations."""
    generator, studies = np.random.default_rng(0), 250
    by_t = by_bootstrap = 0
    for seed in range(studies):
        y = _noisy(generator, X)
        low, high = t_interval(X, y)
        by_t += low < 0.05 < high
        low, high = bootstrap(X, y, RUNS, "power", replicates=300, seed=seed).intervals["alpha"]
        by_bootstrap += low < 0.05 < high
    assert 0.92 < by_t / studies < 0.98
    assert 0.83 < by_bootstrap / studies < 0.925


def test_hold_out_is_zero_for_an_exact_law_and_knows_its_sign() -> None:
    y = 2 * (X / 1e5) ** -0.05
    assert hold_out_largest(X, y, "power") == pytest.approx(0, abs=1e-12)
    y[-1] *= 1.1
    assert hold_out_largest(X, y, "power") == pytest.approx(1 / 1.1 - 1, rel=1e-9)


def test_hold_out_leaves_out_every_seed_of_the_largest_size() -> None:
    x, y = np.append(X, X[-1]), np.append(2 * (X / 1e5) ** -0.05, 0.0)
    y[-2:] = y[-2] * 1.1, y[-2] * 1.1
    assert hold_out_largest(x, y, "power") == pytest.approx(1 / 1.1 - 1, rel=1e-9)


def test_hold_out_needs_three_other_sizes() -> None:
    with pytest.raises(RecordError, match="2 distinct x"):
        hold_out_largest(X[:3], X[:3], "power")


def _curves(ends: list[float]) -> list[Curve]:
    """Curves that touch y = 2 C^-0.1 at their end only."""
    grid = np.linspace(-2, 0, 9)
    return [Curve(f"r{i}", end + grid, np.log(2) - 0.1 * end - 0.4 * grid) for i, end in enumerate(ends)]


def test_the_frontier_is_rebuilt_for_each_resample() -> None:
    curves = _curves([20.0, 21.0, 22.0, 23.0, 24.0, 25.0])
    samples = bootstrap_frontier(curves, "power", replicates=30, seed=2).samples
    counts = np.random.default_rng(2).multinomial(6, np.full(6, 1 / 6), 30)
    checked = 0
    for times, (_, alpha) in zip(counts, samples, strict=True):
        if np.count_nonzero(times) >= 3:
            log_x, log_y, _ = envelope([curves[i] for i in np.flatnonzero(times)], 32)
            assert alpha == pytest.approx(-np.polyfit(log_x, log_y, 1)[0], rel=1e-9)
            checked += 1
    assert checked >= 25
    assert len(set(np.round(samples[:, 1], 12))) > 10


def test_a_frontier_of_two_runs_is_not_resampled() -> None:
    with pytest.raises(RecordError, match="2 curves"):
        bootstrap_frontier(_curves([20.0, 21.0]), "power")


def test_frontier_hold_out_predicts_the_end_of_the_largest_run() -> None:
    curves = _curves([20.0, 21.0, 22.0, 23.0])
    error = hold_out_largest_curve(curves, "power")
    assert 0 < abs(error) < 0.2
    cheaper = Curve("r3", curves[3].log_x, curves[3].log_y - np.log(2))
    assert hold_out_largest_curve([*curves[:3], cheaper], "power") == pytest.approx(2 * (1 + error) - 1, rel=1e-9)


def test_frontier_hold_out_needs_three_smaller_runs() -> None:
    with pytest.raises(RecordError, match="2 curves end below"):
        hold_out_largest_curve(_curves([20.0, 21.0, 22.0, 22.0]), "power")


def test_form_of_a_bootstrap_stays_that_of_all_the_data() -> None:
    y = _noisy(np.random.default_rng(0), X)
    chosen = fit(X, y).form.name
    assert len(bootstrap(X, y, RUNS, "auto", replicates=20).intervals) == {"power": 2, "power_floor": 3}[chosen]
