"""The choice among the fits of several forms, with its reason."""

from collections.abc import Sequence
from dataclasses import replace
from math import isnan

from lawfit.fitting.result import Fit


def choose(fits: Sequence[Fit]) -> Fit:
    """The fit with the lowest AICc among those that are certified and have enough points."""
    simplest = fits[0]
    scored = [f for f in fits if not isnan(f.aicc) and (f.certificate.holds or f is simplest) and not _degenerate(f)]
    best = min(scored or [simplest], key=lambda f: f.aicc + f.form.margin)
    return replace(
        best,
        reason=_reason(best, fits),
        aicc_by_form={f.form.name: f.aicc for f in fits},
        bic_by_form={f.form.name: f.bic for f in fits},
    )


def _degenerate(fit: Fit) -> bool:
    """Whether a parameter is at its bound: such a form is a simpler one with parameters to spare."""
    return bool(fit.certificate.at_bound)


def _reason(best: Fit, fits: Sequence[Fit]) -> str:
    scores = ", ".join(f"{f.form.name} {f.aicc:.1f}" for f in fits if not isnan(f.aicc))
    left_out = [note for f in fits if f is not best and (note := _fault(f))]
    notes = f"; {'; '.join(left_out)}" if left_out else ""
    if not scores:
        return f"{best.independent} independent points are too few for AICc: the simplest form{notes}"
    return f"lowest AICc: {scores}{notes}"


def _fault(fit: Fit) -> str:
    if isnan(fit.aicc):
        return f"{fit.independent} independent points cannot tell {fit.form.name}"
    if fit.certificate.at_bound:
        return f"{fit.form.name} has {', '.join(fit.certificate.at_bound)} at a bound"
    return "" if fit.certificate.holds else f"{fit.form.name} is not identified"
