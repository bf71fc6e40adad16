"""The small columns of image shards, and chosen images: what can be known without reading a data set whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varscale.data.checks.shard_files import UNREADABLE, one_line
from varscale.data.schema import Shard
from varscale.errors import UserError
from varscale.locations import Location
from varscale.progress import Progress

READERS = 8
"""Shards read at once: object storage answers slowly, and a disk likes a queue."""
R = TypeVar("R")


@dataclass(frozen=True)
class Columns:
    """Columns of all rows of one shard, in order."""

    shard: Shard
    group_rows: tuple[int, ...]
    """Rows of each row group."""
    labels: np.ndarray
    widths: np.ndarray
    heights: np.ndarray


def all_columns(dest: Location, shards: Iterable[Shard]) -> list[Columns]:
    """Labels, widths and heights of all images.

    Raises:
        UserError: a shard is missing, unreadable or of another schema.
    """
    return list(over_shards(lambda shard: _columns(dest, shard), list(shards)))


def over_shards(read: Callable[[Shard], R], shards: list[Shard]) -> Iterator[R]:
    """``read(shard)`` of each shard, several at once, in order."""
    progress = Progress("read", sum(shard.rows for shard in shards), "rows")
    with ThreadPoolExecutor(READERS) as pool:
        for shard, result in zip(shards, pool.map(read, shards), strict=True):
            progress.advance(shard.rows)
            yield result
    progress.close()


def group_images(dest: Location, shard: Shard, group: int) -> pa.ChunkedArray:
    """Encoded images of one row group; raises as :func:`all_columns`."""
    with readable(dest, shard), (dest / shard.file).open() as stream:
        return pq.ParquetFile(stream).read_row_group(group, columns=["image"])["image"]


@contextmanager
def readable(dest: Location, shard: Shard) -> Iterator[None]:
    """What fails in the block is the shard's fault: a UserError tells how to find out more."""
    try:
        yield
    except UNREADABLE as error:
        more = f"'varscale data verify {dest}' says what is wrong"
        raise UserError(f"{dest / shard.file}: not readable: {one_line(error)}; {more}") from error


def _columns(dest: Location, shard: Shard) -> Columns:
    with readable(dest, shard), (dest / shard.file).open() as stream:
        file = pq.ParquetFile(stream)
        rows = tuple(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        table = file.read(columns=["label", "width", "height"])
        return Columns(shard, rows, *(table[name].to_numpy() for name in ("label", "width", "height")))
