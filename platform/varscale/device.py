"""Where tensors live: the accelerator a worker was given, or the CPU."""

from __future__ import annotations

import torch


def best_device(accelerators: int) -> torch.device:
    """The current accelerator if this worker was given any and one is there, else the CPU."""
    if accelerators and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")
