"""Shards as they are opened: what is refused before an image or a token is read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varscale.data.cache import LocalShards
from varscale.data.schema import IMAGE_SCHEMA, ImageManifest, Shard, TokenManifest
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

OPENING_THREADS = 8


def shards_of(manifest: ImageManifest | TokenManifest, split: str, folder: Location) -> tuple[Shard, ...]:
    """The shards of a split.

    Raises:
        UserError: there is no such split, or nothing in it.
    """
    if split not in manifest.splits:
        raise UserError(f"{folder}: no split '{split}'; it has {', '.join(manifest.splits)}")
    if not sum(shard.rows for shard in manifest.splits[split]):
        raise UserError(f"{folder}: split '{split}' is empty; wanted at least one row")
    return manifest.splits[split]


def first_rows(shards: Sequence[Shard]) -> np.ndarray:
    """First row of each shard, int64 [shards]."""
    return np.cumsum([0, *(shard.rows for shard in shards)])[:-1]


def overlapping(shards: tuple[Shard, ...], start: int, stop: int) -> tuple[tuple[Shard, ...], tuple[Shard, ...], int]:
    """The shards that hold rows ``start`` … ``stop``-1, the one behind them if any, and how many rows stand before."""
    begins = first_rows(shards)
    chosen = [i for i, shard in enumerate(shards) if begins[i] < stop and begins[i] + shard.rows > start]
    first, end = chosen[0], chosen[-1] + 1
    return shards[first:end], shards[end : end + 1], int(begins[first])


def read_columns(local: LocalShards, shards: Sequence[Shard], columns: list[str]) -> list[pa.Table]:
    """These columns of image shards, one table per shard.

    Raises:
        UserError: a shard is missing, cut short, damaged, of another schema, or has gaps in a column.
    """

    def read(shard: Shard) -> pa.Table:
        place, file = local.place(shard), open_image_shard(local, shard)
        try:
            table = file.read(columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise read_failure(f"{place}: rows 0-{shard.rows - 1}", error) from error
        for name in columns:
            if table[name].null_count:
                raise UserError(f"{place}: column '{name}' has gaps; wanted a value in every row")
        return table

    with ThreadPoolExecutor(OPENING_THREADS) as pool:
        return list(pool.map(read, shards))


def open_image_shard(local: LocalShards, shard: Shard) -> pq.ParquetFile:
    """An image shard, opened and of the right schema.

    Raises:
        UserError: damaged, of another schema, or with other rows than the manifest says.
    """
    return as_image_shard(str(local.path(shard)), local.place(shard), shard)


def as_image_shard(source: str | pa.NativeFile, place: Location, shard: Shard) -> pq.ParquetFile:
    """:func:`open_image_shard` of a path or a stream, raising as it does; ``place`` stands in messages."""
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise read_failure(str(place), error) from error
    if not file.schema_arrow.equals(IMAGE_SCHEMA):
        raise UserError(f"{place}: columns are {named(file.schema_arrow)}; wanted {named(IMAGE_SCHEMA)}")
    if file.metadata.num_rows != shard.rows:
        raise UserError(f"{place}: {file.metadata.num_rows} rows where the manifest says {shard.rows}")
    return file


def check_labels(place: Location, labels: np.ndarray, classes: int) -> None:
    """Refuse labels [rows] of the shard at ``place`` that name no class.

    Raises:
        UserError: naming the first of them.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f"{place}: row {wrong[0]} has label {labels[wrong[0]]}; allowed 0-{classes - 1}, as the manifest names"
            f" {classes} classes"
        )


def named(schema: pa.Schema) -> str:
    """A schema in one line."""
    return "{" + ", ".join(f"{field.name}: {field.type}" for field in schema) + "}"


def read_failure(where: str, error: Exception) -> UserError | EnvironmentalError:
    """What to raise for a failed read: the system's own failures have a number, all others are the file's."""
    if isinstance(error, OSError) and error.errno is not None:
        return EnvironmentalError(f"{where}: {error}")
    return UserError(f"{where}: not readable: {str(error).splitlines()[0]}")
