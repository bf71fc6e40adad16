"""Batches of pixels: the views that training and validation of a tokenizer see, as functions of seed and step alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from types import TracebackType

import numpy as np

from varscale.data.images import ImageError, ViewRule, random_crop, resized, validation_view
from varscale.data.loader import ImageShards
from varscale.data.order import SampleOrder
from varscale.errors import EnvironmentalError, UserError

PICTURED = 16
KEPT_BYTES = 2**30
"""Data sets that fit here once decoded are decoded once, not every epoch."""
STEPS_AHEAD = 2
"""Steps whose views are made before they are asked for: one may take longer than the step that hides it."""

Samples = list[tuple[int, int]]
"""Rows, each with the epoch that sees it."""


class TrainingViews:
    """One worker's share of every global batch, made while the steps before compute.

    A data set that is small once decoded is kept so, and threads cut its views. Of any other each view is decoded anew:
    in processes, as many as the worker has CPUs; with one CPU in a thread, for there a process would gain nothing.

    Args:
        batch: images of the global batch.
        share: how many of them are this worker's, from ``rank × share`` on.
    """

    def __init__(
        self, shards: ImageShards, rule: ViewRule, seed: int, batch: int, share: int, rank: int, cpus: int
    ) -> None:
        self._batch, self._share, self._rank, self._cpus = batch, share, rank, cpus
        self._order = SampleOrder(len(shards), seed)
        keeps = len(shards) * 3 * round(rule.resize_ratio * rule.size) ** 2 <= KEPT_BYTES
        self._cutter = _Cutter(shards, rule, seed, keeps)
        self._in_processes = cpus > 1 and not keeps
        self._pool: Executor = _processes(self._cutter, cpus) if self._in_processes else ThreadPoolExecutor(cpus)
        self._ahead: dict[int, list[Future[np.ndarray]]] = {}

    def __enter__(self) -> TrainingViews:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, step: int) -> np.ndarray:
        """Views uint8 [share, 3, S, S] of ``step``; fastest where steps ascend.

        Raises:
            UserError: an image that is none, naming file and row.
            EnvironmentalError: a process that decodes was ended from outside.
        """
        wanted = range(step, step + 1 + STEPS_AHEAD)
        try:
            self._ahead = {s: self._ahead.get(s) or self._begin(s) for s in wanted}
            return np.concatenate([piece.result() for piece in self._ahead.pop(step)])
        except BrokenProcessPool as error:
            raise EnvironmentalError("a process that decodes images was ended, as when memory runs out") from error

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and epochs, int64 [share] each, of the views of ``step``."""
        return self._order.take(step * self._batch + self._rank * self._share, self._share)

    def _begin(self, step: int) -> list[Future[np.ndarray]]:
        """Start on a step, a piece for each CPU."""
        rows, epochs = (found.tolist() for found in self.samples(step))
        samples = list(zip(rows, epochs, strict=True))
        size = -(-len(samples) // self._cpus)
        views = _views_here if self._in_processes else self._cutter.views
        return [self._pool.submit(views, samples[i : i + size]) for i in range(0, len(samples), size)]


class _Cutter:
    """Makes views of rows. Picklable: other processes open the shards themselves."""

    def __init__(self, shards: ImageShards, rule: ViewRule, seed: int, keeps: bool) -> None:
        self._shards, self._rule, self._seed, self._keeps = shards, rule, seed, keeps
        self._kept: dict[int, np.ndarray] = {}

    def views(self, samples: Samples) -> np.ndarray:
        """Views uint8 [samples, 3, S, S]."""
        return np.stack(
            [random_crop(self._image(row), self._rule, self._seed, self._shards.key(row), e) for row, e in samples]
        )

    def _image(self, row: int) -> np.ndarray:
        image = self._kept.get(row)
        if image is None:
            image = self._decoded(row)
            if self._keeps:
                self._kept[row] = image
        return image

    def _decoded(self, row: int) -> np.ndarray:
        encoded = self._shards.encoded(row)
        try:
            return resized(encoded, self._rule)
        except ImageError as error:
            raise UserError(f"{self._shards.place(row)}: not a readable image: {error}") from error


def _processes(cutter: _Cutter, count: int) -> ProcessPoolExecutor:
    """Processes that hold the cutter. Spawned: a forked one would inherit locks of the threads of torch and Ray."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _enter, (cutter,))


_here: _Cutter
"""The cutter of a process that does nothing else."""


def _enter(cutter: _Cutter) -> None:
    global _here
    _here = cutter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, and we end with it
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its pool, which would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _views_here(samples: Samples) -> np.ndarray:
    return _here.views(samples)


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
