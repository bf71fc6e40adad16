"""Records in a real MLflow database."""

import shutil
from pathlib import Path

import mlflow
import pytest

from lawfit.records import schema
from varscale.tracking import Recorder, find_study


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def recorder(uri: str, tmp_path: Path) -> Recorder:
    return Recorder(uri, "study", (tmp_path / "artifacts").as_uri())


def test_parent_and_children_are_found_again_and_never_doubled(uri: str, tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        writer = recorder(uri, tmp_path)
        parent = writer.open_study("key", "study/x", {"seed": 0}, {})
        runs.append((parent, writer.open_cell(parent, "cell-key", "d1-s0", {"model.depth": 1}, {})))
    assert runs[0] == runs[1]
    client = mlflow.MlflowClient(uri)
    child = client.get_run(runs[0][1])
    assert child.data.tags[schema.TAG_PARENT] == runs[0][0]
    assert child.data.params == {"model.depth": "1"}
    assert child.info.status == "RUNNING"


def test_a_resumed_run_records_no_step_twice(uri: str, tmp_path: Path) -> None:
    for steps in (range(1, 6), range(3, 9)):
        writer = recorder(uri, tmp_path)
        parent = writer.open_study("key", "study/x", {}, {})
        run = writer.open_cell(parent, "cell-key", "d1-s0", {}, {})
        for step in steps:
            writer.log(run, step, {"train/loss": 1 / step})
        writer.flush()
    history = mlflow.MlflowClient(uri).get_metric_history(run, "train/loss")
    assert [point.step for point in history] == list(range(1, 9))


def test_another_attempt_with_other_workers_is_another_run(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    parent = writer.open_study("key", "study/x", {}, {})
    first = writer.open_cell(parent, "cell-key", "d1-s0", {"resources.world_size": 2}, {})
    writer.log(first, 5, {"train/loss": 1.0})
    assert writer.last_step(first) == 5
    second = writer.open_cell(parent, "cell-key", "d1-s0", {"resources.world_size": 1}, {})
    assert second != first
    assert writer.last_step(second) == -1
    assert mlflow.MlflowClient(uri).get_run(first).data.tags[schema.TAG_STATE] == schema.STATE_FAILED


def test_a_study_is_found_by_its_key(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    parent = writer.open_study("key", "study/x", {}, {})
    writer.open_study("other", "study/x", {}, {})
    assert find_study(uri, "study", "key") == parent
    assert find_study(uri, "study", "none") is None
    assert find_study(uri, "elsewhere", "key") is None


def test_only_finished_cells_count_as_finished(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    parent = writer.open_study("key", "study/x", {}, {})
    for key, state in (("a", schema.STATE_FINISHED), ("b", schema.STATE_FAILED)):
        writer.close(writer.open_cell(parent, key, key, {}, {}), state)
    writer.open_cell(parent, "c", "c", {}, {})
    assert [writer.finished_cell(parent, key) for key in "abcd"] == [True, False, False, False]


def test_many_metrics_and_files_arrive(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    run = writer.open_cell(writer.open_study("key", "study/x", {}, {}), "cell-key", "probe", {}, {})
    for step in range(2500):
        writer.log(run, step, {"x": step})
    file = tmp_path / "note.txt"
    file.write_text("kept")
    writer.log_files(run, [file], "notes")
    assert writer.progress()["probe"].step == 2499  # type: ignore[union-attr]
    writer.close(run, schema.STATE_FINISHED)
    client = mlflow.MlflowClient(uri)
    assert len(client.get_metric_history(run, "x")) == 2500
    assert Path(client.download_artifacts(run, "notes/note.txt", str(tmp_path))).read_text() == "kept"
    assert client.get_run(run).info.status == "FINISHED"
    assert writer.progress() == {}
