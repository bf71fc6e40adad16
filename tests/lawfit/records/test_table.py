"""`load`: any source, one frame; wrong units and repeats stop with a line that says what to do."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from lawfit.errors import RecordError, TrackingError
from lawfit.records import mlflow_client, schema
from lawfit.records.mlflow_store import Store
from lawfit.records.table import load, load_table, points

GOOD = pd.DataFrame({"n_params": [1e4, 1e5, 1e6], "tokens": [1e6, 1e6, 1e6], "loss": [3.4, 3.2, 3.0]})


def _with(**columns: Any) -> pd.DataFrame:
    return GOOD.assign(**columns)


def test_tables_files_and_computed_columns(tmp_path: Path) -> None:
    GOOD.to_csv(tmp_path / "runs.csv", index=False)
    GOOD.to_parquet(tmp_path / "runs.parquet")
    for source in (GOOD, tmp_path / "runs.csv", str(tmp_path / "runs.parquet")):
        frame = load(source, columns={"flops": "6*n_params*tokens"}, where="n_params < 1e6")
        assert list(frame["flops"]) == [6e10, 6e11]
    assert frame.attrs["source"].endswith("runs.parquet")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_with(n_params=[0.07, 1.0, 70.0]), "column 'n_params': 0.07 is below 1,000; .* use '1e6.n_params'"),
        (_with(tokens=[20.0, 30.0, 40.0]), "column 'tokens': 20 is below 1,000"),
        (_with(loss=[40.0, 30.0, 20.0]), "40 nats is above 12.5.*'loss.log\\(2\\)'.*'log\\(loss\\)'"),
        (_with(n_params=[1e4, 1e5, 1e6], flops=[6e4, 6e5, 6e6]), "flops seems to be in millions"),
        (
            _with(n_params=[4e3, 8e3, 1.6e4], flops=[2.4e16, 4.8e16, 9.6e16]),
            "n_params or tokens seems to be in millions",
        ),
    ],
)
def test_a_wrong_unit_is_named_with_what_to_do(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        load(frame)


def test_toys_and_computed_columns_pass() -> None:
    toy = _with(n_params=[2592, 20736, 69984], loss=[3.5, 3.4, 3.3])
    assert len(load(toy.assign(flops=6 * 5 * toy["n_params"] * toy["tokens"]))) == 3
    assert load(_with(params_M=[0.01, 0.1, 1.0]), columns={"n_params": "1e6*params_M"})["n_params"].iloc[0] == 1e4
    assert load(_with(n_params=[100, 200, 300]), columns={"n_params": "1*n_params"})["n_params"].iloc[0] == 100


def test_the_first_points_of_a_curve_may_have_few_tokens() -> None:
    curve = pd.DataFrame({"run": "a", "n_params": 3000, "tokens": [512, 1024, 65536], "loss": [5.0, 4.0, 3.0]})
    assert len(load(curve)) == 3


def test_published_tables_raise_no_alarm(shared: Path) -> None:
    for path in sorted((shared / "data" / "laws").glob("*.csv")):
        assert len(load(path)) > 0, path


def test_repeated_runs_are_named() -> None:
    twice = pd.concat([GOOD, GOOD.iloc[[1]]])
    with pytest.raises(RecordError, match=r"rows 1, 3: a run is recorded more than once \(tokens = 1000000.0"):
        load(twice)
    with pytest.raises(RecordError, match="rows 0, 1: run 'a' is recorded more than once"):
        load(pd.DataFrame({"run": ["a", "a"], "flops": [1e9, 1e9], "loss": [3.0, 3.1]}))
    seeds = pd.concat([GOOD, GOOD.assign(loss=GOOD["loss"] + 0.01)])
    assert len(load(seeds)) == 6


def test_points_name_the_row_that_is_no_number() -> None:
    with pytest.raises(RecordError, match=r"row 1, column 'loss': nan is not a positive, finite number \(1 such row"):
        points(_with(loss=[3.0, np.nan, 2.0]), n="n_params", y="loss")


def test_what_is_no_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "bad.parquet").write_text("no parquet")
    for source, message in (
        (tmp_path / "none.csv", "no such file"), (tmp_path / "empty.csv", "has no rows"),
        (tmp_path / "bad.parquet", "not a readable parquet table"),
        ("runs.xlsx", "neither a .csv, .tsv .also .gz. or .parquet file nor URI#"),
    ):  # fmt: skip
        with pytest.raises(RecordError, match=message):
            load(source)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An experiment of another project: nested runs, own names, one run still running."""
    folder = tmp_path_factory.mktemp("foreign")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("other", artifact_location=folder.as_uri())
    sweep = client.create_run(experiment, run_name="sweep").info.run_id
    for i, size in enumerate((10_000, 20_000, 40_000, 80_000)):
        run = client.create_run(experiment, run_name=f"r{size}", tags={schema.TAG_PARENT: sweep}).info.run_id
        metrics = [Metric("eval/ce", 4.0 / (step + 1) + i, step, step) for step in range(3)]
        metrics += [Metric("eval/ce", 9.0 + i, 100, 2), Metric("system/cpu", 50.0, 0, 0)]
        client.log_batch(run, metrics, [Param("n_params", str(size)), Param("note", "x"), Param("tokens", "600000")])
        if i < 3:
            client.set_terminated(run)
    client.set_terminated(sweep)
    return f"{uri}#other"


