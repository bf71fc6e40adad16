"""Profile-likelihood intervals: the values of a parameter at which the best fit of all others is still credible.

These are the intervals to quote. Unlike first-order errors they bend with the law, and stop at a floor of 0.

The objective may rise by slope · t² · variance / (2 · leverage), with t of n - p degrees of freedom: in a linear law
that is exactly the t interval. With runs that share noise, variance and degrees of freedom are the cluster-robust
ones of `covariance`; `slope` is the mean slope of the loss's score, 1 for squares.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.result import Fit
from lawfit.intervals.covariance import Error, Linearised, linearise
from lawfit.intervals.ridge import Combination, Ridge, half_width


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile of one parameter.

    low, high: ends of the interval; infinite where the objective does not rise to the threshold. one_sided: the
    interval of a floor reaches 0, so that only `high` says something. values, rise [m]: values of the parameter,
    and the rise of the objective there over its threshold (1 at the ends of the interval).
    """

    parameter: str
    estimate: float
    low: float
    high: float
    one_sided: bool
    level: float
    values: Array
    rise: Array
    method: str


def profile(fit: Fit, parameter: str, *, run: ArrayLike | None = None, level: float = 0.95) -> Profile:
    """The profile of one published parameter. run [n]: as for `intervals`.

    Raises RecordError when the form has no such parameter.
    """
    if parameter not in fit.form.parameters:
        raise RecordError(f"form {fit.form.name!r} has no {parameter!r}: it has {', '.join(fit.form.parameters)}")
    return _profile(fit, linearise(fit, run), parameter, level, reference=False)


def intervals(fit: Fit, *, run: ArrayLike | None = None, level: float = 0.95) -> Mapping[str, Profile]:
    """Profile intervals of all published parameters.

    run [n]: the points of one run share noise; None: all noise is independent.
    """
    near = linearise(fit, run)
    return {name: _profile(fit, near, name, level, reference=False) for name in fit.form.parameters}


def reference_intervals(fit: Fit, *, run: ArrayLike | None = None, level: float = 0.95) -> Mapping[str, Profile]:
    """The same for the amplitudes at the geometric mean of the data, which are the ones to show. run [n]: as there."""
    near = linearise(fit, run)
    return {name: _profile(fit, near, name, level, reference=True) for name in fit.form.amplitudes}


def _profile(fit: Fit, near: Linearised, name: str, level: float, reference: bool) -> Profile:
    index, centre = fit.form.parameters.index(name), fit.centre.amplitudes if reference else fit.centre
    # Amplitudes and breaks are linear in theta by their logarithm, floors and exponents as they are.
    estimate, slope = (
        fit.form.published(fit.theta, centre)[index],
        fit.form.published_jacobian(fit.theta, centre)[index],
    )
    contrast = slope / estimate if name in fit.form.positive else slope
    error = near.error(contrast)
    half = half_width(error, level)
    threshold = near.slope * half**2 / (2 * error.leverage)
    traced, below, above = Ridge(fit.inference_problem(), fit.theta, Combination(contrast), half, threshold).interval()
    values, lows, highs = (fit.form.published(t.theta, centre)[:, index] for t in (traced, below, above))
    floor = name == fit.form.floor and not lows.size
    return Profile(
        parameter=name,
        estimate=float(estimate),
        low=0.0 if floor else float(lows[0]) if lows.size else -np.inf,
        high=float(highs[0]) if highs.size else np.inf,
        one_sided=floor,
        level=level,
        values=values,
        rise=traced.rise,
        method=_method(fit, near, error, level),
    )


def _method(fit: Fit, near: Linearised, error: Error, level: float) -> str:
    noise = "independent noise" if near.groups is None else f"noise shared within {len(near.groups)} runs"
    scale = "" if fit.loss == "squared" else f", scale of the {fit.loss} scores"
    return f"{100 * level:.0f} % profile interval, {noise}, t with {error.dof:.1f} degrees of freedom{scale}"
