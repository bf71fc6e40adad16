"""The random numbers of a step: they belong to its images, so they do not know how many workers share the batch."""

from __future__ import annotations

import numpy as np


def draws(seed: int, step: int, images: int, per_image: int) -> np.ndarray:
    """float32 [images, per_image], uniform in [0, 1): row i is image i's of global batch ``step``.

    From Philox (Salmon et al. 2011), a counter-based generator, keyed by (seed, step): no state to keep or restore.
    """
    key = np.random.SeedSequence((seed, step))
    return np.random.Generator(np.random.Philox(key)).random((images, per_image), dtype=np.float32)
