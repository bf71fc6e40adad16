"""Counts by size and by shape, in bins that a person would choose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SINGLE = 8
"""So many different values each have a line of their own."""
FINE_SPAN = 64
"""Sizes that differ by more than this factor get bins of a factor 2, else √2."""
SHAPES = (
    ("below 1:2", 0.0),
    ("1:2 – 2:3", 1 / 2),
    ("2:3 – 3:4", 2 / 3),
    ("3:4 – 1:1", 3 / 4),
    ("square", 0.98),
    ("1:1 – 4:3", 1.02),
    ("4:3 – 3:2", 4 / 3),
    ("3:2 – 2:1", 3 / 2),
    ("above 2:1", 2.0),
)
"""Width : height, and where each bin begins."""


@dataclass(frozen=True)
class Bin:
    """How many images fall within some limits."""

    name: str
    images: int


def size_bins(pixels: np.ndarray) -> list[Bin]:
    """Bins of equal ratio over whole numbers of pixels [images]; one bin per value where there are few of them."""
    values, counts = np.unique(pixels, return_counts=True)
    if len(values) <= SINGLE:
        return [Bin(str(value), count) for value, count in zip(values.tolist(), counts.tolist(), strict=True)]
    step = 1 if values[-1] > FINE_SPAN * values[0] else 2  # bins a factor of 2
    first, last = (math.floor(step * math.log2(side)) for side in (values[0], values[-1]))
    edges = sorted({math.ceil(2 ** (k / step)) for k in range(first, last + 2)})
    found, _ = np.histogram(pixels, edges)
    names = [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in pairwise(edges)]
    return [Bin(name, count) for name, count in zip(names, found.tolist(), strict=True)]


def shape_bins(widths: np.ndarray, heights: np.ndarray) -> list[Bin]:
    """Bins of width : height, from both in pixels [images]; empty ones at both ends are left out."""
    edges = [edge for _, edge in SHAPES]
    found = np.bincount(np.searchsorted(edges, widths / heights, side="right") - 1, minlength=len(SHAPES))
    held = np.flatnonzero(found)
    return [Bin(SHAPES[i][0], int(found[i])) for i in range(held[0], held[-1] + 1)] if len(held) else []
