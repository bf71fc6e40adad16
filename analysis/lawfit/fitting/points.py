"""The points of a fit: checked, centred, weighted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array, Indices, Mask
from lawfit.errors import RecordError
from lawfit.fitting.objectives import Problem, Space
from lawfit.forms.base import Centre, Form, Logs, X, check_positive

MIN_DISTINCT_X = 3
"""Distinct values that a form of one variable needs."""


@dataclass(frozen=True, eq=False)
class Points:
    """x: columns [n] by variable; y [n]; weights [n], mean 1, of the squared residuals."""

    x: Mapping[str, Array]
    y: Array
    weights: Array

    def centre(self, form: Form) -> Centre:
        """Geometric means of the variables and of y."""
        log_x = tuple(float(np.log(self.x[name]).mean()) for name in form.origins or form.variables)
        return Centre(log_x, float(np.log(self.y).mean()))

    def logs(self, centre: Centre) -> Logs:
        """log(x/x0), one array [n] per variable."""
        return centred(list(self.x.values()), centre)

    def problem(self, form: Form, centre: Centre, space: Space, delta: float) -> Problem:
        """The fit of `form`; delta in the unit of the residuals (log y, or y)."""
        scale = np.exp(centre.log_y)
        in_units = delta / scale if space == "linear" else delta
        return Problem(form, self.logs(centre), self.y / scale, self.weights, space, in_units)

    def some(self, chosen: Mask | Indices) -> "Points":
        """The points that a mask [n] or indices [m] keep."""
        x = {name: column[chosen] for name, column in self.x.items()}
        return Points(x, self.y[chosen], self.weights[chosen])


def centred(columns: list[Array], centre: Centre) -> Logs:
    """log(x/x0) [n] of each column [n]."""
    return [np.log(column) - log_x for column, log_x in zip(columns, centre.log_x, strict=True)]


def checked_points(x: X, y: ArrayLike, form: Form, space: Space = "log", sd: ArrayLike | None = None) -> Points:
    """The points of a fit of `form`.

    sd [n]: noise of each y, in its unit, by default that of the form; weights are 1/variance in the residuals'
    space. x: columns [n]; y [n]. Raises RecordError unless all numbers are positive and finite, columns equally long, a
    form of one variable has three distinct x, one of several two per variable, and there is a point per parameter.
    """
    columns = dict(zip(form.variables, form.columns(x), strict=True))
    y = np.asarray(y, float)
    for name, values in (*columns.items(), ("y", y)):
        if values.ndim != 1 or values.shape != y.shape:
            raise RecordError(f"{name} has shape {values.shape} and y {y.shape}: all must be columns of equal length")
    check_positive("y", y)
    for name, values in columns.items():
        distinct, needed = len(np.unique(values)), MIN_DISTINCT_X if len(columns) == 1 else 2
        if distinct < needed:
            raise RecordError(f"{distinct} distinct {name} among {len(y)} points: a law needs {needed}")
    if len(y) < len(form.parameters):
        raise RecordError(f"{len(y)} points for the {len(form.parameters)} parameters of form {form.name!r}: give more")
    if sd is None and form.noise_floor:
        sd = np.hypot(y, form.noise_floor)
    return Points(columns, y, _weights(y, sd, space))


def _weights(y: Array, sd: ArrayLike | None, space: Space) -> Array:
    if sd is None:
        return np.ones(len(y))
    noise = np.asarray(sd, float)
    if noise.shape != y.shape:
        raise RecordError(f"sd has shape {noise.shape} and y {y.shape}: give one per point")
    check_positive("sd", noise)
    precision = (y / noise) ** 2 if space == "log" else noise**-2
    return np.asarray(precision / precision.mean())
