"""One law: points (x, y) -> `Fit`.

Floor 2 of the path: `laws` asks for fits, `uncertainty` refits their form. Least squares in log y, because
losses and distances carry relative errors. A power law is solved in closed form; a law with a floor from a
scan of starts, each refined, the best one polished; every fit carries a certificate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lawfit.forms import FORMS, Array, Form, PowerLaw, PowerLawFloor
from lawfit.schema import RecordError
from lawfit.solver import ROUNDING, SAME_OBJECTIVE, Certificate, certify, objective, polish, solve_many

FormName = Literal["power", "power_floor", "auto"]

MIN_DISTINCT_X = 3


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law.

    params: by name, amplitudes in the unit of y, A at x = form.x0. n: points. r2_log: R² of log y (nan for a
    constant y). residuals [n]: log y - log fit, in the order of the points. max_relative_residual: largest
    |y/fit - 1|. aicc: corrected Akaike criterion, nan when n is too small for it. reason: why this form.
    aicc_by_form: every form tried.
    """

    form: Form
    params: Mapping[str, float]
    n: int
    r2_log: float
    max_relative_residual: float
    residuals: Array
    aicc: float
    certificate: Certificate
    reason: str
    aicc_by_form: Mapping[str, float] = field(default_factory=dict)

    def predict(self, x: ArrayLike) -> Array:
        """The law's y at x, in the unit of the fitted y."""
        return self.form.predict(list(self.params.values()), x)

    def summary(self) -> str:
        """One line: form, parameters, quality."""
        values = ", ".join(f"{name} = {value:.4g}" for name, value in self.params.items())
        return (
            f"{self.form.formula}: {values} at x0 = {self.form.x0:.4g} (n = {self.n}, "
            f"R² of log y = {self.r2_log:.4f}, largest residual {100 * self.max_relative_residual:.2g} %)"
        )


def fit(x: ArrayLike, y: ArrayLike, form: FormName = "auto", independent: int | None = None) -> Fit:
    """Fit y(x) by least squares in log y.

    x, y: [n], positive and finite, at least three distinct x. `auto` takes the form with the lower AICc.
    `independent`: how many independent runs stand behind the points, which is what AICc counts; the default
    is n. A frontier's points come from few runs and would otherwise prove a floor that is not there.
    Raises RecordError for points that cannot be fitted or an unknown form.
    """
    x, y = checked_points(x, y)
    count = independent or len(x)
    if form == "power":
        return _fit_power(x, y, count)
    if form == "power_floor":
        return _fit_floor(x, y, count)
    if form == "auto":
        return _choose(_fit_power(x, y, count), _fit_floor(x, y, count), count)
    raise RecordError(f"form {form!r} is unknown: expected one of {', '.join((*FORMS, 'auto'))}")


def checked_points(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """x and y [n] as floats. RecordError unless positive, finite, of one length and with 3 distinct x."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.ndim != 1 or x.shape != y.shape:
        raise RecordError(f"x has shape {x.shape} and y {y.shape}: both must be one column of equal length")
    for name, values in (("x", x), ("y", y)):
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            raise RecordError(f"{name}[{bad[0]}] is {values[bad[0]]}: a law needs positive, finite numbers")
    distinct = len(np.unique(x))
    if distinct < MIN_DISTINCT_X:
        raise RecordError(f"{distinct} distinct x among {len(x)} points: a law needs {MIN_DISTINCT_X}")
    return x, y


def refit(form: Form, x: Array, y: Array, weights: Array, near: Array) -> Array:
    """Parameters [B, p] of B weighted data sets x, y, weights [B, n], of the fixed `form`.

    near: parameters [p] to start from where there is no closed form, such as the fit of all the data.
    """
    if isinstance(form, PowerLaw):
        return form.closed_form(x, y, weights)
    if not isinstance(form, PowerLawFloor):
        raise TypeError(f"no solver for {type(form).__name__}")
    edge = form.without_floor.closed_form(x, y, weights)
    at_edge = np.concatenate([np.zeros((len(edge), 1)), edge], axis=1)
    inside = solve_many(form, x, y, weights, np.broadcast_to(near, at_edge.shape))
    log_y = np.log(y)
    lowest = objective(form, at_edge, x, log_y, weights) * (1 - SAME_OBJECTIVE) - ROUNDING
    return np.where((objective(form, inside, x, log_y, weights) < lowest)[:, None], inside, at_edge)


def _fit_power(x: Array, y: Array, count: int) -> Fit:
    form = PowerLaw.centred(x)
    params = form.guess(x, y)[0]
    return _result(form, params, x, y, objective(form, params, x, np.log(y))[None], count)


def _fit_floor(x: Array, y: Array, count: int) -> Fit:
    form, log_y = PowerLawFloor.centred(x), np.log(y)
    starts = form.guess(x, y)
    ends = solve_many(form, x, y, np.ones((1, len(x))), starts)
    reached = objective(form, ends, x, log_y)
    best = polish(form, x, y, ends[reached.argmin()])
    edge = np.array([0.0, *form.without_floor.guess(x, y)[0]])
    at_best, at_edge = (float(objective(form, params, x, log_y)) for params in (best, edge))
    # A floor that does not lower the objective is 0 up to rounding.
    if at_edge <= at_best * (1 + SAME_OBJECTIVE) + ROUNDING:
        best = edge
    return _result(form, best, x, y, reached, count)


def _result(form: Form, params: Array, x: Array, y: Array, reached: Array, count: int) -> Fit:
    predicted = form.predict(params, x)
    residuals = np.log(y) - np.log(predicted)
    spread = float(((np.log(y) - np.log(y).mean()) ** 2).sum())
    return Fit(
        form=form,
        params={name: float(value) for name, value in zip(form.parameters, params, strict=True)},
        n=len(x),
        r2_log=1 - float((residuals**2).sum()) / spread if spread > 0 else float("nan"),
        max_relative_residual=float(np.abs(y / predicted - 1).max()),
        residuals=residuals,
        aicc=_aicc(residuals, len(params), count),
        certificate=certify(form, params, x, y, reached),
        reason=f"form {form.name} was asked for",
    )


def _aicc(residuals: Array, parameters: int, count: int) -> float:
    """AICc of a Gaussian error of log y with unknown variance (Hurvich & Tsai 1989); nan if undefined."""
    k = parameters + 1
    if count - k - 1 <= 0:
        return float("nan")
    # Below rounding, all fits are equally exact: the one with fewer parameters must win.
    variance = max(float(np.mean(residuals**2)), ROUNDING)
    return float(count * np.log(variance) + 2 * k + 2 * k * (k + 1) / (count - k - 1))


def _choose(power: Fit, floor: Fit, count: int) -> Fit:
    by_form = {power.form.name: power.aicc, floor.form.name: floor.aicc}
    scores = f"AICc {power.aicc:.1f} without a floor, {floor.aicc:.1f} with one"
    if np.isnan(floor.aicc):
        chosen, reason = power, f"{count} independent points cannot tell a floor: AICc is undefined below 6"
    elif floor.certificate.at_bound:
        chosen, reason = power, f"the best floor is 0 ({scores})"
    elif floor.aicc < power.aicc:
        chosen, reason = floor, f"a floor is distinguishable ({scores})"
    else:
        chosen, reason = power, f"a floor is not distinguishable ({scores})"
    return replace(chosen, reason=reason, aicc_by_form=by_form)
