"""The function that a fit minimises: the SUM over points of the loss of each residual, with derivatives.

Never a mean: Huber's losses at delta = 1e-3 are near 4e-6, and a mean of them is below the default tolerances of
optimisers, which then stop where they started.

Residuals are log y - log fit ("log") or (y - fit)/y0 ("linear"). B data sets that differ in their weights, as a
bootstrap's do, are one problem.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np

from lawfit.arrays import Array
from lawfit.forms.base import Form

Loss = Literal["squared", "huber", "lad"]
Space = Literal["log", "linear"]

CHUNK = 16_000
"""Residuals evaluated at a time: their derivatives then stay in the processor's second-level cache."""


class Quadratic(NamedTuple):
    """The objective near theta: value [B], gradient [B, p], hessian [B, p, p] and majoriser [B, p, p].

    The majoriser is the Hessian of the squares that touch the losses from above, with a linearised form: it
    is positive semi-definite where the Hessian need not be.
    """

    value: Array
    gradient: Array
    hessian: Array
    majoriser: Array


class Quantity(Protocol):
    """A function of theta, such as a parameter or the law at a point."""

    def expand(self, theta: Array) -> tuple[Array, Array, Array]:
        """Value [B], gradient [B, p] and Hessian [B, p, p] at theta [B, p]."""
        ...


@dataclass(frozen=True, eq=False)
class Pull:
    """strength/2 · (quantity - target)², added to the objective of each row; target [B]."""

    quantity: Quantity
    target: Array
    strength: float

    def quadratic(self, theta: Array) -> Quadratic:
        """Value and derivatives at theta [B, p]."""
        value, gradient, hessian = self.quantity.expand(theta)
        excess = value - self.target
        squares = self.strength * gradient[:, :, None] * gradient[:, None, :]
        bend = squares + self.strength * excess[:, None, None] * hessian
        return Quadratic(0.5 * self.strength * excess**2, self.strength * excess[:, None] * gradient, bend, squares)


@dataclass(frozen=True, eq=False)
class Problem:
    """B fits of one form.

    logs: one array per variable, [n] or [B, n]. y: y/y0, [n] or [B, n]. weights [n] or [B, n]. delta: where
    Huber's loss turns linear, in the residuals' unit; inf is half of the squares. pull: see `Pull`; it takes no
    part in `objective`.
    """

    form: Form
    logs: Sequence[Array]
    y: Array
    weights: Array
    space: Space = "log"
    delta: float = np.inf
    pull: Pull | None = None

    @property
    def target(self) -> Array:
        """What the form is to meet, in the residuals' space: [n] or [B, n]."""
        return np.log(self.y) if self.space == "log" else self.y

    def with_delta(self, delta: float) -> "Problem":
        """The same with another delta."""
        return replace(self, delta=delta)

    def take(self, rows: Array | slice) -> "Problem":
        """The problem of some of the B rows: indices [m], or a slice."""
        logs = [log if log.ndim == 1 else log[rows] for log in self.logs]
        y, weights = (a if a.ndim == 1 else a[rows] for a in (self.y, self.weights))
        pull = self.pull and replace(self.pull, target=self.pull.target[rows])
        return replace(self, logs=logs, y=y, weights=weights, pull=pull)

    def residuals(self, theta: Array) -> Array:
        """Residuals [B, n] at theta [B, p]."""
        value = self.form.evaluate(theta, self.logs)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.target - (np.log(value) if self.space == "log" else value))

    def objective(self, theta: Array) -> Array:
        """Objective [B] at theta [B, p]; inf where the form is not positive in log space."""
        total = np.concatenate([
            (part.weights * huber(part.residuals(theta[rows]), self.delta)).sum(-1)
            for rows, part in self._chunks(len(theta))
        ])  # fmt: skip
        return np.where(np.isfinite(total), total, np.inf)

    def quadratic(self, theta: Array) -> Quadratic:
        """Value and derivatives at theta [B, p]."""
        parts = [part._quadratic(theta[rows]) for rows, part in self._chunks(len(theta))]
        return Quadratic(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _chunks(self, count: int) -> list[tuple[slice, "Problem"]]:
        size = max(1, CHUNK // self.y.shape[-1])
        slices = [slice(start, start + size) for start in range(0, count, size)]
        return [(rows, self.take(rows)) for rows in slices]

    def _quadratic(self, theta: Array) -> Quadratic:
        form, jacobian, curvature = self.form.expand(theta, self.logs)
        weights = self.weights
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            residual = self.target - (np.log(form) if self.space == "log" else form)
            size = np.abs(residual)
            slope = residual if np.isinf(self.delta) else np.clip(residual, -self.delta, self.delta)
            weighted = weights * slope
            value = np.vecdot(weighted, residual - 0.5 * slope)
            bend = np.broadcast_to(weights, residual.shape)
            majorant = bend
            if not np.isinf(self.delta):
                majorant = bend * (self.delta / np.maximum(size, self.delta))
                bend = bend * (size < self.delta)
            if self.space == "log":
                # d² log f = d²f / f - (d log f)(d log f)ᵀ.
                jacobian = jacobian / form[:, None]
                hessian = _outer(jacobian, bend + weighted) - curvature(weighted / form)
            else:
                hessian = _outer(jacobian, bend) - curvature(weighted)
            gradient = -np.matvec(jacobian, weighted)
        value = np.where(np.isfinite(value), value, np.inf)
        here = Quadratic(value, gradient, hessian, _outer(jacobian, majorant))
        if self.pull:
            here = Quadratic(*(a + b for a, b in zip(here, self.pull.quadratic(theta), strict=True)))
        return here


def huber(residual: Array, delta: float) -> Array:
    """Huber's loss [...] of residuals [...]: r²/2 up to |r| = delta, delta (|r| - delta/2) beyond."""
    slope = np.clip(residual, -delta, delta)
    return np.asarray(slope * (residual - 0.5 * slope))


def loss_of(residual: Array, loss: Loss, delta: float | None) -> Array:
    """The loss [...] of residuals [...] that a user reads: r², Huber's, or |r|."""
    if loss == "huber":
        return huber(residual, float(delta or 0.0))
    return residual**2 if loss == "squared" else np.abs(residual)


def _outer(jacobian: Array, weights: Array) -> Array:
    """sum_n weights [B, n] · jacobian [B, p, n] jacobianᵀ, [B, p, p]."""
    return np.asarray((jacobian * weights[:, None]) @ jacobian.swapaxes(1, 2))
