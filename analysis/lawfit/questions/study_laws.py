"""The laws of a study: what is asked, declared before the data are seen, and the answers.

Each law is fitted over one metric, one data set and one tokenizer; `load_study` refuses to mix them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from lawfit.approaches.frontier import Curve, envelope, read_curves
from lawfit.approaches.frontier_intervals import bootstrap_frontier, hold_out_largest_curve
from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.fitting.points import MIN_DISTINCT_X
from lawfit.fitting.result import Fit
from lawfit.forms.catalogue import POWER, named, simple
from lawfit.intervals.alternatives import Alternative, alternatives
from lawfit.intervals.back_tests import RollStep, roll_forward
from lawfit.intervals.bootstrap import Bootstrap, bootstrap, t_interval
from lawfit.intervals.flags import flags
from lawfit.intervals.profile import profile
from lawfit.records import schema
from lawfit.records.comparability import check_sampling, is_of_samples, schedule_flags
from lawfit.records.schema import column
from lawfit.records.study import Study
from lawfit.text import plain

LEVEL = 0.95


@dataclass(frozen=True)
class Law:
    """A question: how does `y` depend on `x`? final: one point per run; frontier: the envelope of curves."""

    key: str
    x: str
    y: str
    title: str
    source: Literal["final", "frontier"] = "final"
    primary: bool = True


LAWS = (
    Law("loss_by_n", "n_paper", schema.VAL_LOSS, "Loss, all scales, by model size"),
    Law("loss_last_by_n", "n_paper", schema.VAL_LOSS_LAST, "Loss, last scale, by model size"),
    Law("loss_frontier", schema.FLOPS, schema.VAL_LOSS,
        "Loss, all scales, on the compute frontier", "frontier"),
    Law("loss_last_frontier", schema.FLOPS, schema.VAL_LOSS_LAST,
        "Loss, last scale, on the compute frontier", "frontier"),
    *(
        Law(f"{metric.name.replace('/', '_')}_by_flops", schema.FLOPS, metric.name,
            f"{metric.label}{',' if ',' in metric.label else ''} by training compute", primary=metric.primary)
        for metric in schema.METRICS if metric.of == "samples"
    ),
    Law("error_by_n", "n_paper", schema.VAL_ERROR, "Error, all scales, by model size", primary=False),
    Law("error_last_by_n", "n_paper", schema.VAL_ERROR_LAST, "Error, last scale, by model size", primary=False),
    Law("error_frontier", schema.FLOPS, schema.VAL_ERROR,
        "Error, all scales, on the compute frontier", "frontier", primary=False),
    Law("error_last_frontier", schema.FLOPS, schema.VAL_ERROR_LAST,
        "Error, last scale, on the compute frontier", "frontier", primary=False),
    Law("loss_by_params", "n_params", schema.VAL_LOSS, "Loss, all scales, by exact parameter count",
        primary=False),
    Law("loss_last_by_params", "n_params", schema.VAL_LOSS_LAST,
        "Loss, last scale, by exact parameter count", primary=False),
    Law("loss_by_flops", schema.FLOPS, schema.VAL_LOSS, "Loss, all scales, by compute of finished runs",
        primary=False),
    Law("loss_last_by_flops", schema.FLOPS, schema.VAL_LOSS_LAST,
        "Loss, last scale, by compute of finished runs", primary=False),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LawResult:
    """A fitted law of a study.

    x, y: the fitted points [n] in the units of `schema.COLUMNS`; runs: the run name of each. t_interval: of
    alpha, for a power law of final points only; profile_interval: the same, of any form. hold_out: signed
    relative error of the prediction for the largest run from the others, None with fewer than four sizes;
    rolled: the same at each size, of final points. alternatives: other objectives and the other form. verdict:
    one sentence. warnings: what limits it.
    """

    law: Law
    fit: Fit
    x: Array
    y: Array
    runs: tuple[str, ...]
    bootstrap: Bootstrap
    t_interval: tuple[float, float] | None
    profile_interval: tuple[float, float] | None
    hold_out: float | None
    rolled: tuple[RollStep, ...]
    alternatives: tuple[Alternative, ...]
    verdict: str
    warnings: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of fitted points."""
        return self.fit.n

    @property
    def alpha(self) -> float:
        """The exponent; positive when y falls."""
        return self.fit.exponent

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; an undefined number is None."""
        points = [{"x": x, "y": y, "run": run} for x, y, run in zip(self.x, self.y, self.runs, strict=True)]
        fields = {
            **asdict(self.law),
            **self.fit.to_json(),
            "level": self.bootstrap.level,
            "bootstrap_intervals": self.bootstrap.intervals,
            "bootstrap_replicates": self.bootstrap.replicates,
            "bootstrap_reference_intervals": self.bootstrap.reference_intervals,
            "bootstrap_redrawn": self.bootstrap.redrawn,
            "t_interval": self.t_interval,
            "profile_interval": self.profile_interval,
            "hold_out": self.hold_out,
            "rolled": [asdict(step) for step in self.rolled],
            "alternatives": [{"what": other.what, "params": other.fit.params} for other in self.alternatives],
            "verdict": self.verdict,
            "warnings": self.warnings,
            "points": points,
        }
        return {name: plain(value) for name, value in fields.items()}


def fit_study(study: Study, form: str = "auto", bootstrap: int = 1000, seed: int = 0) -> list[LawResult]:
    """Fit every law of `LAWS` whose metric the study has, in their order.

    form: of every law, `power`, `power_floor` or `auto`; `bootstrap`: replicates. Only finished runs take part.
    A metric that fewer than three sizes have is not fitted, see `not_fitted`; one that some runs lack is, with a
    warning that names them. Raises RecordError when the finished runs have fewer than three sizes, or a distance
    mixes ways of sampling.
    """
    sizes = study.finished["n_paper"].nunique()
    if sizes < MIN_DISTINCT_X:
        raise RecordError(
            f"study {study.name!r}: {sizes} sizes among {len(study.finished)} finished runs, "
            f"a law needs {MIN_DISTINCT_X}"
        )
    laws = [law for law in LAWS if _sizes(study, law) >= MIN_DISTINCT_X]
    solve = {"final": _fit_final, "frontier": _fit_frontier}
    forms = simple() if form == "auto" else (form,)
    if not all(named(name).powers for name in forms):
        raise RecordError(f"form {form!r} has no single exponent: expected one of {', '.join(simple())} or auto")
    return [solve[law.source](study, law, forms, bootstrap, seed) for law in laws]


def not_fitted(study: Study) -> list[str]:
    """One sentence for each primary law whose metric some run has, but fewer than three sizes."""
    return [
        f"{law.title}: recorded by {_sizes(study, law)} sizes, a law needs {MIN_DISTINCT_X}"
        for law in LAWS
        if law.primary and 0 < _sizes(study, law) < MIN_DISTINCT_X
    ]


def _sizes(study: Study, law: Law) -> int:
    return int(_recorded(study.finished, law)[law.x].nunique())


def _recorded(finished: pd.DataFrame, law: Law) -> pd.DataFrame:
    # Not even an error rate of 0 can lie on a power law.
    return finished[finished[law.y] > 0]


def _fit_final(study: Study, law: Law, forms: Sequence[str], replicates: int, seed: int) -> LawResult:
    rows = _recorded(study.finished, law)
    if is_of_samples(law.y):
        check_sampling(rows, law.y)
    x, y, names = rows[law.x].to_numpy(float), rows[law.y].to_numpy(float), tuple(rows["run_name"])
    fitted = fit(x, y, forms)
    missing = study.finished["run_name"][~study.finished.index.isin(rows.index)]
    notes = [f"without {', '.join(missing)}, which have no {law.y}"] if len(missing) else []
    found = flags(fitted, names=names)
    outliers = [i for flag in found if flag.kind == "outlier" for i in flag.points]
    profiled = profile(fitted, fitted.form.exponents[0], level=LEVEL)
    rolled = roll_forward(x, y, fitted.form.name) if len(np.unique(x)) > MIN_DISTINCT_X else ()
    return _result(
        law, fitted, x, y, names,
        intervals=bootstrap(fitted, run=names, replicates=replicates, seed=seed, level=LEVEL),
        t_interval=t_interval(x, y, LEVEL) if fitted.form is POWER else None,
        profile_interval=(profiled.low, profiled.high), rolled=rolled, hold_out=rolled[-1].error if rolled else None,
        alternatives=tuple(alternatives(fitted, forms=simple(), outliers=outliers)),
        warnings=[*notes, *schedule_flags(rows), *(flag.message for flag in found)],
    )  # fmt: skip


def _fit_frontier(study: Study, law: Law, forms: Sequence[str], replicates: int, seed: int) -> LawResult:
    with_curve = study.curves["run_id"].isin(_recorded(study.finished, law)["run_id"])
    curves = read_curves(study.curves[with_curve], law.y, law.x)
    log_x, log_y, owners = envelope(curves)
    x, y = np.exp(log_x), np.exp(log_y)
    names = dict(zip(study.runs["run_id"], study.runs["run_name"], strict=True))
    fitted = fit(x, y, forms, independent=len(curves))
    ends = len(np.unique(np.round([curve.log_x[-1] for curve in curves], 9)))
    return _result(
        law, fitted, x, y, tuple(names[owner] for owner in owners),
        intervals=bootstrap_frontier(
            curves, fitted.form.name, replicates=replicates, seed=seed, level=LEVEL
        ),
        t_interval=None, profile_interval=None, rolled=(),
        hold_out=hold_out_largest_curve(curves, fitted.form.name) if ends > MIN_DISTINCT_X else None,
        alternatives=tuple(alternatives(fitted, forms=simple())),
        warnings=[*_unfinished(curves, log_x, owners), *schedule_flags(study.finished),
                  *(flag.message for flag in flags(fitted, run=owners))],
    )  # fmt: skip


def _unfinished(curves: Sequence[Curve], log_x: Array, owners: Sequence[str]) -> list[str]:
    """A note on frontier points from before the end of their run's schedule."""
    end = {curve.run: curve.log_x[-1] for curve in curves}
    early = sum(x < end[owner] - 1e-9 for x, owner in zip(log_x, owners, strict=True))
    return [f"{early} of {len(log_x)} frontier points are from unfinished learning-rate schedules"] if early else []


