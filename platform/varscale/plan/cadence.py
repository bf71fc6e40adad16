"""When a training records its figures, validates and saves."""

from __future__ import annotations

from dataclasses import dataclass

LOG_EVERY = 16
"""Steps between records of training figures, each the mean over those steps."""


@dataclass(frozen=True)
class Cadence:
    """What is due after how many steps; ``done`` counts the steps taken, from 1."""

    steps: int
    """Optimizer steps in all."""
    evaluate_at: tuple[int, ...]
    """Steps after which validation runs, the last one included."""
    checkpoint_every: int

    def records(self, done: int) -> bool:
        """Whether the figures since the last record are due."""
        return done % LOG_EVERY == 0 or done == self.steps

    def validates(self, done: int) -> bool:
        """Whether a validation is due."""
        return done in self.evaluate_at

    def saves(self, done: int) -> bool:
        """Whether a checkpoint is due; none is at the end, where the model is exported."""
        return done % self.checkpoint_every == 0 and done < self.steps


def evaluation_steps(steps: int, warmup: int, points: int) -> tuple[int, ...]:
    """About ``points`` steps, log-spaced from the end of warm-up to the last: a frontier is read on a log axis."""
    first = max(warmup, 1)
    spaced = (round(first * (steps / first) ** (i / (points - 1))) for i in range(points))
    return tuple(sorted({min(step, steps) for step in spaced} | {steps}))
