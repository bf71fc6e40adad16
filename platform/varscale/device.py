"""Where tensors live: the accelerator a worker was given, or the CPU, and how its memory is kept."""

from __future__ import annotations

import ctypes
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt(3)."""


def best_device(accelerators: int) -> torch.device:
    """The current accelerator if this worker was given any and one is there, else the CPU."""
    if accelerators and torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")


def keep_freed_memory() -> None:
    """Have this process keep the memory it frees, for the next tensor; call before threads start. glibc only.

    By default every large tensor is mapped afresh and its pages are zeroed by the kernel as they are first touched,
    hundreds of times a training step (``benchmarks/train_step.py`` prints what that costs).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 2**30)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(M_ARENA_MAX, 1)
