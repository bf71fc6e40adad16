"""What the command line answers about splitting compute, one function per verb: isoFLOP slices and frontiers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from lawfit.approaches.allocation import (
    FEWEST_BUDGETS,
    Allocation,
    PowerOfCompute,
    by_frontier,
    by_isoflop,
    by_surface,
    cross_check,
)
from lawfit.approaches.frontier import Frontier, Method
from lawfit.approaches.frontier import frontier as find_frontier
from lawfit.approaches.isoflop import DRAWS, LEAST_SPREAD, Estimator, IsoFlop
from lawfit.approaches.isoflop import isoflop as find_valleys
from lawfit.command.input import RecordsSource, check_positive
from lawfit.command.law_verbs import Answer
from lawfit.command.metric import Metric, check_varies, read_metric
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.forms.catalogue import simple
from lawfit.intervals.covariance import too_few_runs
from lawfit.intervals.flags import poor_fit
from lawfit.records.comparability import compute_flags
from lawfit.records.expressions import evaluate
from lawfit.records.metric_kinds import direction
from lawfit.records.table import points
from lawfit.records.units import check_role
from lawfit.text import interval, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIRECT_NAME = re.compile(r"(?:[\d.]+(?:e[+-]?\d+)?\s*\*\s*)?`?([\w/ .-]+?)`?")
"""A column, perhaps times a number, by its name."""

DATA_NAME = re.compile(r"token|image|sample|example|^d$", re.IGNORECASE)
SIZE_NAME = re.compile(r"param|size|weight|embed|^n$", re.IGNORECASE)


@dataclass(frozen=True)
class SliceQuestion:
    """What is asked of slices. x: column of their sizes; d: of the other of N and D; at: a further budget, FLOPs."""

    x: str
    y: str
    budget: str
    d: str | None
    estimator: Any
    seed_sd: float
    weights: Any
    at: float | None
    level: float
    seed: int
    ceiling: str | None = None

    @property
    def symbol(self) -> str:
        """What x is: N, D, or its own name; x for a formula."""
        name = DIRECT_NAME.fullmatch(self.x)
        if name is None:
            return "x"
        return "D" if DATA_NAME.search(name[1]) else "N" if SIZE_NAME.search(name[1]) else name[1]


def isoflop(source: RecordsSource, ask: SliceQuestion, notes: Sequence[str] = ()) -> Answer:
    """The minima, the slices without one, and N*(C), D*(C) by this approach and the others.

    Raises RecordError for unusable columns and where no slice has a minimum.
    """
    records = source.read()
    if ask.at is not None:
        check_positive("--at", ask.at)
    for role, text in {"d" if ask.symbol == "D" else "n": ask.x, "y": ask.y}.items():
        if text in records:
            check_role(role, text, records[text])
    metric = _falling(records, ask.y, ask.ceiling)
    find = partial(
        find_valleys, records, n=ask.x, loss=metric.text, budget=ask.budget, d=ask.d, seed_sd=ask.seed_sd,
        seed=ask.seed, symbol=ask.symbol,
    )  # fmt: skip
    found = find(estimator=ask.estimator)
    if not found.valleys:
        raise RecordError("no budget has a minimum: " + "; ".join(found.warnings))
    allocations = _allocations(found, ask)
    names = AxisNames.of(found)
    ask = replace(ask, y=metric.text)
    read = [*records.attrs.get("notes", ()), *metric.assumptions]
    assumptions = [*notes, *read, *_assumptions(found, names, ask)]
    values: dict[str, Any] = {
        "x": {"column": ask.x, "is": found.symbol},
        "estimator": found.estimator,
        "valleys": [names.of_values(asdict(valley), "_opt") for valley in found.valleys],
        "unbracketed": [asdict(part) for part in found.unbracketed],
        "level": ask.level,
        **_split_values(allocations, ask.level, names),
        "alternatives": _other_estimators(find, found, ask),
        "assumptions": assumptions,
        "warnings": [*found.warnings, *cross_check(allocations, level=ask.level, symbol=found.symbol)],
    }
    budgets = [valley.budget for valley in found.valleys] + ([ask.at] if ask.at else [])
    if allocations:
        optima = [asdict(allocations[0].at(value, ask.level)) for value in budgets]
        values["optima"] = [names.of_values(names.of_values(best), "_interval") for best in optima]

    def draw() -> Figure:
        from lawfit.pictures.isoflop import isoflop_valleys

        return isoflop_valleys(found, allocations, n=ask.x, y=ask.y)

    return Answer(values, _isoflop_lines(found, allocations, values, ask), draw)


@dataclass(frozen=True)
class AxisNames:
    """What an isoFLOP answer calls its two axes: first along the slices, second the other of N and D, if known."""

    first: str
    second: str | None

    @classmethod
    def of(cls, found: IsoFlop) -> AxisNames:
        """The names of an answer."""
        if found.symbol in ("N", "D"):
            return cls(found.symbol, "D" if found.symbol == "N" else "N")
        return cls(found.symbol, "D" if found.d else None)

    def of_values(self, values: dict[str, Any], ending: str = "") -> dict[str, Any]:
        """Values whose keys n and d, with an ending, are named by what they are: n, d, or x."""
        first, second = (values.get(key + ending) for key in ("n", "d"))
        rest = {key: value for key, value in values.items() if key not in ("n" + ending, "d" + ending)}
        key = self.first.lower() if self.first in ("N", "D") else "x"
        return {key + ending: first, **({self.second.lower() + ending: second} if self.second else {}), **rest}


SIZES = AxisNames("N", "D")


def _assumptions(found: IsoFlop, names: AxisNames, ask: SliceQuestion) -> list[str]:
    """What the answer takes for granted, one sentence each."""
    lines = []
    if names.second:
        count = f"by column {found.d!r}" if found.d else f"C/(6·{names.first}*), since no column gives it (--d)"
        lines.append(f"{names.second}* is {count}")
    if found.estimator != "surface" and ask.seed_sd:
        lines.append(
            f"the loss varies by {ask.seed_sd:g} between seeds (--seed-sd): minima are medians of {DRAWS} draws of it, "
            "and their spread is their error"
        )
    if found.estimator != "surface" or not found.one_ratio:
        least = f"each at least {LEAST_SPREAD:g} of the mean spacing of its slice's sizes"
        equal = "minima weigh equally in the laws of C"
        lines.append(equal if ask.weights == "equal" else f"minima weigh 1/error² (--weights), {least}")
    return lines


def _falling(records: pd.DataFrame, y: str, ceiling: str | None) -> Metric:
    """What has a minimum where models are best: y, or its distance from where it ends. RecordError for neither."""
    metric = read_metric(records, y, ceiling)
    if metric.ceiling is None and y.strip("`") in records and direction(y) == "rises":
        raise RecordError(f"{y} rises as models get better, and its lowest is the worst: give --ceiling, where it ends")
    check_varies(y, points(records, y=metric.text)["y"].to_numpy(float))
    return metric


def _other_frontier(records: pd.DataFrame, **question: Any) -> Any:
    """Another definition's lines, or None where these records do not bear it."""
    try:
        return _lines_of(find_frontier(records, **question))
    except RecordError:
        return None


