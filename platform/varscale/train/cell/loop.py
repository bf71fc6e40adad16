"""The training of one cell, step by step. Knows torch, tokens and an engine; nothing of Ray or MLflow.

Step t trains on samples t·batch … (t+1)·batch - 1 of the seeded order, and its random numbers belong to (seed, t,
image): a run takes the same steps on any number of workers, and however often it stops and resumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from lawfit.records import schema
from varscale.data.loader import TokenShards
from varscale.evaluate.loss import validation_metrics
from varscale.models.quantizer import MultiScaleQuantizer
from varscale.models.store import StoredModel
from varscale.plan.batch_split import BatchSplit
from varscale.plan.cells import Cell
from varscale.plan.schedule import lr_factor, weight_decay_at
from varscale.train.cell.draws import draws
from varscale.train.engine import EngineSettings, ZeroEngine
from varscale.train.peers import Observer, Rank
from varscale.train.window import Window


class Batches(Protocol):
    """What training gets its tokens from."""

    def take(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's share of global batch ``step``: tokens int64 [share, L], labels int64 [share]; steps ascend."""


@dataclass(frozen=True)
class TrainingData:
    """What all steps draw on."""

    train: Batches
    val: TokenShards
    quantizer: MultiScaleQuantizer
    """That of the frozen tokenizer, on the worker's device."""
    evaluation_batch: int


def new_engine(cell: Cell, model: StoredModel, rank: Rank) -> ZeroEngine:
    """An engine that trains ``model`` as the cell says, on as many ranks as there are."""
    optimizer = torch.optim.AdamW(
        cell.family.parameter_groups(model), lr=cell.lr, betas=cell.optimizer.betas, fused=True
    )
    settings = EngineSettings(cell.optimizer.clip, cell.split(rank.world_size), cell.zero_stage, cell.precision)
    return ZeroEngine(model, optimizer, settings, rank.device)


def train(cell: Cell, data: TrainingData, engine: ZeroEngine, rank: Rank, observer: Observer, start: int) -> None:
    """Train from step ``start`` to the end, validating and checkpointing on the way."""
    window, cadence, split = Window(rank, cell.batch), cell.cadence, cell.split(rank.world_size)
    engine.module.train()
    for step in range(start, cell.steps):
        factor = lr_factor(
            step, cell.steps, cell.warmup_steps, cell.optimizer.schedule, cell.optimizer.final_lr_fraction
        )
        result = engine.step(
            micro_batches(split, data.train, _own_draws(cell, step, rank), step, rank),
            lambda model, batch: cell.family.loss(model, data.quantizer, *batch),
            cell.lr * factor,
            _weight_decay(cell, step),
        )
        window.add({schema.TRAIN_LOSS: result.loss, schema.GRAD_NORM: torch.tensor(result.grad_norm)})
        done = step + 1
        if cadence.records(done):
            observer.on_metrics(done, {**_figures(cell, window), schema.LR: cell.lr * factor, **_flops(cell, done)})
        if cadence.validates(done):
            with window.paused():
                observer.on_metrics(done, _validate(cell, data, engine, rank, done))
        if cadence.saves(done):
            with window.paused():
                observer.on_checkpoint(done)


def _validate(cell: Cell, data: TrainingData, engine: ZeroEngine, rank: Rank, step: int) -> dict[str, float]:
    metrics = validation_metrics(
        engine.module,  # type: ignore[arg-type]
        data.quantizer,
        data.val.first_views(),
        data.val.labels,
        data.evaluation_batch,
        rank.index,
        rank.world_size,
    )
    return {**metrics, **_flops(cell, step)}


def _figures(cell: Cell, window: Window) -> dict[str, float]:
    """A window's means and speed."""
    means = window.close()
    speed = means[schema.IMAGES_PER_S]
    means.pop(schema.CPU_SECONDS)
    return {**means, schema.FLOPS_PER_S: speed * cell.costs.flops_per_image}


def _flops(cell: Cell, step: int) -> dict[str, float]:
    return {schema.FLOPS: flops_at(cell, step)}


def flops_at(cell: Cell, step: int) -> float:
    """Training FLOPs spent after ``step`` steps."""
    return float(step * cell.batch * cell.costs.flops_per_image)


def micro_batches(
    split: BatchSplit, batches: Batches, drawn: np.ndarray, step: int, rank: Rank
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """This rank's share of a step in parts: tokens int64 [micro_batch, L], labels int64 [micro_batch], and draws.

    Args:
        drawn: float32 [share, d], the random numbers of the share's images.
    """
    whole = (*batches.take(step), torch.from_numpy(drawn))
    for i in range(split.accumulation):
        part = slice(i * split.micro_batch, (i + 1) * split.micro_batch)
        tokens, labels, own = (tensor[part].to(rank.device) for tensor in whole)
        yield tokens, labels, own


def _own_draws(cell: Cell, step: int, rank: Rank) -> np.ndarray:
    """float32 [share, d]: rank r trains on the r-th share of each global batch."""
    share = cell.split(rank.world_size).share
    everyones = draws(cell.seed, step, cell.batch, cell.family.draws_per_image(cell.shape))
    return everyones[rank.index * share : (rank.index + 1) * share]


def _weight_decay(cell: Cell, step: int) -> float:
    start, end = cell.optimizer.weight_decay, cell.optimizer.final_weight_decay
    return start if end is None else weight_decay_at(step, cell.steps, start, end)
