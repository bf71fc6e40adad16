"""Keys and images that occur more than once in a data set, whichever of its shards they are in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from varscale.data.checks.problems import Problem, Problems
from varscale.data.checks.shard_files import DIGEST_BYTES, ShardFacts
from varscale.data.schema import Shard


def check_repeats(parts: list[tuple[str, Shard]], facts: list[ShardFacts], problems: Problems) -> None:
    """Note repeats: of a key as an error; of an image under two keys as a warning, since many sources hold some.

    Args:
        parts: split and shard of each of ``facts``.
    """
    listing = _Listing.of(parts, facts)
    for later, first in _repeats(listing.keys):
        what = f"the key of {listing.place(first)} again"
        problems.add(listing.problem(later, "repeated key", what, "allowed once in all splits", warning=False))
    for later, first in _repeats(listing.images):
        splits = listing.split(first), listing.split(later)
        kind = "repeated image" if splits[0] == splits[1] else "image in two splits"
        what = f"the image of {listing.place(first)} (key {listing.key(first)}) again"
        allowed = (
            "allowed" if splits[0] == splits[1] else f"allowed, but {splits[1]} is no longer apart from {splits[0]}"
        )
        problems.add(listing.problem(later, kind, what, allowed, warning=True))


def _repeats(values: pa.ChunkedArray) -> Iterator[tuple[int, int]]:
    """Position of every value that was there before, and of its first occurrence."""
    codes = values.combine_chunks().dictionary_encode().indices.to_numpy()
    firsts = np.unique(codes, return_index=True)[1][codes]
    for later in np.flatnonzero(firsts != np.arange(len(codes))).tolist():
        yield later, int(firsts[later])


@dataclass(frozen=True)
class _Listing:
    """All keys of a data set, one after another, and where they stand."""

    parts: list[tuple[str, Shard]]
    part: np.ndarray
    row: np.ndarray
    keys: pa.ChunkedArray
    images: pa.ChunkedArray

    @staticmethod
    def of(parts: list[tuple[str, Shard]], facts: list[ShardFacts]) -> _Listing:
        part = np.repeat(np.arange(len(facts)), [len(found.rows) for found in facts])
        row = np.concatenate([np.zeros(0, np.int64), *(np.asarray(found.rows, np.int64) for found in facts)])
        keys = pa.chunked_array([found.keys for found in facts], pa.large_string())
        images = pa.chunked_array([found.images for found in facts], pa.binary(DIGEST_BYTES))
        return _Listing(parts, part, row, keys, images)

    def split(self, position: int) -> str:
        return self.parts[self.part[position]][0]

    def file(self, position: int) -> str:
        return self.parts[self.part[position]][1].file

    def key(self, position: int) -> str:
        return self.keys[position].as_py()

    def place(self, position: int) -> str:
        return f"{self.file(position)} row {self.row[position]}"

    def problem(self, position: int, kind: str, what: str, allowed: str, warning: bool) -> Problem:
        return Problem(
            kind, self.file(position), what, allowed, int(self.row[position]), self.key(position), warning=warning
        )