def frontier(
    source: RecordsSource, x: str, y: str, run: str, n: str | None, d: str | None, method: Any, level: float,
    replicates: int, seed: int, notes: Sequence[str] = (), ceiling: str | None = None,
) -> Answer:  # fmt: skip
    """The frontier's points, L(C), and where the records has them N*(C) and D*(C); other definitions beside it."""
    records = source.read()
    if "left_out" in records.attrs:  # MLflow: at some steps only other metrics are recorded
        records = records[evaluate(records, y).notna()]
    metric = _falling(records, y, ceiling)
    y, assumptions = metric.text, [*notes, *records.attrs.get("notes", ()), *metric.assumptions]
    named = {"n": n or "n_params", "d": d or "tokens"}
    others = {role: text for role, text in named.items() if text in records or n or d}
    found = find_frontier(records, x=x, y=y, run=run, method=method, others=others)
    law = fit(found.x, found.y, simple(), independent=len(set(found.run)))
    warnings = [*records.attrs.get("flags", ()), *compute_flags(records, x=x, run=run, **others)]
    values: dict[str, Any] = {
        "method": method, "points": found.frame().to_dict("records"), "law": law.to_json(), "level": level,
        "alternatives": {
            name: _other_frontier(records, x=x, y=y, run=run, method=name, others=others)
            for name in get_args(Method) if name != method
        },
    }  # fmt: skip
    if flag := poor_fit(law):
        warnings.append(f"L(C): {flag.message}")
    if found.unfinished:
        warnings.append(f"{found.unfinished} of {len(found.x)} points are from before the end of their schedule")
    allocations: list[Allocation] = []
    if set(others) == {"n", "d"}:
        try:
            split = by_frontier(
                records, n=others["n"], d=others["d"], x=x, y=y, run=run, method=method, replicates=replicates,
                seed=seed,
            )  # fmt: skip
            allocations = [split]
            warnings += [told] if (told := too_few_runs(evaluate(records, run).astype(str))) else []
        except RecordError as error:  # L(C) stands without it
            warnings.append(f"no N*(C): {error}")
        values |= _split_values(allocations, level, SIZES)
    values |= {"assumptions": assumptions, "warnings": warnings}
    lines = [
        f"{method} frontier: {len(found.x)} points of {len(set(found.run))} runs, x from {found.x[0]:.3g} to "
        f"{found.x[-1]:.3g}",
        f"L(C): {law.summary()}",
        *_power_lines(allocations, level, SIZES),
        *(f"  {name}: {_lines_text(lines)}" for name, lines in values["alternatives"].items() if lines),
        *(f"assumed: {assumption}" for assumption in assumptions),
        *(f"note: {warning}" for warning in warnings),
    ]

    def draw() -> Figure:
        from lawfit.pictures.curves import training_curves

        split = allocations[0] if allocations else None
        return training_curves(records, found, law, x=x, y=y, run=run, n=others.get("n"), split=split)

    return Answer(values, lines, draw)


