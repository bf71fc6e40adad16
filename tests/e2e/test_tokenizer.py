"""A tokenizer trained by the command line on two workers: killed in the middle, run again, then judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
from small_study import ROOT, environment, wait_for_checkpoint, wait_until_ray_is_gone

from lawfit.records import schema
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards
from varscale.data.views import validation_batches
from varscale.evaluate.reconstruction import psnr
from varscale.models.store import load_model
from varscale.models.vqvae import VQVAE

STEPS, SAVED = 240, 40
SETTINGS = [
    "data.image_size=16",
    "model={vocab_size: 32, z_channels: 4, ch: 8, ch_mult: [1, 2], num_res_blocks: 1, patch_nums: [1, 2, 4, 8],"
    " norm_groups: 4, level_attention: false}",
    f"recipe={{steps: {STEPS}, batch: 8, lr: 4.0e-3, adversarial: {{start_step: 160, channels: 8, layers: 2}}}}",
    "evaluation.points=3",
    "resources={workers: 2, cpus_per_worker: 1}",
    f"checkpoints.every_steps={SAVED}",
]


@dataclass(frozen=True)
class Trained:
    """What a training left, killed once on the way."""

    store: Path
    shards: Path
    arguments: tuple[str, ...]
    printed: str

    @property
    def output(self) -> Path:
        return self.store / "tokenizer.safetensors"

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(f"sqlite:///{self.store}/mlflow.db")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, picture_folder: Path, varscale) -> Trained:
    store = tmp_path_factory.mktemp("tokenizer")
    shards = store / "shards"
    assert varscale("ingest", str(picture_folder), str(shards), "--size", "18").returncode == 0
    sets = [*SETTINGS, f"data.source={shards}", f"store={store}", f"output={store / 'tokenizer.safetensors'}"]
    arguments = ["tokenizer", "train", "studies/tokenizer-emoji32.yaml"]
    arguments += [part for each in sets for part in ("--set", each)]
    with (store / "first.log").open("w") as log:
        command = [sys.executable, "-m", "varscale", *arguments]
        first = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        try:
            wait_for_checkpoint(store, "tokenizers", first)
        finally:
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
    wait_until_ray_is_gone(first.pid)
    refused = varscale(*arguments, "--set", "recipe.clip=0.5")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "holds an unfinished training with other settings (recipe.clip is 0.5, there 1.0)" in refused.stderr
    second = varscale(*arguments)
    assert second.returncode == 0, second.stderr[-3000:]
    return Trained(store, shards, tuple(arguments), second.stdout)


def test_a_killed_training_goes_on_from_its_checkpoint_in_the_same_run(trained: Trained) -> None:
    experiment = trained.client.get_experiment_by_name("emoji32")
    (run,) = trained.client.search_runs([experiment.experiment_id])
    assert run.data.tags[schema.TAG_KIND] == schema.KIND_TOKENIZER
    assert run.data.tags[schema.TAG_STATE] == schema.STATE_FINISHED
    resumed = int(run.data.tags["resumed_at_step"])
    assert 0 < resumed < STEPS
    assert resumed % SAVED == 0
    for name in (schema.TRAIN_LOSS, "train/l2", "val/psnr_db", "val/ssim", "train/codes_used_percent_scale_0"):
        steps = [point.step for point in trained.client.get_metric_history(run.info.run_id, name)]
        assert steps == sorted(set(steps)), name
    assert {"train/discriminator", "perf/images_per_s", "perf/cpu_seconds"} <= set(run.data.metrics)
    assert run.data.params["recipe.adversarial.start_step"] == "160"
    assert not list((trained.store / "checkpoints" / "tokenizers").iterdir())


def test_reconstructions_beat_the_mean_image(trained: Trained) -> None:
    rule = ViewRule(16)
    train, val = (
        np.concatenate(list(validation_batches(shards, rule, len(shards), 64)))
        for shards in (ImageShards(trained.shards, split) for split in ("train", "val"))
    )
    error = (val / 127.5 - train.mean(axis=0) / 127.5) ** 2
    baseline = psnr(float(error.mean()))
    facts = load_model(trained.output, VQVAE).facts
    assert facts["validation"]["psnr_db"] > baseline + 3
    assert trained.output.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_a_finished_training_is_not_repeated(trained: Trained, varscale) -> None:
    before = trained.output.stat().st_mtime_ns
    again = varscale(*trained.arguments)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert again.stdout == trained.printed
    assert trained.output.stat().st_mtime_ns == before


def test_evaluate_finds_what_training_recorded(trained: Trained, varscale, tmp_path: Path) -> None:
    picture = tmp_path / "scales.png"
    done = varscale(
        "tokenizer", "evaluate", str(trained.output), str(trained.shards), "--json", "--picture", str(picture)
    )
    assert done.returncode == 0, done.stderr
    assert "rfd/tokenizer is circular" in done.stderr
    found, recorded = json.loads(done.stdout), load_model(trained.output, VQVAE).facts["validation"]
    assert found["psnr_db"] == pytest.approx(recorded["psnr_db"], rel=1e-6)
    assert found["ssim"] == pytest.approx(recorded["ssim"], rel=1e-6)
    assert found["rfd/tokenizer"] == pytest.approx(recorded["fd_reconstruction"], rel=1e-3)
    assert len(found["codes_used_percent_by_scale"]) == 4
    assert picture.read_bytes()[:4] == b"\x89PNG"
