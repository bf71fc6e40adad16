"""MLflow's databases, of any version, by read-only SQL of our own.

MLflow's client migrates a database as it opens it, for good, and the older MLflow that wrote it then reads it no more.
The tables of experiments and runs have kept their columns since MLflow 1.30: these are asked, and nothing is written.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from lawfit.errors import RecordError
from lawfit.records.addresses import shown

if TYPE_CHECKING:
    from mlflow.entities import Run
    from sqlalchemy import Connection, Engine, Select

SQLITE_MAGIC = b"SQLite format 3\x00"
WAL = 2
"""Byte 18 of a SQLite file whose writers keep a write-ahead log."""
PATIENCE_S = 20.0
"""How long a reader waits for a writer of the same SQLite file."""

READ_ONLY = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}
"""What keeps a session from writing; SQLite's files are opened so, and SQL Server has no such word."""

TABLES: Mapping[str, tuple[str, ...]] = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "runs": ("run_uuid", "name", "experiment_id", "user_id", "status", "start_time", "end_time", "lifecycle_stage",
             "artifact_uri"),
    "params": ("run_uuid", "key", "value"),
    "tags": ("run_uuid", "key", "value"),
    "latest_metrics": ("run_uuid", "key", "value", "timestamp", "step", "is_nan"),
    "metrics": ("run_uuid", "key", "value", "timestamp", "step", "is_nan"),
}  # fmt: skip
"""Tables that are read and what is read of them."""

RUNS_PER_QUERY = 500
"""SQLite allows 32,766 parameters per query."""


