"""Writing of records to MLflow: a parent run per study, a child run per cell, a run per tokenizer, by explicit ids.

A :class:`Recorder` is the only writer of its database: metrics are buffered and written in batches (one by one they
cost 40 times as much, and SQLite locks under several writers). A run keeps its id over all attempts at it. Names come
from ``lawfit.records.schema``, the contract with the reader.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawfit.errors import RecordError, TrackingError
from lawfit.records import schema
from lawfit.records.addresses import DATABASES, kind, shown
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

FLUSH_INTERVAL_S = 5.0
SQLITE = "sqlite:///"
ENDED = {schema.STATE_FINISHED: "FINISHED", schema.STATE_FAILED: "FAILED", schema.STATE_INTERRUPTED: "KILLED"}
"""MLflow's status of a run that ended in a state."""
BATCH_LIMIT = 1000
"""MLflow's limit of metrics per call."""


@dataclass(frozen=True)
class RunProgress:
    """Where an open run stands, for those who watch."""

    step: int
    metrics: dict[str, float]
    """Latest value of each."""


@dataclass(frozen=True)
class Recorded:
    """What the database holds of one run."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    """Latest value of each."""


def _new_client(uri: str) -> Any:
    """An MLflow client; loading the library takes seconds, so it waits until here."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every new database
    return mlflow.MlflowClient(tracking_uri=uri)


def find_study(uri: str, experiment: str, study_key: str) -> str | None:
    """Id of the parent run with this key, if there is one. Reads only.

    Raises:
        UserError: the experiment was deleted, or this is no place of records.
        EnvironmentalError: MLflow does not answer.
    """
    if _is_new(uri):
        return None
    from lawfit.records.mlflow_store import Store

    with _our_errors(experiment):
        store = Store(uri)
        found = None if store.is_empty() else store.find_experiment(experiment)
        runs = store.search(found, _study_query(study_key)) if found else []
    return runs[0].info.run_id if runs else None


def check_writable(uri: str, experiment: str) -> None:
    """Refuse, before anything is written, a place that MLflow would change for good or not write to.

    Raises:
        UserError: a database of another version's schema, which MLflow would migrate; a deleted experiment.
        EnvironmentalError: MLflow does not answer.
    """
    if _is_new(uri):
        return
    from lawfit.records.mlflow_store import Store

    with _our_errors(experiment):
        store = Store(uri)
        if store.is_empty():
            return
        store.find_experiment(experiment)
        found = store.schema()
    if kind(uri) in DATABASES and found != (wanted := _schema_of_client()):
        import mlflow

        raise UserError(
            f"tracking URI {shown(uri)!r}: its database has MLflow's schema {found}; the installed MLflow"
            f" {mlflow.__version__} writes {wanted} and would migrate it for good: 'mlflow db upgrade' a copy, or name"
            " another with --set tracking.uri=…"
        )


@contextmanager
def _our_errors(name: str) -> Iterator[None]:
    try:
        yield
    except RecordError as error:
        raise UserError(f"study {name}: {error}") from error
    except TrackingError as error:
        raise EnvironmentalError(f"study {name}: {error}") from error


def _is_new(uri: str) -> bool:
    """Whether MLflow would make the database: there is no file yet."""
    path = Path(uri.removeprefix(SQLITE))
    return uri.startswith(SQLITE) and (not path.is_file() or not path.stat().st_size)


def _schema_of_client() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())


def _study_query(study_key: str) -> str:
    return f"tags.{schema.TAG_STUDY_KEY} = '{study_key}' and tags.{schema.TAG_KIND} = '{schema.KIND_STUDY}'"


def _now() -> int:
    """Milliseconds since 1970, as MLflow stamps its points."""
    return int(time.time() * 1000)


