"""The forms a law may take, each with starting values, derivatives and coordinates that are easy to search.

Floor 1 of the path: `fitting` solves any form through this interface. x enters as x/x0, with x0 the
geometric mean of the fitted x: A is then the value (above the floor) in the middle of the data, and A and
alpha are not collinear as they are with A at x = 1 (correlation 0.999).

Shapes: x [..., n], parameters [..., p]; leading axes broadcast, so a thousand fits go in one call.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

STARTS = 25
"""Starts of a form with a floor, and points of the floor scan behind each."""

LARGEST_EXPONENT = 300.0
"""Bound on |alpha log(x/x0)|, so that a bad start cannot overflow."""


class Form(Protocol):
    """What a form offers.

    The solver works in coordinates theta [p] in which the problem is close to linear; the i-th coordinate
    is at a bound of its `box` when the i-th parameter is.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]]

    @property
    def x0(self) -> float:
        """Centre of x, in the unit of x."""
        ...

    def predict(self, params: ArrayLike, x: ArrayLike) -> Array:
        """y [..., n] at x."""
        ...

    def guess(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Starting parameters [starts, p] for x [n], y [n]."""
        ...

    def log_jacobian(self, params: ArrayLike, x: ArrayLike) -> Array:
        """d log y / d parameters, [..., n, p]."""
        ...

    def encode(self, params: ArrayLike) -> Array:
        """Coordinates theta [..., p] of the parameters."""
        ...

    def decode(self, theta: ArrayLike) -> Array:
        """Parameters [..., p] at theta."""
        ...

    def decode_jacobian(self, theta: ArrayLike) -> Array:
        """d parameters / d theta, [..., p, p]."""
        ...

    def box(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Lowest and highest theta [p], wider than any real law."""
        ...


@dataclass(frozen=True)
class PowerLaw:
    """y = A (x/x0)^-alpha. theta = (log A, alpha)."""

    x0: float
    name: ClassVar[str] = "power"
    formula: ClassVar[str] = "A·(x/x0)^-alpha"
    parameters: ClassVar[tuple[str, ...]] = ("A", "alpha")

    @classmethod
    def centred(cls, x: ArrayLike) -> Self:
        """The form with x0 at the geometric mean of x."""
        return cls(_geometric_mean(x))

    def predict(self, params: ArrayLike, x: ArrayLike) -> Array:
        """y [..., n] at x."""
        amplitude, alpha = _columns(params)
        return np.asarray(amplitude * _power(alpha, x, self.x0))

    def guess(self, x: ArrayLike, y: ArrayLike) -> Array:
        """The exact least-squares solution in log y, [1, 2]."""
        return self.closed_form(x, y, np.ones(np.shape(x)))[None]

    def closed_form(self, x: ArrayLike, y: ArrayLike, weights: ArrayLike) -> Array:
        """Parameters [..., 2] that minimise sum(weights (log y - log fit)^2) over the last axis."""
        log_x, log_y = _log_ratio(x, self.x0), np.log(np.asarray(y, float))
        weight = np.asarray(weights, float)
        total = weight.sum(-1, keepdims=True)
        mean_x = (weight * log_x).sum(-1, keepdims=True) / total
        mean_y = (weight * log_y).sum(-1, keepdims=True) / total
        moment = weight * (log_x - mean_x)
        alpha = -(moment * (log_y - mean_y)).sum(-1) / (moment * (log_x - mean_x)).sum(-1)
        return np.stack([np.exp(mean_y[..., 0] + alpha * mean_x[..., 0]), alpha], axis=-1)

    def log_jacobian(self, params: ArrayLike, x: ArrayLike) -> Array:
        """d log y / d (A, alpha), [..., n, 2]."""
        amplitude, _ = _columns(params)
        return np.stack(np.broadcast_arrays(1 / amplitude, -_log_ratio(x, self.x0)), axis=-1)

    def encode(self, params: ArrayLike) -> Array:
        """(log A, alpha), [..., 2]."""
        params = np.asarray(params, float)
        return np.stack([np.log(params[..., 0]), params[..., 1]], axis=-1)

    def decode(self, theta: ArrayLike) -> Array:
        """(A, alpha), [..., 2]."""
        theta = np.asarray(theta, float)
        return np.stack([np.exp(theta[..., 0]), theta[..., 1]], axis=-1)

    def decode_jacobian(self, theta: ArrayLike) -> Array:
        """d (A, alpha) / d theta, [..., 2, 2]."""
        amplitude, _ = np.moveaxis(self.decode(theta), -1, 0)
        one, zero = np.ones_like(amplitude), np.zeros_like(amplitude)
        return _matrix([[amplitude, zero], [zero, one]])

    def box(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """A within e^±60 of y, x^alpha within e^±60 over the data."""
        middle, steepest = np.log(_geometric_mean(y)), 60 / np.abs(_log_ratio(x, self.x0)).max()
        return np.array([middle - 60, -steepest]), np.array([middle + 60, steepest])


@dataclass(frozen=True)
class PowerLawFloor:
    """y = E + A (x/x0)^-alpha, with the floor E >= 0 in the unit of y.

    theta = (s, log Y, kappa): the floor's share s = E/Y of the value Y = E + A at x0, and the slope
    kappa = alpha (1 - s) of log y there. Level, slope and bend of the curve are nearly independent, while E,
    A and alpha lie along a narrow valley in which a search creeps.
    """

    x0: float
    name: ClassVar[str] = "power_floor"
    formula: ClassVar[str] = "E + A·(x/x0)^-alpha"
    parameters: ClassVar[tuple[str, ...]] = ("E", "A", "alpha")

    @classmethod
    def centred(cls, x: ArrayLike) -> Self:
        """The form with x0 at the geometric mean of x."""
        return cls(_geometric_mean(x))

    @property
    def without_floor(self) -> PowerLaw:
        """The law at the edge E = 0."""
        return PowerLaw(self.x0)

    def predict(self, params: ArrayLike, x: ArrayLike) -> Array:
        """y [..., n] at x."""
        floor, amplitude, alpha = _columns(params)
        return np.asarray(floor + amplitude * _power(alpha, x, self.x0))

    def guess(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Starts [STARTS, 3]: for each exponent of a wide grid, the best floor.

        Variable projection: with the ratio r = E/A and alpha given, log y = log A + log(r + (x/x0)^-alpha)
        is linear in log A, so the scan has two dimensions only.
        """
        log_x, log_y = _log_ratio(x, self.x0), np.log(np.asarray(y, float))
        sign = np.sign(self.without_floor.guess(x, y)[0, 1]) or 1.0
        alpha = sign * np.geomspace(0.02, 30, STARTS) / np.ptp(log_x)
        ratio = np.geomspace(1e-3, 1e3, STARTS)
        log_shape = np.log(ratio[:, None] + np.exp(-alpha[:, None, None] * log_x))
        best = np.var(log_y - log_shape, axis=-1).argmin(axis=1)
        amplitude = np.exp((log_y - log_shape[np.arange(STARTS), best]).mean(axis=-1))
        return np.stack([ratio[best] * amplitude, amplitude, alpha], axis=-1)

    def log_jacobian(self, params: ArrayLike, x: ArrayLike) -> Array:
        """d log y / d (E, A, alpha), [..., n, 3]."""
        floor, amplitude, alpha = _columns(params)
        power = _power(alpha, x, self.x0)
        y = floor + amplitude * power
        slope = -amplitude * power * _log_ratio(x, self.x0) / y
        return np.stack(np.broadcast_arrays(1 / y, power / y, slope), axis=-1)

    def encode(self, params: ArrayLike) -> Array:
        """(s, log Y, kappa), [..., 3]."""
        floor, amplitude, alpha = np.moveaxis(np.asarray(params, float), -1, 0)
        value = floor + amplitude
        return np.stack([floor / value, np.log(value), alpha * amplitude / value], axis=-1)

    def decode(self, theta: ArrayLike) -> Array:
        """(E, A, alpha), [..., 3]."""
        share, log_value, kappa = np.moveaxis(np.asarray(theta, float), -1, 0)
        value = np.exp(log_value)
        return np.stack([share * value, (1 - share) * value, kappa / (1 - share)], axis=-1)

    def decode_jacobian(self, theta: ArrayLike) -> Array:
        """d (E, A, alpha) / d theta, [..., 3, 3]."""
        share, log_value, kappa = np.moveaxis(np.asarray(theta, float), -1, 0)
        value, zero, rest = np.exp(log_value), np.zeros_like(share), 1 - share
        return _matrix([
            [value, share * value, zero],
            [-value, rest * value, zero],
            [kappa / rest**2, zero, 1 / rest],
        ])  # fmt: skip

    def box(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """0 <= s < 1, Y within e^±60 of y, slope within e^±60 over the data."""
        low, high = self.without_floor.box(x, y)
        return np.array([0.0, *low]), np.array([1 - 1e-9, *high])


FORMS: dict[str, type[PowerLaw] | type[PowerLawFloor]] = {form.name: form for form in (PowerLaw, PowerLawFloor)}


def _geometric_mean(values: ArrayLike) -> float:
    return float(np.exp(np.mean(np.log(np.asarray(values, float)))))


def _log_ratio(x: ArrayLike, x0: float) -> Array:
    return np.asarray(np.log(np.asarray(x, float) / x0))


def _power(alpha: Array, x: ArrayLike, x0: float) -> Array:
    exponent = np.clip(-alpha * _log_ratio(x, x0), -LARGEST_EXPONENT, LARGEST_EXPONENT)
    return np.asarray(np.exp(exponent))


def _columns(params: ArrayLike) -> Array:
    """Parameters [..., p] as p arrays [..., 1] that broadcast against x."""
    return np.moveaxis(np.asarray(params, float)[..., None, :], -1, 0)


def _matrix(rows: list[list[Array]]) -> Array:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
