"""What both trainings share: a worker's place among its peers, and who is told of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

LOG_EVERY = 16
"""Steps between records of training figures, each the mean over those steps."""


class Observer(Protocol):
    """Who is told of the run; every rank calls, so that collective work can be done inside."""

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Figures after ``step`` optimizer steps."""

    def on_checkpoint(self, step: int) -> None:
        """The moment to save resumable state."""


@dataclass(frozen=True)
class Place:
    """This worker among its peers."""

    rank: int
    world_size: int
    device: torch.device
