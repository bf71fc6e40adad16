"""From a study to its cells: pure functions of the specification and of what data and tokenizer turned out to be.

A cell is one training run, with every number resolved. Its ``run_key`` is a digest of what decides its result (how
batches are split among workers moves it only within noise, and is left out), so a finished cell is recognised and
never trained twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lawfit.approaches.frontier import SKIP_FRACTION
from varscale.errors import UserError
from varscale.identity import cell_key
from varscale.models import accounting
from varscale.models.shapes import VARConfig
from varscale.spec.study import Engine, Optimizer, Resources, Sizes, Study

GIB = 2**30


@dataclass(frozen=True)
class Inputs:
    """What a plan needs to know of the data and the tokenizer."""

    num_classes: int
    vocab_size: int
    z_channels: int
    patch_nums: tuple[int, ...]
    tokens_key: str
    """Digest of the tokens a study trains on; empty while they do not exist."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    name: str
    depth: int
    seed: int
    var: VARConfig
    optimizer: Optimizer
    lr: float
    """Peak learning rate."""
    steps: int
    warmup_steps: int
    micro_batch: int
    accumulation: int
    zero_stage: int
    precision: str
    activation_checkpointing: bool
    resources: Resources
    checkpoint_every: int
    evaluate_at: tuple[int, ...]
    """Steps after which validation runs, the last one included."""
    n_paper: int
    n_params: int
    memory_bytes: int
    """Predicted, a worker."""
    run_key: str

    @property
    def batch(self) -> int:
        """Global batch in images."""
        return self.optimizer.batch

    @property
    def images(self) -> int:
        """Training images seen."""
        return self.steps * self.batch

    @property
    def tokens(self) -> int:
        """Training tokens seen."""
        return self.images * self.var.seq_len

    @property
    def flops_per_image(self) -> int:
        """Training FLOPs an image."""
        return accounting.training_flops(self.var, 1)

    @property
    def flops(self) -> int:
        """Training FLOPs of the whole run."""
        return self.flops_per_image * self.images


def make_plan(study: Study, inputs: Inputs) -> tuple[Cell, ...]:
    """The cells of a study, smallest first.

    Raises:
        UserError: a batch that does not divide, or a size that fits no ZeRO stage.
    """
    return tuple(_cell(study, inputs, depth) for depth in sorted(study.sizes.depths))


def _cell(study: Study, inputs: Inputs, depth: int) -> Cell:
    optimizer, engine, resources = study.optimizer.at(depth), study.engine.at(depth), study.resources.at(depth)
    var = _shape(study.sizes, optimizer, inputs, depth)
    steps = math.ceil(study.budget.images / optimizer.batch)
    warmup = round(optimizer.warmup_fraction * steps)
    micro_batch, accumulation = _batch_split(optimizer, engine, resources, depth)
    zero_stage, memory = _zero_stage(var, engine, resources, micro_batch, depth)
    return Cell(
        name=f"d{depth}-s{study.seed}",
        depth=depth,
        seed=study.seed,
        var=var,
        optimizer=optimizer,
        lr=_peak_lr(optimizer, var.width),
        steps=steps,
        warmup_steps=warmup,
        micro_batch=micro_batch,
        accumulation=accumulation,
        zero_stage=zero_stage,
        precision=engine.precision,
        activation_checkpointing=engine.activation_checkpointing,
        resources=resources,
        checkpoint_every=study.checkpoints.every_steps,
        evaluate_at=evaluation_steps(steps, warmup, study.evaluation.points),
        n_paper=accounting.paper_params(depth, var.width),
        n_params=accounting.exact_params(var),
        memory_bytes=memory,
        run_key=cell_key(study, inputs.tokens_key, var, optimizer, engine, steps),
    )


def _shape(sizes: Sizes, optimizer: Optimizer, inputs: Inputs, depth: int) -> VARConfig:
    return VARConfig.of_depth(
        depth,
        num_classes=inputs.num_classes,
        vocab_size=inputs.vocab_size,
        z_channels=inputs.z_channels,
        patch_nums=inputs.patch_nums,
        aspect=sizes.aspect,
        label_dropout=optimizer.label_dropout,
    )


def _peak_lr(optimizer: Optimizer, width: int) -> float:
    by_width = optimizer.reference_width / width if optimizer.reference_width else 1.0
    return optimizer.peak_lr * optimizer.batch / optimizer.reference_batch * by_width


def _batch_split(optimizer: Optimizer, engine: Engine, resources: Resources, depth: int) -> tuple[int, int]:
    """Micro-batch of a worker and number of accumulated ones, whose product times workers is the batch."""
    if optimizer.batch % resources.workers:
        raise UserError(
            f"optimizer.batch: {optimizer.batch} images do not divide among resources.workers {resources.workers}"
            f" at depth {depth}"
        )
    share = optimizer.batch // resources.workers
    micro_batch = min(engine.micro_batch or share, share)
    if share % micro_batch:
        raise UserError(
            f"engine.micro_batch: {micro_batch} does not divide the {share} images a worker takes at depth {depth}"
        )
    return micro_batch, share // micro_batch


def _zero_stage(var: VARConfig, engine: Engine, resources: Resources, micro_batch: int, depth: int) -> tuple[int, int]:
    """ZeRO stage and predicted bytes a worker: the lowest stage that fits, for higher ones communicate more."""
    half, checkpointing = engine.precision == "bf16", engine.activation_checkpointing
    stages = (1, 2, 3) if engine.zero_stage == "auto" else (engine.zero_stage,)
    for stage in stages:
        memory = accounting.worker_bytes(var, micro_batch, stage, resources.workers, half, checkpointing)
        if memory <= resources.memory_gib * GIB:
            return stage, memory
    raise UserError(
        f"resources.memory_gib: depth {depth} needs {memory / GIB:.1f} GiB a worker at ZeRO stage {stage} with"
        f" {resources.workers} workers and micro-batch {micro_batch}; allowed are {resources.memory_gib:g}"
    )


def evaluation_steps(steps: int, warmup: int, points: int) -> tuple[int, ...]:
    """About ``points`` steps, log-spaced from the end of warm-up to the last: a frontier is read on a log axis."""
    first = max(warmup, 1)
    spaced = (round(first * (steps / first) ** (i / (points - 1))) for i in range(points))
    return tuple(sorted({min(step, steps) for step in spaced} | {steps}))


def check_frontier(cells: Sequence[Cell]) -> None:
    """See before training that the fit of a frontier finds enough on each curve, without its start.

    Raises:
        UserError: naming the size with too few validations.
    """
    for cell in cells:
        counted = sum(step >= SKIP_FRACTION * cell.steps for step in cell.evaluate_at)
        if counted < 2:
            raise UserError(
                f"evaluation.points: {cell.name} has {counted} validation after the first {SKIP_FRACTION:.0%} of its"
                f" {cell.steps:,} steps; a frontier needs 2: give more points, or a larger budget.images"
            )
