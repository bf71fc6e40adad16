"""Reading of MLflow: runs, and metric histories in bulk, from any tracking URI. Nothing is ever written.

A first knock of a few seconds tells whether anyone is there, since MLflow's client waits minutes for a server that is
away.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from lawfit.errors import RecordError, TrackingError
from lawfit.records import schema
from lawfit.records.addresses import DATABASES, kind, shown, without_secrets
from lawfit.records.mlflow_client import HISTORY_COLUMNS, Client
from lawfit.records.mlflow_database import Database

if TYPE_CHECKING:
    from mlflow.entities import Run

KNOCK_S = 4.0
"""How long a server may take to answer the first knock."""

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # we only read
}
"""MLflow's own settings while we read; those the user has set stay."""

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


class Store:
    """The runs behind one tracking URI.

    Raises RecordError for a file or folder that is not there, TrackingError when no server answers or MLflow
    cannot read what is there.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        _knock(uri)
        with self._asking():
            self._source: Client | Database = Database(uri) if kind(uri) in DATABASES else Client(uri)

    def schema(self) -> str:
        """Name of the schema of a database; empty for a server or a folder."""
        with self._asking():
            return self._source.schema() if isinstance(self._source, Database) else ""

    def is_empty(self) -> bool:
        """Whether it is a database without tables."""
        with self._asking():
            return isinstance(self._source, Database) and self._source.is_empty()

    def find_experiment(self, name: str) -> str | None:
        """Id of the experiment called `name`, None if there is none. RecordError for one that was deleted."""
        with self._asking():
            found = self._source.experiment(name)
        if found is None:
            return None
        number, active = found
        if not active:
            raise RecordError(
                f"experiment {name!r} was deleted: 'MLFLOW_TRACKING_URI={shown(self.uri)} mlflow experiments restore"
                f" --experiment-id {number}' brings it back; or take another name"
            )
        return number

    def experiment_id(self, name: str) -> str:
        """Id of the experiment called `name`. RecordError, with the names there are, for an unknown one."""
        found = self.find_experiment(name)
        if found is not None:
            return found
        with self._asking():
            names = sorted(self._source.names())
        raise RecordError(f"study {name!r} is not recorded: there are {', '.join(names) or 'none'}")

    def search(self, experiment_id: str, condition: str = "") -> list[Run]:
        """All active runs that satisfy the condition, in MLflow's filter language, newest first."""
        with self._asking(condition):
            return self._source.runs(experiment_id, condition)

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Every recorded value: columns `HISTORY_COLUMNS`, by run in the given order, metric, step and time."""
        with self._asking():
            parts = list(self._source.histories(run_ids, metrics))
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(HISTORY_COLUMNS))
        table["value"] = schema.as_logged(table["value"].to_numpy(float))
        table["run_id"] = pd.Categorical(table["run_id"], list(run_ids))
        table["metric"] = pd.Categorical(table["metric"], list(metrics))
        keys = [table["timestamp"], table["step"], table["metric"].cat.codes, table["run_id"].cat.codes]
        return table.take(np.lexsort([np.asarray(key) for key in keys]))

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
                line = without_secrets(str(error).splitlines()[0], self.uri)
                if condition and "INVALID_PARAMETER_VALUE" in str(getattr(error, "error_code", "")):
                    raise RecordError(f"query {condition!r} is not understood by MLflow: {line}") from error
                if "readonly database" in line:  # its journal would have to be played back, which writes
                    line = "a writer ended halfway; open it once with what wrote it"
                raise TrackingError(f"tracking URI {shown(self.uri)!r}: {line}") from error
        finally:
            for name in (name for name, value in before.items() if value is None):
                os.environ.pop(name, None)


def _knock(uri: str) -> None:
    """RecordError or TrackingError, within seconds, unless someone is at home at `uri`."""
    parts = urlsplit(uri)
    if parts.hostname and kind(uri) in PORTS:
        try:
            socket.create_connection((parts.hostname, parts.port or PORTS[kind(uri)]), timeout=KNOCK_S).close()
        except OSError as error:
            raise TrackingError(f"tracking URI {shown(uri)!r}: nobody answers ({error}); is the server up?") from error
        if kind(uri) in ("http", "https"):
            _knock_http(uri)
    elif kind(uri) in ("", "file") and not Path(parts.path).is_dir():
        raise RecordError(f"tracking URI {uri!r}: no such folder")


def _knock_http(uri: str) -> None:
    import requests

    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=KNOCK_S)
    except requests.RequestException as error:
        silent = f"connected, but no answer in {KNOCK_S:g} s ({type(error).__name__})"
        raise TrackingError(f"tracking URI {shown(uri)!r}: {silent}") from error
    if answer.status_code >= 500:
        raise TrackingError(f"tracking URI {shown(uri)!r}: the server answers {answer.status_code} {answer.reason}")
