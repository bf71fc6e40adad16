"""A study end to end with real Ray, DeepSpeed and MLflow: killed in the middle, run again, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from small_study import ROOT, environment, small_run, wait_for_checkpoint, wait_until_ray_is_gone

import lawfit
from lawfit.records import schema
from varscale.data.loader import TokenShards
from varscale.evaluate.loss import validation_metrics
from varscale.models.store import load_model
from varscale.models.var import VAR
from varscale.models.vqvae import VQVAE

STEPS = 64


@dataclass(frozen=True)
class Finished:
    """A study that was killed once and then run to its end."""

    store: Path
    uri: str
    output: str

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def runs(self, kind: str) -> list:
        experiment = self.client.get_experiment_by_name("emoji-quick")
        return self.client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    store = tmp_path_factory.mktemp("store")
    command = [sys.executable, "-m", "varscale", *small_run(store)]
    with (store / "first.log").open("w") as log:
        first = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        try:
            wait_for_checkpoint(store, "emoji-quick", first)
        finally:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
    wait_until_ray_is_gone(first.pid)
    second = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=400, check=False
    )
    assert second.returncode == 0, second.stderr[-3000:]
    return Finished(store, f"sqlite:///{store}/mlflow.db", second.stdout + second.stderr)


def test_killed_study_finishes_from_its_checkpoint(study: Finished) -> None:
    cells = study.runs(schema.KIND_CELL)
    assert sorted(cell.info.run_name for cell in cells) == ["d1-s0", "d2-s0", "d3-s0"]
    assert {cell.info.status for cell in cells} == {"FINISHED"}
    resumed = [int(cell.data.tags["resumed_at_step"]) for cell in cells if "resumed_at_step" in cell.data.tags]
    assert resumed, "no cell went on from its checkpoint"
    assert all(step % 16 == 0 and 0 < step < STEPS for step in resumed)


def test_every_step_is_recorded_once(study: Finished) -> None:
    for cell in study.runs(schema.KIND_CELL):
        for name in (schema.TRAIN_LOSS, schema.VAL_LOSS, schema.FLOPS, schema.LR, schema.GRAD_NORM):
            steps = [point.step for point in study.client.get_metric_history(cell.info.run_id, name)]
            assert len(steps) == len(set(steps)), (cell.info.run_name, name)
            assert max(steps) == STEPS
        train = [p.step for p in study.client.get_metric_history(cell.info.run_id, schema.TRAIN_LOSS)]
        assert sorted(train) == [16, 32, 48, 64]


def test_records_are_complete(study: Finished) -> None:
    (parent,) = study.runs(schema.KIND_STUDY)
    assert parent.info.run_name.startswith("study/emoji-quick@")
    for cell in study.runs(schema.KIND_CELL):
        assert cell.data.tags[schema.TAG_PARENT] == parent.info.run_id
        assert cell.data.tags[schema.TAG_GIT_COMMIT]
        assert {param.name for param in (*schema.PARAMS, *schema.OPTIONAL_PARAMS)} <= set(cell.data.params)
        wanted = {*schema.REQUIRED_METRICS, schema.FD_TOKENIZER, schema.IMAGES_PER_S, schema.FLOPS_PER_S}
        assert wanted <= set(cell.data.metrics)
        files = {
            file.path
            for folder in ("checkpoint", "samples")
            for file in study.client.list_artifacts(cell.info.run_id, folder)
        }
        assert files == {"checkpoint/model.safetensors", "samples/samples.png"}
    worlds = {cell.info.run_name: cell.data.tags[schema.RESOURCES_WORLD_SIZE] for cell in study.runs(schema.KIND_CELL)}
    assert worlds == {"d1-s0": "1", "d2-s0": "1", "d3-s0": "2"}
    assert parent.data.metrics["tokenizer/psnr_db"] >= 20
    names = {file.path for file in study.client.list_artifacts(parent.info.run_id)}
    assert {"study.yaml", "reconstructions.png", "report"} <= names


def test_loss_recomputed_from_the_stored_checkpoint_is_the_recorded_one(study: Finished, tmp_path: Path) -> None:
    (tokens,) = (study.store / "tokens").iterdir()
    shards = TokenShards(tokens, "val")
    quantizer = load_model(ROOT / "studies" / "tokenizers" / "emoji32.safetensors", VQVAE).model.quantize
    for cell in study.runs(schema.KIND_CELL):
        path = study.client.download_artifacts(cell.info.run_id, "checkpoint/model.safetensors", str(tmp_path))
        model = load_model(Path(path), VAR).model
        found = validation_metrics(model, quantizer, shards.first_views(), shards.labels, batch=64)
        for name, value in found.items():
            assert value == pytest.approx(cell.data.metrics[name], rel=1e-5), (cell.info.run_name, name)


def test_fit_from_the_records_alone_is_the_reported_one(study: Finished) -> None:
    reported = json.loads((study.store / "reports" / "emoji-quick" / "laws.json").read_text())
    results = lawfit.fit_study(lawfit.load_study(study.uri, "emoji-quick"))
    assert [result.to_json() for result in results] == reported
    assert len(reported) >= 5


def test_report_stands_alone_and_output_says_where_it_is(study: Finished) -> None:
    report = study.store / "reports" / "emoji-quick" / "report.html"
    html = report.read_text()
    assert f"report: {report}" in study.output
    assert f"mlflow ui --backend-store-uri {study.uri}" in study.output
    assert "time by stage" in study.output
    assert "Trial " not in study.output  # Tune's own talk
    assert 'src="http' not in html
    assert 'href="http' not in html
    for name in ("d1-s0", "d2-s0", "d3-s0"):
        assert name in html


def test_running_again_trains_nothing(study: Finished, varscale) -> None:
    metrics = {cell.info.run_id: cell.info.end_time for cell in study.runs(schema.KIND_CELL)}
    again = varscale(*small_run(study.store))
    assert again.returncode == 0, again.stderr[-3000:]
    assert "grid: 3 sizes, 3 finished before, 0 to train" in again.stderr
    assert {cell.info.run_id: cell.info.end_time for cell in study.runs(schema.KIND_CELL)} == metrics
    assert len(study.runs(schema.KIND_STUDY)) == 1


def test_status_sample_and_evaluate_read_what_the_study_left(study: Finished, varscale, tmp_path: Path) -> None:
    status = varscale(*small_run(study.store, verb="status"))
    assert status.stdout.count("finished") == 3
    other = varscale(*small_run(study.store, "seed=1", verb="status"))
    assert (other.returncode, "no records of it as it stands" in other.stderr) == (2, True)
    model = next((study.store / "runs" / "emoji-quick").glob("d2-s0-*")) / "model.safetensors"
    tokenizer = "studies/tokenizers/emoji32.safetensors"
    out = tmp_path / "samples.png"
    sample = varscale("sample", str(model), tokenizer, str(out), "--classes", "0,3", "--per-class", "2")
    assert sample.returncode == 0, sample.stderr
    assert out.read_bytes()[:4] == b"\x89PNG"
    refused = varscale("sample", str(model), tokenizer, str(out), "--classes", "99")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "knows classes 0 to 8" in refused.stderr
    (tokens,) = (study.store / "tokens").iterdir()
    evaluated = varscale("evaluate", str(model), tokenizer, str(tokens))
    assert evaluated.stdout.startswith("val/loss ")
