"""Which parameters weight decay pulls towards zero, as groups that an optimizer takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether a parameter is neither 1-D nor a bias: what AdamW usually decays."""
    return parameter.dim() != 1 and not name.endswith("bias")


def groups_by_decay(
    model: nn.Module, is_decayed: Callable[[str, torch.Tensor], bool] = is_matrix
) -> list[dict[str, Any]]:
    """The trained parameters of ``model`` in two groups, ``decayed`` True and False."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = ((decayed, [p for name, p in named if is_decayed(name, p) == decayed]) for decayed in (True, False))
    return [{"params": params, "decayed": decayed} for decayed, params in groups]
