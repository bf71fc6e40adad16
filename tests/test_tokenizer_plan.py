"""Specifications of tokenizers become runs; the published size is checked without its memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from varscale.errors import UserError
from varscale.identity import difference
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import save_model
from varscale.models.vqvae import VQVAE
from varscale.plan.tokenizer import make_run
from varscale.spec.files import load_tokenizer_study
from varscale.spec.tokenizer import TokenizerStudy
from varscale.study.paths import StudyPaths
from varscale.study.tokenizer import _finished
from varscale.study.tokenizer_plan_table import encoding_flops, forward_flops, tokenizer_table
from varscale.train.peers import Rank
from varscale.train.tokenizer.loop import TokenizerTraining

REDUCED = [
    "data.image_size=64",
    "model={vocab_size: 64, z_channels: 8, ch: 32, ch_mult: [1, 1, 2, 2, 4], patch_nums: [1, 2, 3, 4]}",
    "recipe.steps=8",
    "recipe.batch=2",
    "recipe.adversarial.start_step=1",
    "engine.precision=fp32",
    "resources={}",
]


def imagenet(root: Path, *overrides: str) -> TokenizerStudy:
    return load_tokenizer_study(root / "studies" / "tokenizer-imagenet256.yaml", list(overrides))


def test_imagenet_specification_is_the_released_tokenizer(root: Path) -> None:
    study = imagenet(root)
    run = make_run(study, "fingerprint")
    assert run.vqvae == VQVAEConfig()
    assert (run.split(run.workers).share, run.workers, run.warmup_steps) == (16, 8, 5000)
    assert run.perceptual_is_off
    table = tokenizer_table(study)
    assert "108,948,355" in table
    assert "LPIPS (off: no weights named)" in table
    assert forward_flops(run.vqvae) == pytest.approx(215.126e9 + 393.709e9, rel=1e-3)
    assert encoding_flops(run.vqvae) == pytest.approx(215.126e9, rel=1e-3)


def test_imagenet_specification_names_every_hyper_parameter(root: Path) -> None:
    study = imagenet(root)
    for section in (study.recipe, study.model, study.engine, study.resources, study.evaluation):
        assert type(section).model_fields.keys() == section.model_fields_set, type(section).__name__
    assert study.recipe.adversarial is not None
    assert type(study.recipe.adversarial).model_fields.keys() == study.recipe.adversarial.model_fields_set


def test_imagenet_recipe_takes_steps_at_reduced_size(root: Path, alone: Rank) -> None:
    run = make_run(imagenet(root, *REDUCED), "fingerprint")
    training = TokenizerTraining(run, alone, None)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    figures = [training.step(step, [images]) for step in range(2)]
    assert "train/discriminator" not in figures[0]
    assert figures[1]["train/discriminator"].isfinite()
    assert figures[1]["train/adversarial_weight"].item() == 0.5  # not adaptive
    assert torch.stack([f["train/loss"] for f in figures]).isfinite().all()


def test_a_batch_that_does_not_divide_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"recipe\.batch: 128 images do not divide among resources\.workers 3"):
        make_run(imagenet(root, "resources.workers=3"), "x")
    with pytest.raises(UserError, match=r"engine\.micro_batch: 3 does not divide the 16 images a worker takes"):
        make_run(imagenet(root, "engine.micro_batch=3"), "x")


def test_the_key_holds_what_decides_the_result_and_nothing_else(root: Path) -> None:
    def key(*overrides: str) -> str:
        return make_run(imagenet(root, *overrides), "fingerprint").run_key

    same = [
        "store=/elsewhere",
        "resources.workers=4",
        "engine.micro_batch=8",
        "checkpoints.every_steps=7",
        "output=x.safetensors",
    ]
    assert {key(override) for override in same} == {key()}
    other = ["seed=1", "recipe.lr=1", "data.flip=false", "model.vocab_size=8", "engine.precision=fp32"]
    assert len({key(), *(key(override) for override in other)}) == 6
    assert make_run(imagenet(root), "other images").run_key != key()
    ours, theirs = (make_run(imagenet(root, *o), "x").settings for o in ((), ("recipe.adversarial.layers=2",)))
    assert difference(ours, theirs) == "recipe.adversarial.layers is 3, there 2"
    assert difference(ours, ours) is None


def test_a_critic_that_would_never_start_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"adversarial.start_step: 8 leaves none of 8 steps; wanted less"):
        imagenet(root, *REDUCED, "recipe.adversarial.start_step=8")


def test_an_output_that_cannot_be_is_refused_before_anything_runs(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    study = imagenet(root, f"store={tmp_path / 'store'}", f"output={tmp_path / 'file' / 'vae.safetensors'}")
    with pytest.raises(UserError, match=r"file/vae\.safetensors: .* is a file; wanted a folder"):
        StudyPaths.of(study)


def test_a_finished_tokenizer_is_found_again_and_never_replaced_by_another(root: Path, tmp_path: Path) -> None:
    run, other = (make_run(imagenet(root, *REDUCED, f"recipe.lr={lr}"), "fingerprint") for lr in (1e-3, 2e-3))
    path = Location.of(tmp_path / "vae.safetensors")
    assert _finished(path, run) is None
    model = VQVAE(run.vqvae)
    facts = {"run_key": run.run_key, **run.settings, "validation": {"psnr_db": 20.0}}
    save_model(path, model, model.state_dict(), facts)
    finished = _finished(path, run)
    assert finished is not None
    assert finished.facts["validation"] == {"psnr_db": 20.0}
    with pytest.raises(
        UserError, match=r"holds another tokenizer \(recipe\.lr is 0\.002, there 0\.001\); name another"
    ):
        _finished(path, other)
