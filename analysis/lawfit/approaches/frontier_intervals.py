"""How far the law of a binned frontier can be trusted: resampled runs, and the largest run held out.

Both rebuild the frontier, since leaving out a run changes the points that the law is fitted to.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lawfit.approaches.frontier import GRID_POINTS, Curve, envelope
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.fitting.points import MIN_DISTINCT_X
from lawfit.intervals.bootstrap import Bootstrap, refit
from lawfit.intervals.resampling import draw


def bootstrap_frontier(
    curves: Sequence[Curve], form: str, points: int = GRID_POINTS,
    replicates: int = 1000, seed: int = 0, level: float = 0.95,
) -> Bootstrap:  # fmt: skip
    """Draw runs with replacement; each resample has its own frontier, to which `form` is refitted.

    Raises RecordError for fewer than three curves.
    """
    if len(curves) < MIN_DISTINCT_X:
        raise RecordError(f"{len(curves)} curves: resampling them needs {MIN_DISTINCT_X}")
    log_x, log_y, _ = envelope(curves, points)
    whole = fit(np.exp(log_x), np.exp(log_y), form)
    counts, redrawn = draw(len(curves), replicates, seed, lambda c: (c > 0).sum(1) >= MIN_DISTINCT_X)
    # A resample may have fewer points: the rest keep weight 0.
    x, y, weights = (np.zeros((replicates, points)) for _ in range(3))
    for row, drawn in enumerate(counts):
        log_x, log_y, _ = envelope([c for c, times in zip(curves, drawn, strict=True) if times], points)
        filled = slice(len(log_x))
        x[row, filled] = log_x - whole.centre.log_x[0]
        y[row, filled], weights[row, filled] = log_y - whole.centre.log_y, 1.0
    problem = replace(whole.inference_problem(), logs=[x], y=np.exp(y), weights=weights)
    theta, resolved, failed = refit(whole, problem)
    return Bootstrap(whole, level, "run", len(curves), replicates, redrawn, resolved, failed, theta, None)


def hold_out_largest_curve(curves: Sequence[Curve], form: str | Sequence[str], points: int = GRID_POINTS) -> float:
    """Signed relative error, predicted/actual - 1, at the end of the run that reaches the largest x, from the
    frontier of the others.

    Raises RecordError when fewer than three curves are left.
    """
    last = max(curve.log_x[-1] for curve in curves)
    rest = [curve for curve in curves if curve.log_x[-1] < last - 1e-9]
    actual = [curve.log_y[-1] for curve in curves if curve.log_x[-1] >= last - 1e-9]
    if len(rest) < MIN_DISTINCT_X:
        raise RecordError(f"{len(rest)} curves end below the largest x: a law needs {MIN_DISTINCT_X}")
    log_x, log_y, _ = envelope(rest, points)
    predicted = fit(np.exp(log_x), np.exp(log_y), form).predict([np.exp(last)])[0]
    return float(predicted / np.exp(np.mean(actual)) - 1)
