"""The global search of one fit: starts by variable projection, each refined by Newton's method."""

from dataclasses import dataclass
from math import inf

import numpy as np

from lawfit.arrays import Array, Indices, Mask
from lawfit.fitting.newton import SAME_OBJECTIVE, Solution, minimise
from lawfit.fitting.objectives import Loss, Problem, Space
from lawfit.fitting.points import Points
from lawfit.forms.base import Centre, Form

STARTS, EDGE_STARTS = 24, 6
"""Starts of a fit, taken from the scan: inside the bounds, and with a parameter at one (a floor of 0)."""

STEPS = 60
"""Newton steps for all starts, at each loss on the way. Most converge in 15."""

PERSEVERING, PATIENCE, LAST_PATIENCE = 12, 300, 1000
"""How many starts that are still on their way within 5 % of the best go on, and for how many steps at each loss and
once more at the last. Where an exponent is nearly flat, a curved valley takes hundreds."""

HELD_STEPS, LOWS = 8, 4
"""Newton steps with one parameter held, at each loss on the way, and starts from the lows of each profile."""

SAME_PLACE = 1e-6
"""Largest difference of coordinates within which two ends are one."""

SCREENED = 400
"""Points that take part in the scan; a larger table is thinned evenly in y."""

LAD_STAGES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
"""|r|, and Huber's loss with a small delta, are approached through these deltas, in units of the residuals' scale."""

HUBER_EFFICIENT = 1.345
"""Delta in standard deviations at which Huber's loss is 95 % efficient for Gaussian noise."""


@dataclass(frozen=True, eq=False)
class Scan:
    """Candidates theta [g, p], their badness [g], and which have a parameter at its lowest [g]."""

    theta: Array
    badness: Array
    at_bound: Mask


@dataclass(frozen=True, eq=False)
class Found:
    """The best solution: theta [p], the problem it solves, and the objectives [starts] of all starts."""

    theta: Array
    problem: Problem
    smoothing: float
    reached: Array


def search(points: Points, form: Form, centre: Centre, loss: Loss, space: Space, delta: float | None) -> Found:
    """The best fit of the `form` over all starts. delta: Huber's, in the residuals' unit."""
    problem = points.problem(form, centre, space, inf)
    candidates = scan(points, form, centre, space)
    held = HeldLaws.of(candidates, form)
    plain = spread_starts(candidates)
    starts = np.concatenate([plain, held.lows(problem)])
    ends, counts = descend(problem, starts), np.ones(len(starts), int)
    unit = np.exp(centre.log_y) if space == "linear" else 1.0
    if loss != "squared":
        scale = unit * robust_scale(problem.residuals(ends.theta[[ends.objective.argmin()]])[0])
        # The least-squares solutions are starts too, beside the plain ones, which outliers have not touched.
        fresh = plain
        for smoothing in deltas(delta, scale):
            problem = points.problem(form, centre, space, max(smoothing, 1e-13 * unit))
            starts, counts = distinct(ends, counts)
            starts = np.concatenate([starts, fresh, held.lows(problem)])
            counts = np.append(counts, np.ones(len(starts) - len(counts), int))
            ends, fresh = descend(problem, starts), plain[:0]
    _persevere(problem, ends, LAST_PATIENCE)
    best = ends.theta[ends.objective.argmin()]
    return Found(best, problem, problem.delta * unit, np.repeat(ends.objective, counts))


@dataclass(eq=False)
class HeldLaws:
    """The best laws known at values of one parameter each: theta [m, p], ordered by it, and which it is [m].

    Where all laws of a curved valley are nearly as good, the next loss has its optimum far along the valley, and
    descent takes thousands of steps there. Laws with one parameter held line the valley and need a few.
    """

    theta: Array
    held: Indices

    @classmethod
    def of(cls, candidates: Scan, form: Form) -> "HeldLaws":
        """The best of the scan at each value of each parameter that it steps through."""
        rows, held = [], []
        for column in (form.parameters.index(name) for name in form.scanned):
            order = np.lexsort((candidates.badness, candidates.theta[:, column]))
            first = np.unique(candidates.theta[order, column], return_index=True)[1]
            rows.append(order[first])
            held.append(np.full(len(first), column))
        at = np.concatenate([np.zeros(0, int), *rows])
        return cls(candidates.theta[at], np.concatenate([np.zeros(0, int), *held]))

    def lows(self, problem: Problem) -> Array:
        """Starts [m, p]: after a few steps with the parameter held, which stay, those better than their neighbours."""
        if not len(self.theta):
            return self.theta
        fixed = self.held[:, None] == np.arange(self.theta.shape[1])
        ends = minimise(problem, self.theta, HELD_STEPS, fixed)
        self.theta = ends.theta
        chosen = []
        for column in np.unique(self.held):
            rows = np.flatnonzero(self.held == column)
            value = np.concatenate([[inf], ends.objective[rows], [inf]])
            low = rows[(value[1:-1] <= value[:-2]) & (value[1:-1] <= value[2:])]
            chosen.append(low[np.argsort(ends.objective[low])][:LOWS])
        return self.theta[np.concatenate(chosen)]


