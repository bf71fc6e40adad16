"""One law: points (x, y) -> `Fit`."""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.certificate import certify
from lawfit.fitting.criteria import aicc, bic, deviance
from lawfit.fitting.objectives import Loss, Space, loss_of
from lawfit.fitting.points import Points, checked_points
from lawfit.fitting.result import Fit
from lawfit.fitting.search import efficient_delta, search
from lawfit.fitting.selection import choose
from lawfit.forms.base import Form, X
from lawfit.forms.catalogue import automatic, named


def fit(
    x: X, y: ArrayLike, form: str | Sequence[str] = "auto", *, loss: Loss = "squared", delta: float | None = None,
    space: Space = "log", independent: int | None = None, sd: ArrayLike | None = None,
) -> Fit:  # fmt: skip
    """Fit the law y(x), to the global optimum.

    x: [n] for a form of one variable, else the columns by variable (N, D). form: a name of `FORMS`, or several
    to choose among by AICc, or `auto` for all that suit the variables. loss: of the residuals of log y, or of y
    in linear space, summed. delta: where Huber's loss turns linear, in the residuals' unit; by default 1.345
    robust standard deviations of the noise. independent: how many independent runs stand behind the points,
    which is what AICc counts; a frontier's points come from few runs and would otherwise prove a floor that is
    not there. sd [n]: noise of each y, in its unit.

    Raises RecordError for an unknown form, loss or space and for points that cannot be fitted. A fit that is not
    at a certified optimum says so in its certificate.
    """
    _check_options(loss, delta, space)
    candidates = [named(name) for name in _names(form, x)]
    single = len(candidates) == 1
    fits = []
    for number, candidate in enumerate(candidates):
        # The simplest form must fit; a larger one is tried where there are enough points.
        if number and len(np.atleast_1d(np.asarray(y))) < len(candidate.parameters):
            continue
        points = checked_points(x, y, candidate, space, sd)
        fits.append(fit_points(points, candidate, loss, delta, space, independent))
    return fits[0] if single else choose(fits)


def fit_points(
    points: Points, form: Form, loss: Loss, delta: float | None, space: Space, independent: int | None = None
) -> Fit:
    """The fit of one form to checked points."""
    centre = points.centre(form)
    if loss == "huber" and delta is None:
        delta = efficient_delta(points, form, centre, space)
    found = search(points, form, centre, loss, space, delta)
    scale = np.exp(centre.log_y)
    predicted = found.problem.form.evaluate(found.theta[None], found.problem.logs)[0] * scale
    residuals = np.log(points.y / predicted) if space == "log" else points.y - predicted
    objective = float((points.weights * loss_of(residuals, loss, delta)).sum())
    count = independent or len(points.y)
    lack = deviance(residuals, points.weights, delta if loss == "huber" else None, loss == "lad", count)
    return Fit(
        form=form, points=points, theta=found.theta, centre=centre, loss=loss, space=space,
        delta=delta if loss == "huber" else None, smoothing=found.smoothing, independent=count,
        certificate=certify(found.problem, found.theta, objective, found.reached),
        residuals=residuals,
        r2_log=_r2_log(points.y, predicted),
        max_relative_residual=float(np.abs(points.y / predicted - 1).max()),
        aicc=aicc(lack, len(form.parameters), count), bic=bic(lack, len(form.parameters), count),
        reason=f"form {form.name} was asked for",
    )  # fmt: skip


def _r2_log(y: Array, predicted: Array) -> float:
    spread = float(((np.log(y) - np.log(y).mean()) ** 2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - float((np.log(y / predicted) ** 2).sum()) / spread if spread > 0 else float("nan")


def _names(form: str | Sequence[str], x: X) -> Sequence[str]:
    if form != "auto":
        return (form,) if isinstance(form, str) else form
    return automatic(tuple(x) if isinstance(x, Mapping) else ("x",))


def _check_options(loss: Loss, delta: float | None, space: Space) -> None:
    if loss not in get_args(Loss):
        raise RecordError(f"loss {loss!r} is unknown: expected one of {', '.join(get_args(Loss))}")
    if space not in get_args(Space):
        raise RecordError(f"space {space!r} is unknown: expected one of {', '.join(get_args(Space))}")
    if delta is not None and not (loss == "huber" and 0 < delta < float("inf")):
        raise RecordError(f"delta is {delta} with loss {loss!r}: only huber takes one, above 0")
