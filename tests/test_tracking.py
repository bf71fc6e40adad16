"""Records in a real MLflow database."""

import gzip
import shutil
from pathlib import Path

import mlflow
import pytest

from lawfit.records import schema
from lawfit.records.mlflow_store import Store
from lawfit.records.steps import last_values
from varscale.errors import UserError
from varscale.locations import Location
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


ON_ONE, ON_TWO = ({schema.RESOURCES_WORLD_SIZE: workers, schema.ENGINE_ZERO_STAGE: 1} for workers in (1, 2))


def attempted(writer: Recorder, workers: dict[str, int], steps: range) -> str:
    """An attempt at a cell, on these workers, that takes these steps and is killed; the run's id."""
    run = writer.open_cell(writer.open_study("key", "study/x", {}, {}), "cell-key", "d1-s0", {"model.depth": 1}, {})
    writer.attempt(run, workers, steps.start - 1)
    for step in steps:
        writer.log(run, step, {"train/loss": step + workers[schema.RESOURCES_WORLD_SIZE] / 10})
    writer.flush()
    return run


def recorded(uri: str, run: str) -> list[tuple[int, float]]:
    """Step and value of each point, in the order in which they were recorded."""
    points = mlflow.MlflowClient(uri).get_metric_history(run, "train/loss")
    return [(point.step, point.value) for point in sorted(points, key=lambda point: (point.timestamp, point.step))]


def test_attempts_on_workers_alike_record_no_step_twice(uri: str, tmp_path: Path) -> None:
    for steps in (range(1, 6), range(3, 9)):
        run = attempted(recorder(uri, tmp_path), ON_TWO, steps)
    assert recorded(uri, run) == [(step, step + 0.2) for step in range(1, 9)]
    assert mlflow.MlflowClient(uri).get_run(run).data.tags[schema.TAG_RESUMED] == "2"


def test_other_workers_go_on_in_the_same_run_and_what_they_record_counts(uri: str, tmp_path: Path) -> None:
    first = attempted(recorder(uri, tmp_path), ON_TWO, range(1, 10))
    assert recorder(uri, tmp_path).last_step(first) == -1  # not open there
    for steps in (range(1, 5), range(3, 12)):  # from the start, then from a checkpoint of their own
        run = attempted(recorder(uri, tmp_path), ON_ONE, steps)
    again = [(step, step + 0.1) for step in range(1, 12)]
    assert (run, recorded(uri, run)) == (first, [(step, step + 0.2) for step in range(1, 10)] + again)
    data = mlflow.MlflowClient(uri).get_run(run).data
    assert data.metrics == {"train/loss": 11.1}
    assert data.params == {"model.depth": "1"}
    assert {name: data.tags[name] for name in ON_ONE} == {name: str(value) for name, value in ON_ONE.items()}
    points = last_values(Store(uri).histories([run], ["train/loss"]))
    assert list(zip(points["step"], points["value"], strict=True)) == again


