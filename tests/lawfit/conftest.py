"""Synthetic studies, written to a real MLflow database the way the contract says."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from lawfit.records import schema
from lawfit.records.study import Study, load_study

ALPHA = 0.049
DEPTHS = (1, 2, 3, 4, 5, 6)


@dataclass
class Cell:
    """One run as the writer would log it: params, tags, and metrics as (name, value, step)."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[tuple[str, float, int]] = field(default_factory=list)

    def without(self, name: str) -> "Cell":
        """The cell without a param, a tag or a metric."""
        return Cell(
            self.name,
            {key: value for key, value in self.params.items() if key != name},
            {key: value for key, value in self.tags.items() if key != name},
            [metric for metric in self.metrics if metric[0] != name],
        )

    def with_param(self, name: str, value: str) -> "Cell":
        """The cell with another value of a param."""
        return Cell(self.name, self.params | {name: value}, self.tags, self.metrics)

    def with_tag(self, name: str, value: str) -> "Cell":
        """The cell with another value of a tag."""
        return Cell(self.name, self.params, self.tags | {name: value}, self.metrics)

    def with_metric(self, name: str, value: float, step: int) -> "Cell":
        """The cell with one more logged value, later than the others."""
        return Cell(self.name, self.params, self.tags, [*self.metrics, (name, value, step)])


def make_cell(depth: int, seed: int = 0, points: int = 20, noise: float = 0.0) -> Cell:
    """A finished run whose final loss is exactly 1.8 (N/4608)^-ALPHA, times noise."""
    n_paper = 18 * depth * (16 * depth) ** 2
    n_params = n_paper + 9000 * depth + 7000
    final = 1.8 * (n_paper / 4608) ** -ALPHA * np.exp(noise)
    steps = np.rint(np.linspace(256 / points, 256, points))
    cell = Cell(
        name=f"d{depth}-s{seed}",
        params={
            schema.MODEL_DEPTH: str(depth), schema.MODEL_WIDTH: str(16 * depth),
            schema.MODEL_HEADS: str(depth), schema.MODEL_N_PAPER: str(n_paper),
            schema.MODEL_N_PARAMS: str(n_params), schema.DATA_TOKENS: str(16384 * 85),
            schema.DATA_IMAGES: "16384", schema.DATA_FINGERPRINT: "sha256:data",
            schema.TOKENIZER_FINGERPRINT: "sha256:tokenizer", schema.TOKENIZER_KIND: "train",
            schema.OPTIMIZER_LR: "0.002", schema.OPTIMIZER_BATCH: "64", schema.OPTIMIZER_STEPS: "256",
            schema.SEED: str(seed),
        },
        tags={
            schema.TAG_KIND: schema.KIND_CELL, schema.TAG_STATE: schema.STATE_FINISHED,
            schema.TAG_RUN_KEY: f"key-d{depth}-s{seed}", schema.TAG_GIT_COMMIT: "0123456",
            schema.ENGINE_ZERO_STAGE: "1", schema.RESOURCES_WORLD_SIZE: "2",
        },
    )  # fmt: skip
    for step in map(int, steps):
        progress = step / 256
        loss = final * progress**-0.16
        error = 62 * (n_paper / 4608) ** -0.012 * progress**-0.03
        for metric, value in (
            (schema.VAL_LOSS, loss), (schema.VAL_LOSS_LAST, 0.93 * loss**1.1),
            (schema.VAL_ERROR, error), (schema.VAL_ERROR_LAST, 1.02 * error),
            (schema.TRAIN_LOSS, 0.99 * loss), (schema.FLOPS, 6.0 * n_params * 85 * 64 * step),
        ):  # fmt: skip
            cell.metrics.append((metric, float(value), step))
    cell.metrics.append((schema.FD_TOKENIZER, 40.0 * (n_paper / 4608) ** -0.11, 256))
    return cell


class Writer:
    """Makes cells and writes studies to one database."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)
        self.artifacts = artifacts

    def cell(self, depth: int, seed: int = 0, noise: float = 0.0) -> Cell:
        """See `make_cell`."""
        return make_cell(depth, seed, noise=noise)

    def study(self, name: str, cells: list[Cell]) -> str:
        """A parent run with its cells; adds to the experiment if it exists. Returns the parent's run id."""
        found = self.client.get_experiment_by_name(name)
        experiment = (
            found.experiment_id
            if found
            else self.client.create_experiment(name, artifact_location=self.artifacts.as_uri())
        )
        parent = self.client.create_run(
            experiment, run_name=f"study/{name}@0123456", tags={schema.TAG_KIND: schema.KIND_STUDY}
        ).info.run_id
        for cell in cells:
            self._cell(experiment, parent, cell)
        return str(parent)

    def _cell(self, experiment: str, parent: str, cell: Cell) -> None:
        run = self.client.create_run(experiment, run_name=cell.name, tags={schema.TAG_PARENT: parent})
        self.client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, value, time, step) for time, (name, value, step) in enumerate(cell.metrics)],
            params=[Param(*item) for item in cell.params.items()],
            tags=[RunTag(*item) for item in cell.tags.items()],
        )
        self.client.set_terminated(run.info.run_id)


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    folder = tmp_path_factory.mktemp("mlflow")
    return Writer(f"sqlite:///{folder}/mlflow.db", folder)


@pytest.fixture(scope="session")
def quick(writer: Writer) -> Study:
    """Six finished sizes without noise, one failed run."""
    failed = make_cell(7).without(schema.VAL_LOSS).with_tag(schema.TAG_STATE, schema.STATE_FAILED)
    writer.study("quick", [*(make_cell(depth) for depth in DEPTHS), failed])
    return load_study(writer.uri, "quick")


@pytest.fixture
def laws_folder() -> Callable[[str], Any]:
    """Path of a published table, or a skip that says what is missing."""

    def find(name: str) -> Path:
        path = Path(__file__).resolve().parents[3] / "shared" / "data" / "laws" / name
        if not path.exists():
            pytest.skip(f"published table {path} is not here")
        return path

    return find