def distinct(ends: Solution, counts: Indices) -> tuple[Array, Indices]:
    """theta [m, p] of the ends, the best first, each optimum once, and how many starts [m] led there.

    counts [B]: how many starts stand behind each of the given ends.
    """
    order = np.argsort(ends.objective)
    theta, value = ends.theta[order], ends.objective[order]
    again = ends.converged[order][1:] & (np.diff(value) <= SAME_OBJECTIVE * value[1:])
    again &= np.abs(np.diff(theta, axis=0)).max(axis=1) < SAME_PLACE
    first = np.flatnonzero(np.append(True, ~again))
    return theta[first], np.add.reduceat(counts[order], first)


def descend(problem: Problem, starts: Array) -> Solution:
    """The minima that starts [B, p] lead to, found with patience where the best of them is still on its way."""
    ends = minimise(problem, starts, STEPS)
    if not ends.converged[ends.objective.argmin()]:
        _persevere(problem, ends, PATIENCE)
    return ends


def _persevere(problem: Problem, ends: Solution, steps: int) -> None:
    """Continue, in place, the best of the ends that are still on their way."""
    slow = np.flatnonzero(~ends.converged & (ends.objective <= 1.05 * ends.objective.min()))
    slow = slow[np.argsort(ends.objective[slow])][:PERSEVERING]
    if slow.size:
        further = minimise(problem, ends.theta[slow], steps)
        ends.theta[slow], ends.objective[slow] = further.theta, further.objective
        ends.converged[slow] = further.converged


def deltas(delta: float | None, scale: float) -> list[float]:
    """Huber's deltas to go through, ending at `delta` or, for |r|, at the last stage times the scale."""
    path = [scale * stage for stage in LAD_STAGES]
    return path if delta is None else [*(d for d in path if d > 2 * delta), delta]


def starting_points(points: Points, form: Form, centre: Centre, space: Space) -> Array:
    """Starts [at most STARTS + EDGE_STARTS, p] of a fit, see `spread_starts`."""
    return spread_starts(scan(points, form, centre, space))


def scan(points: Points, form: Form, centre: Centre, space: Space) -> Scan:
    """The candidates of the form's grid, by Huber's loss."""
    thinned = points.some(np.argsort(points.y)[:: -(-len(points.y) // SCREENED)])
    problem = thinned.problem(form, centre, space, inf)
    low, high = form.bounds(points.logs(centre))
    candidates = np.clip(form.grid(problem.logs, problem.y, space == "log"), low, high)
    spread = 0.1 * robust_scale(problem.target - np.median(problem.target))
    badness = problem.with_delta(max(spread, 1e-9)).objective(candidates)
    return Scan(candidates, badness, np.asarray((candidates <= low).any(axis=1)))


def spread_starts(found: Scan) -> Array:
    """Starts [at most STARTS + EDGE_STARTS, p]: the best candidates of the scan, then ever worse ones."""
    edge = found.at_bound
    return np.concatenate([
        _spread(found.theta[~edge], found.badness[~edge], STARTS),
        _spread(found.theta[edge], found.badness[edge], EDGE_STARTS),
    ])  # fmt: skip


def _spread(candidates: Array, badness: Array, count: int) -> Array:
    """The best candidate and ever worse ones, at log-spaced ranks."""
    order = np.argsort(badness)[: int(np.isfinite(badness).sum())]
    ranks = np.unique(np.geomspace(1, max(len(order), 1), min(count, len(order))).astype(int)) - 1
    return candidates[order[ranks]]


def robust_scale(residuals: Array) -> float:
    """Standard deviation of residuals [n] by their median absolute value (1.4826 MAD)."""
    return float(1.4826 * np.median(np.abs(residuals)))


def efficient_delta(points: Points, form: Form, centre: Centre, space: Space) -> float:
    """Huber's delta from the noise itself: 1.345 robust standard deviations of the least-absolute residuals."""
    found = search(points, form, centre, "lad", space, None)
    unit = np.exp(centre.log_y) if space == "linear" else 1.0
    return max(HUBER_EFFICIENT * unit * robust_scale(found.problem.residuals(found.theta[None])[0]), 1e-12 * unit)
