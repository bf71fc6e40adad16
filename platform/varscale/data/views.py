"""Batches of pixels: the views that training and validation of a tokenizer see, as functions of seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from varscale.data.images import ViewRule, random_crop, resized, validation_view
from varscale.data.loader import ImageShards
from varscale.data.order import SampleOrder

PICTURED = 16
KEPT_BYTES = 2**30
"""Data sets that fit here once decoded are decoded once, not every epoch."""


class TrainingViews:
    """One worker's share of every global batch. While a step computes, threads decode the next one.

    Args:
        batch: images of the global batch.
        share: how many of them are this worker's, from ``rank × share`` on.
    """

    def __init__(
        self, shards: ImageShards, rule: ViewRule, seed: int, batch: int, share: int, rank: int, threads: int
    ) -> None:
        self._shards, self._rule, self._seed = shards, rule, seed
        self._batch, self._share, self._rank = batch, share, rank
        self._order = SampleOrder(len(shards), seed)
        self._kept: dict[int, np.ndarray] = {}
        self._keeps = len(shards) * 3 * round(rule.resize_ratio * rule.size) ** 2 <= KEPT_BYTES
        self._pool = ThreadPoolExecutor(threads)
        self._ahead: dict[int, list[Future[np.ndarray]]] = {}

    def __enter__(self) -> TrainingViews:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, step: int) -> np.ndarray:
        """Views uint8 [share, 3, S, S] of ``step``; asked for in ascending order."""
        views = self._ahead.pop(step, None) or self._begin(step)
        self._ahead = {step + 1: self._begin(step + 1)}
        return np.stack([view.result() for view in views])

    def _begin(self, step: int) -> list[Future[np.ndarray]]:
        rows, epochs = self._order.take(step * self._batch + self._rank * self._share, self._share)
        return [self._pool.submit(self._view, int(r), int(e)) for r, e in zip(rows, epochs, strict=True)]

    def _view(self, row: int, epoch: int) -> np.ndarray:
        image = self._kept.get(row)
        if image is None:
            image = resized(self._shards.encoded(row), self._rule)
            if self._keeps:
                self._kept[row] = image
        return random_crop(image, self._rule, self._seed, self._shards.key(row), epoch)


def validation_batches(
    shards: ImageShards, rule: ViewRule, count: int, batch: int, rank: int = 0, world_size: int = 1
) -> Iterator[np.ndarray]:
    """Centre views uint8 [≤ batch, 3, S, S] of the first ``count`` images, every ``world_size``-th from ``rank``."""
    rows = range(rank, count, world_size)
    for start in range(0, len(rows), batch):
        yield np.stack([validation_view(shards.encoded(row), rule) for row in rows[start : start + batch]])


def shown_views(shards: ImageShards, rule: ViewRule) -> np.ndarray:
    """Centre views uint8 [≤ PICTURED, 3, S, S] of images evenly spread over the split: what pictures show."""
    rows = np.linspace(0, len(shards) - 1, min(PICTURED, len(shards))).round().astype(int)
    return np.stack([validation_view(shards.encoded(row), rule) for row in rows])
