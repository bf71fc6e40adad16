"""Weights averaged over training, which are smoother than the last ones and the ones that are kept."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
WARM_UP = 10
"""Decay after n steps is at most n / (n + 9): early averages must not hold on to the initial weights."""


class AveragedModel(Generic[M]):
    """An exponential moving average of a model's parameters; buffers are those of the last update."""

    def __init__(self, model: M, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, model: M, step: int) -> None:
        """Take in the weights after ``step`` (counted from 0)."""
        decay = min(self._decay, (step + 1) / (step + WARM_UP))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for kept, current in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
