"""Newton's method for B fits at once, inside bounds.

Each step minimises the quadratic model plus `damping` times the majoriser, which plays the part of Levenberg's
diagonal: it knows the scale of every direction. A coordinate pushed against its bound is held there. Rows leave the
batch as they converge.
"""

from dataclasses import dataclass

import numpy as np

from lawfit.arrays import Array, Mask
from lawfit.fitting.objectives import Problem, Quadratic

SAME_OBJECTIVE = 1e-8
"""Relative difference below which two objectives are the same optimum."""

DECREMENT = 1e-13
"""Share of the objective that a Newton step promises, below which it is the last."""

ROUNDING = 1e-28
"""Squared residual, per point, below which a fit is exact up to rounding."""

PIVOT = 1e-13
"""Smallest pivot, of a matrix with unit diagonal, that counts as positive definite."""


RIDGE = 1e-3
"""Share of the identity in the damping. A direction that the data do not tell needs some; with as much as .1,
starts far from the optimum stop at kinks of |r| (measured: 2 % of them reach it at delta = 1e-6, with 1e-3 95 %)."""

CONVEXIFIED = 20
"""Tenfold rises of the damping, from 1e-5, by which any model becomes convex."""


@dataclass(frozen=True, eq=False)
class Solution:
    """theta [B, p], objective [B], and which rows converged [B]."""

    theta: Array
    objective: Array
    converged: Mask


def minimise(problem: Problem, start: Array, steps: int = 200, fixed: Mask | None = None) -> Solution:
    """A local minimum from each start [B, p]; fixed [B, p]: coordinates that stay as they are."""
    low, high = problem.form.bounds(problem.logs)
    theta = np.clip(start, low, high)
    value = np.full(len(theta), np.inf)
    converged = np.zeros(len(theta), bool)
    rows = np.arange(len(theta))
    fixed = np.zeros(theta.shape, bool) if fixed is None else fixed
    part, at, here = problem, theta.copy(), problem.quadratic(theta)
    damping = np.full(len(theta), 1e-3)
    value[:] = here.value
    floor = ROUNDING * problem.y.shape[-1]
    for _ in range(steps):
        # Far from any law, numbers overflow; such a step does not lower the objective and is not taken.
        with np.errstate(over="ignore", invalid="ignore"):
            move, promise, damping = _step(here, at, damping, (low, high), fixed)
            trial = np.clip(at + move, low, high)
            there = part.quadratic(trial)
        gain = here.value - there.value
        last = promise <= DECREMENT * here.value + floor
        better = (gain > 0) | (last & (gain >= -10 * DECREMENT * here.value - floor))
        damping = _damping(damping, better, gain >= 0.25 * promise)
        at, here = np.where(better[:, None], trial, at), _where(better, there, here)
        theta[rows], value[rows] = at, here.value
        # A heavily damped step promises little anywhere: only a nearly full one proves the end.
        done = last & (damping <= 1e-2)
        converged[rows[done]] = True
        stay = ~done & (damping < 1e12)
        if not stay.any():
            break
        if not stay.all():
            rows, at, damping, here = rows[stay], at[stay], damping[stay], Quadratic(*(a[stay] for a in here))
            fixed = fixed[stay]
            part = problem.take(rows)
    return Solution(theta, value, converged)


def _step(
    here: Quadratic, theta: Array, damping: Array, box: tuple[Array, Array], fixed: Mask
) -> tuple[Array, Array, Array]:
    """The step [B, p], the decrease [B] that the model promises, and the damping [B] that made the model convex."""
    held = ((theta <= box[0]) & (here.gradient > 0)) | ((theta >= box[1]) & (here.gradient < 0)) | fixed
    _, gradient, hessian, majoriser = here
    if held.any():
        gradient = np.where(held, 0.0, gradient)
        either = held[:, :, None] | held[:, None, :]
        hessian, majoriser = (np.where(either, 0.0, matrix) for matrix in (hessian, majoriser))
    diagonal = np.einsum("bpp->bp", majoriser)
    # In these coordinates the majoriser has a unit diagonal. Held and flat directions get 1: they do not move.
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaling = scale[:, :, None] * scale[:, None, :]
    identity = np.eye(theta.shape[1])
    hessian = hessian * scaling + np.where(diagonal > 0, 0.0, 1.0)[:, :, None] * identity
    majoriser = majoriser * scaling + RIDGE * identity
    gradient, damping = gradient * scale, damping.copy()
    move, definite = solve_definite(hessian + damping[:, None, None] * majoriser, -gradient)
    for _ in range(CONVEXIFIED):
        bad = np.flatnonzero(~definite)
        if not bad.size:
            break
        damping[bad] = np.maximum(damping[bad], 1e-6) * 10
        model = hessian[bad] + damping[bad, None, None] * majoriser[bad]
        move[bad], definite[bad] = solve_definite(model, -gradient[bad])
    # Half the slope: the step ends where the model is flat.
    return move * scale, -0.5 * np.vecdot(gradient, move), damping


def _damping(damping: Array, better: Mask, good: Mask) -> Array:
    after = np.where(better, np.where(good, damping / 10, damping), np.maximum(damping, 1e-6) * 10)
    return np.where(after < 1e-9, 0.0, after)


def _where(chosen: Mask, first: Quadratic, second: Quadratic) -> Quadratic:
    return Quadratic(*(
        np.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(first, second, strict=True)
    ))  # fmt: skip


def solve_definite(matrix: Array, right: Array) -> tuple[Array, Mask]:
    """x [B, p] with matrix [B, p, p] x = right [B, p], and where the symmetric matrix is positive definite.

    Cholesky without roots over the whole batch: numpy's own raises when one of B matrices is not definite.
    """
    count = right.shape[1]
    lower = np.ascontiguousarray(np.moveaxis(matrix, 0, -1))
    x = right.T.copy()
    definite = np.ones(len(right), bool)
    pivots = []
    for j in range(count):
        pivot = lower[j, j]
        definite &= pivot > PIVOT
        pivot = np.where(pivot > PIVOT, pivot, 1.0)
        pivots.append(pivot)
        factors = lower[j + 1 :, j] / pivot
        for i in range(j + 1, count):
            lower[i, j + 1 : i + 1] -= factors[i - j - 1] * lower[j + 1 : i + 1, j]
            x[i] -= factors[i - j - 1] * x[j]
        lower[j + 1 :, j] = factors
    for j in reversed(range(count)):
        x[j] = x[j] / pivots[j] - (lower[j + 1 :, j] * x[j + 1 :]).sum(0)
    return x.T.copy(), definite
