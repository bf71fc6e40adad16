"""What the report says of one law: its picture, intervals, alternatives, back-tests and remarks, as text."""

import math
import re
from dataclasses import dataclass

from lawfit.fitting.result import Fit
from lawfit.questions.study_laws import LawResult
from lawfit.records.schema import column

NOTHING = "\N{EN DASH}"

Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class LawSection:
    """One law on the page. picture: data URI. Each table is a list of rows below its own heading row."""

    title: str
    verdict: str
    primary: bool
    picture: str
    intervals: Rows
    alternatives: Rows
    rolled: Rows
    facts: Rows
    notes: tuple[str, ...]


def law_section(result: LawResult, picture: str) -> LawSection:
    """The section of a law."""
    return LawSection(
        title=result.law.title, verdict=result.verdict, primary=result.law.primary, picture=picture,
        intervals=_intervals(result), alternatives=_alternatives(result), rolled=_rolled(result),
        facts=_facts(result), notes=result.warnings,
    )  # fmt: skip


def overview(result: LawResult) -> dict[str, str]:
    """One row of the table of laws, heading -> text. Intervals are of alpha, in x^-alpha."""
    return {
        "law": result.law.title,
        "exponent": f"{column(result.law.x).symbol}^{-result.alpha:#.3g}",
        "bootstrap": ends(result.bootstrap.exponent_interval),
        "profile": ends(result.profile_interval) if result.profile_interval else NOTHING,
        "t": ends(result.t_interval) if result.t_interval else NOTHING,
        "R²": f"{result.fit.r2_log:.4f}" if math.isfinite(result.fit.r2_log) else NOTHING,
        "max residual": f"{100 * result.fit.max_relative_residual:#.2g} %",
        "hold-out error": NOTHING if result.hold_out is None else f"{100 * result.hold_out:+#.2g} %",
        "n": str(result.n),
        "form": result.fit.form.formula,
    }


def ends(interval: tuple[float, float]) -> str:
    """An interval in three digits; an end that the data do not set is infinite."""
    low, high = (f"{end:#.3g}" if math.isfinite(end) else "∞" for end in interval)
    return f"{low} to {high}"


def _intervals(result: LawResult) -> Rows:
    boot, fit = result.bootstrap, result.fit
    rows: Rows = [("parameter", "estimate", "bootstrap", "profile", "t")]
    for name, value in fit.params.items():
        if name in fit.form.amplitudes:
            continue
        profile, t = (result.profile_interval, result.t_interval) if name in fit.form.exponents else (None, None)
        rows.append((name, f"{value:#.4g}", ends(boot.intervals[name]), ends(profile) if profile else NOTHING,
                     ends(t) if t else NOTHING))  # fmt: skip
    (middle,) = fit.reference.x0.values()
    for name, value in fit.reference.amplitudes.items():
        at = f"{name} at {column(result.law.x).symbol} = {_short(middle)}"
        rows.append((at, f"{value:#.4g}", ends(boot.reference_intervals[name]), NOTHING, NOTHING))
    told = [cells for cells in zip(*rows, strict=True) if set(cells[1:]) != {NOTHING}]
    return list(zip(*told, strict=True))


def _alternatives(result: LawResult) -> Rows:
    rows: Rows = [("objective or form", "α", "floor E")]
    rows.append((f"default: {result.fit.form.name}, squared, log y", *_exponent(result.fit)))
    return rows + [(other.what, *_exponent(other.fit)) for other in result.alternatives]


def _exponent(fit: Fit) -> tuple[str, str]:
    mark = "" if fit.certificate.holds else " (not certified)"
    return f"{fit.exponent:#.3g}{mark}", f"{fit.floor:#.3g}" if fit.form.floor else NOTHING


def _rolled(result: LawResult) -> Rows:
    symbol = column(result.law.x).symbol
    return [
        (f"known up to {symbol}", f"said for {symbol}", "said", "actual", "error"),
        *((_short(step.fitted_up_to), _short(step.at), f"{step.predicted:.4g}", f"{step.actual:.4g}",
           f"{100 * step.error:+#.2g} %") for step in result.rolled),
    ]  # fmt: skip


def _facts(result: LawResult) -> Rows:
    fit = result.fit
    hold_out = "too few sizes" if result.hold_out is None else f"{100 * result.hold_out:+#.2g} %"
    return [
        ("Form", fit.form.formula),
        ("Choice", fit.reason or NOTHING),
        ("Optimum", fit.certificate.message),
        ("Points", f"{fit.n} of {result.bootstrap.units} runs"),
        ("Error at the largest run, from the smaller", hold_out),
    ]


def _short(value: float) -> str:
    """Three digits, 1.5e6 rather than 1.5e+06."""
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.3g}")
