"""DeepSpeed ZeRO against plain AdamW, and resuming against never stopping; two real processes where it takes two."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from training_log import Log

from varscale.data.batches import TokenBatches
from varscale.data.order import SampleOrder
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import StoredModel
from varscale.models.var import is_decayed
from varscale.models.vqvae import VQVAE
from varscale.plan.cells import Cell, Inputs, make_plan
from varscale.spec.files import load_study
from varscale.train.cell import loop
from varscale.train.peers import Rank

ROOT = Path(__file__).resolve().parents[2]
SCALES = (1, 2, 4)
STEPS, SAVED = 8, 4


class Tokens:
    """Token shards in memory: 64 images, 2 views."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.tokens = rng.integers(0, 32, (64, 2, 21)).astype(np.uint16)
        self.labels = rng.integers(0, 5, 64)

    def __len__(self) -> int:
        return 64

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.tokens[rows, epochs % 2].astype(np.int64), self.labels[rows]

    def first_views(self) -> np.ndarray:
        return self.tokens[:, 0]


def cell(stage: int, workers: int, accumulation: int = 1, precision: str = "fp32") -> Cell:
    aspect = 96 if stage == 3 else 8  # DeepSpeed shards no parameter of fewer than 100,000 values
    study = load_study(
        ROOT / "studies" / "quickstart.yaml",
        [
            f"sizes={{depths: [2], aspect: {aspect}}}",
            "budget.images=64",
            "optimizer={batch: 8, peak_lr: 0.01, reference_batch: 8, label_dropout: 0, adaln_gamma: 0.5}",
            f"engine={{zero_stage: {stage}, micro_batch: {8 // workers // accumulation}, precision: {precision}}}",
            f"resources={{workers: {workers}}}",
            f"checkpoints.every_steps={SAVED}",
            "evaluation.points=3",
        ],
    )
    planned = make_plan(study, Inputs(5, 32, 4, SCALES, "t"))[0]
    return dataclasses.replace(planned, shape=dataclasses.replace(planned.shape, drop_path=0.0))  # type: ignore[type-var]


def build(of: Cell, rank: Rank) -> tuple[StoredModel, loop.TrainingData]:
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEConfig(32, 4, 8, (1, 1), 1, SCALES, norm_groups=4)).requires_grad_(False)
    model = of.family.new_model(of.shape, of.optimizer, False)
    share = of.split(rank.world_size).share
    batches = TokenBatches(Tokens(0), of.seed, of.batch, share, rank.index)  # type: ignore[arg-type]
    return model, loop.TrainingData(batches, Tokens(1), vqvae.quantize, 16)  # type: ignore[arg-type]


def train(of: Cell, rank: Rank, start: Path | None = None, save: Path | None = None) -> tuple[Log, dict]:
    model, data = build(of, rank)
    engine = loop.new_engine(of, model, rank)
    if start:
        engine.load(start)
    log = Log(lambda step: engine.save(save) if save else None)
    loop.train(of, data, engine, rank, log, SAVED if start else 0)
    return log, engine.full_state_dict()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def plain_training(of: Cell) -> dict[str, torch.Tensor]:
    """The same steps in plain torch."""
    model, data = build(of, Rank(0, 1, torch.device("cpu")))
    groups = [
        {"params": [p for n, p in model.named_parameters() if is_decayed(n, p)], "weight_decay": 0.05},
        {"params": [p for n, p in model.named_parameters() if not is_decayed(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=of.lr, betas=of.optimizer.betas)
    order, shards = SampleOrder(64, of.seed), Tokens(0)
    for step in range(of.steps):
        tokens, labels = shards.batch(*order.take(step * of.batch, of.batch))
        for group in optimizer.param_groups:
            group["lr"] = of.lr * loop.lr_factor(
                step, of.steps, of.warmup_steps, "lin0", of.optimizer.final_lr_fraction
            )
        loss = of.family.loss(model, data.quantizer, torch.from_numpy(tokens), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), of.optimizer.clip)
        optimizer.step()
    return model.state_dict()


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max((a[name].float() - b[name].float()).nan_to_num(0, 0, 0).abs().max().item() for name in a)


@pytest.mark.parametrize(("stage", "accumulation"), [(1, 1), (1, 2), (2, 1), (3, 1)])
def test_zero_takes_the_steps_of_plain_adamw(alone: Rank, stage: int, accumulation: int) -> None:
    of = cell(stage, 1, accumulation)
    log, weights = train(of, alone)
    assert largest_difference(weights, plain_training(of)) < 2e-5
    assert log.last("flops") == of.flops
    assert log.last("train/grad_norm") > 0


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bf16_trains_like_fp32(alone: Rank, stage: int) -> None:
    half, _ = train(cell(stage, 1, precision="bf16"), alone)
    full, _ = train(cell(stage, 1), alone)
    assert half.last("val/loss") == pytest.approx(full.last("val/loss"), rel=0.01)
    assert half.last("val/loss") != full.last("val/loss")


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_resumed_training_equals_uninterrupted(alone: Rank, stage: int, tmp_path: Path) -> None:
    of = cell(stage, 1)
    log, whole = train(of, alone, save=tmp_path)
    resumed_log, resumed = train(of, alone, start=tmp_path)
    assert largest_difference(whole, resumed) == 0
    assert resumed_log.last("val/loss") == log.last("val/loss")
    assert resumed_log.metrics[0][0] > 4


def _rank(rank: int, port: int, folder: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    this = Rank(rank, 2, torch.device("cpu"))
    for stage in (1, 2, 3):
        checkpoint = folder / f"checkpoint-stage{stage}"
        log, weights = train(cell(stage, 2), this, save=checkpoint)
        _, resumed = train(cell(stage, 2), this, start=checkpoint)
        torch.save((log.metrics, weights, resumed), folder / f"rank{rank}-stage{stage}.pt")
    dist.destroy_process_group()


def test_two_processes_train_as_one(alone: Rank, tmp_path: Path) -> None:
    mp.start_processes(_rank, (free_port(), tmp_path), nprocs=2, start_method="spawn")
    for stage in (1, 2, 3):
        log, weights = train(cell(stage, 1), alone)
        results = [torch.load(tmp_path / f"rank{rank}-stage{stage}.pt", weights_only=True) for rank in (0, 1)]
        assert largest_difference(results[0][1], results[1][1]) == 0
        assert largest_difference(results[0][1], results[0][2]) == 0  # resumed equals uninterrupted
        assert largest_difference(results[0][1], weights) < 1e-4  # weights move by 0.05 in these steps
        for name in ("train/loss", "val/loss", "val/loss_last", "val/error", "val/error_last"):
            values = [
                [m[name] for _, m in metrics if name in m] for metrics in (results[0][0], results[1][0], log.metrics)
            ]
            assert values[0] == values[1]
            assert values[0] == pytest.approx(values[2], rel=1e-4)
