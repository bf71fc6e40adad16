"""What a larger run will reach, and how far the same method could be trusted before.

The interval is that of a new run, widened until it would have held the runs already known when they were forecast
from the smaller ones, and stretched over what other plausible forms say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.fitting.result import Fit
from lawfit.forms.base import X, as_columns
from lawfit.forms.catalogue import simple
from lawfit.intervals.covariance import too_few_runs
from lawfit.intervals.prediction import predict_interval

LEVEL = 0.95

PLAUSIBLE = 4.0
"""A form within this much of the best AICc is not ruled out by the data."""

BACK_TESTS = 12
"""Most fits spent on the past."""

SCATTER = 0.05
"""Standard deviation of log residuals from which other things than x must differ between the runs."""

ONE_SIDED = 4
"""Back-tests that must miss to one side before the side counts."""

SEEN = 1e-4
"""Error in log y below which a back-test misses to no side."""

FAR = 10.0
"""Extrapolation beyond this many times the largest known run is warned of."""


@dataclass(frozen=True)
class BackTest:
    """A known run forecast from the smaller ones: what was said, and whether the interval held it.

    ratio: its size over that of the largest run behind the forecast.
    """

    at: float
    ratio: float
    predicted: float
    low: float
    high: float
    actual: float

    @property
    def error(self) -> float:
        """Signed relative error of the prediction."""
        return self.predicted / self.actual - 1

    @property
    def held(self) -> bool:
        """Whether the interval holds the actual value."""
        return self.low <= self.actual <= self.high


@dataclass(frozen=True, eq=False)
class Forecast:
    """y at `at`, with the interval (low, high) of a new run and that of the law itself (law_low, law_high).

    Where all back-tests miss to one side, the interval is stretched to that side as they would go on to miss.
    widening: factor by which the back-tests widened the interval in log y. alternatives: y by every form tried.
    warnings: why the interval may still be too narrow, or is wide.
    """

    fit: Fit
    at: Mapping[str, float]
    y: float
    low: float
    high: float
    law_low: float
    law_high: float
    level: float
    widening: float
    alternatives: Mapping[str, float]
    back_tests: tuple[BackTest, ...]
    warnings: tuple[str, ...]


def forecast(
    x: X, y: ArrayLike, at: Mapping[str, float] | float, *, form: str | Sequence[str] = "auto",
    by: ArrayLike | None = None, run: ArrayLike | None = None, seed_sd: float = 0.0, level: float = LEVEL,
    **options: Any,
) -> Forecast:  # fmt: skip
    """Forecast y at one larger size or budget.

    x, y: as for `fit`. form: `auto` chooses among the forms with one power of each variable (a power law with or
    without floor, Chinchilla surfaces). by [n]: what makes a run large in the back-tests, by default x, for a surface
    N·D. run [n]: labels of the points. seed_sd: spread between seeds that the known runs do not show, as a standard
    deviation of log y (of y in linear space). options: those of `fit`. Raises RecordError as `fit` does.
    """
    columns, y = as_columns(x), np.asarray(y, float)
    given = at if isinstance(at, Mapping) else {next(iter(columns)): at}
    place = {name: float(value) for name, value in given.items()}
    if set(place) != set(columns):
        raise RecordError(f"forecast at {', '.join(place)}: the law is of {', '.join(columns)}")
    if not 0 <= seed_sd < np.inf:
        raise RecordError(f"seed_sd is {seed_sd}: expected a finite number, at least 0")
    forms = _forms(form, columns)
    labels = None if run is None else np.asarray(run)
    law = fit(columns, y, forms, independent=_independent(labels), **options)
    size = np.prod([*columns.values()], axis=0) if by is None else np.asarray(by, float)
    tests = (_back_test(columns, y, size, edge, labels, law, seed_sd, level, options) for edge in _edges(size))
    back_tests = tuple(test for test in tests if test is not None)
    widening = _needed(back_tests, level)
    told = too_few_runs(labels)
    value, law_low, law_high, low, high = _interval(law, place, labels, seed_sd, level, told)
    low, high = (value * (end / value) ** widening for end in (low, high))
    ratio = _ratio(columns, size, place, by)
    drift = _drift(back_tests)
    bent = value * float(max(ratio, 1.0)) ** -drift
    low, high = (low, high) if told else (min(low, bent), max(high, bent))
    others = {
        name: float(fit(columns, y, name, independent=_independent(labels), **options).predict(place)[0])
        for name in forms
    }
    plausible = [others[name] for name, score in law.aicc_by_form.items() if score - law.aicc < PLAUSIBLE]
    return Forecast(
        fit=law, at=place, y=value,
        low=low if told else min(low, *plausible, value), high=high if told else max(high, *plausible, value),
        law_low=law_low, law_high=law_high, level=level, widening=widening,
        alternatives=others, back_tests=back_tests,
        warnings=(*([told] if told else []),
                  *_one_signed(back_tests, drift), *_warnings(law, place, back_tests, widening, ratio)),
    )  # fmt: skip


def _interval(
    law: Fit, place: Mapping[str, float], labels: Array | None, seed_sd: float, level: float, told: str
) -> tuple[float, ...]:
    """The law at a place, its interval and that of a new run; nan where too few runs are behind it (`told`)."""
    if told:
        return float(law.predict(place)[0]), *[float("nan")] * 4
    said = predict_interval(law, place, run=labels, seed_sd=seed_sd, level=level)
    value, law_low, law_high, low, high = (
        float(values[0]) for values in (said.law, said.law_low, said.law_high, said.low, said.high)
    )
    return value, law_low, law_high, low, high


def _forms(form: str | Sequence[str], columns: Mapping[str, Array]) -> Sequence[str]:
    if form != "auto":
        return (form,) if isinstance(form, str) else form
    forms = simple(columns.keys())
    if not forms:
        raise RecordError(f"x has {', '.join(columns)}: name the form")
    return forms


def _back_test(
    columns: Mapping[str, Array], y: Array, size: Array, edge: float, labels: Array | None, law: Fit,
    seed_sd: float, level: float, options: Mapping[str, Any],
) -> BackTest | None:  # fmt: skip
    """The best run at `edge`, and its seeds, from the smaller ones by the form of `law`; None where those are too
    few to show a spread.
    """
    below = size < edge
    if below.sum() <= len(law.form.parameters) or len(np.unique(size[below])) <= len(law.form.parameters):
        return None
    part = {name: column[below] for name, column in columns.items()}
    best = np.flatnonzero(size == edge)[y[size == edge].argmin()]
    here = np.logical_and.reduce([column == column[best] for column in columns.values()])
    place = {name: column[best] for name, column in columns.items()}
    run = None if labels is None else labels[below]
    try:
        smaller = fit(part, y[below], law.form.name, independent=_independent(run), **options)
        said = predict_interval(smaller, place, run=run, seed_sd=seed_sd, level=level)
    except RecordError:
        return None  # a surface whose smaller runs vary too little in one variable, or too few runs
    actual = float(np.exp(np.log(y[here]).mean()))
    predicted, low, high = (float(values[0]) for values in (said.law, said.low, said.high))
    return BackTest(edge, edge / float(size[below].max()), predicted, low, high, actual)


def _independent(labels: Array | None) -> int | None:
    """How many runs stand behind the points; None makes each point one."""
    return None if labels is None else len(np.unique(labels))


def _edges(size: Array) -> Array:
    """At most `BACK_TESTS` of the sizes, evenly by rank, the largest among them."""
    distinct = np.unique(size)
    ranks = np.linspace(0, len(distinct) - 1, min(BACK_TESTS, len(distinct)))
    return distinct[np.rint(ranks).astype(int)]


def _needed(back_tests: Sequence[BackTest], level: float) -> float:
    """Factor on the intervals' width in log y with which a share `level` of the back-tests would have held.

    At least 1. With fewer than 1/(1 - level) of them this is the largest, as in split conformal prediction.
    """
    misses = [1.0]
    for test in back_tests:
        end = test.high if test.actual > test.predicted else test.low
        misses.append(
            np.log(test.actual / test.predicted) / np.log(end / test.predicted) if end != test.predicted else 1.0
        )
    rank = min(int(np.ceil((len(misses) + 1) * level)), len(misses))
    return float(np.sort(misses)[rank - 1])


def _drift(back_tests: Sequence[BackTest]) -> float:
    """Largest rate at which the known runs leave their forecasts, in log y per log of the ratio, where all leave to one
    side; positive where forecasts were too high. 0 where they leave to both, or are too few to tell.
    """
    errors = np.array([np.log(test.predicted / test.actual) for test in back_tests])
    if len(errors) < ONE_SIDED or not (np.all(errors > SEEN) or np.all(errors < -SEEN)):
        return 0.0
    rates = errors / np.log([test.ratio for test in back_tests])
    return float(rates[np.abs(rates).argmax()])


def _one_signed(back_tests: Sequence[BackTest], drift: float) -> list[str]:
    if not drift:
        return []
    errors = [abs(test.error) for test in back_tests]
    return [
        f"all {len(errors)} known runs were forecast too {'high' if drift > 0 else 'low'}, by {100 * min(errors):.2g} "
        f"to {100 * max(errors):.2g} %: the form bends another way than the runs; the interval is stretched as far as "
        "that goes on"
    ]


def _ratio(columns: Mapping[str, Array], size: Array, place: Mapping[str, float], by: ArrayLike | None) -> float:
    """How much larger than the largest known run; by each variable's own measure if `by` is not known there."""
    if by is None:
        return float(np.prod([place[name] for name in columns]) / size.max())
    return max(place[name] / float(column.max()) for name, column in columns.items())


def _warnings(
    law: Fit, place: Mapping[str, float], back_tests: Sequence[BackTest], widening: float, ratio: float
) -> tuple[str, ...]:
    warnings = []
    if widening > 1:
        held = sum(test.held for test in back_tests)
        warnings.append(
            f"{held} of {len(back_tests)} known runs lay in their forecast's interval: widened {widening:.2g} times"
        )
    scatter = float(np.sqrt((law.residuals**2).sum() / max(law.n - len(law.params), 1)))
    if law.space == "log" and scatter > SCATTER:
        warnings.append(
            f"the known runs scatter by {100 * scatter:.0f} % about the law (one standard deviation): they differ in "
            f"more than {', '.join(place)}, and the interval is as wide as that"
        )
    if not back_tests:
        warnings.append("too few sizes for a back-test: nothing shows that the interval is wide enough")
    if ratio > FAR:
        warnings.append(f"{ratio:.2g} times the largest known run: a change of regime beyond the data would not show")
    if not law.certificate.holds:
        warnings.append(law.certificate.message)
    return tuple(warnings)
