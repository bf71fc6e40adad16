"""Training of a tokenizer: resuming against never stopping, two workers against one; real engines and processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from training_log import Log

from lawfit.records import schema
from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.loader import ImageShards
from varscale.models.discriminator import PatchDiscriminator
from varscale.plan.tokenizer import TokenizerRun, make_run
from varscale.spec.files import load_tokenizer_study
from varscale.train.peers import Rank
from varscale.train.tokenizer.loop import TokenizerData, TokenizerTraining, train

ROOT = Path(__file__).resolve().parents[2]
STEPS, SAVED = 10, 6
SETTINGS = [
    "data={source: x, image_size: 16, flip: true}",
    "model={vocab_size: 32, z_channels: 4, ch: 8, ch_mult: [1, 2], num_res_blocks: 1, patch_nums: [1, 2, 4, 8],"
    " norm_groups: 4, level_attention: false}",
    "recipe={steps: 10, batch: 8, lr: 2.0e-3, revive_every: 4, ema_decay: 0.9,"
    " adversarial: {start_step: 3, channels: 8, layers: 2}}",
    "evaluation={points: 2, batch: 3}",
    f"checkpoints.every_steps={SAVED}",
]


def resolved(*overrides: str) -> TokenizerRun:
    study = load_tokenizer_study(ROOT / "studies" / "tokenizer-emoji32.yaml", [*SETTINGS, *overrides])
    return make_run(study, "fingerprint")


def outcome(
    run: TokenizerRun,
    images: Path,
    rank: Rank,
    start: Path | None = None,
    save: Path | None = None,
    discriminator: nn.Module | None = None,
) -> tuple[dict[str, torch.Tensor], list[tuple[int, dict[str, float]]]]:
    """All that training changed, both engines' weights and moments included, and what it reported."""
    study = load_tokenizer_study(ROOT / "studies" / "tokenizer-emoji32.yaml", SETTINGS)
    data = TokenizerData(
        ImageShards(images, "train"), ImageShards(images, "val"), ViewRule.of(study.data), study.evaluation
    )
    training = TokenizerTraining(run, rank, None, discriminator)
    if start:
        training.load(start)
    log = Log(lambda step: training.save(save) if save else None)
    train(training, data, log, SAVED if start else 0)
    state = {f"average.{k}": v for k, v in training.average.model.state_dict().items()}
    for name, engine in (("tokenizer", training._engine), ("critic", training._critic)):
        assert engine is not None
        state |= {f"{name}.{k}": v for k, v in engine.full_state_dict().items()}
        for parameter, weight in engine.module.named_parameters():
            moments = engine._engine.optimizer.state.get(weight, {})
            state |= {f"{name}.{parameter}.{k}": v for k, v in moments.items()}
    return {k: v.clone() for k, v in state.items()} | {"hits": training.usage.hits}, log.metrics


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name].float() - b[name].float()).abs().max().item() for name in a)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def images(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "images"
    ingest(picture_folder, folder, IngestOptions(size=18))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        "engine.precision=fp32",
        "engine.precision=bf16",
        "recipe.muon={lr: 1.0e-3}",
        "recipe.revive_every=3",
        "recipe.quantize_from=0.7",
    ],
)
def test_resumed_training_equals_uninterrupted_to_the_last_bit(
    alone: Rank, images: Path, tmp_path: Path, change: str
) -> None:
    run = resolved(change)
    whole, log = outcome(run, images, alone, save=tmp_path)
    resumed, resumed_log = outcome(run, images, alone, start=tmp_path)
    assert largest_difference(whole, resumed) == 0
    assert resumed_log[-1] == log[-1]  # the last validation
    assert min(step for step, _ in resumed_log) >= SAVED
    # The first record comes after the checkpoint: the time of the steps before it is in the checkpoint all the same.
    saved = safetensors.torch.load_file(tmp_path / "state.safetensors")["cpu_seconds"].item()
    assert 0 < saved < max(figures.get("perf/cpu_seconds", 0) for _, figures in resumed_log)
    untrained = TokenizerTraining(run, alone, None).average.model.state_dict()
    assert not torch.equal(whole["average.encoder.conv_in.weight"], untrained["encoder.conv_in.weight"])