class Recorder:
    """Writes the runs of one study, or of one tokenizer's training.

    Args:
        uri: MLflow tracking URI.
        experiment: its name: the study's, or the tokenizer's.
        artifact_root: where artifacts go if the experiment is new; a tracking server's own place if None.

    Raises:
        UserError, EnvironmentalError: as :func:`check_writable`.
    """

    def __init__(self, uri: str, experiment: str, artifact_root: str | None) -> None:
        check_writable(uri, experiment)
        self._client = _new_client(uri)
        found = self._client.get_experiment_by_name(experiment)
        self._experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(experiment, artifact_location=artifact_root)
        )
        self._buffer: dict[str, list[Any]] = {}
        self._flushed = time.monotonic()
        self._last_step: dict[str, int] = {}
        self._known: dict[str, dict[str, int]] = {}
        """By run and metric: the step up to which there is nothing to add."""
        self._progress: dict[str, RunProgress] = {}
        self._names: dict[str, str] = {}
        self._open_runs: set[str] = set()
        self._interrupted = False
        self._finished = 0
        self._failures: dict[str, str] = {}
        self._notices: list[str] = []
        self._noticed: set[str] = set()

    def open_study(
        self, study_key: str, name: str, params: dict[str, Any], tags: dict[str, str], former_key: str = ""
    ) -> str:
        """Id of the parent run with this key, or with the one that it had before: that run, reopened, or a new one."""
        found = self._find(_study_query(study_key)) or self._find(_study_query(former_key))
        tags = {schema.TAG_KIND: schema.KIND_STUDY, schema.TAG_STUDY_KEY: study_key, **tags}
        run_id = self._open(found, name, params, tags)
        self._known[run_id] = dict.fromkeys(found.data.metrics, 0) if found else {}  # all are of step 0
        return run_id

    def open_run(self, kind: str, name: str, params: dict[str, Any], tags: dict[str, str]) -> str:
        """Id of a new run of another kind."""
        return self._open(None, name, params, {schema.TAG_KIND: kind, schema.TAG_STATE: schema.STATE_RUNNING, **tags})

    def open_cell(self, parent: str, run_key: str, name: str, params: dict[str, Any], tags: dict[str, str]) -> str:
        """Id of the child run with this key: the existing one, reopened, whatever it ran on before, or a new one."""
        tags = {
            schema.TAG_KIND: schema.KIND_CELL,
            schema.TAG_RUN_KEY: run_key,
            schema.TAG_PARENT: parent,
            schema.TAG_STATE: schema.STATE_RUNNING,
            **tags,
        }
        return self._go_on(self._find_cell(parent, run_key), name, params, tags)

    def open_tokenizer(self, run_key: str, name: str, params: dict[str, Any], tags: dict[str, str]) -> str:
        """Id of the unfinished run of a tokenizer with this key, reopened, or of a new one."""
        query = f"tags.{schema.TAG_RUN_KEY} = '{run_key}' and tags.{schema.TAG_KIND} = '{schema.KIND_TOKENIZER}'"
        found = self._find(f"{query} and tags.{schema.TAG_STATE} != '{schema.STATE_FINISHED}'")
        tags = {
            schema.TAG_KIND: schema.KIND_TOKENIZER,
            schema.TAG_RUN_KEY: run_key,
            schema.TAG_STATE: schema.STATE_RUNNING,
            **tags,
        }
        return self._go_on(found, name, params, tags)

    def finished_cell(self, parent: str, run_key: str) -> bool:
        """Whether a child run with this key has finished."""
        found = self._find_cell(parent, run_key)
        return found is not None and found.data.tags.get(schema.TAG_STATE) == schema.STATE_FINISHED

    def log(self, run_id: str, step: int, metrics: dict[str, float]) -> None:
        """Record metrics at a step; steps that attempts alike have recorded are passed over, see :meth:`attempt`."""
        from mlflow.entities import Metric

        now = _now()
        known = self._known.setdefault(run_id, {})
        fresh = {key: value for key, value in metrics.items() if step > known.get(key, -1)}
        self._buffer.setdefault(run_id, []).extend(Metric(key, value, now, step) for key, value in fresh.items())
        known.update(dict.fromkeys(fresh, step))
        self._last_step[run_id] = max(step, self.last_step(run_id))
        before = self._progress.get(run_id)
        self._progress[run_id] = RunProgress(step, {**before.metrics, **metrics} if before else metrics)
        if time.monotonic() - self._flushed > FLUSH_INTERVAL_S:
            self.flush()

    def last_step(self, run_id: str) -> int:
        """The last step of which anything is recorded; -1 if nothing is."""
        return self._last_step.get(run_id, -1)

    def attempt(self, run_id: str, facts: dict[str, Any], start: int) -> None:
        """An attempt at an open run begins.

        All attempts are one run, for its key says that they have one result. To the last bit they have it only on
        workers alike, and then steps that are taken again are not recorded again. On others they are, and the last
        record counts (``lawfit`` reads so, and MLflow's own latest value is that): a finished run is then the curve of
        the attempt that made its model, also from step 0, and never two halves of different ones. MLflow can delete no
        point; its page shows both.

        Args:
            facts: what the attempt runs on, by the names of the schema; kept as tags.
            start: the step of the checkpoint that it goes on from, or 0.
        """
        found = self.read(run_id)
        before = found.params | found.tags  # the first records have them as params
        if any(before.get(name, str(value)) != str(value) for name, value in facts.items()):
            self._known[run_id] = {}
            facts = facts | {schema.TAG_SINCE: _now()}
        for name, value in facts.items():
            self.tag(run_id, name, str(value))
        if start:
            self.tag(run_id, schema.TAG_RESUMED, str(start))
        elif schema.TAG_RESUMED in before:
            self._client.delete_tag(run_id, schema.TAG_RESUMED)

    def read(self, run_id: str) -> Recorded:
        """A run as it stands, with all that was sent before."""
        self.flush()
        data = self._client.get_run(run_id).data
        return Recorded(dict(data.params), dict(data.tags), dict(data.metrics))

    def fetch(self, run_id: str, artifact: str, folder: Path) -> Path:
        """Copy an artifact of a run into a folder, which is made; its path there."""
        folder.mkdir(parents=True, exist_ok=True)
        return Path(self._client.download_artifacts(run_id, artifact, str(folder)))

    def flush(self) -> None:
        """Write what is buffered."""
        for run_id, metrics in self._buffer.items():
            for start in range(0, len(metrics), BATCH_LIMIT):
                self._client.log_batch(run_id, metrics=metrics[start : start + BATCH_LIMIT])
        self._buffer = {}
        self._flushed = time.monotonic()

    def log_files(self, run_id: str, files: Sequence[Location], folder: str | None = None) -> None:
        """Store files as artifacts of a run."""
        for place in files:
            with place.here() as file:
                self._client.log_artifact(run_id, str(file.as_path()), artifact_path=folder)

    def log_folder(self, run_id: str, source: Path, folder: str) -> None:
        """Store a folder with all that is in it as an artifact of a run."""
        self._client.log_artifacts(run_id, str(source), artifact_path=folder)

    def tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag."""
        self._client.set_tag(run_id, key, value)

    def close(self, run_id: str, state: str) -> None:
        """End a run in a state of :data:`ENDED`."""
        self.flush()
        self._client.set_tag(run_id, schema.TAG_STATE, state)
        self._client.set_terminated(run_id, ENDED[state])
        self._open_runs.discard(run_id)
        if self._names.pop(run_id, None) and state == schema.STATE_FINISHED:
            self._finished += 1

    def interrupt(self) -> None:
        """End all open runs as interrupted, and open no other."""
        self._interrupted = True
        for run_id in tuple(self._open_runs):
            self.close(run_id, schema.STATE_INTERRUPTED)

    def fail(self, run_id: str, reason: str) -> None:
        """End a cell's run as failed, with the reason."""
        self._failures[self._names[run_id]] = reason
        self._client.set_tag(run_id, schema.TAG_REASON, reason)
        self.close(run_id, schema.STATE_FAILED)

    def finished(self) -> int:
        """Number of cells that finished since this recorder began."""
        return self._finished

    def failures(self) -> dict[str, str]:
        """Reasons of the cells that failed since this recorder began, by name."""
        return dict(self._failures)

    def notice(self, run_id: str, text: str) -> None:
        """Something the user should hear of a run: kept as its tag, told once however many workers say it."""
        line = f"{self._names.get(run_id, run_id)}: {text}"
        if line not in self._noticed:
            self.tag(run_id, schema.TAG_NOTICE, text)
            self._noticed.add(line)
            self._notices.append(line)

    def notices(self) -> list[str]:
        """What the user should hear and was not told yet, a line each with its run's name."""
        told, self._notices = self._notices, []
        return told

    def progress(self) -> dict[str, RunProgress | None]:
        """Where each open cell stands, by name; None before its first record."""
        return {name: self._progress.get(run_id) for run_id, name in self._names.items()}

    def _go_on(self, found: Any, name: str, params: dict[str, Any], tags: dict[str, str]) -> str:
        """Id of ``found``, reopened, else of a new run."""
        run_id = self._open(found, name, params, tags)
        self._names[run_id], self._known[run_id] = name, {}
        since = int(found.data.tags.get(schema.TAG_SINCE, 0)) if found else 0
        for key in found.data.metrics if found else ():
            points = self._client.get_metric_history(run_id, key)
            self._known[run_id][key] = max((point.step for point in points if point.timestamp >= since), default=-1)
            self._last_step[run_id] = max(self.last_step(run_id), *(point.step for point in points))
        return run_id

    def _find(self, query: str) -> Any:
        runs = self._client.search_runs([self._experiment], query, order_by=["attributes.start_time DESC"])
        return runs[0] if runs else None

    def _find_cell(self, parent: str, run_key: str) -> Any:
        return self._find(f"tags.{schema.TAG_RUN_KEY} = '{run_key}' and tags.`{schema.TAG_PARENT}` = '{parent}'")

    def _open(self, found: Any, name: str, params: dict[str, Any], tags: dict[str, str]) -> str:
        from mlflow.entities import Param, RunTag

        if self._interrupted:
            raise RuntimeError(f"{name}: the work was interrupted")
        if found is None:
            found = self._client.create_run(self._experiment, run_name=name)
            self._client.log_batch(found.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
        else:
            self._client.update_run(found.info.run_id, status="RUNNING")
            if schema.TAG_REASON in found.data.tags:
                self._client.delete_tag(found.info.run_id, schema.TAG_REASON)
        self._client.log_batch(found.info.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._open_runs.add(found.info.run_id)
        return found.info.run_id
