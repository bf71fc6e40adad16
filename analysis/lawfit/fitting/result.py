"""A fitted law and what may be asked of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lawfit.arrays import Array
from lawfit.fitting.certificate import Certificate
from lawfit.fitting.objectives import Loss, Problem, Space
from lawfit.fitting.points import Points, centred
from lawfit.forms.base import Centre, Form, X

COARSER = 1e5
"""Factor from the smoothing of |r| in a fit, 1e-8 of the residuals' scale, to that in its intervals."""


@dataclass(frozen=True)
class Reference:
    """The amplitudes in the middle of the data, which unlike those at x = 1 are well determined.

    x0: geometric mean of each variable. amplitudes: by name, the value at x0, in the unit of y.
    """

    x0: Mapping[str, float]
    amplitudes: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law.

    params: by name, in the published convention (amplitudes at x = 1). theta, centre: the same in search
    coordinates. objective: sum over points of the loss: r², Huber's with `delta`, or |r|. smoothing: the delta
    that the solver used, inf for squares, and for |r| one far below the residuals. residuals [n]: log y - log
    fit, or y - fit in linear space, in the order of the points. r2_log: R² of log y (nan for a constant y).
    max_relative_residual: largest |y/fit - 1|. aicc, bic: nan when n is too small. reason: why this form.
    aicc_by_form, bic_by_form: every form tried.
    """

    form: Form
    points: Points
    theta: Array
    centre: Centre
    loss: Loss
    space: Space
    delta: float | None
    smoothing: float
    independent: int
    certificate: Certificate
    residuals: Array
    r2_log: float
    max_relative_residual: float
    aicc: float
    bic: float
    reason: str
    aicc_by_form: Mapping[str, float] = field(default_factory=dict)
    bic_by_form: Mapping[str, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.points.y)

    @property
    def objective(self) -> float:
        """Sum over points of the loss."""
        return self.certificate.objective

    @property
    def params(self) -> dict[str, float]:
        """Published parameters by name."""
        return self._named(self.centre)

    @property
    def exponent(self) -> float:
        """The exponent to quote; positive where y falls."""
        return self.params[self.form.exponents[0]]

    @property
    def floor(self) -> float:
        """What y falls towards; 0 for a form without floor."""
        return self.params[self.form.floor] if self.form.floor else 0.0

    @property
    def reference(self) -> Reference:
        """The amplitudes at the geometric mean of the data."""
        x0 = {name: float(np.exp(v)) for name, v in zip(self.form.variables, self.centre.log_x, strict=True)}
        here = self._named(self.centre.amplitudes)
        return Reference(x0, {name: here[name] for name in self.form.amplitudes})

    def predict(self, x: X) -> Array:
        """The law's y [m] at x, in the unit of the fitted y."""
        logs = centred(self.form.columns(x), self.centre)
        return self.form.evaluate(self.theta[None], logs)[0] * np.exp(self.centre.log_y)

    def problem(self) -> Problem:
        """The problem that theta solves."""
        return self.points.problem(self.form, self.centre, self.space, self.smoothing)

    def inference_problem(self) -> Problem:
        """The same for intervals, where |r| is smoothed at a thousandth of the residuals: faster, and close enough."""
        problem = self.problem()
        return problem.with_delta(problem.delta * COARSER) if self.loss == "lad" else problem

    def summary(self) -> str:
        """One line: form, amplitudes at the reference, quality."""
        shown = {**self.params, **self.reference.amplitudes}
        values = ", ".join(f"{name} = {value:.4g}" for name, value in shown.items())
        at = ", ".join(f"{name}0 = {value:.4g}" for name, value in self.reference.x0.items())
        amplitudes = f"; {', '.join(self.form.amplitudes)} at {at}" if self.form.amplitudes else ""
        return (
            f"{self.form.formula}: {values}{amplitudes} (n = {self.n}, R² of log y = {self.r2_log:.4f}, "
            f"largest residual {100 * self.max_relative_residual:.2g} %, {self.certificate.message})"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain types, for `json`; an undefined number is nan."""
        return {
            "form": self.form.name,
            "formula": self.form.formula,
            "params": self.params,
            "reference": asdict(self.reference),
            "loss": self.loss,
            "space": self.space,
            "delta": self.delta,
            "n": self.n,
            "independent": self.independent,
            "objective": self.objective,
            "r2_log": self.r2_log,
            "max_relative_residual": self.max_relative_residual,
            "aicc": self.aicc,
            "bic": self.bic,
            "aicc_by_form": dict(self.aicc_by_form),
            "bic_by_form": dict(self.bic_by_form),
            "reason": self.reason,
            "certificate": asdict(self.certificate),
        }

    def _named(self, centre: Centre) -> dict[str, float]:
        values = self.form.published(self.theta, centre)
        return {name: float(value) for name, value in zip(self.form.parameters, values, strict=True)}