def test_any_experiment_is_read_with_canonical_names_given(foreign: str) -> None:
    frame = load(foreign, columns={"loss": "eval/ce"})
    assert list(frame["run"]) == ["r10000", "r20000", "r40000"]
    assert list(frame["n_params"]) == [10_000, 20_000, 40_000]
    assert list(frame["loss"]) == [9.0, 10.0, 11.0]
    assert frame.attrs["left_out"] == (("r80000", "RUNNING"),)
    assert list(load(foreign, query="params.n_params = '20000'")["run"]) == ["r20000"]
    uri, name = foreign.split("#")
    assert len(load(name, tracking_uri=uri)) == 3


def test_curves_have_a_row_a_step_and_the_last_writing_counts(foreign: str) -> None:
    frame = load(foreign, curves=True)
    one = frame[frame["run"] == "r10000"]
    assert list(one["step"]) == [0, 1, 2]
    assert list(one["eval/ce"]) == [4.0, 2.0, 9.0]
    assert list(one["schedule_complete"]) == [False, False, True]
    assert list(one["tokens"]) == [0, 300_000, 600_000]
    assert "system/cpu" not in frame


def test_a_study_of_varscale_has_canonical_columns(writer: Any, quick: Any) -> None:
    frame = load(f"{writer.uri}#quick")
    assert {"n_params", "tokens", "flops", "loss", "seed", "run", "run_id", "study"} <= set(frame)
    assert len(frame) == 6
    assert frame.attrs["left_out"][0][0] == "d7-s0"
    curves = load(f"{writer.uri}#quick", curves=True)
    assert len(curves) == 6 * 20
    assert curves["schedule_complete"].sum() == 6


def test_a_store_of_files_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=tmp_path.as_uri())
    experiment = client.create_experiment("files")
    run = client.create_run(experiment, run_name="a")
    client.log_metric(run.info.run_id, "loss", 3.0, step=1)
    client.log_metric(run.info.run_id, "loss", 2.0, step=2)
    client.set_terminated(run.info.run_id)
    assert list(load(f"{tmp_path.as_uri()}#files", curves=True)["loss"]) == [3.0, 2.0]


def test_queries_and_names_that_find_nothing_are_explained(foreign: str) -> None:
    with pytest.raises(RecordError, match=r"query 'params.n_params = ' is not understood"):
        load(foreign, query="params.n_params = ")
    with pytest.raises(RecordError, match=r"none of the 0 runs found by \"params.n_params = '1'\" is finished"):
        load(foreign, query="params.n_params = '1'")
    with pytest.raises(RecordError, match=r"study 'othr' is not recorded: there are .*other"):
        load(foreign.replace("#other", "#othr"))


def test_a_server_that_is_away_is_told_within_seconds() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(TrackingError, match="nobody answers"):
        load(f"http://127.0.0.1:{port}#study")
    assert time.monotonic() - start < 10


def test_a_server_that_accepts_but_is_silent_is_told_within_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(TrackingError, match="connected, but no answer in 4 s"):
            Store(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - start < 10


@pytest.fixture(scope="module")
def server(foreign: str) -> Iterator[str]:
    """MLflow's own server on loopback, in a thread, over the foreign experiment; its URI."""
    from mlflow.server import app, handlers
    from werkzeug.serving import make_server

    handlers.initialize_backend_stores(foreign.split("#")[0])
    running = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()


@pytest.mark.parametrize("points", [mlflow_client.BULK_POINTS, 5, 4, 2])
def test_a_server_gives_what_its_database_gives_even_when_answers_are_cut(
    foreign: str, server: str, monkeypatch: pytest.MonkeyPatch, points: int
) -> None:
    monkeypatch.setattr(mlflow_client, "BULK_POINTS", points)
    pd.testing.assert_frame_equal(load(f"{server}#other", curves=True), load(foreign, curves=True))


def test_a_file_that_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("hello")
    with pytest.raises(RecordError, match="is no SQLite database"):
        load(f"sqlite:///{tmp_path}/notes.db#study")


def test_our_patience_does_not_outlast_the_reading(foreign: str) -> None:
    before = dict(os.environ)
    load(foreign)
    assert dict(os.environ) == before


def test_tables_are_read_from_csv_parquet_and_frames(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1, 2, 3], "loss": [3.0, 2.5, 2.2], "note": ["a", "b", "c"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (tmp_path / "t.csv", str(tmp_path / "t.parquet"), frame):
        table = load_table(source, ["n", "loss"])
        assert list(table["loss"]) == [3.0, 2.5, 2.2]
        assert list(table["note"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, None, 2.0], "row 1, column 'loss': nan is not"),
        ([1.0, 2.0, -3.0], "row 2, column 'loss': -3.0 is not"),
        (["1", "2", "x"], "row 2, column 'loss': 'x' is not"),
        ([1.0, float("inf"), 2.0], "row 1, column 'loss': inf is not"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(values: list[Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        load_table(pd.DataFrame({"loss": values}), ["loss"])


def test_a_missing_column_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="column 'loss' is missing: the table has n"):
        load_table(pd.DataFrame({"n": [1]}), ["loss"])
    with pytest.raises(RecordError, match="no such file"):
        load_table(tmp_path / "none.csv", ["n"])
    with pytest.raises(RecordError, match=r"unknown kind of table '.xlsx', expected .csv, .tsv"):
        load_table(tmp_path / "t.xlsx", ["n"])
