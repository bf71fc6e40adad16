"""Standard errors of a fit, of independent points or of runs that share noise.

The fit is linearised once: residuals r, Jacobian J of log y (or y), and for the robust losses the scores that stand
for r.

With runs, the variance is cluster-robust with the small-sample correction CR2 and the degrees of freedom of Bell and
McCaffrey (2002): at six runs the plain sandwich with a normal quantile covers far less than it says.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array, Indices, Mask
from lawfit.errors import RecordError
from lawfit.fitting.result import Fit
from lawfit.fitting.search import robust_scale

KERNEL = 0.8
"""Width, in robust standard deviations, in which residuals are counted for the slope of Huber's score."""


FEWEST_RUNS = 3
"""Below it, the spread between runs cannot be told from nothing."""


class Error(NamedTuple):
    """Variance of a linear combination of theta, its degrees of freedom, and its variance per unit of noise.

    leverage: c (Jᵀ J)^-1 c, so that variance/leverage is the noise's variance as this combination feels it.
    """

    variance: float
    dof: float
    leverage: float


@dataclass(frozen=True, eq=False)
class Linearised:
    """A fit near its optimum: design [n, p] and residuals [n], both times the root of the weights.

    inverse [p, p]: (Jᵀ J)^-1, zero for parameters that have no effect. slope: mean slope of the loss's score, 1 for
    squares. groups: the points' indices by run, None when each is its own.
    """

    design: Array
    residuals: Array
    inverse: Array
    slope: float
    groups: tuple[Indices, ...] | None

    @property
    def free(self) -> int:
        """Parameters that have an effect."""
        return int((np.diag(self.inverse) > 0).sum())

    @property
    def noise(self) -> float:
        """Variance of a residual."""
        return float((self.residuals**2).sum() / max(len(self.residuals) - self.free, 1))

    def error(self, contrast: Array) -> Error:
        """The error of contrast [p] · theta."""
        leverage = float(contrast @ self.inverse @ contrast)
        if self.groups is None:
            return Error(self.noise * leverage, float(max(len(self.residuals) - self.free, 1)), leverage)
        return Error(*self._clustered(contrast), leverage)

    def _clustered(self, contrast: Array) -> tuple[float, float]:
        direction = self.design @ (self.inverse @ contrast)
        columns, variance = [], 0.0
        for group in self.groups or ():
            part = self.design[group]
            values, vectors = np.linalg.eigh(np.eye(len(group)) - part @ self.inverse @ part.T)
            root = np.where(values > 1e-8, 1 / np.sqrt(np.maximum(values, 1e-8)), 0.0)
            corrected = vectors @ (root * (vectors.T @ direction[group]))
            variance += float(corrected @ self.residuals[group]) ** 2
            column = -self.design @ (self.inverse @ (part.T @ corrected))
            column[group] += corrected
            columns.append(column)
        gram = np.stack(columns) @ np.stack(columns).T
        return variance, max(float(np.trace(gram) ** 2 / (gram**2).sum()), 1.0)


def linearise(fit: Fit, run: ArrayLike | None = None, *, even: bool = True) -> Linearised:
    """The fit near its optimum.

    run [n]: the points of one run share noise; None, or a run for each point: all are independent. even:
    independent noise is as large everywhere; if not, each point counts as a run, as the bootstrap takes it.
    """
    problem, theta = fit.inference_problem(), fit.theta[None]
    value, jacobian, _ = fit.form.expand(theta, problem.logs)
    root = np.sqrt(problem.weights)
    design = jacobian[0].T * root[:, None]
    residuals = problem.residuals(theta)[0]
    if fit.space == "log":
        design = design / value[0][:, None]
    slope, scores = _scores(residuals, problem.delta)
    size = np.sqrt((design**2).sum(0))
    inverse = _inverse(design, size > 1e-10 * size.max())
    groups = groups_of(np.arange(fit.n) if run is None else run, fit.n)
    return Linearised(design, root * scores, inverse, slope, None if even and len(groups) == fit.n else groups)


def groups_of(run: ArrayLike, n: int) -> tuple[Indices, ...]:
    """Indices [m] of the points of each run, by labels [n]. RecordError for another count and for fewer than three."""
    labels = np.asarray(run).astype(str)
    if labels.shape != (n,):
        raise RecordError(f"run has {labels.size} entries for {n} points: give one per point")
    if told := too_few_runs(labels):
        raise RecordError(told)
    _, member = np.unique(labels, return_inverse=True)
    return tuple(np.flatnonzero(member == g) for g in range(member.max() + 1))


def too_few_runs(run: ArrayLike | None) -> str:
    """Why labels [n] allow no interval; empty where they do, and where each point is a run (None)."""
    labels = np.asarray([] if run is None else run).astype(str)
    names = len(np.unique(labels))
    if run is None or names >= FEWEST_RUNS:
        return ""
    return (
        f"{names} run{'s' * (names > 1)} behind {labels.size} points: points of one run share their noise, so an "
        f"interval needs {FEWEST_RUNS} runs; to take each point as a run, label each with its own, such as its step"
    )


def _scores(residuals: Array, delta: float) -> tuple[float, Array]:
    """Mean slope of Huber's score, and residuals with which least squares has the same errors."""
    if np.isinf(delta):
        return 1.0, residuals
    scale = robust_scale(residuals)
    width = max(delta, KERNEL * scale * len(residuals) ** -0.2)
    # Within `width` residuals are evenly dense, which gives the share within a far smaller delta.
    slope = float(np.mean(np.abs(residuals) <= width) * delta / width)
    return slope, np.clip(residuals, -delta, delta) / slope


def _inverse(design: Array, free: Mask) -> Array:
    inverse = np.zeros((len(free), len(free)))
    part = design[:, free]
    scale = np.sqrt((part**2).sum(0))
    scale = np.where(scale > 0, scale, 1.0)
    unit = part / scale
    inverse[np.ix_(free, free)] = np.linalg.pinv(unit.T @ unit, hermitian=True) / scale[:, None] / scale
    return inverse


def t_quantile(dof: float, level: float) -> float:
    """Student's t that a share `level` stays within, either way."""
    from scipy import special  # 0.1 s to import, which `import lawfit` need not wait for

    return float(special.stdtrit(dof, (1 + level) / 2))
