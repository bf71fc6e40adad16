"""MLflow -> one checked frame.

Floor 1 of the path, and the only module that reads MLflow: experiment = study, parent run = one execution of
it, child run = one cell. What a law would silently get wrong (a missing field, two data sets, the same cell
twice) stops here with a RecordError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lawfit import schema
from lawfit.schema import RecordError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CURVE_COLUMNS = ("run_id", "depth", "step", schema.FLOPS, "metric", "value")


@dataclass(frozen=True, eq=False)
class Study:
    """The records of one study.

    runs: one row a child run, whatever its state; columns run_id, run_name, state, run_key, wall_s (seconds
    from start to end, pauses included), those of `schema.PARAMS`, and the last value of each metric under the
    metric's name (`flops` is the run's total). curves: the finished runs' histories, one row a (run, step,
    metric), columns `CURVE_COLUMNS`, flops cumulative.
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
    client = _client(tracking_uri)
    experiment_id = _experiment_id(client, study)
    parent = _parent_run_id(client, experiment_id, study, parent_run_id)
    children = _search(client, experiment_id, f"tags.`{schema.TAG_PARENT}` = '{parent}'")
    if not children:
        raise RecordError(f"study {study!r}, parent run {parent}: it has no child runs")
    runs = pd.DataFrame([_row(run) for run in children])
    runs = runs.sort_values(["depth", "seed", "run_name"], ignore_index=True)
    finished = runs[runs["state"] == schema.STATE_FINISHED]
    _check_one_source(study, finished)
    return Study(study, parent, tracking_uri, runs, _curves(client, finished))


def load_table(source: str | Path | pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file, a Parquet file or a frame and check `columns`: there, numeric, positive and finite.

    Raises RecordError naming the column and the row (the first data row is 0).
    """
    frame = source.copy() if isinstance(source, pd.DataFrame) else _read_table(Path(source))
    missing = [name for name in columns if name not in frame]
    if missing:
        raise RecordError(f"column {missing[0]!r} is missing: the table has {', '.join(map(str, frame))}")
    frame = frame.reset_index(drop=True)
    for name in columns:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            found = frame[name].tolist()[bad[0]]
            raise RecordError(f"row {bad[0]}, column {name!r}: {found!r} is not a positive, finite number")
        frame[name] = values
    return frame


def _read_table(path: Path) -> pd.DataFrame:
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise RecordError(f"{path}: unknown kind of table {path.suffix!r}, expected {' or '.join(readers)}")
    if not path.exists():
        raise RecordError(f"{path}: no such file")
    return readers[path.suffix](path)


def _client(tracking_uri: str) -> MlflowClient:
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    # MLflow would create an empty database at a mistyped path.
    if tracking_uri.startswith("sqlite:///") and not database.exists():
        raise RecordError(f"tracking URI {tracking_uri!r}: no database at {database}")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri)


def _experiment_id(client: MlflowClient, study: str) -> str:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        names = sorted(found.name for found in client.search_experiments())
        raise RecordError(f"study {study!r} is not recorded: there are {', '.join(names) or 'none'}")
    return str(experiment.experiment_id)


def _parent_run_id(client: MlflowClient, experiment_id: str, study: str, wanted: str | None) -> str:
    parents = _search(client, experiment_id, f"tags.{schema.TAG_KIND} = '{schema.KIND_STUDY}'")
    ids = [run.info.run_id for run in parents]
    if not ids:
        raise RecordError(f"study {study!r} has no parent run: none is tagged kind={schema.KIND_STUDY}")
    if wanted is not None and wanted not in ids:
        raise RecordError(f"study {study!r} has no parent run {wanted!r}: there are {', '.join(ids)}")
    return wanted or ids[0]


def _search(client: MlflowClient, experiment_id: str, condition: str) -> list[Run]:
    """All runs that satisfy the condition, newest first."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, order_by=["attributes.start_time DESC"], page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _row(run: Run) -> dict[str, Any]:
    name, tags, state = str(run.info.run_name), run.data.tags, _state(run)
    row: dict[str, Any] = {"run_id": run.info.run_id, "run_name": name, "state": state}
    row["run_key"] = tags.get(schema.TAG_RUN_KEY)
    for param in schema.PARAMS:
        row[param.column] = _param(run, param, required=state == schema.STATE_FINISHED)
    metrics = run.data.metrics
    if state == schema.STATE_FINISHED:
        if row["run_key"] is None:
            raise RecordError(f"run {name!r} has no tag {schema.TAG_RUN_KEY!r}")
        _check_metrics(name, metrics)
    known = (*schema.REQUIRED_METRICS, *schema.OPTIONAL_METRICS)
    row |= {metric: metrics.get(metric, np.nan) for metric in known}
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
    text = run.data.params.get(param.name)
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
        is_error = name in (schema.VAL_ERROR, schema.VAL_ERROR_LAST)
        if not np.isfinite(metrics[name]) or metrics[name] < 0 or (metrics[name] == 0 and not is_error):
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


def _curves(client: MlflowClient, finished: pd.DataFrame) -> pd.DataFrame:
    rows: list[tuple[str, int, int, float, str, float]] = []
    for run_id, run_name, depth in finished[["run_id", "run_name", "depth"]].itertuples(index=False):
        flops = _history(client, run_id, schema.FLOPS)
        for metric in schema.CURVE_METRICS:
            for step, value in _history(client, run_id, metric).items():
                if step not in flops:
                    raise RecordError(f"run {run_name!r}: {metric!r} is logged at step {step}, {schema.FLOPS!r} is not")
                rows.append((run_id, int(depth), step, flops[step], metric, value))
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _history(client: MlflowClient, run_id: str, metric: str) -> dict[int, float]:
    """Value by step, in order. A resumed run logs some steps again: the last writing counts."""
    history = sorted(client.get_metric_history(run_id, metric), key=lambda m: (m.step, m.timestamp))
    return {point.step: point.value for point in history}
