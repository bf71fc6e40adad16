"""Between a training loop and its surroundings: figures go to the records, state into checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from varscale.train import checkpoint
from varscale.train.job import Job
from varscale.train.peers import Rank


class RayObserver:
    """Sends figures to the records and checkpoints to Ray Train.

    Args:
        save: writes this rank's part of the state into a folder.
        zero_stage: how the parts hold it.
    """

    def __init__(self, job: Job, rank: Rank, save: Callable[[Path], None], zero_stage: int) -> None:
        self._job, self._rank, self._save, self._zero_stage = job, rank, save, zero_stage
        self._recorded = -1

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self._recorded = step
        if self._rank.index == 0:
            self._job.records.log(self._job.run_id, step, metrics)

    def on_checkpoint(self, step: int) -> None:
        if self._rank.index == 0:
            self._job.records.flush()  # no record may be lost that a resume would pass over
        job, rank = self._job, self._rank
        position = checkpoint.Position(
            step, self._recorded, job.run_id, job.run_key, job.name, rank.world_size, self._zero_stage
        )
        checkpoint.keep(position, self._rank, self._save)
