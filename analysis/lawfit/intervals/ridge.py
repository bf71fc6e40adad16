"""The ridge of a fit: the best objective for each value of one quantity, all parameters free otherwise.

The quantity is a parameter (`profile`) or the law at a point (`prediction`). A quadratic pull on the quantity, some
ten times as strong as the data's own hold, moves the optimum along the ridge: the minimum of objective and pull is
the best fit among all that share the value which the quantity takes there.
"""

from dataclasses import dataclass, replace

import numpy as np

from lawfit.arrays import Array
from lawfit.fitting.newton import minimise
from lawfit.fitting.objectives import Problem, Pull, Quantity
from lawfit.forms.base import Logs
from lawfit.intervals.covariance import Error, t_quantile

REACH = (0.4, 0.8, 1.2, 1.8, 2.7, 4.0, 8.0, 20.0)
"""Targets at which the ridge is first computed, in half-widths of the first-order interval."""

REFINEMENTS = 8
"""Steps of false position towards each end; the root of the rise is nearly linear."""

EXACT = 1e-8
"""Smallest half-width, of log y and of parameters of order 1."""

PULL = 10.0
"""Strength of the pull over the data's own hold."""


@dataclass(frozen=True, eq=False)
class Combination:
    """The quantity contrast [p] · theta."""

    contrast: Array

    def expand(self, theta: Array) -> tuple[Array, Array, Array]:
        """Value [B], gradient [B, p] and Hessian [B, p, p], see `Quantity`."""
        p = len(self.contrast)
        return theta @ self.contrast, np.broadcast_to(self.contrast, theta.shape), np.zeros((len(theta), p, p))


@dataclass(frozen=True, eq=False)
class LawAt:
    """The quantity log(law/y0) at one point, or law/y0 in linear space. logs: one array [1] per variable."""

    problem: Problem
    logs: Logs

    def expand(self, theta: Array) -> tuple[Array, Array, Array]:
        """Value [B], gradient [B, p] and Hessian [B, p, p], see `Quantity`."""
        value, jacobian, curvature = self.problem.form.expand(theta, self.logs)
        gradient, ones = jacobian[:, :, 0], np.ones_like(value)
        if self.problem.space == "linear":
            return value[:, 0], gradient, curvature(ones)
        gradient = gradient / value
        return np.log(value[:, 0]), gradient, curvature(1 / value) - gradient[:, :, None] * gradient[:, None, :]


@dataclass(frozen=True, eq=False)
class Trace:
    """Points of the ridge, by target: value of the quantity, rise over the threshold, theta; each with [m] rows."""

    target: Array
    value: Array
    rise: Array
    theta: Array


def half_width(error: Error, level: float) -> float:
    """Half-width of the first-order interval; a law without noise gets one that still shows above rounding."""
    return max(t_quantile(error.dof, level) * float(np.sqrt(error.variance)), EXACT)


@dataclass(frozen=True, eq=False)
class Ridge:
    """theta [p] solves the problem. half: half-width of the first-order interval of the quantity, at whose ends
    the objective would have risen by `threshold` if the problem were quadratic. noise: of the target around the
    quantity, as a share of the quantity's own variance; 0 for the quantity itself.
    """

    problem: Problem
    theta: Array
    quantity: Quantity
    half: float
    threshold: float
    noise: float = 0.0

    def trace(self, targets: Array) -> Trace:
        """The ridge under pulls towards targets [m]."""
        hold = 2 * self.threshold / self.half**2
        strength = hold / self.noise if self.noise else PULL * hold
        pulled = replace(self.problem, pull=Pull(self.quantity, targets, strength))
        ends = minimise(pulled, np.broadcast_to(self.theta, (len(targets), len(self.theta))))
        value = self.quantity.expand(ends.theta)[0]
        here = self.problem.objective(self.theta[None])
        rise = ends.objective if self.noise else self.problem.objective(ends.theta)
        return Trace(targets, value, (rise - here) / self.threshold, ends.theta)

    def interval(self) -> tuple[Trace, Trace, Trace]:
        """The ridge at several targets, then where it leaves the interval below and above.

        An end has no rows when the objective never rises to the threshold on that side.
        """
        centre = self.quantity.expand(self.theta[None])[0]
        scale = 1 + (self.noise or 1 / PULL)
        reach = self.half * scale * np.array(REACH)
        traced = self.trace(np.concatenate([centre - reach[::-1], centre, centre + reach]))
        return traced, self._end(traced, -1, float(centre[0])), self._end(traced, 1, float(centre[0]))

    def _end(self, traced: Trace, sign: int, centre: float) -> Trace:
        side = sign * (traced.target - centre) >= 0
        distance = np.abs(traced.target[side] - centre)
        order = np.argsort(distance)
        distance, height = distance[order], np.sqrt(np.maximum(traced.rise[side][order], 0)) - 1
        outside = np.flatnonzero(height >= 0)
        if not outside.size:
            return Trace(traced.target[:0], traced.value[:0], traced.rise[:0], traced.theta[:0])
        k = outside[0]
        low, high, f_low, f_high = distance[k - 1], distance[k], height[k - 1], height[k]
        for _ in range(REFINEMENTS):
            middle = (low * f_high - high * f_low) / (f_high - f_low)
            found = self.trace(np.array([centre + sign * middle]))
            f_middle = float(np.sqrt(max(found.rise[0], 0)) - 1)
            if abs(f_middle) < 1e-6:
                break
            # Illinois: an end that stays twice counts half, so that the bracket closes from both sides.
            if f_middle < 0:
                low, f_low, f_high = middle, f_middle, f_high / 2
            else:
                high, f_high, f_low = middle, f_middle, f_low / 2
        return found
