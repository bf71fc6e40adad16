"""The order of samples: fixed by seed and step, whoever asks.

The stream of samples is one seeded permutation of all images per epoch, end to end: sample s is position s mod rows of
epoch s div rows. Global batch g is samples g·B … (g+1)·B - 1, so "batch g of epoch e" is the batch that begins at
sample e·rows + g·B, wherever rows is a multiple of B; where it is not, a batch straddles two epochs and the next one
goes on from there. So no batch is ever partial, no image is left out, and a batch is a pure function of (seed, g):
a resume needs only the step, and ranks take slices of the same global batch, however many they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class SampleOrder:
    """The stream of (row, epoch) pairs over ``rows`` images."""

    rows: int
    seed: int

    def take(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and epochs, int64 [count] each, of samples start … start+count-1."""
        position = np.arange(start, start + count)
        epoch = position // self.rows
        row = np.empty(count, dtype=np.int64)
        for e in np.unique(epoch):
            here = epoch == e
            row[here] = _permutation(self.rows, self.seed, int(e))[position[here] % self.rows]
        return row, epoch


@lru_cache(maxsize=2)  # a batch may straddle two epochs; a permutation of a million rows takes longer than a batch
def _permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    permutation = np.random.default_rng((seed, epoch)).permutation(rows)
    permutation.setflags(write=False)
    return permutation
