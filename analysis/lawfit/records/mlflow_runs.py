"""MLflow runs of any project -> a frame with canonical columns.

Params that are numbers become numbers, metrics keep their name, and the names of varscale's contract
(`schema.PARAMS`) become its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lawfit.errors import RecordError
from lawfit.records import schema
from lawfit.records.addresses import shown
from lawfit.records.mlflow_store import Store
from lawfit.records.steps import last_values, step_notes

if TYPE_CHECKING:
    from mlflow.entities import Run

COLUMN_OF_PARAM = {param.name: param.column for param in (*schema.PARAMS, *schema.ATTEMPT, *schema.OPTIONAL_PARAMS)}
MACHINE = ("system/", "perf/")
"""Prefixes of metrics about the machine, which no law needs."""


def read_runs(uri: str, experiment: str, parent: str | None, query: str, curves: bool) -> pd.DataFrame:
    """The finished runs of an experiment, one row per run, or per recorded step with `curves`.

    Runs that only hold others are left out; so are unfinished ones, listed in `attrs["left_out"]`. Of a study's
    executions the newest counts unless `parent` is given. A row of a curve has the run's params, the metrics at
    its step (NaN where not recorded), tokens seen so far, and schedule_complete at the run's last step. Raises
    RecordError when no run is finished.
    """
    store = Store(uri)
    experiment_id = store.experiment_id(experiment)
    parent = parent or _newest_study(store, experiment_id)
    conditions = [f"tags.`{schema.TAG_PARENT}` = '{parent}'"] if parent else []
    runs = store.search(experiment_id, " and ".join([*conditions, *([query] if query else [])]))
    holders = {run.data.tags.get(schema.TAG_PARENT) for run in runs}
    runs = [run for run in runs if run.info.run_id not in holders]
    finished = [run for run in runs if _finished(run)]
    if not finished:
        chosen = f"the {len(runs)} runs found" + (f" by {query!r}" if query else "")
        raise RecordError(f"{shown(uri)}#{experiment}: none of {chosen} is finished")
    frame = _runs_frame(finished, experiment)
    if curves:
        frame = _curves_frame(store, frame, sorted({name for run in finished for name in _metrics(run)}))
    if "loss" not in frame and schema.VAL_LOSS in frame:
        frame["loss"] = frame[schema.VAL_LOSS]
    frame.attrs["left_out"] = tuple((str(run.info.run_name), run.info.status) for run in runs if not _finished(run))
    return frame


def _newest_study(store: Store, experiment_id: str) -> str | None:
    found = store.search(experiment_id, f"tags.{schema.TAG_KIND} = '{schema.KIND_STUDY}'")
    return found[0].info.run_id if found else None


def _finished(run: Run) -> bool:
    state = run.data.tags.get(schema.TAG_STATE, schema.STATE_FINISHED)
    return run.info.status == "FINISHED" and state == schema.STATE_FINISHED


def _metrics(run: Run) -> dict[str, float]:
    return {name: value for name, value in schema.figures(run).items() if not name.startswith(MACHINE)}


def _runs_frame(runs: Sequence[Run], study: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for run in reversed(runs):  # in the order they began
        params = {COLUMN_OF_PARAM.get(name, name): text for name, text in schema.settings(run).items()}
        named = {"run": run.info.run_name, "run_id": run.info.run_id, "study": study}
        rows.append({**params, **_metrics(run), **named})
    frame = pd.DataFrame(rows)
    for name in frame.columns[frame.dtypes == "object"].union(frame.columns[frame.dtypes == "str"]):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if name not in ("run", "run_id", "study") and (numbers.notna() == frame[name].notna()).all():
            frame[name] = numbers
    return frame


def _curves_frame(store: Store, runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    histories = store.histories(list(runs["run_id"]), metrics)
    values = last_values(histories)
    codes, steps = values["run_id"].cat.codes.to_numpy(), values["step"].to_numpy(np.int64)
    span = steps.max(initial=0) + 1
    places, row = np.unique(codes * span + steps, return_inverse=True)
    by_step = [name for name in metrics if name not in _counted_once(values)]
    frame = runs.drop(columns=by_step, errors="ignore").iloc[places // span].reset_index(drop=True)
    frame["step"] = places % span
    for metric in by_step:
        column = np.full(len(frame), np.nan)
        mine = values["metric"].cat.codes.to_numpy() == metrics.index(metric)
        column[row[mine]] = values["value"].to_numpy()[mine]
        frame[metric] = column
    last = frame.groupby("run_id")["step"].transform("max")
    end = frame.get("steps", last)
    frame["schedule_complete"] = frame["step"] >= end
    if "tokens" in runs and "tokens" not in by_step:  # a total, not what was seen so far
        frame["tokens"] = frame["tokens"] * frame["step"] / end
    frame.attrs["flags"] = step_notes(histories, dict(zip(runs["run_id"], runs["run"], strict=True)))
    return frame


def _counted_once(values: pd.DataFrame) -> set[str]:
    """Which of size and tokens, recorded as metrics, have one value per run: then they are facts of the run."""
    counts = values.groupby(["metric", "run_id"], observed=True).size()
    return {name for name in ("n_params", "tokens") if name in counts.index and counts[name].max() == 1}
