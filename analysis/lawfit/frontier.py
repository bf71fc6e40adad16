"""The compute frontier: the lowest value that any run reaches for a given compute.

Floor 3 of the path, from the curves of `records` to the points that `laws` fits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lawfit.forms import Array
from lawfit.schema import RecordError


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's curve inside the window: log x increasing and log y, both [m]."""

    run: str
    log_x: Array
    log_y: Array


def frontier(
    curves: pd.DataFrame, y: str, x: str = "flops", points: int = 32, skip_fraction: float = 0.1
) -> pd.DataFrame:
    """Lower envelope of all runs' curves of the metric `y` over `x`: columns x, y and run_id.

    curves: tidy, with columns run_id, `x`, metric, value. At `points` values of x, spaced evenly in log from
    the smallest first point to the largest last one: the minimum over the runs whose own range covers x, each
    interpolated linearly in log-log; then the running minimum. run_id is the run that attains the value.
    Where no run's range covers an x, there is no point. The first `skip_fraction` of each run's x (warm-up)
    is left out.

    As in Figure 6 of the VAR paper (2404.02905), curves before the end of their learning-rate schedule take
    part, and such points are not the loss a run of that length would end at. So the fit of the finished runs
    alone belongs beside a frontier's.

    Raises RecordError for a missing metric, a run with fewer than two points in its window, and an x or a
    value that is not positive and finite.
    """
    log_x, log_y, owner = envelope(read_curves(curves, y, x, skip_fraction), points)
    return pd.DataFrame({x: np.exp(log_x), y: np.exp(log_y), "run_id": owner})


def read_curves(curves: pd.DataFrame, y: str, x: str, skip_fraction: float) -> tuple[Curve, ...]:
    """The curves of the metric `y`, one a run, without the first `skip_fraction` of each."""
    if not 0 <= skip_fraction < 1:
        raise RecordError(f"skip_fraction is {skip_fraction}: expected 0 <= skip_fraction < 1")
    chosen = curves[curves["metric"] == y]
    if chosen.empty:
        recorded = ", ".join(sorted(map(str, curves["metric"].unique())))
        raise RecordError(f"no curve of {y!r}: recorded are {recorded or 'none'}")
    groups = chosen.sort_values(x).groupby("run_id", sort=False)
    return tuple(_curve(str(run), group, x, y, skip_fraction) for run, group in groups)


def envelope(curves: Sequence[Curve], points: int) -> tuple[Array, Array, list[str]]:
    """Log x [m], log y [m] and owner [m] of the lower envelope, m <= points."""
    first, last = min(c.log_x[0] for c in curves), max(c.log_x[-1] for c in curves)
    grid = np.linspace(first, last, points)
    values = np.stack([np.interp(grid, c.log_x, c.log_y, left=np.inf, right=np.inf) for c in curves])
    covered = np.isfinite(values).any(axis=0)
    grid, values = grid[covered], values[:, covered]
    lowest = np.minimum.accumulate(values.min(axis=0))
    # A point that only repeats an earlier minimum belongs to the run that attained it.
    source = np.maximum.accumulate(np.where(values.min(axis=0) <= lowest, np.arange(len(grid)), 0))
    winners = values.argmin(axis=0)[source]
    return grid, lowest, [curves[winner].run for winner in winners]


def _curve(run: str, group: pd.DataFrame, x: str, y: str, skip_fraction: float) -> Curve:
    columns: Mapping[str, Array] = {x: group[x].to_numpy(float), y: group["value"].to_numpy(float)}
    kept = columns[x] >= skip_fraction * columns[x].max()
    inside = {name: values[kept] for name, values in columns.items()}
    if len(np.unique(inside[x])) < 2:
        raise RecordError(f"run {run}: {y!r} has fewer than two points after the first {skip_fraction:.0%}")
    for name, values in inside.items():
        bad = values[~(np.isfinite(values) & (values > 0))]
        if bad.size:
            raise RecordError(f"run {run}: {name!r} is {bad[0]} on its curve, not a positive, finite number")
    return Curve(run, np.log(inside[x]), np.log(inside[y]))
