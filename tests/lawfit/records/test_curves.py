"""Curves of MLflow runs: whose they are, what their tokens are, and which steps are no count of training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from lawfit.approaches.allocation import by_frontier
from lawfit.errors import RecordError
from lawfit.records.addresses import shown
from lawfit.records.comparability import compute_flags
from lawfit.records.table import load, points

BATCH = 2**16
SIZES = np.geomspace(1e6, 1e8, 7)


def steps_of(size: float) -> np.ndarray:
    return np.unique(np.geomspace(20, 20 * size / BATCH * 4 + 100, 25).astype(int))


Point = tuple[str, float, int, int]
"""Metric, value, time and step."""


class Project:
    """Runs of somebody else's project in one database."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client = MlflowClient(uri)

    def run(
        self, experiment: str, name: str, size: float, metrics: list[tuple[str, float, int, int]], **params: object
    ):
        """A finished run."""
        found = self.client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self.client.create_experiment(experiment, artifact_location="a")
        run = self.client.create_run(number, run_name=name).info.run_id
        for key, value in ({"n_params": int(size)} | params).items():
            self.client.log_param(run, key, value)
        self.client.log_batch(run, [Metric(*metric) for metric in metrics])
        self.client.set_terminated(run)

    def curves(self, experiment: str, **options: Any) -> pd.DataFrame:
        return load(f"{self.uri}#{experiment}", curves=True, **options)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Project:
    path = tmp_path_factory.mktemp("project") / "mlflow.db"
    path.write_bytes(empty_database.read_bytes())
    return Project(f"sqlite:///{path}")


def curve(size: float, tokens: bool = True) -> list[Point]:
    """Loss and compute by step, and tokens if they are a metric."""
    points: list[Point] = []
    for step in map(int, steps_of(size)):
        seen = float(step) * BATCH
        points += [
            ("loss", 1.7 + 400 * size**-0.34 + 900 * seen**-0.37, step, step),
            ("flops", 6 * size * seen, step, step),
        ]
        points += [("tokens", seen, step, step)] if tokens else []
    return points


def exponents(project: Project, experiment: str) -> tuple[float, float]:
    split = by_frontier(project.curves(experiment), replicates=100)
    return split.n.exponent, split.d.exponent


def test_tokens_are_a_metric_a_param_or_a_metric_recorded_once(project: Project) -> None:
    for size in SIZES:
        total = float(steps_of(size)[-1] * BATCH)
        project.run("metric", "r", int(size), curve(int(size)))
        project.run("param", "r", int(size), curve(int(size), tokens=False), tokens=int(total))
        once = [("tokens", total, 1, int(steps_of(size)[-1])), ("n_params", float(int(size)), 1, 0)]
        project.run("once", "r", int(size), curve(int(size), tokens=False)[:-2] + once + curve(int(size), False)[-2:])
    for experiment in ("metric", "param"):
        n, d = exponents(project, experiment)
        assert (round(n, 4), round(d, 4)) == (0.4145, 0.5855)
    frame = project.curves("once", where="loss > 0")
    assert compute_flags(frame, x="flops", run="run", n="n_params", d="tokens") == []


def test_what_is_no_running_total_is_said(project: Project) -> None:
    for size in SIZES[:3]:
        project.run("total", f"{size:.0f}", size, curve(size), total=int(steps_of(size)[-1] * BATCH))
    (flag,) = compute_flags(project.curves("total"), x="flops", run="run", n="n_params", d="total")
    assert "flops/(6·n_params·total) goes from 0.0152 to 1 along" in flag
    assert "along run '1000000' and changes along 2 more" in flag


def test_runs_of_one_name_stay_apart(project: Project) -> None:
    for place, size in enumerate(SIZES):
        project.run("same", "train", size, curve(size))
        project.run("unnamed", "", size, curve(size))
        project.run("unique", f"size{place}", size, curve(size))
    frame = project.curves("same")
    assert frame["run"].nunique() == len(SIZES)
    assert frame["run"].str.fullmatch(r"train \([0-9a-f]{8}\)").all()
    assert list(load(f"{project.uri}#same", where="run == 'train'")["n_params"]) == list(SIZES.astype(int))
    assert exponents(project, "same") == exponents(project, "unique")
    split = by_frontier(frame, replicates=300)
    low, high = split.n.exponent_interval(0.95)
    assert high - low > 0.01
    assert project.curves("unnamed")["run"].nunique() == len(SIZES)


def test_several_sizes_under_one_name_of_a_table_are_said(project: Project) -> None:
    for size in (SIZES[0], SIZES[-1]):
        project.run("table", "r", size, curve(size))
    table = project.curves("table").drop(columns="run_id").assign(run="train")
    (flag,) = compute_flags(table, x="flops", run="run", n="n_params", d="tokens")
    assert flag.startswith("n_params goes from 1e+06 to 1e+08 along run 'train': several runs share a name")


STEADY = [("loss", 3.0 / (1 + step), 100 + step, step) for step in range(10)]


@pytest.mark.parametrize(
    ("name", "later", "note"),
    [
        ("steady", [], None),
        ("resumed", [("loss", 2.0 / (1 + step), 200 + step, step) for step in range(7, 15)], None),
        ("restarted", [("loss", 0.2, 200 + step, step) for step in range(10)], "the step counter starts again"),
        ("shorter", [("loss", 0.2, 200 + step, step) for step in range(4)], "the step counter starts again"),
        ("between", [("loss", 0.2, 500, 5)], "time runs backwards along the steps"),
    ],
)
def test_steps_that_are_no_count_of_training_are_named(
    project: Project, name: str, later: list[Point], note: str | None
) -> None:
    project.run(name, f"my-{name}", 1e6, STEADY + later)
    notes = project.curves(name).attrs["flags"]
    assert len(notes) == (note is not None)
    assert note is None or (note in notes[0] and f"run my-{name}:" in notes[0])


def test_a_metric_without_steps_is_named(project: Project) -> None:
    project.run("stuck", "r", 1e6, [("loss", 3.0 - at / 10, at, 0) for at in range(5)])
    assert "many times at one step" in project.curves("stuck").attrs["flags"][0]


def test_infinite_metrics_are_refused_and_the_hint_leaves_them_out(project: Project) -> None:
    for place, size in enumerate(SIZES):
        project.run("zoo", f"r{place}", size, [("fid", float("inf") if place == 0 else 40 * size**-0.2, 1, 1)])
    frame = load(f"{project.uri}#zoo")
    for text in ("fid", "log(fid) + 9"):
        with pytest.raises(RecordError, match=r"inf is not a positive, finite number.*'0 < .* < 1e\+300'"):
            points(frame, y=text)
    assert len(load(f"{project.uri}#zoo", where="0 < fid < 1e+300")) == len(SIZES) - 1
    table = frame.assign(fid=frame["fid"].replace(np.inf, 1.7976931348623157e308))
    with pytest.raises(RecordError, match="inf is not"):
        points(load(table), y="log(fid)")


@pytest.mark.parametrize(
    ("uri", "without"),
    [
        ("http://me:pa@host:5000/x", "http://host:5000/x"),
        ("postgresql+psycopg2://me:p/w@host/db", "postgresql+psycopg2://host/db"),
        ("mysql://host/db?user=me&password=pw&charset=utf8", "mysql://host/db?user=me&charset=utf8"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("/data/mlruns", "/data/mlruns"),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri: str, without: str) -> None:
    assert shown(uri) == without
