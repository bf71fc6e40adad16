"""The compute frontier (approach 1): the lowest loss that any run reaches for a given compute.

Three definitions are in use and
give different laws (exponents of N*(C) of .499 to .553 on the same curves of Gemstones), so each result carries
the name of its own:

- `hull`: recorded points on the lower convex hull in log-log (McLeish et al. 2025);
- `binned`: minimum over the interpolated curves at log-spaced x, then the running minimum (VAR, Figure 6);
- `pareto`: every recorded point that no cheaper point beats.

As in the published analyses, points from before the end of a learning-rate schedule take part; `unfinished`
counts them where the table tells, and the fit of the finished runs belongs beside a frontier's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.records.table import points as points_of

Method = Literal["hull", "binned", "pareto"]

GRID_POINTS = 32
"""Values of x, evenly spaced in log, at which a binned frontier is taken."""

SKIP_FRACTION = 0.1
"""First part of each run's x (warm-up) that takes no part in a binned frontier."""

FAR = np.log(2)
"""The hull ends at a far point at twice both maxima, so that it comes down to the lowest loss and stops."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's curve inside the window: log x increasing and log y, both [m]."""

    run: str
    log_x: Array
    log_y: Array


@dataclass(frozen=True, eq=False)
class Frontier:
    """Points [m] with x increasing, y decreasing. run: which attains each. columns: further quantities at the
    points, such as n and d. unfinished: points from before the end of a schedule, None if the table does not tell.
    """

    method: Method
    x: Array
    y: Array
    run: tuple[str, ...]
    columns: Mapping[str, Array]
    unfinished: int | None = None

    def frame(self) -> pd.DataFrame:
        """One row per point: x, y, run and the further columns."""
        return pd.DataFrame({"x": self.x, "y": self.y, "run": self.run, **self.columns})


def frontier(
    table: pd.DataFrame,
    *,
    x: str = "flops",
    y: str = "loss",
    run: str = "run",
    method: Method = "hull",
    others: Mapping[str, str] | None = None,
    grid_points: int = GRID_POINTS,
    skip_fraction: float = SKIP_FRACTION,
) -> Frontier:
    """The frontier of a table with one row per recorded point; x, y, run and `others` are columns or expressions.

    others: name -> column, such as {"n": "n_params", "d": "tokens"}; a binned frontier interpolates them in log
    along the run that attains the point. grid_points, skip_fraction: for a binned frontier only. Raises
    RecordError for unusable columns, and for a binned run with fewer than two points in its window.
    """
    if method not in get_args(Method):
        raise RecordError(f"frontier method {method!r} is unknown: expected one of {', '.join(get_args(Method))}")
    chosen = points_of(table, x=x, y=y, run=run, **dict(others or {}))
    extra = {name: chosen[name].to_numpy(float) for name in others or {}}
    if method == "binned":
        return _binned(chosen, extra, grid_points, skip_fraction)
    log_x, log_y = np.log(chosen["x"].to_numpy()), np.log(chosen["y"].to_numpy())
    rows = _hull(log_x, log_y) if method == "hull" else _pareto(log_x, log_y)
    complete = table["schedule_complete"].to_numpy(bool)[rows] if "schedule_complete" in table else None
    return Frontier(
        method=method,
        x=np.exp(log_x[rows]),
        y=np.exp(log_y[rows]),
        run=tuple(chosen["run"].astype(str).iloc[rows]),
        columns={name: values[rows] for name, values in extra.items()},
        unfinished=None if complete is None else int((~complete).sum()),
    )


