"""What of a metric is fitted: itself, or its distance from where it ends; and what is no law."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.result import Fit
from lawfit.questions.forecast import BackTest, Forecast
from lawfit.records.expressions import evaluate, quoted
from lawfit.records.metric_kinds import ceiling as known_ceiling
from lawfit.records.metric_kinds import direction

NO_CEILING = "none"

CONSTANT = 1e-9
"""Relative spread of y within which nothing changes but rounding."""

CLEAR = 0.5
"""Rank correlation with x above which y rises."""


@dataclass(frozen=True)
class Metric:
    """y as it is asked about and as it is fitted. text: what is fitted, y itself or "100 - y". remarks: what a reader
    should know of its direction."""

    name: str
    text: str
    ceiling: float | None = None
    assumptions: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def of(self, fitted: float) -> float:
        """y of what is fitted, and the other way round."""
        return fitted if self.ceiling is None else self.ceiling - fitted

    def interval(self, ends: tuple[float, float]) -> tuple[float, float]:
        """An interval of y from one of what is fitted."""
        return ends if self.ceiling is None else (self.of(ends[1]), self.of(ends[0]))

    def back_test(self, test: BackTest) -> BackTest:
        """A back-test in y."""
        low, high = self.interval((test.low, test.high))
        return replace(test, predicted=self.of(test.predicted), low=low, high=high, actual=self.of(test.actual))

    def forecast(self, said: Forecast) -> Forecast:
        """A forecast in y; its fit stays that of what is fitted."""
        (low, high), (law_low, law_high) = (
            self.interval(ends) for ends in ((said.low, said.high), (said.law_low, said.law_high))
        )
        return replace(
            said, y=self.of(said.y), low=low, high=high, law_low=law_low, law_high=law_high,
            alternatives={name: self.of(value) for name, value in said.alternatives.items()},
            back_tests=tuple(map(self.back_test, said.back_tests)),
        )  # fmt: skip

    @property
    def values(self) -> dict[str, object]:
        """For JSON."""
        return {"column": self.name, "fitted": self.text, "ceiling": self.ceiling}


def read_metric(frame: pd.DataFrame, name: str, asked: str | None, x: Mapping[str, str] | None = None) -> Metric:
    """What of column `name` is fitted.

    asked: the ceiling, "none" for no ceiling, None for that of its kind, if y rises with x (columns or expressions by
    role; without, if its kind rises). Raises RecordError for a ceiling that is no number or not above y.
    """
    values = pd.to_numeric(evaluate(frame, name), errors="coerce").to_numpy(float, na_value=np.nan)
    if not np.isfinite(values).any():
        return Metric(name, name)  # refused by row where it is read
    # What is computed, such as 100 - acc, is no longer of the kind that its words say.
    kind = direction(name) if name.strip("`") in frame else None
    rises = kind == "rises" if x is None else _rises(frame, values, x)
    along = "" if x is None else f" with {', '.join(x.values())}"
    if asked is not None and asked.lower() != NO_CEILING:
        return _below(frame, name, values, _number(asked), "")
    if not rises:
        return Metric(name, name)
    end = known_ceiling(name, values) if kind else None
    if end is not None and asked is None:
        said = f"{name} rises{along} and ends at {end:g}: fitted is {end:g} - {name}, answers are in {name}"
        return _below(frame, name, values, end, f"{said} (--ceiling {NO_CEILING} fits {name} itself)")
    if kind == "falls":
        return Metric(
            name, name, remarks=(f"{name} rises{along}, though it falls as models get better: look at the runs",)
        )
    return Metric(name, name, remarks=(
        f"{name} rises{along}, and a law that rises has no end: where {name} has one, --ceiling VALUE (100 for a "
        f"rate in %) fits the distance from it, and no answer passes it",))  # fmt: skip


def check_law(law: Fit, metric: Metric) -> Fit:
    """The law. RecordError for one without meaning: an exponent at the edge of the search, a floor above the data."""
    lowest, highest = float(law.points.y.min()), float(law.points.y.max())
    edge = [name for name in law.certificate.at_bound if name in law.form.exponents and law.form.powers]
    if edge:
        raise RecordError(
            f"no law of {metric.text}: the best {edge[0]} of {law.form.formula} is {law.params[edge[0]]:.3g}, the edge "
            "of the search, so the points do not follow a power of x"
        )
    if law.floor > highest:
        raise RecordError(
            f"no law of {metric.text}: the floor of {law.form.formula} is {law.floor:.4g}, above all data "
            f"({lowest:.4g} to {highest:.4g})"
        )
    return law


def check_varies(name: str, values: Array) -> None:
    """RecordError for values [n] that are all one."""
    if np.ptp(values) <= CONSTANT * float(np.abs(values).max()):
        raise RecordError(f"no law of {name}: it is {values[0]:g} in all {len(values)} rows")


def _number(asked: str) -> float:
    try:
        value = float(asked)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordError(f"--ceiling is {asked}: expected a number, or {NO_CEILING}")
    return value


def _below(frame: pd.DataFrame, name: str, values: Array, end: float, said: str) -> Metric:
    """The distance from `end`. RecordError where a value is not below it."""
    if len(beyond := np.flatnonzero(values >= end)):
        row = beyond[0]
        raise RecordError(
            f"row {frame.index[row]}, column {name!r}: {values[row]:g} is not below the ceiling {end:g}, so it has no "
            f"distance from it; leave it out with a filter, or fit {name} itself (--ceiling {NO_CEILING})"
        )
    inner = quoted(name) if name in frame else f"({name})"
    return Metric(name, f"{end:g} - {inner}", end, (said or f"fitted is {end:g} - {name}, answers are in {name}",))


def _rises(frame: pd.DataFrame, values: Array, x: Mapping[str, str]) -> bool:
    """Whether y rises with x, with the product of several."""
    columns = [pd.to_numeric(evaluate(frame, text), errors="coerce") for role, text in x.items() if role != "u"]
    ranks = pd.DataFrame({"x": np.prod(columns, axis=0), "y": values}).dropna().rank()
    if len(ranks) < 3 or ranks["x"].nunique() < 2 or ranks["y"].nunique() < 2:
        return False
    return bool(ranks["x"].corr(ranks["y"]) > CLEAR)
