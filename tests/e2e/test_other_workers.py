"""A size killed on two workers and run again on one: the same run, from its checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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

QUICK = ("budget.images=2048", "evaluation={points: 4, images: 16, cfg: 1.5}")


def kill_after_a_checkpoint(store: Path) -> None:
    command = [sys.executable, "-m", "varscale", *small_run(store, *QUICK)]
    with (store / "first.log").open("w") as log:
        first = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        try:
            wait_for_checkpoint(store, "emoji-quick", first)
        finally:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
    wait_until_ray_is_gone(first.pid)


def test_other_workers_go_on_in_the_same_run_from_its_checkpoint(tmp_path: Path, varscale) -> None:
    kill_after_a_checkpoint(tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("emoji-quick").experiment_id
    (killed,) = client.search_runs([experiment], f"tags.{schema.TAG_KIND} = '{schema.KIND_CELL}'")
    assert (killed.info.run_name, killed.data.tags[schema.RESOURCES_WORLD_SIZE]) == ("d3-s0", "2")

    again = varscale(*small_run(tmp_path, *QUICK, "resources.by_depth={}"))
    assert again.returncode == 0, again.stderr[-3000:]

    cells = client.search_runs([experiment], f"tags.{schema.TAG_KIND} = '{schema.KIND_CELL}'")
    assert len(cells) == 3
    (run,) = [cell for cell in cells if cell.info.run_id == killed.info.run_id]
    facts = {schema.RESOURCES_WORLD_SIZE: "1", schema.ENGINE_MICRO_BATCH: "16", schema.ENGINE_ACCUMULATION: "1"}
    assert {name: run.data.tags.get(name) for name in facts} == facts
    assert int(run.data.tags[schema.TAG_RESUMED]) > 0
    assert not set(facts) & set(run.data.params)

    steps = {point.step for point in client.get_metric_history(run.info.run_id, schema.TRAIN_LOSS)}
    assert steps == set(range(16, 129, 16))
    study = lawfit.load_study(f"sqlite:///{tmp_path}/mlflow.db", "emoji-quick")
    assert list(study.finished["world_size"]) == [1, 1, 1]
    (model,) = (tmp_path / "runs" / "emoji-quick").glob("d3-s0-*/model.safetensors")
    (tokens,) = (tmp_path / "tokens").iterdir()
    shards = TokenShards(tokens, "val")
    quantizer = load_model(ROOT / "studies" / "tokenizers" / "emoji32.safetensors", VQVAE).model.quantize
    found = validation_metrics(load_model(model, VAR).model, quantizer, shards.first_views(), shards.labels, batch=64)
    recorded = study.finished.set_index("run_name").loc["d3-s0"]
    assert recorded[schema.VAL_LOSS] == pytest.approx(found[schema.VAL_LOSS], rel=1e-5)
