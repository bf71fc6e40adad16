"""Between a training loop and Ray: figures go to the records, checkpoints to Ray Train and back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray.train

from lawfit.records import schema
from varscale.plan.cells import Cell
from varscale.plan.tokenizer import TokenizerRun
from varscale.records import Records
from varscale.storage import write_json
from varscale.train.peers import Place

POSITION_FILE = "position.json"


class RayObserver:
    """Sends figures to the records and checkpoints to Ray Train.

    Args:
        run_id: MLflow run.
        save: writes this rank's state into a folder, with the position in training.
        facts: what a checkpoint's position says besides step and number of workers.
    """

    def __init__(
        self,
        records: Records,
        run_id: str,
        place: Place,
        save: Callable[[Path, dict[str, int]], None],
        facts: dict[str, int] | None = None,
    ) -> None:
        self._records, self._run_id, self._place, self._save = records, run_id, place, save
        self._facts = {"world_size": place.world_size, **(facts or {})}
        self._recorded = -1

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self._recorded = step
        if self._place.rank == 0:
            self._records.log(self._run_id, step, metrics)

    def on_checkpoint(self, step: int) -> None:
        position = {"step": step, "recorded": self._recorded, **self._facts}
        if self._place.rank == 0:
            self._records.flush()  # no record may be lost that a resume would pass over
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            self._save(folder, position)
            if self._place.rank == 0:
                write_json(folder / POSITION_FILE, position)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            # A run that starts again beside another's checkpoints must not write to their names: Ray would delete both.
            name = f"step_{step:07d}-{self._run_id[:8]}"
            ray.train.report({"step": step}, checkpoint=checkpoint, checkpoint_dir_name=name)


def attempt_facts(place: Place, zero_stage: int, split: Cell | TokenizerRun) -> dict[str, int]:
    """What an attempt at a run runs on, as the records keep it."""
    return {
        schema.RESOURCES_WORLD_SIZE: place.world_size,
        schema.ENGINE_ZERO_STAGE: zero_stage,
        schema.ENGINE_MICRO_BATCH: split.micro_batch,
        schema.ENGINE_ACCUMULATION: split.accumulation,
    }


@contextmanager
def latest_checkpoint() -> Iterator[tuple[Path, dict[str, int]] | None]:
    """Folder and position of the latest checkpoint, if there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as name:
        yield Path(name), json.loads((Path(name) / POSITION_FILE).read_text())


def records_reach(records: Records, run_id: str, position: dict[str, int]) -> bool:
    """Whether the run's records go as far as they had gone at a checkpoint.

    A checkpoint can outlive its records (a run deleted, another database): going on from it would leave a run that
    holds only the end of its curves.
    """
    return records.last_step(run_id) >= position["recorded"]
