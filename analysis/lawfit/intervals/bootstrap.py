"""Intervals by resampling: a `Fit` and the run of each point -> `Bootstrap`.

All replicates are refitted in one batched Newton solve that starts from the full fit.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.fitting.fitting import fit as fit_law
from lawfit.fitting.newton import minimise
from lawfit.fitting.objectives import Problem
from lawfit.fitting.points import centred
from lawfit.fitting.result import Fit
from lawfit.fitting.search import STEPS, starting_points
from lawfit.forms.base import Centre, X
from lawfit.forms.catalogue import POWER
from lawfit.intervals.covariance import Linearised, linearise, t_quantile
from lawfit.intervals.resampling import Unit, draw_points

RESTARTS = 3
"""Starts, beside its own, of a replicate that has not converged."""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Refits of resampled runs.

    unit, units: what was drawn, and how many there are. redrawn: draws that could not be fitted, drawn again.
    resolved: replicates that needed more starts or steps. failed: those that did not converge even so; they stay
    in, since without the least certain replicates the rest would look certain.
    theta [replicates, p]: search coordinates. near: the linearised fit, whose t interval sets the width; None
    for a frontier, where degrees of freedom alone do. Without replicates, see `without_intervals`, every interval is
    nan.
    """

    fit: Fit
    level: float
    unit: Unit
    units: int
    replicates: int
    redrawn: int
    resolved: int
    failed: int
    theta: Array
    near: Linearised | None

    @property
    def samples(self) -> Array:
        """Published parameters [replicates, p]."""
        return self.fit.form.published(self.theta, self.fit.centre)

    @property
    def reference_samples(self) -> Array:
        """The same [replicates, p] with the amplitudes at x0."""
        return self.fit.form.published(self.theta, self.fit.centre.amplitudes)

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard deviation of the published parameters; heavy-tailed for amplitudes at x = 1."""
        spread = self.samples.std(axis=0, ddof=1) if self.replicates else np.full(len(self.fit.form.parameters), np.nan)
        return dict(zip(self.fit.form.parameters, map(float, spread), strict=True))

    @property
    def percentile(self) -> dict[str, tuple[float, float]]:
        """Plain percentile intervals of the published parameters, which are too narrow with few runs."""
        low, high = self._quantiles(self.samples)
        return {n: (float(a), float(b)) for n, a, b in zip(self.fit.form.parameters, low, high, strict=True)}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Calibrated intervals of the published parameters, see `method`."""
        return self._intervals(self.samples, self.fit.centre)

    @property
    def exponent_interval(self) -> tuple[float, float]:
        """Calibrated interval of the exponent to quote."""
        return self.intervals[self.fit.form.exponents[0]]

    @property
    def reference_intervals(self) -> dict[str, tuple[float, float]]:
        """Calibrated intervals of the amplitudes at x0."""
        found = self._intervals(self.reference_samples, self.fit.centre.amplitudes)
        return {name: found[name] for name in self.fit.form.amplitudes}

    @property
    def method(self) -> str:
        """One line for captions."""
        if not self.replicates:
            return "no interval"
        return (
            f"{100 * self.level:.0f} % interval, bootstrap by {self.unit} ({self.units} {self.unit}s, "
            f"{self.replicates} resamples) in the width of the t interval"
        )

    def band(self, x: X) -> tuple[Array, Array]:
        """Calibrated interval of the law itself, not of a new run, at x: low and high [m]."""
        logs = centred(self.fit.form.columns(x), self.fit.centre)
        value, jacobian, _ = self.fit.form.expand(self.fit.theta[None], logs)
        with np.errstate(divide="ignore"):
            sampled = np.log(self.fit.form.evaluate(self.theta, logs))
        low, high = self._widened(np.log(value[0]), sampled, (jacobian[0] / value[0]).T)
        scale = np.exp(self.fit.centre.log_y)
        return scale * np.exp(low), scale * np.exp(high)

    def _intervals(self, samples: Array, centre: Centre) -> dict[str, tuple[float, float]]:
        form, theta = self.fit.form, self.fit.theta
        estimate, contrasts = form.published(theta, centre), form.published_jacobian(theta, centre)
        positive = np.array([name in form.positive for name in form.parameters])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # what the data do not tell reaches inf
            contrasts = np.where(positive[:, None], contrasts / estimate[:, None], contrasts)
            at = np.where(positive, np.log(estimate), estimate)
            sampled = np.where(positive, np.log(samples), samples)
            low, high = self._widened(at, sampled, contrasts)
            low, high = (np.where(positive, np.exp(end), end) for end in (low, high))
        floor = np.array([name == form.floor for name in form.parameters])
        low = np.where(floor, np.maximum(low, 0.0), low)
        return {n: (float(a), float(b)) for n, a, b in zip(form.parameters, low, high, strict=True)}

    def _widened(self, at: Array, samples: Array, contrasts: Array) -> tuple[Array, Array]:
        """Quantiles [m] of samples [replicates, m], moved away from `at` until as wide as the t interval.

        Never narrower than drawn: the t interval linearises, which a loss with kinks (Huber, LAD) does not bear.
        """
        low, high = self._quantiles(samples)
        if not self.replicates:
            return low, high
        width = np.array([self._t_width(row) for row in contrasts])
        with np.errstate(divide="ignore", invalid="ignore"):
            widening = np.where((width > 0) & (high > low), np.maximum(width / (high - low), 1.0), 1.0)
        if self.near is None:
            widening = np.full(len(at), _small_sample(self.units, samples.shape[1], self.level))
        return at - widening * np.maximum(at - low, 0), at + widening * np.maximum(high - at, 0)

    def _t_width(self, contrast: Array) -> float:
        if self.near is None or not np.isfinite(contrast).all():
            return 0.0
        error = self.near.error(contrast)
        return 2 * t_quantile(error.dof, self.level) * float(np.sqrt(error.variance))

    def _quantiles(self, samples: Array) -> Array:
        if not len(samples):
            return np.full((2, samples.shape[1]), np.nan)
        return np.asarray(np.quantile(samples, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0))


