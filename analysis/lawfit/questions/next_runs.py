"""What to train next, and what a target costs.

`next_runs` ranks affordable runs by how much each would narrow a forecast per FLOP, from the fit's Jacobian;
`what_if` solves a law for the compute (or size) at which it reaches a target.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.points import centred
from lawfit.fitting.result import Fit
from lawfit.forms.base import Form, X, as_columns
from lawfit.forms.catalogue import FORMS
from lawfit.intervals.bootstrap import bootstrap, without_intervals
from lawfit.intervals.covariance import linearise, t_quantile, too_few_runs
from lawfit.intervals.draws import percentiles, widened

CANDIDATES = 24
"""Values tried of each variable."""

BELOW, ABOVE = 1.0, 4.0
"""Candidates reach from the smallest x of the data to four times the largest."""


@dataclass(frozen=True)
class Candidate:
    """A run that could be added. x: by variable; cost in FLOPs. half_width_before, half_width_after: of the
    forecast law's interval, relative to its value. gain: the difference per FLOP.
    """

    x: dict[str, float]
    cost: float
    half_width_before: float
    half_width_after: float

    @property
    def gain(self) -> float:
        """How much one FLOP narrows the interval."""
        return (self.half_width_before - self.half_width_after) / self.cost


@dataclass(frozen=True)
class Needed:
    """What a target takes. x: compute, or whatever the law is of; inf when not reachable.

    status: `reachable`; `uncertain`, when the target lies within the floor's interval, so that the upper end of
    the interval is inf; `not reachable`, when it lies below. floor, floor_interval: the law's, 0 without one.
    extrapolation: x over the largest x of the data.
    """

    target: float
    x: float
    interval: tuple[float, float]
    status: Literal["reachable", "uncertain", "not reachable"]
    floor: float
    floor_interval: tuple[float, float]
    level: float
    extrapolation: float


def next_runs(
    law: Fit, at: X, *, budget: float, cost: Callable[[dict[str, Array]], Array] | None = None,
    candidates: X | None = None, count: int = 5, level: float = 0.95,
) -> tuple[Candidate, ...]:  # fmt: skip
    """The `count` affordable runs that narrow the law's interval at `at` most per FLOP, the best first.

    at: one place, columns [1]. budget: FLOPs for one run. cost: FLOPs [m] of runs at x; the default is 6 N D for a law
    in N and D, and x itself for a law in compute. candidates: columns [m] of the runs to choose among, by default a log
    grid. The gain is that of one run with the noise of the known ones, to first order: g (Jᵀ J + j jᵀ)^-1 g against
    g (Jᵀ J)^-1 g. Raises RecordError when nothing is affordable.
    """
    options = as_columns(candidates) if candidates is not None else _grid(law)
    price = (cost or _default_cost)(options)
    affordable = price <= budget
    if not affordable.any():
        raise RecordError(f"no candidate costs at most {budget:.3g} FLOPs: the cheapest costs {price.min():.3g}")
    options = {name: column[affordable] for name, column in options.items()}
    near = linearise(law)
    target, rows = _log_gradient(law, at)[0], _log_gradient(law, options)
    before = float(target @ near.inverse @ target)
    shared = rows @ near.inverse @ target
    after = before - shared**2 / (1 + np.einsum("ip,pq,iq->i", rows, near.inverse, rows))
    freedom = max(law.n - near.free, 1)
    widths = t_quantile(freedom, level) * np.sqrt(near.noise * np.maximum(after, 0))
    width = t_quantile(freedom, level) * np.sqrt(near.noise * before)
    found = [
        Candidate({name: float(column[i]) for name, column in options.items()}, float(c), float(width), float(w))
        for i, (c, w) in enumerate(zip(price[affordable], widths, strict=True))
    ]
    return tuple(sorted(found, key=lambda candidate: -candidate.gain)[:count])


def what_if(
    law: Fit, target: float, *, run: ArrayLike | None = None, tokens_per_flop: float = 1 / 6,
    replicates: int = 2000, seed: int = 0, level: float = 0.95,
) -> Needed:  # fmt: skip
    """The x at which the law reaches `target`: compute for a law in compute, or for a surface in N and D the
    compute of the best split with D = tokens_per_flop C/N.

    run [n]: labels of the points, by which the bootstrap behind the interval draws; fewer than three give none. Raises
    RecordError for a form that has no closed solution, and for a law that does not fall.
    """
    if not _solvable(law.form):
        known = ", ".join(name for name, form in FORMS.items() if _solvable(form))
        raise RecordError(f"form {law.form.name!r} is not solved for a target: fit one of {known}")
    if too_few_runs(run):
        boot = without_intervals(law, level)
    else:
        boot = bootstrap(law, run=run, replicates=replicates, seed=seed, level=level)
    draws = dict(zip(law.form.parameters, widened(boot, law.form.exponents[0]).T, strict=True))
    best = {name: np.array([value]) for name, value in law.params.items()}
    x = float(_solve(law.form, best, target, tokens_per_flop)[0])
    if np.isnan(x):
        raise RecordError("the law does not fall: no target can be reached by more of it")
    values = _solve(law.form, draws, target, tokens_per_flop)
    interval = percentiles(np.where(np.isnan(values), np.inf, values), level)
    floor = law.floor
    floor_interval = percentiles(draws[law.form.floor], level) if law.form.floor else (0.0, 0.0)
    status: Literal["reachable", "uncertain", "not reachable"] = "reachable"
    if target <= (floor if np.isnan(floor_interval[0]) else floor_interval[0]):
        status, x, interval = "not reachable", np.inf, (np.inf, np.inf)
    elif target <= floor_interval[1]:
        status, interval = "uncertain", (interval[0], np.inf)
    return Needed(target, x, interval, status, floor, floor_interval, level, x / _largest(law, tokens_per_flop))


def _solvable(form: Form) -> bool:
    return len(form.powers) == 1 or set(form.powers) == {"N", "D"}


def _solve(form: Form, draws: dict[str, Array], target: float, tokens_per_flop: float) -> Array:
    """x or C [B] at which the law of each draw reaches the target; inf below the floor, nan where it does not fall."""
    above = target - (draws[form.floor] if form.floor else np.zeros(1))
    (a, alpha), *others = [(draws[power.amplitude], draws[power.exponent]) for power in form.powers.values()]
    falls = np.logical_and.reduce([alpha > 0, *(beta > 0 for _, beta in others)])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if others:
            ((b, beta),) = others
            x = _least_product(a, alpha, b, beta, above) / tokens_per_flop
        else:
            x = np.exp(np.log(a / above) / alpha)
    return np.where(falls, np.where(above <= 0, np.inf, x), np.nan)


def _least_product(a: Array, alpha: Array, b: Array, beta: Array, above: Array) -> Array:
    """The least N D [B] with a N^-alpha + b D^-beta = above.

    There alpha a N^-alpha = beta b D^-beta, so both terms are known shares of `above`.
    """
    log_n = np.log(a * (alpha + beta) / (beta * above)) / alpha
    log_d = np.log(b * (alpha + beta) / (alpha * above)) / beta
    return np.asarray(np.exp(log_n + log_d))


def _largest(law: Fit, tokens_per_flop: float) -> float:
    columns = law.points.x
    size = columns["N"] * columns["D"] / tokens_per_flop if "N" in columns else next(iter(columns.values()))
    return float(size.max())


def _log_gradient(law: Fit, x: X) -> Array:
    """d log y / d theta [m, p] at x."""
    value, jacobian, _ = law.form.expand(law.theta[None], centred(law.form.columns(x), law.centre))
    return np.asarray((jacobian[0] / value[0]).T)


def _grid(law: Fit) -> dict[str, Array]:
    axes = [np.geomspace(BELOW * column.min(), ABOVE * column.max(), CANDIDATES) for column in law.points.x.values()]
    meshes = np.meshgrid(*axes, indexing="ij")
    return {name: mesh.ravel() for name, mesh in zip(law.points.x, meshes, strict=True)}


def _default_cost(x: dict[str, Array]) -> Array:
    return 6 * x["N"] * x["D"] if {"N", "D"} <= set(x) else next(iter(x.values()))
