"""What the command line answers about splitting compute, one function per verb: isoFLOP slices and frontiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from lawfit.approaches.allocation import Allocation, PowerOfCompute, by_frontier, by_isoflop, by_surface, cross_check
from lawfit.approaches.frontier import Frontier, Method
from lawfit.approaches.frontier import frontier as find_frontier
from lawfit.approaches.isoflop import Estimator, IsoFlop
from lawfit.approaches.isoflop import isoflop as find_valleys
from lawfit.command.input import RecordsSource
from lawfit.command.law_verbs import Answer
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.forms.catalogue import simple
from lawfit.records.expressions import evaluate
from lawfit.records.units import check_role
from lawfit.text import interval, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_VALLEYS = 3


def isoflop(
    source: RecordsSource, n: str, loss: str, budget: str, d: str | None, estimator: Any, seed_sd: float,
    at: float | None, level: float, seed: int,
) -> Answer:  # fmt: skip
    """The valleys, the slices without one, and N*(C), D*(C) by this approach and the others.

    Raises RecordError for unusable columns and where no slice has a minimum.
    """
    records = source.read()
    for role, text in {"n": n, "y": loss, **({"d": d} if d else {})}.items():
        if text in records:
            check_role(role, text, records[text])
    ask = partial(find_valleys, records, n=n, loss=loss, budget=budget, d=d, seed_sd=seed_sd, seed=seed)
    found = ask(estimator=estimator)
    if not found.valleys:
        raise RecordError("no budget has a minimum: " + "; ".join(found.warnings))
    allocations = _allocations(found, seed)
    warnings = [*found.warnings, *cross_check(allocations, level=level)]
    values: dict[str, Any] = {
        "estimator": found.estimator,
        "valleys": [asdict(valley) for valley in found.valleys],
        "unbracketed": [asdict(part) for part in found.unbracketed],
        "level": level,
        **_split_values(allocations, level),
        "alternatives": _other_estimators(ask, found),
        "warnings": warnings,
    }
    budgets = [valley.budget for valley in found.valleys] + ([at] if at else [])
    if allocations:
        values["optima"] = [asdict(allocations[0].at(value, level)) for value in budgets]

    def draw() -> Figure:
        from lawfit.pictures.isoflop import isoflop_valleys

        return isoflop_valleys(found, allocations, n=n, y=loss)

    return Answer(values, _isoflop_lines(found, allocations, values, at, level), draw)


def _other_frontier(records: pd.DataFrame, **question: Any) -> Any:
    """Another definition's lines, or None where these records do not bear it."""
    try:
        return _lines_of(find_frontier(records, **question))
    except RecordError:
        return None


def frontier(
    source: RecordsSource, x: str, y: str, run: str, n: str | None, d: str | None, method: Any, level: float,
    replicates: int, seed: int,
) -> Answer:  # fmt: skip
    """The frontier's points, L(C), and where the records has them N*(C) and D*(C); other definitions beside it."""
    records = source.read()
    if "left_out" in records.attrs:  # MLflow: at some steps only other metrics are recorded
        records = records[evaluate(records, y).notna()]
    named = {"n": n or "n_params", "d": d or "tokens"}
    others = {role: text for role, text in named.items() if text in records or n or d}
    found = find_frontier(records, x=x, y=y, run=run, method=method, others=others)
    law = fit(found.x, found.y, simple(), independent=len(set(found.run)))
    warnings = []
    values: dict[str, Any] = {
        "method": method, "points": found.frame().to_dict("records"), "law": law.to_json(), "level": level,
        "alternatives": {
            name: _other_frontier(records, x=x, y=y, run=run, method=name, others=others)
            for name in get_args(Method) if name != method
        },
    }  # fmt: skip
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
        except RecordError as error:  # L(C) stands without it
            warnings.append(f"no N*(C): {error}")
        values |= _split_values(allocations, level)
    values["warnings"] = warnings
    lines = [
        f"{method} frontier: {len(found.x)} points of {len(set(found.run))} runs, x from {found.x[0]:.3g} to "
        f"{found.x[-1]:.3g}",
        f"L(C): {law.summary()}",
        *_power_lines(allocations, level),
        *(f"  {name}: {_lines_text(lines)}" for name, lines in values["alternatives"].items() if lines),
        *(f"note: {warning}" for warning in warnings),
    ]

    def draw() -> Figure:
        from lawfit.pictures.curves import training_curves

        split = allocations[0] if allocations else None
        return training_curves(records, found, law, x=x, y=y, run=run, n=others.get("n"), split=split)

    return Answer(values, lines, draw)


