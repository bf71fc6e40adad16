"""How to split a budget: N*(C) and D*(C) by each approach behind one interface, and whether they agree.

The approaches are a frontier of training curves (1), isoFLOP slices (2) and a parametric surface (3). Each gives two
power laws of compute with draws of their uncertainty, hence compute-optimal N*, D* and loss with intervals;
`cross_check` compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lawfit.approaches.frontier import Frontier, Method, frontier
from lawfit.approaches.isoflop import IsoFlop, lowest_along
from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.fitting.result import Fit
from lawfit.forms.base import Form
from lawfit.forms.catalogue import CHINCHILLA, simple
from lawfit.intervals.bootstrap import bootstrap
from lawfit.intervals.covariance import too_few_runs
from lawfit.intervals.draws import percentiles, widened
from lawfit.intervals.prediction import predict_interval
from lawfit.records.table import points
from lawfit.text import interval

Approach = Literal["frontier", "isoflop", "parametric"]
Weights = Literal["variance", "equal"]
Interval = tuple[float, float]

DRAWS = 1000
LEVEL = 0.95
FEWEST_BUDGETS = 3
SAME_SIZE = 1e-9
"""Difference in log N below which sizes are one, interpolated or not."""

TOKENS_PER_FLOP = 1 / 6
"""k in D = k C/N, where nothing else is known: C = 6 N D."""


@dataclass(frozen=True, eq=False)
class PowerOfCompute:
    """y = exp(log_coefficient) C^exponent, C in FLOPs; draws [B, 2] of (log_coefficient, exponent)."""

    log_coefficient: float
    exponent: float
    draws: Array

    def at(self, budget: float) -> float:
        """The law at C = budget."""
        return float(np.exp(self.log_coefficient + self.exponent * np.log(budget)))

    def interval(self, budget: float, level: float = LEVEL) -> Interval:
        """Interval of the law at C = budget."""
        return percentiles(np.exp(self.draws @ np.array([1.0, np.log(budget)])), level)

    def exponent_interval(self, level: float = LEVEL) -> Interval:
        """Interval of the exponent."""
        return percentiles(self.draws[:, 1], level)


@dataclass(frozen=True)
class Optimum:
    """The compute-optimal model of a budget: parameters, tokens, loss, each with its interval."""

    budget: float
    n: float
    d: float
    loss: float
    n_interval: Interval
    d_interval: Interval
    loss_interval: Interval


@dataclass(frozen=True, eq=False)
class Allocation:
    """N*(C) and D*(C) by one approach. method: its variant, such as hull or akima. warnings: of the approach.

    loss_fit: the surface, where one was fitted, else the law of the lowest losses over C. range: of C.
    """

    approach: Approach
    method: str
    n: PowerOfCompute
    d: PowerOfCompute
    loss_fit: Fit
    range: Interval
    warnings: tuple[str, ...] = ()

    def at(self, budget: float, level: float = LEVEL) -> Optimum:
        """What to train with `budget` FLOPs."""
        n, d = self.n.at(budget), self.d.at(budget)
        surface = len(self.loss_fit.form.variables) > 1
        at = {"N": np.array([n]), "D": np.array([d])} if surface else np.array([budget])
        expected = predict_interval(self.loss_fit, at, level=level)
        return Optimum(
            budget=budget, n=n, d=d, loss=float(expected.law[0]),
            n_interval=self.n.interval(budget, level), d_interval=self.d.interval(budget, level),
            loss_interval=(float(expected.law_low[0]), float(expected.law_high[0])),
        )  # fmt: skip


def by_frontier(
    table: pd.DataFrame, *, n: str = "n_params", d: str = "tokens", x: str = "flops", y: str = "loss", run: str = "run",
    method: Method = "hull", replicates: int = 200, seed: int = 0,
) -> Allocation:  # fmt: skip
    """Approach 1: least squares of log N and log D over log C along the frontier of training curves.

    Draws resample runs and rebuild the frontier; fewer than three runs give none, so that intervals are nan. Raises
    RecordError as `frontier` does, and for a frontier of fewer than three points or of one model size.
    """
    columns = points(table, n=n, d=d, x=x, y=y, run=run)
    if "schedule_complete" in table:
        columns["schedule_complete"] = table["schedule_complete"]
    whole = _frontier_of(columns, method)
    if np.ptp(np.log(whole.columns["n"])) < SAME_SIZE:
        raise RecordError(f"the whole {method} frontier is of one model size: N*(C) needs runs of several")
    lines = _frontier_lines(whole)
    draws = _resampled(columns, method, lines, replicates, seed)
    warnings = [told] if (told := too_few_runs(columns["run"].astype(str))) else []
    if whole.unfinished:
        warnings.append(f"{whole.unfinished} of {len(whole.x)} frontier points are from unfinished schedules")
    return Allocation(
        "frontier", method,
        n=PowerOfCompute(*lines["n"], draws["n"]), d=PowerOfCompute(*lines["d"], draws["d"]),
        loss_fit=fit(whole.x, whole.y, simple(), independent=len(set(whole.run))),
        range=(float(whole.x.min()), float(whole.x.max())), warnings=tuple(warnings),
    )  # fmt: skip


def by_isoflop(result: IsoFlop, seed: int = 0, weights: Weights = "variance") -> Allocation:
    """Approach 2: least squares of the valleys' log N* and log D* over log C, weighted 1/variance of N* or equally.

    Draws follow the regression's t distribution, whose scale is the scatter of the valleys about the line; those of
    the `surface` estimator are a bootstrap of the surface, and where C is no constant times N D, both.
    RecordError with fewer than three valleys and for unknown weights.
    """
    if weights not in get_args(Weights):
        raise RecordError(f"weights {weights!r} are unknown: expected one of {', '.join(get_args(Weights))}")
    valleys = result.valleys
    if len(valleys) < FEWEST_BUDGETS:
        reasons = "; ".join(f"C = {part.budget:.3g}: {part.reason}" for part in result.unbracketed)
        raise RecordError(
            f"{len(valleys)} budgets with a minimum, {result.symbol}*(C) needs {FEWEST_BUDGETS} ({reasons})"
        )
    budget, n, d, loss, sd = (
        np.array([getattr(valley, name) for valley in valleys])
        for name in ("budget", "n_opt", "d_opt", "loss_opt", "log_sd")
    )
    span = (float(budget.min()), float(budget.max()))
    if weights == "equal":
        sd = np.ones_like(sd)
    generator = np.random.default_rng(seed)
    lines = regress(budget, n, sd, generator), regress(budget, d, sd, generator)
    if result.estimator == "surface" and result.surface is not None and result.one_ratio:
        # Its valleys lie on one line by construction: their scatter says nothing, the surface's resamples do.
        whole = by_surface(result.surface, tokens_per_flop=float(np.median(n * d / budget)), seed=seed)
        return replace(whole, approach="isoflop", method="surface", range=span, warnings=result.warnings)
    if result.estimator == "surface" and result.surface is not None:
        lines = _with_spread(result, result.surface, lines, seed)
    return Allocation(
        "isoflop", result.estimator, n=lines[0], d=lines[1],
        loss_fit=fit(budget, loss, simple()), range=span, warnings=result.warnings,
    )  # fmt: skip


def _with_spread(
    result: IsoFlop, surface: Fit, lines: tuple[PowerOfCompute, PowerOfCompute], seed: int
) -> tuple[PowerOfCompute, PowerOfCompute]:
    """The lines through the minima along the slices, their draws spread by a bootstrap of the surface too."""
    samples = widened(bootstrap(surface, replicates=DRAWS, seed=seed), surface.form.exponents[0])
    budgets = [valley.budget for valley in result.valleys]
    parts = [part for part in result.slices if part.budget in budgets]
    whole = np.array([list(surface.params.values())])
    minima = [lowest_along(surface, part, np.concatenate([whole, samples])) for part in parts]
    design = np.stack([np.ones(len(parts)), np.log([part.budget for part in parts])], axis=1)
    found = []
    for line, logs in zip(lines, zip(*minima, strict=True), strict=True):
        drawn = (np.linalg.pinv(design) @ np.stack(logs)).T  # [1 + B, 2]; nan where an end is lowest
        shift = drawn[1:] - drawn[0]
        found.append(replace(line, draws=line.draws + np.where(np.isfinite(shift), shift, 0.0)))
    return found[0], found[1]


def by_surface(
    surface: Fit, *, run: ArrayLike | None = None, tokens_per_flop: float = TOKENS_PER_FLOP,
    replicates: int = DRAWS, seed: int = 0,
) -> Allocation:  # fmt: skip
    """Approach 3: the minimum of E + A N^-alpha + B D^-beta along D = tokens_per_flop C/N, in closed form.

    N* = G (k C)^a with a = beta/(alpha + beta), G = (alpha A/(beta B))^(1/(alpha + beta)). run [n]: labels of the
    fitted points; draws are a bootstrap by run. RecordError for another form, or one that does not fall with N and D.
    """
    if set(surface.form.powers) != {"N", "D"}:
        raise RecordError(f"form {surface.form.name!r} has no compute-optimal split: fit {CHINCHILLA.name!r}")
    whole = _split(surface.form, np.array([list(surface.params.values())]), tokens_per_flop)
    if not np.isfinite(whole).all():
        raise RecordError("the surface does not fall with both N and D: it has no compute-optimal split")
    samples = widened(bootstrap(surface, run=run, replicates=replicates, seed=seed), surface.form.exponents[0])
    draws = _split(surface.form, samples, tokens_per_flop)
    draws = draws[np.isfinite(draws).all(axis=1)]
    log_k = np.log(tokens_per_flop)
    flops = surface.points.x["N"] * surface.points.x["D"] / tokens_per_flop
    (log_g, exponent), opposite = whole[0], lambda of: np.stack([log_k - of[:, 0], 1 - of[:, 1]], axis=1)
    return Allocation(
        "parametric", surface.form.name,
        n=PowerOfCompute(float(log_g), float(exponent), draws),
        d=PowerOfCompute(float(log_k - log_g), float(1 - exponent), opposite(draws)),
        loss_fit=surface, range=(float(flops.min()), float(flops.max())),
    )  # fmt: skip


def regress(budget: Array, values: Array, log_sd: Array, generator: np.random.Generator) -> PowerOfCompute:
    """log values [m] on log budget [m] by least squares weighted 1/log_sd^2 [m], with t-distributed draws."""
    log_c, log_v = np.log(budget), np.log(values)
    centre = float(np.average(log_c, weights=log_sd**-2))
    design = np.stack([np.ones_like(log_c), log_c - centre], axis=1) / log_sd[:, None]
    solution, *_ = np.linalg.lstsq(design, log_v / log_sd, rcond=None)
    freedom = len(log_c) - 2
    scale = float(((log_v / log_sd - design @ solution) ** 2).sum()) / freedom
    covariance = scale * np.linalg.inv(design.T @ design)
    chi = np.sqrt(generator.chisquare(freedom, DRAWS) / freedom)
    draws = solution + generator.multivariate_normal(np.zeros(2), covariance, DRAWS) / chi[:, None]
    at_one = np.array([[1.0, 0.0], [-centre, 1.0]])  # from the centre to C = 1
    log_coefficient, exponent = solution @ at_one
    return PowerOfCompute(float(log_coefficient), float(exponent), draws @ at_one)


def cross_check(
    allocations: Sequence[Allocation], budget: float | None = None, level: float = LEVEL, symbol: str = "N"
) -> list[str]:
    """One sentence for each pair of approaches that differ by more than their intervals, about the exponent of
    N*(C) and about N* at `budget` (default: the largest that all were fitted to). symbol: what N is called.
    """
    if not allocations:
        return []
    budget = budget or min(allocation.range[1] for allocation in allocations)
    warnings = []
    for first, second in combinations(allocations, 2):
        who = f"{first.approach} ({first.method}) and {second.approach} ({second.method})"
        ends = first.n.exponent_interval(level), second.n.exponent_interval(level)
        if _apart(*ends):
            values = f"{first.n.exponent:.3f} {interval(ends[0])} and {second.n.exponent:.3f} {interval(ends[1])}"
            warnings.append(f"{who} disagree on the exponent of {symbol}*(C) by more than their intervals: {values}")
        ends = first.n.interval(budget, level), second.n.interval(budget, level)
        if _apart(*ends):
            values = f"{first.n.at(budget):.3g} {interval(ends[0])} and {second.n.at(budget):.3g} {interval(ends[1])}"
            warnings.append(f"{who} disagree on {symbol}* at C = {budget:.3g} by more than their intervals: {values}")
    return warnings


def _frontier_of(columns: pd.DataFrame, method: Method) -> Frontier:
    return frontier(columns, x="x", y="y", run="run", method=method, others={"n": "n", "d": "d"})


def _frontier_lines(found: Frontier) -> dict[str, Interval]:
    """(log coefficient, exponent) of n and d along the frontier."""
    if len(np.unique(found.x)) < FEWEST_BUDGETS:
        raise RecordError(f"the {found.method} frontier has {len(found.x)} points: N*(C) needs {FEWEST_BUDGETS}")
    lines = {}
    for name in ("n", "d"):
        slope, level = np.polyfit(np.log(found.x), np.log(found.columns[name]), 1)
        lines[name] = (float(level), float(slope))
    return lines


def _resampled(
    columns: pd.DataFrame, method: Method, whole: Mapping[str, Interval], replicates: int, seed: int
) -> Mapping[str, Array]:
    """Draws [<= replicates, 2] of both lines, about those of the whole; one whose frontier is too short is left out.

    They are centred anew because fewer runs have a higher frontier: resampling shifts what it should only spread.
    """
    rows = [group.index.to_numpy() for _, group in columns.reset_index(drop=True).groupby("run")]
    table, generator = columns.reset_index(drop=True), np.random.default_rng(seed)
    if too_few_runs(columns["run"].astype(str)):
        return {name: np.zeros((0, 2)) for name in whole}
    draws: dict[str, list[Interval]] = {"n": [], "d": []}
    for _ in range(replicates):
        drawn = np.unique(generator.integers(len(rows), size=len(rows)))
        try:
            lines = _frontier_lines(_frontier_of(table.iloc[np.concatenate([rows[i] for i in drawn])], method))
        except RecordError:
            continue
        for name, line in lines.items():
            draws[name].append(line)
    if len(draws["n"]) < replicates / 2:
        raise RecordError(
            f"most resamples of the {len(rows)} runs have no frontier of {FEWEST_BUDGETS} points: add runs"
        )
    return {name: np.array(lines) + (whole[name] - np.median(lines, axis=0)) for name, lines in draws.items()}


def _split(form: Form, samples: Array, tokens_per_flop: float) -> Array:
    """(log coefficient, exponent) of N*(C) [B, 2] for parameters [B, p]; nan where there is no minimum."""
    draws = dict(zip(form.parameters, samples.T, strict=True))
    (a, alpha), (b, beta) = ([draws[name] for name in form.powers[key]] for key in ("N", "D"))
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = beta / (alpha + beta)
        log_g = np.log(alpha * a / (beta * b)) / (alpha + beta)
    falls = (alpha > 0) & (beta > 0) & (a > 0) & (b > 0)
    both = np.stack([log_g + exponent * np.log(tokens_per_flop), exponent], axis=1)
    return np.where(falls[:, None], both, np.nan)


def _apart(first: Interval, second: Interval) -> bool:
    return first[1] < second[0] or second[1] < first[0]
