"""What the command line answers about laws, one function per verb: values for JSON and lines for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lawfit.arrays import Array
from lawfit.command.input import ColumnNames, Options, RecordsSource, Task, read_place, read_task
from lawfit.command.metric import Metric, check_law
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit as fit_law
from lawfit.fitting.result import Fit
from lawfit.forms.catalogue import simple
from lawfit.intervals.alternatives import Alternative, alternatives
from lawfit.intervals.bootstrap import Bootstrap, bootstrap, without_intervals
from lawfit.intervals.covariance import too_few_runs
from lawfit.intervals.flags import flags
from lawfit.questions.compare import compare as compare_fits
from lawfit.questions.forecast import FAR
from lawfit.questions.forecast import forecast as forecast_at
from lawfit.questions.next_runs import next_runs as rank_runs
from lawfit.questions.next_runs import what_if as solve_for
from lawfit.records import schema
from lawfit.records.comparability import schedule_flags
from lawfit.records.table import points
from lawfit.text import interval, percent, plain, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # half a second to import, which an answer without a picture need not wait for


@dataclass(frozen=True)
class Answer:
    """values: plain types for JSON. lines: the same for people. draw: makes the picture, where there is one."""

    values: dict[str, Any]
    lines: list[str]
    draw: Callable[[], Figure] | None = None


def strict_json(answer: Answer) -> str:
    """The values as strict JSON: what is not finite becomes null."""
    return json.dumps(plain(answer.values), allow_nan=False, indent=2)


def fit(source: RecordsSource, columns: ColumnNames, options: Options, notes: Sequence[str] = ()) -> Answer:
    """One law with intervals, certificate and alternatives; without intervals where too few runs stand behind it."""
    task = read_task(source, columns, options)
    law = task.fit(options)
    told = too_few_runs(task.run)
    boot = (
        without_intervals(law, options.level)
        if told
        else bootstrap(law, run=task.run, replicates=options.replicates, seed=options.seed, level=options.level)
    )
    assumptions = [*notes, *task.notes]
    found = flags(law, run=task.run, names=task.names)
    outliers = [i for flag in found if flag.kind == "outlier" for i in flag.points]
    others = alternatives(law, delta=options.delta, outliers=outliers)
    warnings = [
        *task.metric.remarks,
        *([told] if told else []),
        *(flag.message for flag in found),
        *schedule_flags(task.table),
    ]
    values = {
        "y": task.metric.values,
        **_law_values(law, boot), "standard_errors": boot.standard_errors, "alternatives": _alternative_values(others),
        "assumptions": assumptions, "warnings": warnings,
    }  # fmt: skip
    head = [] if task.metric.ceiling is None else [f"law of {task.metric.text}:"]
    lines = [*head, *_law_lines(law, boot), *_alternative_lines(law, others), *_remarks(assumptions, warnings)]

    def draw() -> Figure:
        from lawfit.pictures.laws import law_figure, surface_figure

        if len(task.x) > 1:
            return surface_figure(boot, task.metric.text)
        labels = None if task.run is None or len(set(task.run)) < law.n else task.names
        return law_figure(boot, str(columns.x), task.metric.text, labels)

    return Answer(values, lines, draw)


def forecast(source: RecordsSource, columns: ColumnNames, options: Options, at: str, seed_sd: float) -> Answer:
    """A larger run, and the back-tests."""
    task = read_task(source, columns, options)
    fitted = forecast_at(
        task.x, task.y, read_place(at, task.x), form=options.form, run=task.run, seed_sd=seed_sd, level=options.level,
        **options.of_fit,
    )  # fmt: skip
    check_law(fitted.fit, task.metric)
    said = task.metric.forecast(fitted)
    warnings = [*task.metric.remarks, *said.warnings]
    values = {
        "y_of": task.metric.values, "at": dict(said.at), "y": said.y, "interval": (said.low, said.high),
        "law_interval": (said.law_low, said.law_high), "level": said.level, "widening": said.widening,
        "form": said.fit.form.name, "alternatives": dict(said.alternatives),
        "back_tests": [{**asdict(test), "error": test.error, "held": test.held} for test in said.back_tests],
        "assumptions": task.notes, "warnings": warnings, "fit": said.fit.to_json(),
    }  # fmt: skip
    place = ", ".join(f"{name} = {value:.4g}" for name, value in said.at.items())
    lines = [
        f"{columns.y} at {place}: {said.y:.4g}, {percent(said.level)} interval {interval((said.low, said.high))}",
        f"law alone {interval((said.law_low, said.law_high))}; form {_formula(said.fit, task.metric)}",
        "by form: " + ", ".join(f"{name} {value:.4g}" for name, value in said.alternatives.items()),
        "known runs, each forecast from the smaller ones:",
        *table(
            ("at", "ratio", "said", "interval", "actual", "error", "held"),
            [
                (f"{t.at:.4g}", f"{t.ratio:.3g}", f"{t.predicted:.4g}", interval((t.low, t.high)), f"{t.actual:.4g}",
                 f"{100 * t.error:+.1f} %", "yes" if t.held else "no")
                for t in said.back_tests
            ],
        ),
        *_remarks(task.notes, warnings),
    ]  # fmt: skip

    def draw() -> Figure:
        from lawfit.pictures.laws import forecast_figure

        return forecast_figure(fitted, str(columns.x), task.metric.text)

    return Answer(values, lines, draw)


def compare(first: RecordsSource, second: RecordsSource, columns: ColumnNames, options: Options) -> Answer:
    """Differences of the parameters that have no unit, between two tables fitted with one form."""
    tasks = []
    for source in (first, second):
        with _named(source):
            tasks.append((source, read_task(source, columns, options)))
    form = options.form if options.form != "auto" else _common_form(tasks, options)
    laws = [_fit_one(source, task, form, options) for source, task in tasks]
    first_run, second_run = (task.run for _, task in tasks)
    runs = None if first_run is None or second_run is None else (first_run, second_run)
    exponents = [name for name in laws[0].form.parameters if name not in laws[0].form.amplitudes]
    results = [
        compare_fits(
            laws[0], laws[1], runs=runs, parameter=name,
            replicates=options.replicates, seed=options.seed, level=options.level,
        )
        for name in exponents
    ]  # fmt: skip
    values = {
        "y": tasks[0][1].metric.values, "form": form,
        "comparisons": [{**asdict(result), "verdict": result.verdict} for result in results],
        "fits": [law.to_json() for law in laws],
    }  # fmt: skip
    first_task = tasks[0][1]
    notes = _remarks(first_task.notes, first_task.metric.remarks)
    head = f"form {_formula(laws[0], first_task.metric)}"
    return Answer(values, [head, *(result.verdict for result in results), *notes])


def next_runs(
    source: RecordsSource, columns: ColumnNames, options: Options, at: str, budget: float, cost: str | None, count: int
) -> Answer:
    """Affordable runs, the most useful per FLOP first. RecordError where the FLOPs of a run are not known."""
    task = read_task(source, columns, options)
    law = task.fit(options, one_exponent=True)
    if cost is None and "N" not in task.x and columns.x != schema.FLOPS:
        raise RecordError(f"x is {columns.x!r}, not compute: give --cost COLUMN with the FLOPs of the known runs")
    price = None if cost is None else _cost_law(task, cost)
    found = rank_runs(law, read_place(at, task.x), budget=budget, cost=price, count=count, level=options.level)
    values = {"at": at, "budget": budget, "runs": [{**asdict(c), "gain_per_flop": c.gain} for c in found]}
    rows = [
        (", ".join(f"{name} = {value:.4g}" for name, value in c.x.items()), f"{c.cost:.3g}",
         f"±{100 * c.half_width_before:.3g} %", f"±{100 * c.half_width_after:.3g} %")
        for c in found
    ]  # fmt: skip
    lines = table(("run", "FLOPs", "law's interval now", "with it"), rows)
    return Answer(values, [*lines, *_remarks(task.notes, task.metric.remarks)])


def what_if(source: RecordsSource, columns: ColumnNames, options: Options, target: float) -> Answer:
    """What a target takes."""
    task = read_task(source, columns, options)
    if not math.isfinite(target):
        raise RecordError(f"--target is {target}: expected a finite number")
    if task.metric.ceiling is not None and target >= task.metric.ceiling:
        raise RecordError(f"--target is {target:g}: {columns.y} ends at {task.metric.ceiling:g}")
    law = task.fit(options, one_exponent=True)
    if law.exponent < 0 and task.metric.remarks:
        raise RecordError(f"{task.metric.remarks[0]}; a target needs one")
    needed = solve_for(
        law, task.metric.of(target), run=task.run, replicates=options.replicates, seed=options.seed, level=options.level
    )
    what = "FLOPs" if "N" in task.x else str(columns.x)
    end = "floor" if task.metric.ceiling is None else "end"
    floor = f"{task.metric.of(needed.floor):.4g} {interval(task.metric.interval(needed.floor_interval))}"
    sure = f"{percent(needed.level)} interval {interval(needed.interval)}"
    if needed.status == "not reachable":
        lines = [f"{columns.y} = {target:g} is not reachable: the {end} is {floor}"]
    else:
        lines = [f"{columns.y} = {target:g} needs {what} = {needed.x:.4g}, {sure}"]
        if needed.extrapolation > FAR:
            lines.append(f"note: {needed.extrapolation:.2g} times the largest known: a change of regime would not show")
    if needed.status == "uncertain":
        lines.append(f"note: the {end} is {floor}, which holds the target: perhaps not reachable")
    warnings = [*task.metric.remarks, *([told] if (told := too_few_runs(task.run)) else [])]
    needed = replace(needed, target=target, floor=task.metric.of(needed.floor),
                     floor_interval=task.metric.interval(needed.floor_interval))  # fmt: skip
    values = {
        "y_of": task.metric.values,
        **asdict(needed),
        "of": what,
        "fit": law.to_json(),
        "assumptions": task.notes,
        "warnings": warnings,
    }
    return Answer(values, [*lines, *_remarks(task.notes, warnings)])


def _remarks(assumptions: Sequence[str], warnings: Sequence[str]) -> list[str]:
    return [*(f"assumed: {assumption}" for assumption in assumptions), *(f"note: {warning}" for warning in warnings)]


def _formula(law: Fit, metric: Metric) -> str:
    return law.form.formula if metric.ceiling is None else f"{metric.text} = {law.form.formula}"


def _law_values(law: Fit, boot: Bootstrap) -> dict[str, Any]:
    values = law.to_json()
    reference = {**values.pop("reference"), "intervals": boot.reference_intervals}
    return {
        "parameters": values.pop("params"), "intervals": boot.intervals, "level": boot.level,
        "interval_method": boot.method, "reference": reference, **values,
    }  # fmt: skip


def _law_lines(law: Fit, boot: Bootstrap) -> list[str]:
    delta = f", δ = {law.delta:.3g}" if law.delta else ""
    origin = ", ".join(f"{name} = {value:.4g}" for name, value in law.reference.x0.items())
    rows = [(name, f"{value:.6g}", interval(boot.intervals[name])) for name, value in law.params.items()]
    rows += [
        (f"{name} at {origin}", f"{value:.6g}", interval(boot.reference_intervals[name]))
        for name, value in law.reference.amplitudes.items()
    ]
    return [
        f"{law.form.formula}, n = {law.n}, {law.loss} loss in {law.space} y{delta}, objective {law.objective:.10g}",
        *table(("parameter", "estimate", boot.method), rows),
        f"{law.certificate.message}; R² of log y {law.r2_log:.4f}",
        f"largest residual {percent(law.max_relative_residual)}; {law.reason}",
    ]


def _alternative_values(others: Sequence[Alternative]) -> list[dict[str, Any]]:
    return [
        {"what": other.what, "loss": other.fit.loss, "delta": other.fit.delta, "space": other.fit.space,
         "n": other.fit.n, "parameters": other.fit.params, "objective": other.fit.objective,
         "status": other.fit.certificate.status}
        for other in others
    ]  # fmt: skip


def _alternative_lines(law: Fit, others: Sequence[Alternative]) -> list[str]:
    rows = [(other.what, str(other.fit.n), *(f"{v:.5g}" for v in other.fit.params.values())) for other in others]
    return ["beside it:", *table(("objective", "n", *law.form.parameters), rows)]


@contextmanager
def _named(source: RecordsSource) -> Iterator[None]:
    """Say in an error which of two tables it is about."""
    try:
        yield
    except RecordError as error:
        raise error if source.data in str(error) else RecordError(f"{source.data}: {error}") from error


def _fit_one(source: RecordsSource, task: Task, form: str, options: Options) -> Fit:
    with _named(source):
        law = fit_law(task.x, task.y, form, independent=task.independent, **options.of_fit)
        return check_law(law, task.metric)


def _common_form(tasks: Sequence[tuple[RecordsSource, Task]], options: Options) -> str:
    """The form with the lowest AICc over both tables."""
    names = simple(tasks[0][1].x.keys())
    scores = [sum(_fit_one(source, task, name, options).aicc for source, task in tasks) for name in names]
    known = [score if math.isfinite(score) else math.inf for score in scores]
    return names[int(np.argmin(known))]


def _cost_law(task: Task, cost: str) -> Any:
    """FLOPs at x from the known runs' FLOPs, a power law in each variable."""
    known = points(task.table, cost=cost)["cost"].to_numpy(float)
    design_matrix = np.stack([np.ones_like(known), *map(np.log, task.x.values())], axis=1)
    weights, *_ = np.linalg.lstsq(design_matrix, np.log(known), rcond=None)

    def price(x: dict[str, Array]) -> Array:
        return np.exp(weights[0] + sum(w * np.log(x[name]) for w, name in zip(weights[1:], task.x, strict=True)))

    if np.linalg.matrix_rank(design_matrix) < design_matrix.shape[1]:
        raise RecordError(f"column {cost!r} cannot be priced: the runs do not vary in each variable")
    return price