def test_accumulated_micro_batches_train_as_one_batch(alone: Rank, images: Path) -> None:
    plain = "recipe.adversarial.adaptive=false"  # the adaptive weight is each micro-batch's own
    once, _ = outcome(resolved(plain), images, alone)
    twice, _ = outcome(resolved(plain, "engine.micro_batch=4"), images, alone)
    names = [name for name in once if name.startswith("average.") and "hit" not in name]
    assert max((once[n] - twice[n]).abs().max().item() for n in names) < 1e-4


def test_without_the_quantizer_codes_wait_until_they_are_made(alone: Rank, images: Path) -> None:
    state, metrics = outcome(resolved("recipe.quantize_from=0.5", "recipe.weight_decay=0.0"), images, alone)
    assert [step for step, found in metrics if "val/psnr_db" in found] == [6, STEPS]
    assert state["hits"].sum() == 5 % 4 * 8 * 85  # steps since the last revival
    assert metrics[-1][1]["val/codes_used_percent"] > 20


def test_codes_learn_at_their_own_rate(alone: Rank, images: Path) -> None:
    slow, fast = (outcome(resolved(f"recipe.codebook_lr_scale={scale}"), images, alone)[0] for scale in (1e-6, 1.0))
    name = "tokenizer.tokenizer.quantize.embedding.weight"
    assert not torch.equal(slow[name], fast[name])


def test_any_discriminator_can_be_handed_in(alone: Rank, images: Path) -> None:
    class Half(PatchDiscriminator):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return super().forward(pictures[:, :, ::2, ::2])

    torch.manual_seed(0)
    state, metrics = outcome(resolved(), images, alone, discriminator=Half(8, 1))
    assert state["critic.main.0.weight"].shape == (8, 3, 4, 4)
    assert metrics[-2][1]["train/discriminator"] > 0


def test_a_loss_that_is_not_finite_ends_the_run(alone: Rank, images: Path) -> None:
    _, metrics = outcome(resolved("recipe.lr=1.0e+30"), images, alone)
    assert not metrics[-1][1][schema.TRAIN_LOSS] < float("inf")
    assert schema.VAL + schema.PSNR not in metrics[-1][1]


def _rank(rank: int, port: int, folder: Path, images: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    this, run = Rank(rank, 2, torch.device("cpu")), resolved("resources.workers=2")
    whole, metrics = outcome(run, images, this, save=folder / "checkpoint")
    resumed, _ = outcome(run, images, this, start=folder / "checkpoint")
    torch.save((whole, resumed, metrics), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_train_as_one_and_resume_exactly(alone: Rank, images: Path, tmp_path: Path) -> None:
    mp.start_processes(_rank, (free_port(), tmp_path, images), nprocs=2, start_method="spawn")
    (first, resumed, metrics), (second, _, _) = (
        torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert largest_difference(first, second) == 0
    assert largest_difference(first, resumed) == 0
    one, one_metrics = outcome(resolved(), images, alone)
    assert torch.equal(first["hits"], one["hits"])  # every token of the global batch, revived codes included
    for (step, found), (wanted_step, wanted) in zip(metrics, one_metrics, strict=True):
        assert (step, found.keys()) == (wanted_step, wanted.keys())
        for name in found:
            if not name.startswith("perf/"):
                assert found[name] == pytest.approx(wanted[name], rel=1e-5, abs=1e-6), (step, name)
    carried, _ = outcome(resolved(), images, alone, start=tmp_path / "checkpoint")
    assert (carried["average.decoder.conv_out.weight"] - first["average.decoder.conv_out.weight"]).abs().max() < 1e-5