def _allocations(found: IsoFlop, ask: SliceQuestion) -> list[Allocation]:
    """Allocations by the slices, if enough have a minimum, and by the surface through them in closed form."""
    allocations = [by_isoflop(found, ask.seed, ask.weights)] if len(found.valleys) >= FEWEST_BUDGETS else []
    surface = found.surface
    closed = found.estimator != "surface" and found.one_ratio
    if allocations and surface is not None and closed and surface.certificate.holds:
        k = np.exp(np.mean([np.log(part.d * part.n / part.budget).mean() for part in found.slices]))
        with suppress(RecordError):  # a surface without a minimum says nothing about the split
            allocations.append(by_surface(surface, tokens_per_flop=float(k), seed=ask.seed))
    return allocations


def _other_estimators(find: Callable[..., IsoFlop], found: IsoFlop, ask: SliceQuestion) -> dict[str, Any]:
    """The exponents of N*(C) by the other estimators of the minima; None where too few slices have one."""
    exponents: dict[str, Any] = {}
    for name in get_args(Estimator):
        if name == found.estimator or (name == "surface" and found.surface is None):
            continue
        other = find(estimator=name)
        enough = len(other.valleys) >= FEWEST_BUDGETS
        exponents[name] = by_isoflop(other, weights=ask.weights).n.exponent if enough else None
    return exponents


def _split_values(allocations: Sequence[Allocation], level: float, names: AxisNames) -> dict[str, Any]:
    """The first allocation's power laws; the others under `cross_check`."""
    if not allocations:
        return names.of_values({"n": None, "d": None})
    first, *rest = [
        {"approach": part.approach, "method": part.method,
         **names.of_values({"n": _power_values(part.n, level), "d": _power_values(part.d, level)})}
        for part in allocations
    ]  # fmt: skip
    return {**first, "cross_check": rest}