def _allocations(found: IsoFlop, seed: int) -> list[Allocation]:
    """Allocations by the slices, if enough have a minimum, and by the surface through them."""
    allocations = [by_isoflop(found, seed)] if len(found.valleys) >= FEWEST_VALLEYS else []
    surface = found.surface
    if allocations and surface is not None and found.estimator != "surface" and surface.certificate.holds:
        k = np.exp(np.mean([np.log(part.d * part.n / part.budget).mean() for part in found.slices]))
        with suppress(RecordError):  # a surface without a minimum says nothing about the split
            allocations.append(by_surface(surface, tokens_per_flop=float(k), seed=seed))
    return allocations


def _other_estimators(ask: Callable[..., IsoFlop], found: IsoFlop) -> dict[str, Any]:
    """The exponents of N*(C) by the other estimators of the minima; None where too few slices have one."""
    exponents: dict[str, Any] = {}
    for name in get_args(Estimator):
        if name == found.estimator or (name == "surface" and found.surface is None):
            continue
        other = ask(estimator=name)
        exponents[name] = by_isoflop(other).n.exponent if len(other.valleys) >= FEWEST_VALLEYS else None
    return exponents


def _split_values(allocations: Sequence[Allocation], level: float) -> dict[str, Any]:
    """The first allocation's power laws; the others under `cross_check`."""
    if not allocations:
        return {"n": None, "d": None}
    first, *rest = [
        {"approach": part.approach, "method": part.method, "n": _power_values(part.n, level),
         "d": _power_values(part.d, level)}
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


def _power_lines(allocations: Sequence[Allocation], level: float) -> list[str]:
    rows = []
    for part in allocations:
        for name, power in (("N*", part.n), ("D*", part.d)):
            law = f"{name} = {np.exp(power.log_coefficient):.4g}·C^{power.exponent:.6g}"
            rows.append((f"{part.approach} ({part.method})", law, interval(power.exponent_interval(level))))
    return table(("approach", "law", f"exponent, {100 * level:.3g} %"), rows) if rows else []


def _isoflop_lines(
    found: IsoFlop, allocations: Sequence[Allocation], values: dict[str, Any], at: float | None, level: float
) -> list[str]:
    rows = [
        (f"{v.budget:.4g}", f"{v.n_opt:.4g}", f"{v.d_opt:.4g}", f"{v.loss_opt:.4f}", f"{v.log_sd:.2g}", str(v.sizes))
        for v in found.valleys
    ]
    lines = [
        f"minima by {found.estimator}:",
        *table(("C", "N*", "D*", "loss", "sd of log N*", "sizes"), rows),
        *_power_lines(allocations, level),
    ]
    if not allocations:
        lines.append(f"{len(found.valleys)} budgets have a minimum: N*(C) needs {FEWEST_VALLEYS}")
    known = {name: value for name, value in values["alternatives"].items() if value is not None}
    if known and allocations:
        lines.append("exponent of N* by " + ", ".join(f"{name} {value:.4f}" for name, value in known.items()))
    if at and allocations:
        best = allocations[0].at(at, level)
        lines.append(
            f"C = {at:.4g}: N* = {best.n:.4g} {interval(best.n_interval)}, D* = {best.d:.4g} "
            f"{interval(best.d_interval)}, loss {best.loss:.4g} {interval(best.loss_interval)}"
        )
    return [*lines, *(f"note: {warning}" for warning in values["warnings"])]
