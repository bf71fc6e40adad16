"""Do two studies scale differently? The difference of a parameter, its interval and p.

Where both have runs of the same names, those are drawn together (a paired bootstrap), so that what the studies share,
such as a lucky seed, cancels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lawfit.errors import RecordError
from lawfit.fitting.result import Fit
from lawfit.intervals.bootstrap import bootstrap
from lawfit.intervals.draws import percentiles, widened


@dataclass(frozen=True)
class Comparison:
    """first, second: the parameter in each study; difference: second - first. p: two-sided, that the
    difference is 0. paired: whether runs were drawn together.
    """

    parameter: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    level: float
    p: float
    paired: bool
    replicates: int

    @property
    def verdict(self) -> str:
        """One sentence."""
        found = f"{self.difference:+.3g} [{self.interval[0]:+.3g}, {self.interval[1]:+.3g}], p = {self.p:.2g}"
        how = "paired" if self.paired else "unpaired"
        differ = "differs" if self.p < 1 - self.level else "no difference shown"
        return f"{self.parameter}: {self.first:.4g} and {self.second:.4g}, {found} ({how} bootstrap by run): {differ}"


def compare(
    first: Fit, second: Fit, *, runs: tuple[ArrayLike, ArrayLike] | None = None,
    parameter: str | None = None, replicates: int = 4000, seed: int = 0, level: float = 0.95,
) -> Comparison:  # fmt: skip
    """Compare one parameter of two fits of the same form, by default the exponent to quote.

    runs: labels [n] of each fit's points, which are drawn together. Without labels every point is a run of its own,
    and studies of the same design (equal x) are paired point by point. Raises RecordError for different forms or
    an unknown parameter.
    """
    if first.form.name != second.form.name:
        raise RecordError(f"forms {first.form.name!r} and {second.form.name!r} have no common parameters: fit one form")
    names, parameter = first.form.parameters, parameter or first.form.exponents[0]
    if parameter not in names:
        raise RecordError(f"parameter {parameter!r} is unknown to {first.form.name!r}: there are {', '.join(names)}")
    labels = runs or (None, None)
    same = _same_design(first, second) if runs is None else _names(runs[0]) == _names(runs[1])
    found = [
        bootstrap(law, run=label, replicates=replicates, seed=seed + (not same) * number, level=level)
        for number, (law, label) in enumerate(zip((first, second), labels, strict=True))
    ]
    # Draws replaced or lost in one study only no longer belong to those of the other.
    paired = same and found[0].redrawn == found[1].redrawn and not (found[0].failed or found[1].failed)
    place = names.index(parameter)
    draws = [widened(part, parameter)[:, place] for part in found]
    count = min(map(len, draws))
    differences = draws[1][:count] - draws[0][:count]
    difference = second.params[parameter] - first.params[parameter]
    tails = [(1 + np.count_nonzero(side)) / (count + 1) for side in (differences <= 0, differences >= 0)]
    return Comparison(
        parameter=parameter, first=first.params[parameter], second=second.params[parameter], difference=difference,
        interval=percentiles(differences, level), level=level, p=min(1.0, 2 * min(tails)), paired=paired,
        replicates=count,
    )  # fmt: skip


def _names(labels: ArrayLike) -> set[str]:
    return set(np.asarray(labels).astype(str))


def _same_design(first: Fit, second: Fit) -> bool:
    columns = zip(first.points.x.values(), second.points.x.values(), strict=True)
    return all(np.array_equal(one, other) for one, other in columns)