def _power_values(power: PowerOfCompute, level: float) -> dict[str, Any]:
    return {
        "exponent": power.exponent, "exponent_interval": power.exponent_interval(level),
        "log_coefficient": power.log_coefficient, "coefficient": float(np.exp(power.log_coefficient)),
    }  # fmt: skip


def _lines_of(found: Frontier) -> dict[str, Any]:
    """Slope and intercept of log y, log n and log d over log C."""
    quantities = {"y": found.y, **found.columns}
    lines = {name: np.polyfit(np.log(found.x), np.log(values), 1) for name, values in quantities.items()}
    return {name: {"exponent": float(slope), "log_coefficient": float(level)} for name, (slope, level) in lines.items()}


def _lines_text(lines: dict[str, Any]) -> str:
    return ", ".join(f"{name} ∝ C^{line['exponent']:.6g}" for name, line in lines.items())


def _power_lines(allocations: Sequence[Allocation], level: float, names: AxisNames) -> list[str]:
    rows = []
    for part in allocations:
        for name, power in ((names.first, part.n), (names.second, part.d)):
            if name is None:
                continue
            law = f"{name}* = {np.exp(power.log_coefficient):.4g}·C^{power.exponent:.6g}"
            rows.append((f"{part.approach} ({part.method})", law, interval(power.exponent_interval(level))))
    return table(("approach", "law", f"exponent, {100 * level:.3g} %"), rows) if rows else []


def _isoflop_lines(
    found: IsoFlop, allocations: Sequence[Allocation], values: dict[str, Any], ask: SliceQuestion
) -> list[str]:
    names = AxisNames.of(found)
    heads = [f"{name}*" for name in (names.first, names.second) if name]
    rows = [
        (f"{v.budget:.4g}", *(f"{value:.4g}" for value in (v.n_opt, v.d_opt)[: len(heads)]), f"{v.loss_opt:.4f}",
         f"{v.log_sd:.2g}", str(v.sizes))
        for v in found.valleys
    ]  # fmt: skip
    lines = [
        f"minima of {ask.y} over {names.first} ({ask.x}) by {found.estimator}:",
        *table(("C", *heads, ask.y, f"sd of log {names.first}*", "sizes"), rows),
        *_power_lines(allocations, ask.level, names),
    ]
    if not allocations:
        lines += [*_other_minima(found, names.first), _what_a_law_needs(found)]
    known = {name: value for name, value in values["alternatives"].items() if value is not None}
    if known and allocations:
        by_name = ", ".join(f"{name} {value:.4f}" for name, value in known.items())
        lines.append(f"exponent of {names.first}* by {by_name}")
    if ask.at and allocations:
        best = allocations[0].at(ask.at, ask.level)
        parts = [(best.n, best.n_interval), (best.d, best.d_interval)]
        split = [f"{head} = {value:.4g} {interval(ends)}" for head, (value, ends) in zip(heads, parts, strict=False)]
        lines.append(f"C = {ask.at:.4g}: {', '.join(split)}, {ask.y} {best.loss:.4g} {interval(best.loss_interval)}")
    lines += [f"assumed: {assumption}" for assumption in values["assumptions"]]
    return [*lines, *(f"note: {warning}" for warning in values["warnings"])]


def _other_minima(found: IsoFlop, name: str) -> list[str]:
    """One line for each other estimator: its minima, where they have no law to be compared by."""
    best = np.array([valley.n_opt for valley in found.valleys])
    rows = {other: best * np.exp(difference) for other, difference in found.other.items()}
    return [
        f"{name}* by {other}: " + ", ".join(f"{value:.4g}" if np.isfinite(value) else "none" for value in values)
        for other, values in rows.items()
    ]


def _what_a_law_needs(found: IsoFlop) -> str:
    """One line on how many more slices need a minimum."""
    count = len(found.valleys)
    missing = FEWEST_BUDGETS - count
    have = f"{count} budget{'s have' if count > 1 else ' has'} a minimum"
    how = f"sizes on both sides of the minimum at {missing} more budget{'s' * (missing > 1)}"
    return f"{have}: {found.symbol}*(C) needs {FEWEST_BUDGETS}, so {how}"
