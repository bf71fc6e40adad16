"""What is recorded of training: means over the steps since the last record, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from lawfit.records import schema
from varscale.train.peers import Rank


class Window:
    """Figures of the steps since the last record, and the time that they took.

    Args:
        batch: images per step, all ranks' together.
    """

    def __init__(self, rank: Rank, batch: int) -> None:
        self._rank, self._batch = rank, batch
        self._figures: list[dict[str, torch.Tensor]] = []
        self._clock = _Clock()

    def add(self, figures: dict[str, torch.Tensor]) -> None:
        """Take in a step's scalars; a name may be missing from some steps, on all ranks alike."""
        self._figures.append(figures)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time of the block is not training's."""
        stopped = self._clock.elapsed()
        yield
        self._clock = _Clock(before=stopped)

    def cpu_seconds(self) -> float:
        """CPU seconds of all ranks' steps since the last record; ranks ask together."""
        return self._over_ranks([torch.tensor(self._clock.elapsed()[1], dtype=torch.float64)])[0]

    def close(self) -> dict[str, float]:
        """Means over the window and all ranks, images per second, all ranks' CPU seconds; a new window begins."""
        names = sorted({name for figures in self._figures for name in figures})
        means = [torch.stack([f[name].double().cpu() for f in self._figures if name in f]).mean() for name in names]
        seconds, cpu_seconds = self._clock.elapsed()
        *totals, cpu_seconds = self._over_ranks([*means, torch.tensor(cpu_seconds, dtype=torch.float64)])
        metrics = {name: total / self._rank.world_size for name, total in zip(names, totals, strict=True)}
        metrics |= {schema.IMAGES_PER_S: len(self._figures) * self._batch / seconds, schema.CPU_SECONDS: cpu_seconds}
        self._figures, self._clock = [], _Clock()
        return metrics

    def _over_ranks(self, figures: list[torch.Tensor]) -> list[float]:
        """Sums of scalars over all ranks."""
        sums = torch.stack(figures).to(self._rank.device)
        if self._rank.world_size > 1:
            dist.all_reduce(sums)
        return sums.tolist()


class _Clock:
    """Wall and CPU seconds of this process since it was made, and before."""

    def __init__(self, before: tuple[float, float] = (0.0, 0.0)) -> None:
        self._wall, self._cpu = time.monotonic() - before[0], time.process_time() - before[1]

    def elapsed(self) -> tuple[float, float]:
        return time.monotonic() - self._wall, time.process_time() - self._cpu
