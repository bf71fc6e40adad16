"""Least squares in log y for any `Form`: many problems at once, the last digits of one, and the proof.

Between `forms` and `fitting`. The objective is the SUM of squares: a mean is so small that default
tolerances stop early.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from lawfit.forms import Array, Form

SAME_OBJECTIVE = 1e-8
"""Relative difference below which two objectives are the same optimum."""

ROUNDING = 1e-24
"""Sum of squared log residuals below which a fit is exact up to rounding."""


@dataclass(frozen=True)
class Certificate:
    """Evidence that a solution is the optimum; derivatives are in the form's search coordinates.

    objective: sum of squared log residuals. gradient_norm: its gradient's Euclidean norm.
    smallest_eigenvalue: of its Hessian (central differences of the analytic gradient). reached_best: share
    of the `starts` that end within 1e-8 (relative) of the best objective. at_bound: parameters that lie on
    the edge of their range (E = 0); gradient and Hessian are of the other ones.
    """

    objective: float
    gradient_norm: float
    smallest_eigenvalue: float
    starts: int
    reached_best: float
    at_bound: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """True at a strict minimum: no slope left, curved upwards in every direction."""
        return self.gradient_norm < 1e-7 and self.smallest_eigenvalue > 1e-7


def objective(form: Form, params: Array, x: ArrayLike, log_y: Array, weights: ArrayLike = 1.0) -> Array:
    """Sum over the last axis of weights (log y - log fit)^2."""
    return np.asarray((np.asarray(weights) * (log_y - np.log(form.predict(params, x))) ** 2).sum(-1))


def solve_many(form: Form, x: Array, y: Array, weights: Array, start: Array, steps: int = 200) -> Array:
    """Projected Levenberg-Marquardt on B problems at once.

    x, y, weights: [B, n] or broadcastable to it; start: parameters [B, p]. Returns parameters [B, p].
    """
    log_y = np.log(y)
    low, high = form.box(x, y)
    theta = np.clip(form.encode(start), low, high)
    damping = np.full(len(theta), 1e-3)
    best = objective(form, form.decode(theta), x, log_y, weights)
    for _ in range(steps):
        move = _move(form, theta, x, log_y, weights, damping, (low, high))
        trial = np.clip(theta + move, low, high)
        value = objective(form, form.decode(trial), x, log_y, weights)
        better = value < best
        # What did not improve still moves until its damping has grown: only tiny proposals mean the end.
        if (np.abs(trial - theta) < 1e-13).all():
            break
        theta = np.where(better[:, None], trial, theta)
        best = np.where(better, value, best)
        damping = np.clip(np.where(better, damping / 8, damping * 4), 1e-12, 1e12)
    return form.decode(theta)


def _move(
    form: Form, theta: Array, x: Array, log_y: Array, weights: Array, damping: Array, box: tuple[Array, Array]
) -> Array:
    """The damped Gauss-Newton step [B, p]; a coordinate pushed against its bound is held there."""
    jacobian = _jacobian(form, theta, x)
    weighted = jacobian * np.broadcast_to(weights, jacobian.shape[:2])[..., None]
    residual = log_y - np.log(form.predict(form.decode(theta), x))
    slope = np.einsum("bnp,bn->bp", weighted, residual)
    held = ((theta <= box[0]) & (slope < 0)) | ((theta >= box[1]) & (slope > 0))
    slope = np.where(held, 0.0, slope)
    curvature = np.einsum("bnp,bnq->bpq", weighted, jacobian)
    curvature = np.where(held[:, :, None] | held[:, None, :], 0.0, curvature)
    diagonal = np.einsum("bpp->bp", curvature)
    # The last terms keep a flat or held direction solvable; its slope is 0, so it does not move.
    ridge = damping[:, None] * diagonal + 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-100
    damped = curvature + ridge[:, :, None] * np.eye(theta.shape[1])
    return np.asarray(np.linalg.solve(damped, slope[..., None])[..., 0])


def polish(form: Form, x: Array, y: Array, start: Array) -> Array:
    """The last digits of one solution [p], by scipy's trust region with the analytic Jacobian."""
    log_y = np.log(y)
    low, high = form.box(x, y)
    solution = optimize.least_squares(
        lambda theta: np.log(form.predict(form.decode(theta), x)) - log_y,
        np.clip(form.encode(start), low, high),
        jac=lambda theta: _jacobian(form, theta, x),
        bounds=(low, high), xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac",
    )  # fmt: skip
    return form.decode(solution.x)


def certify(form: Form, params: Array, x: Array, y: Array, reached: Array) -> Certificate:
    """The certificate of `params` [p], given the objectives [starts] that the starts reached."""
    log_y, theta = np.log(y), form.encode(params)
    low, high = form.box(x, y)
    free = (theta > low) & (theta < high)

    def gradient(moved: Array) -> Array:
        residual = log_y - np.log(form.predict(form.decode(moved), x))
        return np.asarray(-2 * _jacobian(form, moved, x).T @ residual)[free]

    step = 1e-5
    shifts = step * np.eye(len(theta))[free]
    hessian = np.array([(gradient(theta + d) - gradient(theta - d)) / (2 * step) for d in shifts])
    best = float(objective(form, params, x, log_y))
    return Certificate(
        objective=best,
        gradient_norm=float(np.linalg.norm(gradient(theta))),
        smallest_eigenvalue=float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[0]),
        starts=len(reached),
        reached_best=float(np.mean(reached <= best * (1 + SAME_OBJECTIVE) + ROUNDING)),
        at_bound=tuple(name for name, inside in zip(form.parameters, free, strict=True) if not inside),
    )


def _jacobian(form: Form, theta: Array, x: ArrayLike) -> Array:
    """d log y / d theta, [..., n, p]."""
    return form.log_jacobian(form.decode(theta), x) @ form.decode_jacobian(theta)
