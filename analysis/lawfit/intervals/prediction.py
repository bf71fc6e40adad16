"""Prediction at sizes not yet run: the law there, its interval, and the interval of a new run.

The interval of the law is its profile: all values there with which the best fit is still credible. That of a new run
adds the noise of one run to it, by the profile of a fit that also contains the run. In a linear law both are exactly
the t intervals of regression; in others they bend as the law does, above a floor for instance. Neither knows of
errors of the form itself: `back_tests` show those.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.fitting.points import centred
from lawfit.fitting.result import Fit
from lawfit.forms.base import X
from lawfit.intervals.covariance import Linearised, linearise
from lawfit.intervals.ridge import LawAt, Ridge, half_width


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions at m points, in the unit of y.

    law [m]: the fitted law. law_low, law_high: interval of the law. low, high: interval of a new run. An end
    beyond which the data set no limit is 0 or inf. sd_parts: first-order standard deviations, by source, of
    log y (of y in linear space). beyond: how many times the largest fitted value each variable is, at most 1
    inside the data.
    """

    law: Array
    law_low: Array
    law_high: Array
    low: Array
    high: Array
    level: float
    sd_parts: Mapping[str, Array]
    beyond: Mapping[str, Array]
    method: str


def predict_interval(
    fit: Fit, x: X, *, run: ArrayLike | None = None, seed_sd: float = 0.0, level: float = 0.95
) -> Prediction:
    """Predict y at x [m].

    run [n]: the fitted points of one run share noise. seed_sd: further noise of a new run that the fitted points
    do not show, as a standard deviation of log y (of y in linear space). Raises RecordError for a missing column.
    """
    columns = fit.form.columns(x)
    logs = np.stack(centred(columns, fit.centre))
    near = linearise(fit, run)
    noise = near.noise + (seed_sd / _unit(fit)) ** 2
    rows = [_at(fit, near, list(logs[:, [i]]), noise, level) for i in range(logs.shape[1])]
    law_low, law_high, low, high, law_sd = (np.array(column) for column in zip(*rows, strict=True))
    parts = {"law": law_sd, "run": np.full(len(law_sd), np.sqrt(near.noise)) * _unit(fit)}
    largest = {name: column.max() for name, column in fit.points.x.items()}
    return Prediction(
        fit.predict(x), law_low, law_high, low, high, level,
        {**parts, "seed": np.full(len(law_sd), seed_sd)},
        {n: c / largest[n] for n, c in zip(fit.form.variables, columns, strict=True)},
        f"{100 * level:.0f} % profile interval, "
        + ("independent noise" if near.groups is None else f"noise shared within {len(near.groups)} runs"),
    )  # fmt: skip


def _at(fit: Fit, near: Linearised, logs: list[Array], noise: float, level: float) -> tuple[float, ...]:
    """Ends of the law's interval, of a new run's, and the law's standard deviation, at one point."""
    quantity = LawAt(fit.inference_problem(), logs)
    contrast = quantity.expand(fit.theta[None])[1][0]
    error = near.error(contrast)
    half = half_width(error, level)
    threshold = near.slope * half**2 / (2 * error.leverage)
    law = Ridge(quantity.problem, fit.theta, quantity, half, threshold)
    run = Ridge(quantity.problem, fit.theta, quantity, half, threshold, max(noise / max(error.variance, 1e-300), 1e-12))
    _, below, above = law.interval()
    _, run_below, run_above = run.interval()
    ends = ((below.value, -1), (above.value, 1), (run_below.target, -1), (run_above.target, 1))
    return (*(_y(fit, end, sign) for end, sign in ends), float(np.sqrt(error.variance)) * _unit(fit))


def _y(fit: Fit, end: Array, sign: int) -> float:
    """An end of an interval in the unit of y."""
    if not end.size:
        return np.inf if sign > 0 else 0.0
    scale = np.exp(fit.centre.log_y)
    return float(scale * (np.exp(end[0]) if fit.space == "log" else end[0]))


def _unit(fit: Fit) -> float:
    """The unit of the residuals: 1 for log y, y0 in linear space."""
    return float(np.exp(fit.centre.log_y)) if fit.space == "linear" else 1.0
