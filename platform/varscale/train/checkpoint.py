"""A checkpoint: what it holds, whether it is whole and unaltered, and which there are.

It is a folder with a part per rank, which the training writes (:mod:`varscale.train.state`), and one
``position.json`` that names what was trained, where it stood, and the digest of every other file. Ray Train moves the
folders to the store and keeps the latest; which one counts is decided here.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray.train
import torch.distributed as dist

from varscale.errors import UserError
from varscale.locations import Location
from varscale.train.peers import Rank

POSITION_FILE = "position.json"
LIBRARIES = ("torch", "deepspeed", "varscale")


@dataclass(frozen=True)
class Position:
    """What was trained, and where it stood."""

    step: int
    """Optimizer steps taken."""
    recorded: int
    """The last step of which figures had gone to the records."""
    run_id: str
    """MLflow run."""
    run_key: str
    """Digest of what decides the result."""
    name: str
    """What the training is called."""
    world_size: int
    zero_stage: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in the store."""

    folder: Location
    position: Position
    files: Mapping[str, str]
    """SHA-256 of each of its other files, by path inside the folder."""


def keep(position: Position, rank: Rank, save: Callable[[Path], None]) -> None:
    """Make a checkpoint; all ranks call this together.

    Args:
        save: writes this rank's part into a folder.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save(folder)
        written = {name: (Location.of(folder) / name).sha256() for name in Location.of(folder).files(recursive=True)}
        everyones = _of_all_ranks((written, uuid.uuid4().hex[:6]), rank)
        if rank.index == 0:
            versions = {library: version(library) for library in LIBRARIES}
            files = {name: digest for each, _ in everyones for name, digest in each.items()}
            content = {**asdict(position), "versions": versions, "files": files}
            Location.of(folder / POSITION_FILE).write_json(content)
        # One training can come by a step twice; Ray would delete both checkpoints of one name.
        name = f"step_{position.step:07d}-{everyones[0][1]}"
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"step": position.step}, checkpoint=checkpoint, checkpoint_dir_name=name)


def latest_step(store: Location) -> int:
    """Steps of the newest checkpoint in a training's folder, to tell people; 0 where none is."""
    names = (path for path in store.files(recursive=True) if path.endswith(POSITION_FILE))
    return max((int(name.removeprefix("step_")[:7]) for name in names if name.startswith("step_")), default=0)


def newest_first(store: Location, rank: Rank) -> list[Checkpoint | Location]:
    """The checkpoints in a training's folder, as rank 0 sees them; of one without a readable position its folder."""
    if rank.index:
        return _of_all_ranks([], rank)[0]
    names = {path.partition("/")[0] for path in store.files(recursive=True) if path.startswith("step_")}
    return _of_all_ranks([_read(store / name) for name in sorted(names, reverse=True)], rank)[0]


def _read(folder: Location) -> Checkpoint | Location:
    try:
        content = json.loads((folder / POSITION_FILE).read_bytes())
        fields = {name: content[name] for name in Position.__dataclass_fields__}
        return Checkpoint(folder, Position(**fields), content["files"])
    except (UserError, ValueError, KeyError, TypeError):
        return folder


@contextmanager
def on_this_node(checkpoint: Checkpoint) -> Iterator[Path]:
    """A checkpoint's folder as a path; a copy for the length of the block where the store is no file system."""
    folder = checkpoint.folder
    with ray.train.Checkpoint(folder.path, folder.filesystem).as_directory() as name:
        yield Path(name)


def damage(checkpoint: Checkpoint, rank: Rank) -> str | None:
    """What is wrong with a checkpoint's files, if anything is; ranks call it together and share the reading."""
    mine = sorted(checkpoint.files.items())[rank.index :: rank.world_size]
    found = [f"{name} {fault}" for name, digest in mine if (fault := _fault(checkpoint.folder / name, digest))]
    return next((fault for each in _of_all_ranks(found, rank) for fault in each), None)


def _fault(file: Location, digest: str) -> str | None:
    if not file.is_file():
        return "is missing"
    return None if file.sha256() == digest else "is not what was written"


def _of_all_ranks(own: Any, rank: Rank) -> list[Any]:
    """What each rank gives, by rank."""
    if rank.world_size == 1:
        return [own]
    everyones: list[Any] = [None] * rank.world_size
    dist.all_gather_object(everyones, own)
    return everyones
