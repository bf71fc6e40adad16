"""The records of a varscale study, read by contract.

An experiment is a study, a parent run one execution of it, a child run one cell. Stricter than `table.load`, since
the writer is known: a missing field, two data sets, the same cell twice stop here with a RecordError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lawfit.errors import RecordError
from lawfit.records import schema
from lawfit.records.addresses import shown
from lawfit.records.mlflow_store import Store
from lawfit.records.steps import last_values

if TYPE_CHECKING:
    from mlflow.entities import Run

CURVE_COLUMNS = ("run_id", "depth", "step", schema.FLOPS, "metric", "value")


@dataclass(frozen=True, eq=False)
class Study:
    """The records of one study.

    runs: one row per child run, whatever its state; columns run_id, run_name, state, run_key, wall_s (seconds from
    start to end, pauses included), those of `schema.PARAMS`, `ATTEMPT` and `OPTIONAL_PARAMS`, and the last value of
    each metric under the metric's name (`flops` is the run's total). curves: the finished runs' histories, one
    row per (run, step, metric), columns `CURVE_COLUMNS`, flops cumulative.
    """

    name: str
    parent_run_id: str
    tracking_uri: str
    runs: pd.DataFrame
    curves: pd.DataFrame

    @property
    def finished(self) -> pd.DataFrame:
        """The runs that enter fits."""
        return self.runs[self.runs["state"] == schema.STATE_FINISHED]

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """(run name, state) of the runs that do not."""
        rest = self.runs[self.runs["state"] != schema.STATE_FINISHED]
        return tuple(zip(rest["run_name"], rest["state"], strict=True))


def load_study(tracking_uri: str, study: str, parent_run_id: str | None = None) -> Study:
    """Read a study from MLflow; without `parent_run_id`, its newest parent run.

    Raises RecordError for an unknown study or parent, a finished run that lacks a param or a metric or has
    one that is no positive, finite number, data or tokenizer fingerprints that differ between finished runs,
    and two finished runs of one cell.
    """
    store = Store(tracking_uri)
    experiment_id = store.experiment_id(study)
    parent = _parent_run_id(store, experiment_id, study, parent_run_id)
    children = store.search(experiment_id, f"tags.`{schema.TAG_PARENT}` = '{parent}'")
    if not children:
        raise RecordError(f"study {study!r}, parent run {parent}: it has no child runs")
    runs = pd.DataFrame([_row(run) for run in children])
    runs = runs.sort_values(["depth", "seed", "run_name"], ignore_index=True)
    finished = runs[runs["state"] == schema.STATE_FINISHED]
    _check_one_source(study, finished)
    return Study(study, parent, shown(tracking_uri), runs, _curves(store, finished))


def _parent_run_id(store: Store, experiment_id: str, study: str, wanted: str | None) -> str:
    parents = store.search(experiment_id, f"tags.{schema.TAG_KIND} = '{schema.KIND_STUDY}'")
    ids = [run.info.run_id for run in parents]
    if not ids:
        raise RecordError(
            f"study {study!r} has no parent run tagged {schema.TAG_KIND}={schema.KIND_STUDY}: varscale did not record "
            f"it; for other runs ask fit, frontier or isoflop of {shown(store.uri)}#{study}"
        )
    if wanted is not None and wanted not in ids:
        raise RecordError(f"study {study!r} has no parent run {wanted!r}: there are {', '.join(ids)}")
    return wanted or ids[0]


def _row(run: Run) -> dict[str, Any]:
    name, tags, state = str(run.info.run_name), run.data.tags, _state(run)
    row: dict[str, Any] = {"run_id": run.info.run_id, "run_name": name, "state": state}
    row["run_key"] = tags.get(schema.TAG_RUN_KEY)
    for param in (*schema.PARAMS, *schema.ATTEMPT, *schema.OPTIONAL_PARAMS):
        row[param.column] = _param(run, param, required=param in schema.PARAMS and state == schema.STATE_FINISHED)
    metrics = schema.figures(run)
    if state == schema.STATE_FINISHED:
        if row["run_key"] is None:
            raise RecordError(f"run {name!r} has no tag {schema.TAG_RUN_KEY!r}")
        _check_metrics(name, metrics)
    known = (*(metric.name for metric in schema.METRICS), schema.FLOPS, *schema.TELEMETRY)
    row |= {name: metrics.get(name, np.nan) for name in known}
    row |= {metric: value for metric, value in metrics.items() if metric.startswith("fd/")}
    end = run.info.end_time
    row["wall_s"] = (end - run.info.start_time) / 1000 if end else np.nan
    return row


def _state(run: Run) -> str:
    state = run.data.tags.get(schema.TAG_STATE)
    if state not in schema.STATES:
        found = f"tag {schema.TAG_STATE!r} is {state!r}"
        raise RecordError(f"run {run.info.run_name!r}: {found}, expected one of {', '.join(schema.STATES)}")
    return str(state)


def _param(run: Run, param: schema.Param, required: bool) -> int | float | str | None:
    text = schema.settings(run).get(param.name)
    if text is None:
        if required:
            raise RecordError(f"run {run.info.run_name!r} has no param {param.name!r}")
        return None
    try:
        return param.read(text)
    except ValueError as error:
        found = f"run {run.info.run_name!r}: param {param.name!r} is {text!r}"
        raise RecordError(f"{found}, not {'an integer' if param.read is int else 'a number'}") from error


def _check_metrics(run_name: str, metrics: dict[str, float]) -> None:
    for name in schema.REQUIRED_METRICS:
        if name not in metrics:
            raise RecordError(f"run {run_name!r} has no metric {name!r}")
        is_rate = schema.column(name).unit == "%"
        if not np.isfinite(metrics[name]) or metrics[name] < 0 or (metrics[name] == 0 and not is_rate):
            raise RecordError(
                f"run {run_name!r}: metric {name!r} ends at {metrics[name]}, not at a positive, finite number"
            )


def _check_one_source(study: str, finished: pd.DataFrame) -> None:
    for column in ("data_fingerprint", "tokenizer_fingerprint"):
        firsts = finished.drop_duplicates(column)
        if len(firsts) > 1:
            found = ", ".join(f"{row[column]} ({row['run_name']})" for _, row in firsts.iterrows())
            raise RecordError(f"study {study!r} mixes {column.replace('_', ' ')}s: {found}; a fit needs one")
    twice = finished[finished.duplicated("run_key", keep=False)]
    if len(twice):
        names = ", ".join(map(str, twice["run_name"][twice["run_key"] == twice["run_key"].iloc[0]]))
        raise RecordError(f"study {study!r}: the finished runs {names} are one cell, which must count once")


def _curves(store: Store, finished: pd.DataFrame) -> pd.DataFrame:
    values = last_values(store.histories(list(finished["run_id"]), [schema.FLOPS, *schema.CURVE_METRICS]))
    values = values.astype({"run_id": str, "metric": str})
    is_flops = values["metric"] == schema.FLOPS
    flops = values[is_flops].rename(columns={"value": schema.FLOPS})[["run_id", "step", schema.FLOPS]]
    curves = values[~is_flops].merge(flops, on=["run_id", "step"], how="left")
    curves = curves.merge(finished[["run_id", "run_name", "depth"]], on="run_id")
    without = curves[curves[schema.FLOPS].isna()]
    if len(without):
        row = without.iloc[0]
        where = f"{row['metric']!r} is logged at step {row['step']}"
        raise RecordError(f"run {row['run_name']!r}: {where}, {schema.FLOPS!r} is not")
    return curves[list(CURVE_COLUMNS)]
