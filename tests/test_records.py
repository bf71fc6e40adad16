"""Records in the hands of several processes: one named actor, clients that travel, notices that reach the user."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow
import pytest
import ray

from lawfit.records import schema
from varscale.errors import EnvironmentalError
from varscale.logs import LOGGER, log_to_user
from varscale.ray_session import connected
from varscale.records import NAMESPACE, Records, recording, report_warnings
from varscale.study.watch import Ticker
from varscale.tracking import RunProgress, find_study


@pytest.fixture(scope="module")
def recording_in(empty_database: Path) -> Iterator[Callable[[Path], AbstractContextManager[Records]]]:
    """Records of a study called "one" in a store, on a private cluster."""

    def begin(store: Path) -> AbstractContextManager[Records]:
        if not (store / "mlflow.db").exists():
            shutil.copy(empty_database, store / "mlflow.db")
        return recording(f"one@{store}", uri(store), "one", None)

    with connected():
        yield begin


@pytest.fixture(scope="module")
def records(recording_in, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Records, Path]]:
    """Records and their store, open as long as these tests."""
    store = tmp_path_factory.mktemp("store")
    with recording_in(store) as records:
        yield records, store


def uri(store: Path) -> str:
    return f"sqlite:///{store}/mlflow.db"


def work(records: Records, run: str, times: int) -> None:
    report_warnings(records, run)
    log = logging.getLogger("varscale.train.resume")
    for _ in range(times):
        records.log(run, 7, {schema.TRAIN_LOSS: 2.5})
        log.info("rank %d of %d", 0, times)
        log.warning("its checkpoint %s: starting again", "is not whole")
    records.flush()


def test_what_workers_warn_of_is_heard_once_and_all_they_log_is_in_ray_s_files(
    records, capsys: pytest.CaptureFixture[str]
) -> None:
    client, store = records
    run = client.open_cell(client.open_study("key", "study/one", {}, {}), "cell", "d1-s0", {}, {})
    with Ticker(client, lambda: None):
        ray.get([ray.remote(num_cpus=1)(work).remote(client, run, times) for times in (2, 3)])
    assert capsys.readouterr().err == "d1-s0: its checkpoint is not whole: starting again\n"
    assert client.notices() == []
    kept = mlflow.MlflowClient(uri(store)).get_run(run)
    assert kept.data.metrics == {schema.TRAIN_LOSS: 2.5}
    assert kept.data.tags[schema.TAG_NOTICE] == "its checkpoint is not whole: starting again"
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    lines = "".join(path.read_text() for path in (session / "logs").glob("worker-*.err"))
    assert len(re.findall(r"^20\d\d-.* INFO varscale\.train\.resume: rank 0 of 3$", lines, re.MULTILINE)) == 3
    assert lines.count(" WARNING varscale.train.resume: its checkpoint is not whole: starting again") == 5


def test_a_driver_logs_to_its_user_without_ornament(capsys: pytest.CaptureFixture[str]) -> None:
    kept = LOGGER.handlers, LOGGER.level, LOGGER.propagate
    log_to_user()
    logging.getLogger("varscale.study.run").info("%d sizes", 6)
    logging.getLogger("varscale.study.run").debug("unheard")
    LOGGER.handlers, LOGGER.level, LOGGER.propagate = kept
    assert capsys.readouterr().err == "6 sizes\n"


def test_another_process_finds_the_records_of_a_store_by_name(records) -> None:
    client, store = records
    run = client.open_cell(client.open_study("key", "study/one", {}, {}), "found", "d2-s0", {}, {})
    client.log(run, 3, {schema.TRAIN_LOSS: 1.0})

    def look(name: str) -> dict[str, RunProgress | None]:
        return Records(ray.get_actor(name, namespace=NAMESPACE)).progress()

    found = ray.get(ray.remote(num_cpus=1)(look).remote(f"one@{store}"))
    assert found["d2-s0"] == RunProgress(3, {schema.TRAIN_LOSS: 1.0})


def test_two_studies_of_one_cluster_do_not_meet_and_one_study_has_one_writer(
    records, recording_in, tmp_path: Path
) -> None:
    client, store = records
    with recording_in(tmp_path) as elsewhere:
        elsewhere.open_study("key", "study/one", {}, {})
        assert elsewhere.progress() == {}
        assert client.actor != elsewhere.actor
    with (
        pytest.raises(EnvironmentalError, match=f"one@{store}: another run on this cluster writes"),
        recording_in(store),
    ):
        pass


def test_what_was_sent_is_written_when_a_recording_ends_in_an_error(recording_in, tmp_path: Path) -> None:
    def fail() -> None:
        with recording_in(tmp_path) as records:
            records.log(records.open_study("key", "study/one", {}, {}), 0, {schema.TRAIN_LOSS: 4.0})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    run = find_study(uri(tmp_path), "one", "key")
    assert mlflow.MlflowClient(uri(tmp_path)).get_run(run).data.metrics == {schema.TRAIN_LOSS: 4.0}
    with recording_in(tmp_path) as again:
        assert again.read(run).metrics == {schema.TRAIN_LOSS: 4.0}
