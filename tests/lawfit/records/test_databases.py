"""MLflow's databases, written by five versions of it: read alike, and left as they are to the last byte."""

import gzip
import hashlib
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from lawfit.command.cli import main as lawfit_main
from lawfit.errors import RecordError, TrackingError
from lawfit.records.mlflow_database import Database
from lawfit.records.mlflow_store import Store
from lawfit.records.study import load_study
from lawfit.records.table import load

DATABASES = sorted((Path(__file__).parent / "databases").glob("*.db.gz"))
LOSSES = [1.7 + 8 * (size / 1e6) ** -0.34 for size in (1e6, 2e6, 4e6, 8e6, 16e6, 32e6)]


@pytest.fixture(params=DATABASES, ids=lambda path: path.name.removesuffix(".db.gz"))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    return path


@pytest.fixture
def older(tmp_path: Path) -> Path:
    path = tmp_path / "older" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(next(file for file in DATABASES if "2.9" in file.name).read_bytes()))
    return path


def state(path: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of change of each file of the folder."""
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in sorted(path.parent.iterdir())
    }


def lawfit(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["lawfit", *arguments])
    with pytest.raises(SystemExit) as ended:
        lawfit_main()
    return int(ended.value.code or 0)


def test_databases_of_all_versions_are_read_alike(database: Path) -> None:
    frame = load(f"sqlite:///{database}#old")
    assert list(frame["run"]) == ["n0", "n1", "n2", "n3", "n4", "n5"]
    assert list(frame["n_params"]) == [1e6 * 2**place for place in range(6)]
    np.testing.assert_allclose(frame["loss"], LOSSES)
    assert (frame["top"][0], frame["top"][1]) == (np.inf, 2.0)
    assert np.isnan(frame["lost"][0])
    assert frame.attrs["left_out"] == (("n6", "FAILED"),)
    curves = load(f"sqlite:///{database}#old", curves=True, query="params.n_params = '4000000'")
    assert list(curves["step"]) == [10, 20, 30]
    np.testing.assert_allclose(curves["loss"], [1.7 + (LOSSES[2] - 1.7) * factor for factor in (1.5, 1.2, 1)])
    assert curves["top"].iloc[-1] == 2.0


def test_reading_leaves_a_database_as_it_is(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(database)
    uri = f"sqlite:///{database}"
    assert lawfit(monkeypatch, "fit", f"{uri}#old", "--form", "power", "--x", "n_params") == 0
    assert lawfit(monkeypatch, "fit", f"{uri}#odl", "--form", "power", "--x", "n_params") == 2
    assert "study 'odl' is not recorded: there are Default, old" in capsys.readouterr().err
    assert lawfit(monkeypatch, "frontier", f"{uri}#old", "--x", "step") in (0, 2)
    with pytest.raises(RecordError, match="varscale did not record it"):
        load_study(uri, "old")
    assert state(database) == before


def test_the_way_back_to_a_deleted_experiment_is_told(database: Path) -> None:
    with pytest.raises(RecordError, match=r"experiment 'gone' was deleted: .*mlflow experiments restore --experiment-"):
        load(f"sqlite:///{database}#gone")


def test_a_newer_database_is_read_as_far_as_its_tables_are_these(older: Path) -> None:
    with sqlite3.connect(older) as writer:
        writer.execute("UPDATE alembic_version SET version_num = 'f00d'")
        writer.execute("ALTER TABLE runs ADD COLUMN mood TEXT")
    assert len(load(f"sqlite:///{older}#old")) == 6
    with sqlite3.connect(older) as writer:
        writer.execute("ALTER TABLE metrics RENAME COLUMN step TO tick")
    before = state(older)
    with pytest.raises(
        RecordError, match=r"its schema f00d is not read by lawfit with MLflow \S+; it lacks metrics.step"
    ):
        load(f"sqlite:///{older}#old")
    assert state(older) == before


def test_a_database_of_something_else_is_told_so(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "else.db") as writer:
        writer.execute("CREATE TABLE notes (text)")
    with pytest.raises(RecordError, match="no database of MLflow; it lacks experiments, runs"):
        load(f"sqlite:///{tmp_path}/else.db#old")


def test_drivers_and_file_addresses_lead_to_the_same_database(older: Path) -> None:
    before = state(older)
    for uri in (f"sqlite+pysqlite:///{older}", f"sqlite:///file:{older}?mode=ro&uri=true"):
        assert len(load(f"{uri}#old")) == 6
    assert state(older) == before


def test_a_database_with_a_log_is_left_without_files_beside_it(older: Path) -> None:
    with sqlite3.connect(older) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
    writer.close()
    before = state(older)
    assert list(before) == ["mlflow.db"]
    assert len(load(f"sqlite:///{older}#old")) == 6
    assert state(older) == before


def test_a_log_that_was_left_behind_is_read_and_left(older: Path, tmp_path: Path) -> None:
    writer = sqlite3.connect(older)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE experiments SET name = 'renamed' WHERE name = 'old'")
    writer.commit()
    left = tmp_path / "left" / "mlflow.db"
    left.parent.mkdir()
    for end in ("", "-wal"):
        shutil.copy(f"{older}{end}", f"{left}{end}")
    writer.close()
    before = state(left)
    assert len(load(f"sqlite:///{left}#renamed")) == 6
    assert state(left) == before


def test_a_reader_cannot_write(older: Path) -> None:
    database = Database(f"sqlite:///{older}")
    with database._connection() as connection, pytest.raises(Exception, match="readonly database"):
        connection.exec_driver_sql("DELETE FROM runs")


def test_a_writer_that_ended_halfway_is_told_in_one_line(older: Path, tmp_path: Path) -> None:
    writer = sqlite3.connect(older, isolation_level=None)
    writer.execute("PRAGMA cache_size = 1")
    writer.execute("BEGIN")
    writer.execute("UPDATE metrics SET value = 0")
    writer.execute("UPDATE tags SET value = hex(randomblob(2000))")
    left = tmp_path / "left" / "mlflow.db"
    left.parent.mkdir()
    for end in ("", "-journal"):
        shutil.copy(f"{older}{end}", f"{left}{end}")
    writer.close()
    before = state(left)
    with pytest.raises(TrackingError, match="a writer ended halfway"):
        load(f"sqlite:///{left}#old")
    assert state(left) == before


def test_a_store_of_files_gets_no_folder_of_mlflow(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with pytest.raises(RecordError, match="is not recorded"):
        load(f"{tmp_path}/files#old")
    assert list((tmp_path / "files").iterdir()) == []


def test_conditions_on_data_sets_are_refused(older: Path) -> None:
    store = Store(f"sqlite:///{older}")
    with pytest.raises(RecordError, match="data sets are not read from a database"):
        store.search(store.experiment_id("old"), "dataset.name = 'x'")