def _result(
    law: Law, fitted: Fit, x: Array, y: Array, names: tuple[str, ...], *, intervals: Bootstrap,
    t_interval: tuple[float, float] | None, warnings: list[str], **rest: Any,
) -> LawResult:  # fmt: skip
    return LawResult(
        law=law, fit=fitted, x=x, y=y, runs=names, bootstrap=intervals, t_interval=t_interval,
        verdict=_verdict(law, fitted, intervals, t_interval),
        warnings=(*warnings, *_wrong_way(law, t_interval or intervals.exponent_interval)), **rest,
    )  # fmt: skip


def _wrong_way(law: Law, alpha: tuple[float, float]) -> list[str]:
    """A note on a metric that clearly moves against its direction: larger models are worse."""
    low, high = alpha
    direction = next(metric.direction for metric in schema.METRICS if metric.name == law.y)
    if not (high < 0 if direction == "falls" else low > 0):
        return []
    return [f"{law.y} gets worse with {column(law.x).symbol}: it {direction} as models get better"]


def _verdict(law: Law, fitted: Fit, intervals: Bootstrap, t: tuple[float, float] | None) -> str:
    low, high = t or intervals.exponent_interval
    kind = f"{100 * LEVEL:.0f} % {'t' if t else 'bootstrap'} interval"
    alpha, symbol = fitted.exponent, column(law.x).symbol
    if low <= 0 <= high:
        return (
            f"no scaling shown: the interval includes 0 "
            f"(exponent of {symbol} {-alpha:#.3g}, {kind} {-high:#.3g} to {-low:#.3g})"
        )
    verb = "falls" if alpha > 0 else "rises"
    ends = sorted((abs(low), abs(high)))
    towards = f" towards {fitted.floor:.3g}" if fitted.floor else ""
    return f"{verb} as {symbol}^{-alpha:#.3g}{towards} ({kind} {ends[0]:#.3g} to {ends[1]:#.3g})"
