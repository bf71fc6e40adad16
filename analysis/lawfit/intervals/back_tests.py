"""How well a law predicts what it has not seen: each size from the smaller ones.

Fits here get the same options as the fit that they judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array, Mask
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.fitting.points import MIN_DISTINCT_X
from lawfit.forms.base import X, as_columns
from lawfit.forms.catalogue import FORMS


@dataclass(frozen=True)
class RollStep:
    """One prediction: from the runs up to `fitted_up_to` for those at `at`, `ratio` times as large.

    actual: geometric mean of the runs there. error: signed, predicted/actual - 1.
    """

    fitted_up_to: float
    at: float
    ratio: float
    predicted: float
    actual: float
    error: float


def roll_forward(
    x: X, y: ArrayLike, form: str | Sequence[str], *, by: ArrayLike | None = None, **options: Any
) -> tuple[RollStep, ...]:
    """The runs of each size predicted from all smaller ones, as long as these suffice for a fit; the last step holds
    out the largest.

    by [n]: what makes a run large, by default x; a form of several variables needs it, FLOPs for instance.
    Several runs of one size (seeds) count as their geometric mean. options: those of `fit`. Raises RecordError
    without `by` for several variables, and when no size has enough smaller ones.
    """
    columns, y = as_columns(x), np.asarray(y, float)
    if by is None and len(columns) > 1:
        raise RecordError(f"x has {', '.join(columns)}: say by what a run is large (by=...)")
    size = next(iter(columns.values())) if by is None else np.asarray(by, float)
    sizes = np.unique(size)
    # Rolling begins where every form that is asked for has its points.
    enough = [at for at in sizes if _suffices(columns, size < at, form)]
    if not enough:
        raise RecordError(f"{len(sizes)} sizes: rolling forward needs one more than a fit does")
    return tuple(_step(columns, y, size, float(at), form, options) for at in enough)


def _step(
    columns: dict[str, Array], y: Array, size: Array, at: float, form: str | Sequence[str], options: dict[str, Any]
) -> RollStep:
    below, here = size < at, size == at
    law = fit({name: column[below] for name, column in columns.items()}, y[below], form, **options)
    predicted = law.predict({name: column[here] for name, column in columns.items()})
    expected, actual = (float(np.exp(np.log(values).mean())) for values in (predicted, y[here]))
    largest = float(size[below].max())
    return RollStep(largest, at, at / largest, expected, actual, expected / actual - 1)


def _suffices(columns: dict[str, Array], below: Mask, form: str | Sequence[str]) -> bool:
    names = [form] if isinstance(form, str) else list(form)
    parameters = max((len(FORMS[name].parameters) for name in names if name in FORMS), default=MIN_DISTINCT_X)
    needed = MIN_DISTINCT_X if len(columns) == 1 else 2
    distinct = min(len(np.unique(column[below])) for column in columns.values())
    return int(below.sum()) >= parameters and distinct >= needed
