"""Information criteria of a fit, for any of the losses.

A loss is the negative log-likelihood of a noise: squares of Gaussian noise, |r| of Laplace's, Huber's of a Gaussian
centre with exponential tails; each with its scale at the most likely value. Constants that all forms share are left
out, so compare criteria of one loss, space and set of points only.
"""

import math

import numpy as np

from lawfit.arrays import Array

EXACT = 1e-24
"""Mean squared residual below which all fits are equally exact, so that the one with fewer parameters wins."""


def deviance(residuals: Array, weights: Array, delta: float | None, absolute: bool, count: int) -> float:
    """-2 log likelihood of residuals [n] with weights [n] at the most likely noise, as of `count` independent points.

    delta: Huber's; None with `absolute` for |r|, else for squares.
    """
    if absolute:
        mean = float(np.mean(weights * np.abs(residuals)))
        return 2 * count * math.log(max(mean, math.sqrt(EXACT)))
    mean_square = max(float(np.mean(weights * residuals**2)), EXACT)
    if delta is None:
        return count * math.log(mean_square)
    clipped = np.clip(residuals, -delta, delta)
    mean = max(float(np.mean(weights * clipped * (residuals - 0.5 * clipped))), EXACT / 2)
    # The temperature t of exp(-loss/t): Gaussian noise has t = its variance, exponential tails t = delta·mean|r|.
    temperatures = np.geomspace(mean / 100, 100 * max(mean_square, mean, delta * math.sqrt(mean_square)), 4000)
    return count * min(2 * _log_normaliser(t, delta) + 2 * mean / t for t in temperatures)


def aicc(deviance: float, parameters: int, count: int) -> float:
    """AIC with the correction of Hurvich & Tsai (1989); nan unless count > parameters + 2. The noise counts too."""
    k = parameters + 1
    return deviance + 2 * k + 2 * k * (k + 1) / (count - k - 1) if count - k - 1 > 0 else float("nan")


def bic(deviance: float, parameters: int, count: int) -> float:
    """Schwarz's criterion; nan where AICc is."""
    k = parameters + 1
    return deviance + k * math.log(count) if count - k - 1 > 0 else float("nan")


def _log_normaliser(t: float, delta: float) -> float:
    """log of the integral of exp(-Huber(r)/t) dr."""
    centre = math.sqrt(2 * math.pi * t) * math.erf(delta / math.sqrt(2 * t))
    return math.log(centre + 2 * t / delta * math.exp(-(delta**2) / (2 * t)))
