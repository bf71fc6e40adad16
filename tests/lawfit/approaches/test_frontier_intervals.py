"""Frontiers rebuilt without some of their runs."""

import numpy as np
import pytest

from lawfit.approaches.frontier import Curve, envelope
from lawfit.approaches.frontier_intervals import bootstrap_frontier, hold_out_largest_curve
from lawfit.errors import RecordError


def _counts(units: int, replicates: int, seed: int) -> np.ndarray:
    """How often each unit is drawn: `units` integers a replicate."""
    drawn = np.random.default_rng(seed).integers(0, units, (replicates, units))
    return np.stack([np.bincount(row, minlength=units) for row in drawn])


def _curves(ends: list[float]) -> list[Curve]:
    """Curves that touch y = 2 C^-0.1 at their end only."""
    grid = np.linspace(-2, 0, 9)
    return [Curve(f"r{i}", end + grid, np.log(2) - 0.1 * end - 0.4 * grid) for i, end in enumerate(ends)]


def test_the_frontier_is_rebuilt_for_each_resample() -> None:
    curves = _curves([20.0, 21.0, 22.0, 23.0, 24.0, 25.0])
    samples = bootstrap_frontier(curves, "power", replicates=30, seed=2).samples
    counts = _counts(6, 30, seed=2)
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
