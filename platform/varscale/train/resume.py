"""Which step a training starts from: that of its latest checkpoint where these ranks can go on from it, else 0."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from lawfit.records import schema
from varscale.locations import Location
from varscale.plan.batch_split import BatchSplit
from varscale.train.checkpoint import Checkpoint, damage, newest_first, on_this_node
from varscale.train.job import Job
from varscale.train.peers import Rank

log = logging.getLogger(__name__)


def resume(job: Job, rank: Rank, load: Callable[[Path], None], zero_stage: int, split: BatchSplit) -> int:
    """Begin an attempt: restore the latest checkpoint if it can be gone on from; return the step to start from.

    Ranks call this together.

    Args:
        load: restores this rank's part from a folder.
        zero_stage, split: how these ranks train.
    """
    start = _restored(job, rank, load)
    if rank.index == 0:
        facts = {
            schema.RESOURCES_WORLD_SIZE: rank.world_size,
            schema.ENGINE_ZERO_STAGE: zero_stage,
            schema.ENGINE_MICRO_BATCH: split.micro_batch,
            schema.ENGINE_ACCUMULATION: split.accumulation,
        }
        job.records.attempt(job.run_id, facts, start)
    return start


def _restored(job: Job, rank: Rank, load: Callable[[Path], None]) -> int:
    """The step of the checkpoint that was loaded, or 0."""
    for found in newest_first(job.checkpoints, rank):
        if isinstance(found, Location):
            _pass_over(found, "has no position that this version reads", rank)
        elif hindrance := _hindrance(found, job) or damage(found, rank):
            _pass_over(found.folder, hindrance, rank)
        else:
            with on_this_node(found) as folder:
                load(folder)
            return found.position.step
    return 0


def _pass_over(folder: Location, reason: str, rank: Rank) -> None:
    if rank.index == 0:
        log.warning("checkpoint %s: %s; going on from the one before, or from the start", folder.name, reason)


def _hindrance(checkpoint: Checkpoint, job: Job) -> str | None:
    """Why a checkpoint must not be gone on from, if it must not.

    It can outlive its records (a run deleted, another database): going on from it would leave a run that holds only
    the end of its curves.
    """
    position = checkpoint.position
    if position.run_key != job.run_key:
        return f"is of another training, {position.name}"
    reaches = job.records.last_step(job.run_id) >= position.recorded
    return None if reaches else "goes further than the records of its run"
