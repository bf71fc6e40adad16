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
from varscale.families.catalogue import family_named
from varscale.families.family import AnyFamily, Costs, Shape, TokenFacts
from varscale.identity import cell_key
from varscale.plan.batch_split import BatchSplit, batch_split
from varscale.plan.cadence import Cadence, evaluation_steps
from varscale.spec.study import Engine, Optimizer, Resources, Study

GIB = 2**30


@dataclass(frozen=True)
class Inputs(TokenFacts):
    """What a plan needs to know of the data and the tokenizer."""

    tokens_key: str
    """Digest of the tokens a study trains on; empty while they do not exist."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    name: str
    depth: int
    seed: int
    family: AnyFamily
    shape: Shape
    costs: Costs
    optimizer: Optimizer
    lr: float
    """Peak learning rate."""
    cadence: Cadence
    warmup_steps: int
    largest_micro_batch: int | None
    """Most images per forward pass on one worker; None is a worker's share of the batch."""
    zero_stage: int
    precision: str
    activation_checkpointing: bool
    resources: Resources
    memory_bytes: int
    """Predicted for each worker."""
    run_key: str

    @property
    def batch(self) -> int:
        """Global batch in images."""
        return self.optimizer.batch

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.cadence.steps

    @property
    def images(self) -> int:
        """Training images seen."""
        return self.steps * self.batch

    @property
    def tokens(self) -> int:
        """Training tokens seen."""
        return self.images * sum(side * side for side in self.shape.patch_nums)

    @property
    def flops(self) -> int:
        """Training FLOPs of the whole run."""
        return self.costs.flops_per_image * self.images

    def split(self, workers: int) -> BatchSplit:
        """What each of so many workers does of a step; UserError where the batch does not divide among them."""
        return _split(self.optimizer, self.largest_micro_batch, self.depth, workers)


def make_plan(study: Study, inputs: Inputs) -> tuple[Cell, ...]:
    """The cells of a study, smallest first.

    Raises:
        UserError: a batch that does not divide, or a size that fits no ZeRO stage.
    """
    return tuple(_cell(study, inputs, depth) for depth in sorted(study.sizes.depths))


def _cell(study: Study, inputs: Inputs, depth: int) -> Cell:
    optimizer, engine, resources = study.optimizer.at(depth), study.engine.at(depth), study.resources.at(depth)
    family = family_named(study.sizes.family)
    shape = family.shape(depth, inputs, study.sizes, optimizer)
    steps = math.ceil(study.budget.images / optimizer.batch)
    warmup = round(optimizer.warmup_fraction * steps)
    micro_batch = _split(optimizer, engine.micro_batch, depth, resources.workers).micro_batch
    zero_stage, memory = _zero_stage(family, shape, engine, resources, micro_batch, depth)
    return Cell(
        name=f"d{depth}-s{study.seed}",
        depth=depth,
        seed=study.seed,
        family=family,
        shape=shape,
        costs=family.costs(shape),
        optimizer=optimizer,
        lr=_peak_lr(optimizer, shape.width),
        cadence=Cadence(steps, evaluation_steps(steps, warmup, study.evaluation.points), study.checkpoints.every_steps),
        warmup_steps=warmup,
        largest_micro_batch=engine.micro_batch,
        zero_stage=zero_stage,
        precision=engine.precision,
        activation_checkpointing=engine.activation_checkpointing,
        resources=resources,
        memory_bytes=memory,
        run_key=cell_key(study, inputs.tokens_key, shape, optimizer, engine, steps),
    )


def _split(optimizer: Optimizer, largest: int | None, depth: int, workers: int) -> BatchSplit:
    return batch_split(optimizer.batch, workers, largest, "optimizer.batch", f" at depth {depth}")


def _peak_lr(optimizer: Optimizer, width: int) -> float:
    by_width = optimizer.reference_width / width if optimizer.reference_width else 1.0
    return optimizer.peak_lr * optimizer.batch / optimizer.reference_batch * by_width


def _zero_stage(
    family: AnyFamily, shape: Shape, engine: Engine, resources: Resources, micro_batch: int, depth: int
) -> tuple[int, int]:
    """ZeRO stage and predicted bytes per worker: the lowest stage that fits, for higher ones communicate more."""
    stages = (1, 2, 3) if engine.zero_stage == "auto" else (engine.zero_stage,)
    for stage in stages:
        memory = family.worker_bytes(shape, micro_batch, stage, resources.workers, engine)
        if memory <= resources.memory_gib * GIB:
            return stage, memory
    raise UserError(
        f"resources.memory_gib: depth {depth} needs {memory / GIB:.1f} GiB a worker at ZeRO stage {stage} with"
        f" {resources.workers} workers and micro-batch {micro_batch}; allowed are {resources.memory_gib:g}"
    )


def check_frontier(cells: Sequence[Cell]) -> None:
    """See before training that the fit of a frontier finds enough on each curve, without its start.

    Raises:
        UserError: naming the size with too few validations.
    """
    for cell in cells:
        counted = sum(step >= SKIP_FRACTION * cell.steps for step in cell.cadence.evaluate_at)
        if counted < 2:
            raise UserError(
                f"evaluation.points: {cell.name} has {counted} validation after the first {SKIP_FRACTION:.0%} of its"
                f" {cell.steps:,} steps; a frontier needs 2: give more points, or a larger budget.images"
            )
