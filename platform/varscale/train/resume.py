"""Which step a training starts from: that of its latest checkpoint where these ranks can go on from it, else 0."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from lawfit.records import schema
from varscale.plan.batch_split import BatchSplit
from varscale.train.checkpoint import Position, latest, read_position
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
    start = _restored(job, rank, load, zero_stage)
    if rank.index == 0:
        facts = {
            schema.RESOURCES_WORLD_SIZE: rank.world_size,
            schema.ENGINE_ZERO_STAGE: zero_stage,
            schema.ENGINE_MICRO_BATCH: split.micro_batch,
            schema.ENGINE_ACCUMULATION: split.accumulation,
        }
        job.records.attempt(job.run_id, facts, start)
    return start


def _restored(job: Job, rank: Rank, load: Callable[[Path], None], zero_stage: int) -> int:
    """The step of the checkpoint that was loaded, or 0."""
    with latest() as folder:
        if folder is None:
            return 0
        position = read_position(folder)
        if position and not (reason := _hindrance(position, job, rank, zero_stage)):
            load(folder)
            return position.step
    which = f"at step {position.step} {reason}" if position else "is not whole"
    log.warning("the latest checkpoint %s: starting again", which)
    return 0


def _hindrance(position: Position, job: Job, rank: Rank, zero_stage: int) -> str | None:
    """Why a checkpoint must not be gone on from, if it must not.

    It can outlive its records (a run deleted, another database): going on from it would leave a run that holds only
    the end of its curves.
    """
    if reason := position.unreadable_by(rank, zero_stage):
        return reason
    reaches = job.records.last_step(job.run_id) >= position.recorded
    return None if reaches else "goes further than the records of its run"
