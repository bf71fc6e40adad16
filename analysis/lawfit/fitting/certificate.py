"""The evidence that a solution is the optimum."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lawfit.arrays import Array
from lawfit.fitting.newton import SAME_OBJECTIVE
from lawfit.fitting.objectives import Problem

Status = Literal["certified", "flat", "not_converged"]

STATIONARY = 1e-6
"""Largest scaled gradient at an optimum."""

FLAT = 1e-9
"""Scaled curvature below which a direction is not identified."""

EXACT = 1e-24
"""Squared relative residual, per point, below which nothing but rounding is left."""


@dataclass(frozen=True)
class Certificate:
    """Evidence that a solution is the optimum.

    status: `certified` (a strict minimum), `flat` (stationary, but some direction is not identified by the
    data) or `not_converged`. objective: the sum of losses. gradient_norm, smallest_eigenvalue and
    condition_number: of the objective over its value at the solution, in coordinates in which its Hessian
    has a unit diagonal; of the parameters that are not `at_bound`. reached_best: the share of the `starts`
    that end within 1e-8 (relative) of the best objective.
    """

    status: Status
    objective: float
    gradient_norm: float
    smallest_eigenvalue: float
    condition_number: float
    starts: int
    reached_best: float
    at_bound: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """True at a strict minimum."""
        return self.status == "certified"

    @property
    def message(self) -> str:
        """One line: what the status means here."""
        reached = f"{round(self.reached_best * self.starts)} of {self.starts} starts reach it"
        bound = f", {', '.join(self.at_bound)} at a bound" if self.at_bound else ""
        if self.status == "certified":
            return f"certified optimum ({reached}, gradient {self.gradient_norm:.0e}{bound})"
        if self.status == "flat":
            return f"flat optimum: some parameters are not identified ({reached}{bound})"
        return f"not converged: gradient {self.gradient_norm:.1e} ({reached}{bound}); do not quote this fit"


def certify(problem: Problem, theta: Array, objective: float, reached: Array) -> Certificate:
    """The certificate of theta [p], given the problem's objectives [starts] at which the starts ended.

    objective: the value to report, in the user's units.
    """
    low, high = problem.form.bounds(problem.logs)
    free = (theta > low) & (theta < high)
    value, gradient, hessian, _ = (array[0] for array in problem.quadratic(theta[None]))
    floor = EXACT * len(problem.y)
    gradient, hessian = gradient[free], hessian[np.ix_(free, free)]
    diagonal = np.diag(hessian)
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, np.inf))
    norm = float(np.linalg.norm(gradient * scale) / np.sqrt(value + floor))
    eigenvalues = np.linalg.eigvalsh(hessian * scale[:, None] * scale)
    stationary = norm < STATIONARY or value < floor
    strict = eigenvalues[0] > FLAT
    return Certificate(
        status="not_converged" if not stationary else "certified" if strict else "flat",
        objective=objective,
        gradient_norm=norm,
        smallest_eigenvalue=float(eigenvalues[0]),
        condition_number=float(eigenvalues[-1] / eigenvalues[0]) if strict else float("inf"),
        starts=len(reached),
        reached_best=float(np.mean(reached <= value * (1 + SAME_OBJECTIVE) + floor)),
        at_bound=tuple(name for name, inside in zip(problem.form.parameters, free, strict=True) if not inside),
    )
