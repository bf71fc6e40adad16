"""What a training's workers are given, whatever is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from varscale.locations import Location
from varscale.records import Records


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training with what it needs of its surroundings; the folders must be visible to every worker."""

    output: Location
    """Where what comes of it goes. Nothing does if training diverges."""
    facts: dict[str, Any]
    """Written into the header of the exported file."""
    run_id: str
    """MLflow run."""
    name: str
    run_key: str
    """Digest of what decides the result."""
    checkpoints: Location
    """Folder of this training's checkpoints, which Ray Train fills."""
    records: Records
    cache_bytes: int
    """Most that a node's copies of shards in object storage may take."""
