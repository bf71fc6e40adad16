"""A checkpoint: what it holds, whether it is whole, and who can go on from it.

It is a folder with a part per rank, which the training writes, and one ``position.json``. Ray Train keeps the folders
and counts one only when every rank has handed its part over; the latest of those counts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import ray.train

from varscale.locations import Location
from varscale.train.peers import Rank

POSITION_FILE = "position.json"
RAY_LIST = "checkpoint_manager_snapshot.json"
"""Ray Train's own list of the checkpoints that count."""


@dataclass(frozen=True)
class Position:
    """Where a training stood, and how many ranks' parts hold its state."""

    step: int
    """Optimizer steps taken."""
    recorded: int
    """The last step of which figures had gone to the records."""
    world_size: int
    zero_stage: int = 0
    """0, as of tokenizers: every rank's part holds the whole state."""
    run_id: str = ""
    """MLflow run; older checkpoints do not say."""

    def unreadable_by(self, rank: Rank, zero_stage: int) -> str | None:
        """Why ranks like this one cannot take the parts over; None if they can."""
        if (self.zero_stage, zero_stage) == (0, 0) or (self.world_size, self.zero_stage) == (
            rank.world_size,
            zero_stage,
        ):
            return None
        return f"is of {self.world_size} workers at ZeRO stage {self.zero_stage}, not {rank.world_size} at {zero_stage}"


def read_position(folder: Path) -> Position | None:
    """What a checkpoint says of itself; None if it is not whole."""
    try:
        return Position(**json.loads((folder / POSITION_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def keep(position: Position, rank: Rank, save: Callable[[Path], None]) -> None:
    """Make a checkpoint; all ranks call this together.

    Args:
        save: writes this rank's part into a folder.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save(folder)
        if rank.index == 0:
            Location.of(folder / POSITION_FILE).write_json(asdict(position))
        # A run that starts again beside another's checkpoints must not write to their names: Ray would delete both.
        name = f"step_{position.step:07d}-{position.run_id[:8]}"
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"step": position.step}, checkpoint=checkpoint, checkpoint_dir_name=name)


def latest_step(folder: Location) -> int:
    """Step of the checkpoint that counts in Ray Train's ``folder`` of a run; 0 if there is none."""
    path = folder / RAY_LIST
    latest = json.loads(path.read_bytes())["latest_checkpoint_result"] if path.is_file() else None
    return latest["metrics"]["step"] if latest else 0


@contextmanager
def latest() -> Iterator[Path | None]:
    """Folder of the checkpoint that counts, on this node while the block runs, if there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as name:
        yield Path(name)
