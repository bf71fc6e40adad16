"""A rank's share of every global batch of tokens; the next step's is read while a step computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from varscale.data.loader import TokenShards
from varscale.data.order import SampleOrder

Batch = tuple[torch.Tensor, torch.Tensor]


class TokenBatches:
    """Batches of tokens that were made before.

    Args:
        batch: images of the global batch.
        share: how many of them are this worker's, from ``rank × share`` on.
    """

    def __init__(self, shards: TokenShards, seed: int, batch: int, share: int, rank: int) -> None:
        self._shards, self._order = shards, SampleOrder(len(shards), seed)
        self._batch, self._share, self._rank = batch, share, rank
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._ahead: dict[int, Future[Batch]] = {}

    def take(self, step: int) -> Batch:
        """Tokens int64 [share, L] and labels int64 [share] of ``step``; asked for in ascending order.

        Raises:
            UserError: a shard's content is not what was written, naming file and row.
        """
        now = self._ahead.get(step) or self._reader.submit(self._read, step)
        self._ahead = {step + 1: self._reader.submit(self._read, step + 1)}
        return now.result()

    def _read(self, step: int) -> Batch:
        rows, epochs = self._order.take(step * self._batch + self._rank * self._share, self._share)
        tokens, labels = self._shards.batch(rows, epochs)
        return torch.from_numpy(tokens), torch.from_numpy(labels)