def bootstrap(
    fit: Fit, *, run: ArrayLike | None = None, by: Unit = "run",
    replicates: int = 1000, seed: int = 0, level: float = 0.95,
) -> Bootstrap:  # fmt: skip
    """Draw runs with replacement, and refit the form, with the same loss, to each resample.

    run [n]: the points of one run are drawn together; None makes each point a run. by: `point` ignores the
    runs; `seed` draws among the points that share x. Raises RecordError for run labels that do not match the
    points and for too few runs to resample.
    """
    counts, redrawn, units = draw_points(fit, run, by, replicates, seed)
    problem = fit.inference_problem()
    problem = replace(problem, weights=counts * problem.weights)
    theta, resolved, failed = refit(fit, problem)
    near = linearise(fit, run if by == "run" else None, even=False)
    return Bootstrap(fit, level, by, units, replicates, redrawn, resolved, failed, theta, near)


def without_intervals(fit: Fit, level: float = 0.95) -> Bootstrap:
    """What is known of a fit whose points come from too few runs: no resample, every interval nan."""
    return Bootstrap(fit, level, "run", 0, 0, 0, 0, 0, np.zeros((0, len(fit.theta))), None)


def t_interval(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval of a power law's exponent from least squares of log y [n] on log x [n], n - 2 degrees of freedom.

    Raises RecordError as `fit` does.
    """
    line = fit_law(x, y, POWER.name)
    error = linearise(line).error(np.array([name in POWER.exponents for name in POWER.parameters], float))
    half = t_quantile(error.dof, level) * float(np.sqrt(error.variance))
    return line.exponent - half, line.exponent + half


def refit(fit: Fit, problem: Problem) -> tuple[Array, int, int]:
    """Refit B reweighted problems: theta [B, p], how many needed more work, how many did not converge even so."""
    theta = np.broadcast_to(fit.theta, (len(problem.weights), len(fit.theta)))
    # |r| again through Huber's loss, from the residuals' scale down.
    for factor in (1e3, 1e2, 1e1, 1.0) if fit.loss == "lad" else (1.0,):
        ends = minimise(problem.with_delta(problem.delta * factor), theta, STEPS)
        theta = ends.theta
    hard = np.flatnonzero(~ends.converged)
    if not hard.size:
        return theta, 0, 0
    starts = starting_points(fit.points, fit.form, fit.centre, fit.space)[:RESTARTS]
    again = np.concatenate([theta[hard], np.tile(starts, (len(hard), 1))])
    row = np.concatenate([np.arange(len(hard)), np.repeat(np.arange(len(hard)), len(starts))])
    further = minimise(problem.take(hard[row]), again)
    order = np.lexsort((further.objective, row))
    best = order[np.unique(row[order], return_index=True)[1]]
    theta[hard] = further.theta[best]
    return theta, len(hard), int((~further.converged[best]).sum())


def _small_sample(units: int, parameters: int, level: float) -> float:
    """Widening of a frontier's percentile interval: Student's t of the runs over the normal quantile.

    A frontier cannot be linearised. Measured coverage of alpha at 95 %, 250 simulations each: 6 runs 96.4 %
    (percentile 90.4 %), 10 runs 97.2 % (94.8 %), 16 runs 94.4 % (92.4 %).
    """
    return t_quantile(max(units - parameters, 1), level) / t_quantile(1e9, level)
