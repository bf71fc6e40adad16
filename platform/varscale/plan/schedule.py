"""Learning rate and weight decay by step (docs/MODEL.md 3), in pure Python."""

from __future__ import annotations

import math

WARMUP_START = 0.005
"""Share of the peak learning rate at the first step of the warm-up."""
FLAT_SHARES = {"lin0": 0.05, "lin": 0.15, "lin00": 0.0, "exp": 0.15}
"""Share of the steps after warm-up that stay at the peak, by schedule."""


def lr_factor(step: int, steps: int, warmup: float, schedule: str, final: float) -> float:
    """Learning rate at ``step`` of ``steps``, as a share of the peak.

    Args:
        warmup: steps of the linear warm-up.
        schedule: one of ``lin0``, ``lin``, ``lin00``, ``exp``, ``cos``, or ``lin<T>`` with T in (0, 1).
        final: share of the peak at the last step.
    """
    if step < round(warmup):
        return WARMUP_START + (1 - WARMUP_START) * step / warmup
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    if schedule == "cos":
        return final + (1 - final) * (0.5 + 0.5 * math.cos(math.pi * progress))
    if schedule not in FLAT_SHARES:
        return _two_lines(progress, float(schedule.removeprefix("lin")), final)
    flat = FLAT_SHARES[schedule]
    if progress < flat:
        return 1.0
    if schedule == "exp":
        return math.exp((progress - flat) / (1 - flat) * math.log(final))
    return final + (1 - final) * (1 - progress) / (1 - flat)


def _two_lines(progress: float, turn: float, final: float) -> float:
    """``lin<T>``: one line from 1 to the turn at T, a steeper one from there to ``final``."""
    middle = (1 + final + (1 - final) * (1 - turn)) / 2
    if progress < turn:
        return 1 + (middle - 1) * progress / turn
    return final + (middle - final) * (1 - progress) / (1 - turn)


def weight_decay_at(step: int, steps: int, start: float, end: float) -> float:
    """Weight decay at ``step``: a cosine from ``start`` to ``end`` over the whole run."""
    return end + (start - end) * (0.5 + 0.5 * math.cos(math.pi * step / max(steps - 1, 1)))