def read_curves(
    curves: pd.DataFrame, y: str, x: str, skip_fraction: float = SKIP_FRACTION
) -> tuple[Curve, ...]:  # fmt: skip
    """The curves of the metric `y` in a tidy table (run_id, `x`, metric, value), one per run, without their start.

    Raises RecordError when no run has the metric, and for a curve with fewer than two points after its start or with
    one that is not positive and finite.
    """
    chosen = curves[curves["metric"] == y]
    if chosen.empty:
        recorded = ", ".join(sorted(map(str, curves["metric"].unique())))
        raise RecordError(f"no curve of {y!r}: recorded are {recorded or 'none'}")
    groups = chosen.sort_values(x).groupby("run_id", sort=False)
    return tuple(
        _curve(str(run), {x: group[x].to_numpy(float), y: group["value"].to_numpy(float)}, skip_fraction)
        for run, group in groups
    )


def envelope(curves: Sequence[Curve], points: int = GRID_POINTS) -> tuple[Array, Array, list[str]]:
    """Binned frontier: log x [m], log y [m] and owner [m], m <= points.

    At `points` values of x, spaced evenly in log from the smallest first point to the largest last one: the
    minimum over the runs whose own range covers x, each interpolated linearly in log-log; then the running
    minimum. Where no run's range covers an x, there is no point.
    """
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


def _curve(run: str, columns: Mapping[str, Array], skip_fraction: float) -> Curve:
    """columns: x, then y, in order of x."""
    if not 0 <= skip_fraction < 1:
        raise RecordError(f"skip_fraction is {skip_fraction}: expected 0 <= skip_fraction < 1")
    (x, xs), (y, _) = columns.items()
    kept = xs >= skip_fraction * xs.max()
    inside = {name: values[kept] for name, values in columns.items()}
    if len(np.unique(inside[x])) < 2:
        raise RecordError(f"run {run}: {y!r} has fewer than two points after the first {skip_fraction:.0%}")
    for name, values in inside.items():
        bad = values[~(np.isfinite(values) & (values > 0))]
        if bad.size:
            raise RecordError(f"run {run}: {name!r} is {bad[0]} on its curve, not a positive, finite number")
    return Curve(run, np.log(inside[x]), np.log(inside[y]))


def _binned(chosen: pd.DataFrame, extra: Mapping[str, Array], grid_points: int, skip_fraction: float) -> Frontier:
    groups = {str(run): group for run, group in chosen.sort_values("x").groupby("run", sort=False)}
    curves = [
        _curve(run, {"x": group["x"].to_numpy(), "y": group["y"].to_numpy()}, skip_fraction)
        for run, group in groups.items()
    ]
    log_x, log_y, owners = envelope(curves, grid_points)

    def at(name: str) -> Array:
        rows = zip(log_x, owners, strict=True)
        return np.exp([np.interp(place, np.log(groups[o]["x"]), np.log(groups[o][name])) for place, o in rows])

    return Frontier("binned", np.exp(log_x), np.exp(log_y), tuple(owners), {name: at(name) for name in extra})


def _hull(log_x: Array, log_y: Array) -> Array:
    """Indices of the lower convex hull's vertices up to the lowest point, in order of x (monotone chain)."""
    order = np.lexsort([log_y, log_x])
    x, y = np.append(log_x[order], log_x.max() + FAR), np.append(log_y[order], log_y.max() + FAR)
    chain: list[int] = []
    for i in range(len(x)):
        while len(chain) > 1 and _turns_right(x, y, chain[-2], chain[-1], i):
            chain.pop()
        chain.append(i)
    vertices = np.array(chain[:-1])
    return order[vertices[: int(y[vertices].argmin()) + 1]]


def _turns_right(x: Array, y: Array, a: int, b: int, c: int) -> bool:
    """Whether b lies on or above the line from a to c."""
    return bool((x[b] - x[a]) * (y[c] - y[a]) <= (y[b] - y[a]) * (x[c] - x[a]))


def _pareto(log_x: Array, log_y: Array) -> Array:
    """Indices of the points that no point of at most their x beats, in order of x."""
    order = np.lexsort([log_y, log_x])
    best = np.minimum.accumulate(log_y[order])
    improves = np.append(True, best[1:] < best[:-1])
    return order[improves]
