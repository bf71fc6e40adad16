"""What a reader should know before quoting a fit: outliers, a floor out of reach, parameters hard to tell.

Nothing is dropped: an outlier is named and kept, since leaving five of 245 points out moves Chinchilla's beta from
.45 to .37.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lawfit.fitting.result import Fit
from lawfit.fitting.search import robust_scale
from lawfit.intervals.covariance import too_few_runs
from lawfit.intervals.profile import profile

Kind = Literal[
    "not_optimal", "not_identified", "at_bound", "outlier", "short_span", "ill_conditioned", "collinear", "poor_fit"
]

POOR_R2 = 0.95
"""R² of log y below which a law fits poorly."""

OUTLIER = 4.0
"""Robust standard deviations beyond which a residual is an outlier: of 240 Gaussian points, .015 are."""

RARE = 0.25
"""Largest share of points that may be called outliers; more are the noise itself."""

ILL_CONDITIONED = 1e6
"""Condition number of the scaled Hessian above which parameters trade places freely. Chinchilla's data have 1e3."""

COLLINEAR = 0.999
"""|correlation| of two variables' logs above which nothing but the form tells them apart. Chinchilla's N and D: .24."""

SHOWN = 5
"""Outliers named in the message."""


@dataclass(frozen=True)
class Flag:
    """One remark. points: indices of the points it is about."""

    kind: Kind
    message: str
    points: tuple[int, ...] = ()


def flags(fit: Fit, *, run: ArrayLike | None = None, names: Sequence[str] | None = None) -> tuple[Flag, ...]:
    """All remarks on a fit. run [n]: as for `profile`; names [n]: what to call the points, by default their index."""
    found = [
        _certificate(fit),
        _bound(fit),
        _outliers(fit, names),
        _short_span(fit, run),
        _condition(fit),
        _collinear(fit),
        poor_fit(fit),
    ]
    return tuple(flag for flag in found if flag)


def poor_fit(fit: Fit) -> Flag | None:
    """A remark on R² of log y below `POOR_R2`."""
    if not fit.r2_log < POOR_R2:
        return None
    return Flag("poor_fit", f"R² of log y is {fit.r2_log:.3f}, below {POOR_R2}: the form fits poorly")


def _certificate(fit: Fit) -> Flag | None:
    if fit.certificate.holds:
        return None
    return Flag("not_identified" if fit.certificate.status == "flat" else "not_optimal", fit.certificate.message)


def _bound(fit: Fit) -> Flag | None:
    names = fit.certificate.at_bound
    if not names:
        return None
    if names == (fit.form.floor,):
        return Flag("at_bound", f"the best {names[0]} is 0: the form without it says the same")
    return Flag("at_bound", f"{', '.join(names)} at the edge of the search: that part of the form is not in the data")


def _outliers(fit: Fit, names: Sequence[str] | None) -> Flag | None:
    scale = robust_scale(fit.residuals)
    if scale == 0:
        return None
    far = np.flatnonzero(np.abs(fit.residuals) > OUTLIER * scale)
    if not far.size or far.size > RARE * fit.n:
        return None
    far = far[np.argsort(-np.abs(fit.residuals[far]))]
    shown = ", ".join(
        f"{names[i] if names is not None else f'point {i}'} ({fit.residuals[i] / scale:+.1f} sd)" for i in far[:SHOWN]
    )
    more = f" and {far.size - SHOWN} more" if far.size > SHOWN else ""
    message = f"{far.size} outliers by residual, kept: {shown}{more}; fit without them too, and state both"
    return Flag("outlier", message, tuple(int(i) for i in far))


def _short_span(fit: Fit, run: ArrayLike | None) -> Flag | None:
    floor = fit.form.floor
    if floor is None or not fit.certificate.holds or floor in fit.certificate.at_bound or too_few_runs(run):
        return None
    found = profile(fit, floor, run=run)
    if not found.one_sided:
        return None
    return Flag(
        "short_span",
        f"the span is too short to tell the floor: {floor} = {found.estimate:.3g} has the interval 0 to "
        f"{found.high:.3g}; with {floor} free the exponents are as uncertain, so do not quote them without interval",
    )


def _condition(fit: Fit) -> Flag | None:
    condition = fit.certificate.condition_number
    if not fit.certificate.holds or condition < ILL_CONDITIONED:
        return None
    return Flag("ill_conditioned", f"condition number {condition:.0e}: some parameters are told only in combination")


def _collinear(fit: Fit) -> Flag | None:
    for (first, one), (second, other) in combinations(fit.points.x.items(), 2):
        if abs(np.corrcoef(np.log(one), np.log(other))[0, 1]) > COLLINEAR:
            return Flag(
                "collinear",
                f"{first} and {second} vary together, as in runs of one ratio: which of them the loss follows is not "
                f"in the data; fit a form of one variable, or add runs at other ratios",
            )
    return None
