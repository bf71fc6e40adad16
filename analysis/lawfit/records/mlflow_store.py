"""Reading of MLflow: runs, and metric histories in bulk, from any tracking URI.

The only module that talks to MLflow. MLflow's client reads one metric of one run per call and waits minutes for a
server that is away; here a database is asked by one query for hundreds of runs, a server by its bulk endpoint, and a
first knock of a few seconds tells whether anyone is there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from lawfit.errors import RecordError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

HISTORY_COLUMNS = ("run_id", "metric", "step", "timestamp", "value")

KNOCK_S = 4.0
"""How long a server may take to answer the first knock."""

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # we only read
}
"""MLflow's own settings while we read; those the user has set stay."""

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SQLITE = "sqlite:///"
SQLITE_MAGIC = b"SQLite format 3\x00"

RUNS_PER_QUERY = 500
"""SQLite allows 32,766 parameters per query."""

BULK_RUNS, BULK_POINTS = 24, 25_000
"""Runs asked for in one request, and the server's limit of points in one answer: 24 runs of 1,000 points fit."""

BULK_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
REQUESTS_AT_ONCE = 4


class Store:
    """The runs behind one tracking URI.

    Raises RecordError for a file or folder that is not there, TrackingError when no server answers or MLflow
    cannot read what is there.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        _knock(uri)
        with self._asking():
            from mlflow import MlflowClient

            self._client: MlflowClient = MlflowClient(tracking_uri=uri)

    def experiment_id(self, name: str) -> str:
        """Id of the experiment called `name`. RecordError, with the names there are, for an unknown one."""
        with self._asking():
            found = self._client.get_experiment_by_name(name)
            if found is not None:
                return str(found.experiment_id)
            names = sorted(experiment.name for experiment in self._client.search_experiments())
        raise RecordError(f"study {name!r} is not recorded: there are {', '.join(names) or 'none'}")

    def search(self, experiment_id: str, condition: str = "") -> list[Run]:
        """All runs that satisfy the condition, in MLflow's filter language, newest first."""
        runs: list[Run] = []
        token = None
        with self._asking(condition):
            while True:
                page = self._client.search_runs(
                    [experiment_id], condition, order_by=["attributes.start_time DESC"], page_token=token
                )
                runs += page
                token = page.token
                if not token:
                    return runs

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Every recorded value: columns `HISTORY_COLUMNS`, by run in the given order, metric, step and time."""
        with self._asking():
            parts = list(self._history_parts(run_ids, metrics))
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(HISTORY_COLUMNS))
        table["run_id"] = pd.Categorical(table["run_id"], list(run_ids))
        table["metric"] = pd.Categorical(table["metric"], list(metrics))
        keys = [table["timestamp"], table["step"], table["metric"].cat.codes, table["run_id"].cat.codes]
        return table.take(np.lexsort([np.asarray(key) for key in keys]))

    def _history_parts(self, run_ids: Sequence[str], metrics: Sequence[str]) -> Iterable[pd.DataFrame]:
        store = self._client._tracking_client.store
        if hasattr(store, "engine"):
            return _from_database(store.engine, run_ids, metrics)
        if hasattr(store, "get_host_creds"):
            return _from_server(self._client, store.get_host_creds, run_ids, metrics)
        # A folder of files has no bulk interface; each history is one file there anyway.
        return [_one_by_one(self._client, run_ids, metrics)]

    @contextmanager
    def _asking(self, condition: str = "") -> Iterator[None]:
        """MLflow with little patience; its errors become ours."""
        before = {name: os.environ.get(name) for name in SETTINGS}
        os.environ.update({name: value for name, value in SETTINGS.items() if before[name] is None})
        try:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                yield
            except (MlflowException, SQLAlchemyError) as error:
                line = str(error).splitlines()[0]
                if condition and "INVALID_PARAMETER_VALUE" in str(getattr(error, "error_code", "")):
                    raise RecordError(f"query {condition!r} is not understood by MLflow: {line}") from error
                raise TrackingError(f"tracking URI {self.uri!r}: {line}") from error
        finally:
            for name in (name for name, value in before.items() if value is None):
                os.environ.pop(name, None)


def _knock(uri: str) -> None:
    """RecordError or TrackingError, within seconds, unless someone is at home at `uri`."""
    parts = urlsplit(uri)
    kind = parts.scheme.split("+")[0]
    if uri.startswith(SQLITE):
        _check_database_file(uri, Path(uri.removeprefix(SQLITE)))
    elif parts.hostname and kind in PORTS:
        try:
            socket.create_connection((parts.hostname, parts.port or PORTS[kind]), timeout=KNOCK_S).close()
        except OSError as error:
            raise TrackingError(f"tracking URI {uri!r}: nobody answers ({error}); is the server up?") from error
        if kind in ("http", "https"):
            _knock_http(uri)
    elif kind in ("", "file") and not Path(parts.path).is_dir():
        raise RecordError(f"tracking URI {uri!r}: no such folder")


def _knock_http(uri: str) -> None:
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=KNOCK_S)
    except requests.RequestException as error:
        reason = type(error).__name__
        raise TrackingError(f"tracking URI {uri!r}: connected, but no answer in {KNOCK_S:g} s ({reason})") from error
    if answer.status_code >= 500:
        raise TrackingError(f"tracking URI {uri!r}: the server answers {answer.status_code} {answer.reason}")


def _check_database_file(uri: str, path: Path) -> None:
    # MLflow would create an empty database at a mistyped path, and retry for minutes on another kind of file.
    if not path.is_file():
        raise RecordError(f"tracking URI {uri!r}: no database at {path}")
    with path.open("rb") as file:
        if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
            raise RecordError(f"tracking URI {uri!r}: {path} is no SQLite database")


def _from_database(engine: Any, run_ids: Sequence[str], metrics: Sequence[str]) -> Iterator[pd.DataFrame]:
    import sqlalchemy as sql
    from mlflow.store.tracking.dbmodels.models import SqlMetric as Row

    columns = (Row.run_uuid, Row.step, Row.timestamp, Row.value, Row.is_nan)
    with engine.connect() as connection:
        for chunk in _chunks(run_ids, RUNS_PER_QUERY):
            for metric in metrics:
                query = sql.select(*columns).where(Row.run_uuid.in_(chunk), Row.key == metric)
                rows = connection.execute(query).cursor.fetchall()  # plain tuples: a fifth of the time
                run, step, timestamp, value, nan = zip(*rows, strict=True) if rows else ((),) * 5
                yield pd.DataFrame({
                    "run_id": pd.Categorical(run, list(run_ids)),
                    "metric": pd.Categorical.from_codes(np.zeros(len(rows), int), [metric]).set_categories(metrics),
                    "step": np.array(step, np.int64), "timestamp": np.array(timestamp, np.int64),
                    "value": np.where(np.array(nan, bool), np.nan, np.array(value, float)),
                })  # fmt: skip


def _from_server(
    client: MlflowClient, credentials: Any, run_ids: Sequence[str], metrics: Sequence[str]
) -> Iterator[pd.DataFrame]:
    tasks = [(metric, chunk) for metric in metrics for chunk in _chunks(sorted(run_ids), BULK_RUNS)]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        yield from pool.map(lambda task: _ask_server(client, credentials(), *task), tasks)


def _ask_server(client: MlflowClient, credentials: Any, metric: str, run_ids: Sequence[str]) -> pd.DataFrame:
    """Histories of one metric of some runs, which must be sorted."""
    from mlflow.utils.rest_utils import http_request_safe

    parameters = {"run_id": list(run_ids), "metric_key": metric, "max_results": BULK_POINTS}
    points = http_request_safe(credentials, BULK_ENDPOINT, "GET", params=parameters).json()["metrics"]
    table = pd.DataFrame(points, columns=["run_id", "key", "step", "timestamp", "value"])
    table = table.set_axis(list(HISTORY_COLUMNS), axis=1).astype({"value": float})
    if len(table) < BULK_POINTS:
        return table
    # Cut off: the answer is sorted by run, so all but its last run are whole.
    last = table["run_id"].iloc[-1]
    whole, rest = table[table["run_id"] != last], [run for run in run_ids if run >= last]
    if whole.empty:  # one run fills an answer
        whole, rest = _one_by_one(client, [last], [metric]), [run for run in run_ids if run > last]
    return pd.concat([whole, _ask_server(client, credentials, metric, rest)]) if rest else whole


def _one_by_one(client: MlflowClient, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    rows = [
        (run, metric, point.step, point.timestamp, point.value)
        for run in run_ids
        for metric in metrics
        for point in client.get_metric_history(run, metric)
    ]
    return pd.DataFrame(rows, columns=list(HISTORY_COLUMNS))


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
