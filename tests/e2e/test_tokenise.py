"""``varscale tokenise`` on the command line: killed in the middle, it ends as if it had not been."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch
from small_study import ROOT, environment, wait_until_ray_is_gone

from varscale.data.assembly import UNFINISHED
from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.manifests import ImageSet
from varscale.data.schema import MANIFEST
from varscale.data.tokenise import tokenise
from varscale.evaluate.assessment import assess
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import save_model
from varscale.models.tokenizer_file import TokenizerFile
from varscale.models.vqvae import VQVAE

SHAPE = VQVAEConfig(32, 4, 8, (1, 2), 1, (1, 2, 4, 8), norm_groups=4)
VIEWS = 200
"""Of each of 72 images: parts take long enough to be killed among them."""


def wait_for_receipt(dest: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not list((dest / UNFINISHED).glob("train-*.json")):
        assert process.poll() is None, "it ended before its first part"
        assert time.monotonic() < deadline, "no part within 240 s"
        time.sleep(0.01)


def test_killed_and_started_again_it_is_byte_identical(varscale, picture_folder: Path, tmp_path: Path) -> None:
    ingest(picture_folder, tmp_path / "images", IngestOptions(size=18))
    torch.manual_seed(0)
    model = VQVAE(SHAPE)
    save_model(tmp_path / "tokenizer.safetensors", model, model.state_dict(), {})
    inputs = ["tokenise", str(tmp_path / "images"), str(tmp_path / "tokenizer.safetensors")]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "varscale", *inputs, str(killed), "--views", str(VIEWS)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)
    wait_for_receipt(killed, process)
    process.kill()
    process.communicate()
    assert not (killed / MANIFEST).exists()
    wait_until_ray_is_gone(process.pid)
    done = varscale(*inputs, str(killed), "--views", str(VIEWS))
    assert done.returncode == 0, done.stderr
    assert "14,400 train, 8 val rows of 85 tokens" in done.stdout
    rule = ViewRule(SHAPE.image_size)
    job = TokeniseJob(
        ImageSet.read(tmp_path / "images"),
        TokenizerFile.read(tmp_path / "tokenizer.safetensors"),
        rule,
        VIEWS,
        seed=0,
    )
    tokenise(job, Location.of(whole), assess)
    assert {p.name: p.read_bytes() for p in killed.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
