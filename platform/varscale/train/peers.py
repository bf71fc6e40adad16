"""What every training knows of its surroundings: its rank among the workers, and what is told of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class Observer(Protocol):
    """What is told of the run; every rank calls, so that collective work can be done inside."""

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Figures after ``step`` optimizer steps."""

    def on_checkpoint(self, step: int) -> None:
        """The moment to save resumable state."""


@dataclass(frozen=True)
class Rank:
    """One worker among its peers."""

    index: int
    """Rank 0 writes what is written once."""
    world_size: int
    device: torch.device
