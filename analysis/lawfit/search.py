"""The global search of one fit: starts by variable projection, each refined by Newton's method.

Floor 4 of the numerics, between `data` and `fitting`.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from lawfit.data import Points
from lawfit.formula import Array, Centre, Form
from lawfit.objectives import Loss, Problem, Space
from lawfit.solver import Solution, minimise

STARTS, EDGE_STARTS = 24, 6
"""Starts of a fit, taken from the scan: inside the bounds, and with a parameter at one (a floor of 0)."""

STEPS, PATIENCE = 60, 1000
"""Newton steps for all starts, and for those still on their way whose objective is within 5 % of the best. Most
converge in 15; where an exponent is nearly flat, a curved valley takes hundreds."""

SCREENED = 400
"""Points that take part in the scan; a larger table is thinned evenly in y."""

LAD_STAGES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
"""|r|, and Huber's loss with a small delta, are approached through these deltas, in units of the residuals' scale."""

HUBER_EFFICIENT = 1.345
"""Delta in standard deviations at which Huber's loss is 95 % efficient for Gaussian noise."""


@dataclass(frozen=True, eq=False)
class Found:
    """The best solution: theta [p], the problem it solves, and the objectives [starts] of all starts."""

    theta: Array
    problem: Problem
    smoothing: float
    reached: Array


def search(points: Points, form: Form, centre: Centre, loss: Loss, space: Space, delta: float | None) -> Found:
    """The best fit of the `form` over all starts. delta: Huber's, in the residuals' unit."""
    squares = points.problem(form, centre, space, inf)
    starts = starting_points(points, form, centre, space)
    ends = descend(squares, starts)
    if loss == "squared":
        return _best(squares, inf, ends.theta, ends.objective)
    # The least-squares solutions are starts too, beside the plain ones, which outliers have not touched.
    starts = np.concatenate([starts, ends.theta])
    unit = np.exp(centre.log_y) if space == "linear" else 1.0
    scale = unit * robust_scale(squares.residuals(ends.theta[[ends.objective.argmin()]])[0])
    for smoothing in deltas(delta, scale):
        problem = points.problem(form, centre, space, max(smoothing, 1e-13 * unit))
        ends = descend(problem, starts)
        starts = ends.theta
    return _best(problem, problem.delta * unit, ends.theta, ends.objective)


def descend(problem: Problem, starts: Array) -> Solution:
    """The minima that the starts lead to, found with patience where they may be the best."""
    ends = minimise(problem, starts, STEPS)
    slow = np.flatnonzero(~ends.converged & (ends.objective <= 1.05 * ends.objective.min()))
    if slow.size:
        further = minimise(problem, ends.theta[slow], PATIENCE)
        ends.theta[slow], ends.objective[slow] = further.theta, further.objective
        ends.converged[slow] = further.converged
    return ends


def deltas(delta: float | None, scale: float) -> list[float]:
    """Huber's deltas to go through, ending at `delta` or, for |r|, at the last stage times the scale."""
    path = [scale * stage for stage in LAD_STAGES]
    return path if delta is None else [*(d for d in path if d > 2 * delta), delta]


def starting_points(points: Points, form: Form, centre: Centre, space: Space) -> Array:
    """Starts [at most STARTS + EDGE_STARTS, p]: the best of the scan by Huber's loss, then ever worse ones."""
    thinned = points.some(np.argsort(points.y)[:: -(-len(points.y) // SCREENED)])
    problem = thinned.problem(form, centre, space, inf)
    low, high = form.bounds(points.logs(centre))
    candidates = np.clip(form.grid(problem.logs, problem.y, space == "log"), low, high)
    spread = 0.1 * robust_scale(problem.target - np.median(problem.target))
    badness = problem.with_delta(max(spread, 1e-9)).objective(candidates)
    at_bound = (candidates <= low).any(axis=1)
    inside, edge = candidates[~at_bound], candidates[at_bound]
    return np.concatenate([
        _spread(inside, badness[~at_bound], STARTS), _spread(edge, badness[at_bound], EDGE_STARTS)
    ])  # fmt: skip


def _spread(candidates: Array, badness: Array, count: int) -> Array:
    """The best candidate and ever worse ones, at log-spaced ranks."""
    order = np.argsort(badness)[: int(np.isfinite(badness).sum())]
    ranks = np.unique(np.geomspace(1, max(len(order), 1), min(count, len(order))).astype(int)) - 1
    return candidates[order[ranks]]


def robust_scale(residuals: Array) -> float:
    """Standard deviation of the residuals by their median absolute value (1.4826 MAD)."""
    return float(1.4826 * np.median(np.abs(residuals)))


def efficient_delta(points: Points, form: Form, centre: Centre, space: Space) -> float:
    """Huber's delta from the noise itself: 1.345 robust standard deviations of the least-absolute residuals."""
    found = search(points, form, centre, "lad", space, None)
    unit = np.exp(centre.log_y) if space == "linear" else 1.0
    return max(HUBER_EFFICIENT * unit * robust_scale(found.problem.residuals(found.theta[None])[0]), 1e-12 * unit)


def _best(problem: Problem, smoothing: float, theta: Array, reached: Array) -> Found:
    return Found(theta[reached.argmin()], problem, smoothing, reached)