def test_a_step_taken_again_within_an_attempt_is_not_recorded_again(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    run = attempted(writer, ON_TWO, range(1, 6))
    writer.attempt(run, ON_TWO, 2)  # Ray Train started its workers anew
    for step in range(3, 7):
        writer.log(run, step, {"train/loss": 0.0})
    writer.flush()
    assert recorded(uri, run)[4:] == [(5, 5.2), (6, 0.0)]
    assert writer.last_step(run) == 6


def test_a_run_of_the_first_records_goes_on_though_its_workers_are_params(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    parent = writer.open_study("key", "study/x", {}, {})
    first = {"model.depth": 1, **ON_TWO, "engine.micro_batch": 8}
    old = writer.open_cell(parent, "cell-key", "d1-s0", first, {})
    writer.log(old, 4, {"train/loss": 1.0})
    writer.flush()
    assert attempted(recorder(uri, tmp_path), ON_TWO, range(3, 6)) == old
    assert recorded(uri, old) == [(4, 1.0), (5, 5.2)]
    assert attempted(recorder(uri, tmp_path), ON_ONE, range(5, 6)) == old
    assert recorded(uri, old)[2:] == [(5, 5.1)]


def test_a_study_is_found_by_the_key_it_had_before(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    parent = writer.open_study("former", "study/x", {}, {})
    assert writer.open_study("key", "study/x", {}, {}, "former") == parent
    assert find_study(uri, "study", "key") == parent
    assert writer.open_study("other", "study/x", {}, {}, "former") != parent


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


def test_interrupted_runs_say_so_and_go_on_as_the_same(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    parent = writer.open_study("key", "study/x", {}, {})
    done, open_cell = (writer.open_cell(parent, name, name, {}, {}) for name in ("d1-s0", "d2-s0"))
    writer.close(done, schema.STATE_FINISHED)
    assert writer.finished() == 1
    writer.log(open_cell, 5, {"train/loss": 1.0})
    writer.interrupt()
    client = mlflow.MlflowClient(uri)
    for run_id, state, status in (
        (parent, schema.STATE_INTERRUPTED, "KILLED"),
        (open_cell, schema.STATE_INTERRUPTED, "KILLED"),
        (done, schema.STATE_FINISHED, "FINISHED"),
    ):
        run = client.get_run(run_id)
        assert (run.data.tags.get(schema.TAG_STATE), run.info.status) == (state, status)
    assert client.get_run(open_cell).data.metrics == {"train/loss": 1.0}
    with pytest.raises(RuntimeError, match="d3-s0: the work was interrupted"):
        writer.open_cell(parent, "d3-s0", "d3-s0", {}, {})
    again = recorder(uri, tmp_path)
    assert again.open_study("key", "study/x", {}, {}) == parent
    assert again.open_cell(parent, "d2-s0", "d2-s0", {}, {}) == open_cell
    assert client.get_run(open_cell).info.status == "RUNNING"


def test_many_metrics_and_files_arrive(uri: str, tmp_path: Path) -> None:
    writer = recorder(uri, tmp_path)
    run = writer.open_cell(writer.open_study("key", "study/x", {}, {}), "cell-key", "probe", {}, {})
    for step in range(2500):
        writer.log(run, step, {"x": step})
    file = tmp_path / "note.txt"
    file.write_text("kept")
    writer.log_files(run, [Location.of(file)], "notes")
    assert writer.progress()["probe"].step == 2499  # type: ignore[union-attr]
    writer.close(run, schema.STATE_FINISHED)
    client = mlflow.MlflowClient(uri)
    assert len(client.get_metric_history(run, "x")) == 2500
    assert Path(client.download_artifacts(run, "notes/note.txt", str(tmp_path))).read_text() == "kept"
    assert client.get_run(run).info.status == "FINISHED"
    assert writer.progress() == {}


def test_a_study_run_again_records_no_figure_of_its_tokenizer_twice(uri: str, tmp_path: Path) -> None:
    for _ in range(3):
        writer = recorder(uri, tmp_path)
        parent = writer.open_study("key", "study/x", {}, {})
        writer.log(parent, 0, {"tokenizer/psnr_db": 20.0})
        writer.close(parent, schema.STATE_FINISHED)
    assert len(mlflow.MlflowClient(uri).get_metric_history(parent, "tokenizer/psnr_db")) == 1


def test_a_deleted_experiment_says_the_way_out(uri: str, tmp_path: Path) -> None:
    recorder(uri, tmp_path)
    client = mlflow.MlflowClient(uri)
    number = client.get_experiment_by_name("study").experiment_id
    client.delete_experiment(number)
    for ask in (lambda: recorder(uri, tmp_path), lambda: find_study(uri, "study", "key")):
        with pytest.raises(
            UserError, match=rf"'study' was deleted: .*mlflow experiments restore --experiment-id {number}"
        ):
            ask()
    client.restore_experiment(number)
    recorder(uri, tmp_path)


def test_a_database_of_another_version_is_not_written(root: Path, tmp_path: Path) -> None:
    packed = root / "tests" / "lawfit" / "records" / "databases" / "mlflow-2.9.2.db.gz"
    (tmp_path / "old.db").write_bytes(before := gzip.decompress(packed.read_bytes()))
    wanted = rf"has MLflow's schema acf3f17fdcc7; the installed MLflow {mlflow.__version__} writes \w+ and"
    with pytest.raises(UserError, match=wanted):
        recorder(f"sqlite:///{tmp_path}/old.db", tmp_path)
    assert find_study(f"sqlite:///{tmp_path}/old.db", "old", "key") is None
    assert (tmp_path / "old.db").read_bytes() == before
