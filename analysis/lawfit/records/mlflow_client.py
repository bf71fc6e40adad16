"""Runs of an MLflow server or of a folder of files, through MLflow's own client.

A server migrates its database itself, and serves one that is of its own version. MLflow's client reads one metric of
one run per call; a server is asked by its bulk endpoint.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from lawfit.records.addresses import kind

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

HISTORY_COLUMNS = ("run_id", "metric", "step", "timestamp", "value")

BULK_RUNS, BULK_POINTS = 24, 25_000
"""Runs asked for in one request, and the server's limit of points in one answer: 24 runs of 1,000 points fit."""

BULK_ENDPOINT = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
REQUESTS_AT_ONCE = 4

TRASH = ".trash"
"""Folder that MLflow makes where it opens a store of files without one."""


class Client:
    """The runs behind a tracking URI that is no database's."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        if kind(uri) in ("", "file"):
            uri = self._untouched(Path(unquote(urlsplit(uri).path)))
        self._client: MlflowClient = MlflowClient(tracking_uri=uri)

    def experiment(self, name: str) -> tuple[str, bool] | None:
        """Id of the experiment of this name, and whether it is active."""
        found = self._client.get_experiment_by_name(name)
        return (str(found.experiment_id), found.lifecycle_stage == "active") if found else None

    def names(self) -> list[str]:
        """Names of the active experiments."""
        return [experiment.name for experiment in self._client.search_experiments()]

    def runs(self, experiment_id: str, condition: str) -> list[Run]:
        """All active runs that satisfy the condition, newest first."""
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [experiment_id], condition, order_by=["attributes.start_time DESC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> Iterable[pd.DataFrame]:
        """Every recorded value of the metrics, in parts with the columns `HISTORY_COLUMNS`."""
        store = self._client._tracking_client.store
        if hasattr(store, "get_host_creds"):
            return _from_server(self._client, store.get_host_creds, run_ids, metrics)
        # A folder of files has no bulk interface; each history is one file there anyway.
        return [_one_by_one(self._client, run_ids, metrics)]

    def _untouched(self, folder: Path) -> str:
        """A store of files, or, for MLflow would make a folder in it, another that links to all that is in it."""
        if (folder / TRASH).is_dir():
            return folder.resolve().as_uri()
        self._links = tempfile.TemporaryDirectory()
        for part in folder.resolve().iterdir():
            (Path(self._links.name) / part.name).symlink_to(part)
        return Path(self._links.name).as_uri()


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
