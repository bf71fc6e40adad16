"""Bootstrap draws as wide as their calibrated interval.

For questions that push whole parameter vectors through a formula (a difference of exponents, a split of compute, a
solved-for budget).
"""

import numpy as np

from lawfit.arrays import Array
from lawfit.intervals.bootstrap import Bootstrap


def widened(found: Bootstrap, parameter: str) -> Array:
    """Published parameters [replicates, p], spread about the fit until `parameter` has its calibrated width.

    All search coordinates are spread by one factor, which keeps the parameters' correlations.
    """
    law = found.fit
    low, high = found.intervals[parameter]
    plain_low, plain_high = found.percentile[parameter]
    factor = (high - low) / (plain_high - plain_low) if plain_high > plain_low else 1.0
    return law.form.published(law.theta + factor * (found.theta - law.theta), law.centre)


def percentiles(values: Array, level: float) -> tuple[float, float]:
    """The interval that leaves out (1 - level)/2 of the values [B] on each side; nan without values."""
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)