class Database:
    """The runs in one database. Raises RecordError for one that is not there or, when asked, is not MLflow's."""

    def __init__(self, uri: str) -> None:
        import sqlalchemy as sql

        self._uri = uri
        self._engine = _engine(uri)
        self._table = {name: sql.table(name, *map(sql.column, columns)) for name, columns in TABLES.items()}

    def is_empty(self) -> bool:
        """Whether it has no tables at all, as one that was just made."""
        import sqlalchemy as sql

        return not sql.inspect(self._engine).get_table_names()

    def experiment(self, name: str) -> tuple[str, bool] | None:
        """Id of the experiment of this name, and whether it is active."""
        found = [(str(number), stage == "active") for number, other, stage in self._experiments() if other == name]
        if len(found) > 1:
            raise RecordError(f"study {name!r} is in {len(found)} workspaces of {shown(self._uri)}; ask their server")
        return found[0] if found else None

    def names(self) -> list[str]:
        """Names of the active experiments."""
        return [name for _, name, stage in self._experiments() if stage == "active"]

    def runs(self, experiment_id: str, condition: str) -> list[Run]:
        """All active runs that satisfy the condition, newest first."""
        import sqlalchemy as sql
        from mlflow.utils.search_utils import SearchUtils

        if any(part["type"] == "dataset" for part in SearchUtils.parse_search_filter(condition)):
            raise RecordError(
                f"query {condition!r}: data sets are not read from a database; name params, tags, metrics"
            )
        runs = self._table["runs"].c
        of_experiment = sql.and_(runs.experiment_id == int(experiment_id), runs.lifecycle_stage == "active")
        rows = self._rows(self._select("runs").where(of_experiment).order_by(runs.start_time.desc(), runs.run_uuid))
        data: dict[str, dict[str, list[Any]]] = {}
        for name in ("params", "tags", "latest_metrics"):
            table = self._table[name]
            joined = self._select(name).join_from(table, self._table["runs"], table.c.run_uuid == runs.run_uuid)
            data[name] = {row[0]: [] for row in rows}
            for run, *rest in self._rows(joined.where(of_experiment)):
                data[name].setdefault(run, []).append(rest)
        entities = [_run(row, *(data[name][row[0]] for name in data)) for row in rows]
        return list(SearchUtils.filter(entities, condition))

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Every recorded value of the metrics, in parts with the columns of `Store.histories`."""
        import sqlalchemy as sql

        row = self._table["metrics"].c
        columns = (row.run_uuid, row.step, row.timestamp, row.value, row.is_nan)
        with self._connection() as connection:
            for start in range(0, len(run_ids), RUNS_PER_QUERY):
                chunk = run_ids[start : start + RUNS_PER_QUERY]
                for metric in metrics:
                    query = sql.select(*columns).where(row.run_uuid.in_(chunk), row.key == metric)
                    rows = connection.execute(query).cursor.fetchall()  # plain tuples: a fifth of the time
                    run, step, timestamp, value, nan = zip(*rows, strict=True) if rows else ((),) * 5
                    yield pd.DataFrame({
                        "run_id": pd.Categorical(run, list(run_ids)),
                        "metric": pd.Categorical.from_codes(np.zeros(len(rows), int), [metric]).set_categories(metrics),
                        "step": np.array(step, np.int64), "timestamp": np.array(timestamp, np.int64),
                        "value": np.where(np.array(nan, bool), np.nan, np.array(value, float)),
                    })  # fmt: skip

    def schema(self) -> str:
        """Name of the schema that the database has, empty if it says none."""
        import sqlalchemy as sql

        if "alembic_version" not in sql.inspect(self._engine).get_table_names():
            return ""
        found = self._rows(sql.select(sql.column("version_num")).select_from(sql.table("alembic_version")))
        return str(found[0][0]) if found else ""

    def _experiments(self) -> Sequence[Any]:
        if lacks := self._lacks():
            import mlflow

            found = f"its schema {self.schema()} is not read by lawfit with MLflow {mlflow.__version__}"
            what = found if self.schema() else "no database of MLflow"
            raise RecordError(f"tracking URI {shown(self._uri)!r}: {what}; it lacks {', '.join(lacks)}")
        return self._rows(self._select("experiments"))

    def _lacks(self) -> list[str]:
        """Tables, and columns of tables, that are not there."""
        import sqlalchemy as sql

        there = sql.inspect(self._engine)
        names = set(there.get_table_names())
        known = {name: {column["name"] for column in there.get_columns(name)} for name in TABLES if name in names}
        missing = [f"{name}.{column}" for name in known for column in TABLES[name] if column not in known[name]]
        return [name for name in TABLES if name not in names] + missing

    def _select(self, name: str) -> Select[Any]:
        import sqlalchemy as sql

        return sql.select(*self._table[name].c)

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        with self._connection() as connection:
            return connection.execute(query).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection


def _engine(uri: str) -> Engine:
    """An engine whose sessions cannot write."""
    import sqlalchemy as sql
    from mlflow.store.db.utils import create_sqlalchemy_engine

    address = sql.make_url(uri)
    kind = address.get_backend_name()
    if kind == "sqlite":
        path = _checked_file(uri, str(address.database or ""))
        return sql.create_engine("sqlite://", creator=lambda: _open_file(path), poolclass=sql.NullPool)
    try:
        engine = create_sqlalchemy_engine(uri)
    except ImportError as error:
        raise RecordError(
            f"tracking URI {shown(uri)!r}: its driver {error.name} is not installed; install it, or name another as in"
            f" {kind}+DRIVER://…"
        ) from error
    if kind in READ_ONLY:
        sql.event.listen(engine, "connect", lambda connection, _: _forbid_writing(connection, READ_ONLY[kind]))
    return engine


def _forbid_writing(connection: Any, words: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(words)
    connection.commit()


def _checked_file(uri: str, name: str) -> Path:
    path = Path(name.removeprefix("file:"))
    if not path.is_file():
        raise RecordError(f"tracking URI {uri!r}: no database at {path}")
    with path.open("rb") as file:
        if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
            raise RecordError(f"tracking URI {uri!r}: {path} is no SQLite database")
    return path


def _open_file(path: Path) -> sqlite3.Connection:
    """A connection that leaves the file and all beside it as they are.

    Even a reader makes -wal and -shm files where writers keep a log. Without a log nobody has the file open, and it is
    read as one that does not change; a log that was left behind is read with its database in a copy.
    """
    log, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    with path.open("rb") as file:
        keeps_log = file.read(19)[18] == WAL
    if keeps_log and not (log.is_file() and log.stat().st_size):
        return _connect(path, "mode=ro&immutable=1")
    if keeps_log and not index.is_file():
        with tempfile.TemporaryDirectory() as folder:
            copies = [shutil.copy(file, folder) for file in (path, log)]
            copy = sqlite3.connect(copies[0])
            kept = sqlite3.connect(":memory:", check_same_thread=False)
            copy.backup(kept)
            copy.close()
        return kept
    return _connect(path, "mode=ro")


def _connect(path: Path, how: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.resolve()))}?{how}"
    return sqlite3.connect(address, uri=True, timeout=PATIENCE_S, check_same_thread=False)


def _run(row: Any, params: list[Any], tags: list[Any], metrics: list[Any]) -> Run:
    from mlflow.entities import LifecycleStage, Metric, Param, Run, RunData, RunInfo, RunTag

    run_id, name, experiment_id, user, status, start, end, _, artifacts = row
    labels = dict(map(tuple, tags))
    info = RunInfo(
        run_id=run_id, experiment_id=str(experiment_id), user_id=user, status=status, start_time=start, end_time=end,
        lifecycle_stage=LifecycleStage.ACTIVE, artifact_uri=artifacts,
        run_name=name or labels.get("mlflow.runName", ""),
    )  # fmt: skip
    values = [Metric(key, np.nan if nan else value, at, step) for key, value, at, step, nan in metrics]
    pairs = [Param(*pair) for pair in params], [RunTag(*pair) for pair in labels.items()]
    return Run(info, RunData(values, *pairs))
