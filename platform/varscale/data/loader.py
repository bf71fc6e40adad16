"""Reading shards back: encoded images by row, tokens by row. Memory holds labels and keys; the rest stays in files.

A file that is missing, cut short or of another schema is refused when the split is opened, at no cost that depends on
its size; a byte that changed is found when its row is read (CRC of each Parquet page) or soon after the first read
(sha256 of token shards, see :mod:`varscale.data.checksums`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varscale.data.recent import Recent
from varscale.data.schema import (
    IMAGE_SCHEMA,
    ImageManifest,
    Shard,
    TokenManifest,
    read_image_manifest,
    read_token_manifest,
    token_schema,
)
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

OPENING_THREADS = 8
OPEN_FILES = 128
"""Shards held open at once: many data sets have more than a process may open."""
KEPT_GROUPS = 4
"""Row groups of images kept decoded: threads that read in order stay within two."""


def check_sides(folder: str | Path | Location, split: str, side: int) -> None:
    """Refuse image shards that would have to be enlarged: what is reconstructed would not be what was stored.

    Raises:
        UserError: naming the first image whose shorter side is below ``side`` pixels.
    """
    place = Location.of(folder)
    shards = _shards_of(read_image_manifest(place), split, place)
    for table in _columns(place, shards, ["key", "width", "height"]):
        shorter = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())
        small = np.flatnonzero(shorter < side)
        if len(small):
            key, found = table["key"][int(small[0])], shorter[small[0]]
            raise UserError(f"{folder}: '{key}' is {found} px wide or high; wanted at least {side} px")


class ImageShards:
    """Encoded images of one split: all of them, or rows ``start`` … ``stop``-1, counted from 0 here.

    Keys and labels are in memory; images are read when asked for, a row group at a time. Threads may share one, and
    other processes get it pickled.

    Attributes:
        manifest: of the data set.
        labels: int64 [rows].
    """

    def __init__(self, folder: str | Path | Location, split: str, start: int = 0, stop: int | None = None) -> None:
        self._folder = Location.of(folder)
        self.manifest = read_image_manifest(self._folder)
        shards = _shards_of(self.manifest, split, self._folder)
        stop = self.manifest.rows(split) if stop is None else stop
        self._shards, skipped = _overlapping(shards, start, stop)
        self._first = start - skipped
        tables = _columns(self._folder, self._shards, ["key", "label"])
        for shard, table in zip(self._shards, tables, strict=True):
            _check_labels(self._folder / shard.file, table["label"].to_numpy(), len(self.manifest.classes))
        kept = pa.concat_tables(tables).slice(self._first, stop - start).combine_chunks()
        self._keys = kept["key"]
        self.labels = kept["label"].to_numpy().astype(np.int64)
        self._begins = _begins(self._shards)
        self._files: Recent[int, _ImageFile] = Recent(OPEN_FILES)
        self._groups: Recent[tuple[int, int], pa.ChunkedArray] = Recent(KEPT_GROUPS)

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, row: int) -> str:
        """Name of one image, unique in the data set."""
        return self._keys[row].as_py()

    def encoded(self, row: int) -> bytes:
        """PNG or JPEG bytes of one image.

        Raises:
            UserError: the shard's bytes are not those that were written, naming file and rows.
        """
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = int(np.searchsorted(self._begins, row + self._first, side="right")) - 1
        inside = row + self._first - int(self._begins[number])
        file = self._files.get(number, lambda: _ImageFile(self._folder, self._shards[number]))
        group = int(np.searchsorted(file.begins, inside, side="right")) - 1
        images = self._groups.get((number, group), lambda: file.images(group))
        return images[inside - int(file.begins[group])].as_py()


class _ImageFile:
    """One image shard, read by row group."""

    def __init__(self, folder: Location, shard: Shard) -> None:
        self._place, self._file = folder / shard.file, _parquet(folder, shard)
        self._lock = Lock()  # a Parquet reader is for one thread at a time
        counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self.begins = np.cumsum([0, *counts])
        """First row of each row group, and the end of the last: int64 [groups + 1]."""

    def images(self, group: int) -> pa.ChunkedArray:
        """Encoded images of one row group."""
        rows = f"rows {self.begins[group]}-{self.begins[group + 1] - 1}"
        try:
            with self._lock:
                images = self._file.read_row_group(group, columns=["image"], use_threads=False)["image"]
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(f"{self._place}: {rows}", error) from error
        if images.null_count:
            raise UserError(f"{self._place}: {rows}: an image is missing")
        return images


class _TokenFile(NamedTuple):
    """Where a token shard's rows lie, and their labels."""

    offset: int
    """Of the first token, in bytes."""
    labels: np.ndarray
    """int32 [rows]."""


class TokenShards:
    """Tokens of one split, read by row: a row is one ``pread`` of 2·L bytes from the page cache.

    Attributes:
        manifest: of the data set.
        labels: int64 [images].
    """

    def __init__(self, folder: str | Path | Location, split: str) -> None:
        self._folder = Location.of(folder)
        self.manifest: TokenManifest = read_token_manifest(self._folder)
        self._shards = _shards_of(self.manifest, split, self._folder)
        _check_files(self._folder, self._shards)
        self._views = self.manifest.views[split]
        self._length = sum(side * side for side in self.manifest.patch_nums)
        files = [self._layout(shard) for shard in self._shards]
        self._offsets = [file.offset for file in files]
        self.labels = np.concatenate([file.labels for file in files])[:: self._views].astype(np.int64)
        self._begins = _begins(self._shards)
        self._files: Recent[int, FileIO] = Recent(OPEN_FILES)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int64 [B, L] and labels int64 [B]; epoch e sees view e mod views of each image.

        Raises:
            UserError: a shard's content is not what was written, naming file and row.
        """
        return self._read(rows * self._views + epochs % self._views).astype(np.int64), self.labels[rows]

    def first_views(self) -> np.ndarray:
        """Tokens uint16 [images, L] of every image's first view; raises as :meth:`batch`."""
        return self._read(np.arange(len(self)) * self._views)

    def _layout(self, shard: Shard) -> _TokenFile:
        place = self._folder / shard.file
        try:
            with pa.memory_map(self._path(shard)) as mapped:
                start = mapped.read_buffer().address
                mapped.seek(0)
                return _token_file(place, pa.ipc.open_file(mapped), start, shard, self._length, self.manifest)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(str(place), error) from error

    def _path(self, shard: Shard) -> str:
        local = self._folder.local
        assert local is not None
        return str(local / shard.file)

    def _read(self, index: np.ndarray) -> np.ndarray:
        """Tokens uint16 [n, L] of rows ``index`` of the split, read in the order in which they lie."""
        order = np.argsort(index)
        numbers = np.searchsorted(self._begins, index[order], side="right") - 1
        tokens = np.empty((len(index), self._length), np.uint16)
        for number in np.unique(numbers):
            here = order[numbers == number]
            tokens[here] = self._read_shard(int(number), index[here] - self._begins[number])
        return tokens

    def _read_shard(self, number: int, rows: np.ndarray) -> np.ndarray:
        shard, size = self._shards[number], 2 * self._length
        file = self._files.get(number, lambda: FileIO(self._path(shard)))
        descriptor = file.fileno()
        pieces = [os.pread(descriptor, size, offset) for offset in (self._offsets[number] + rows * size).tolist()]
        content = b"".join(pieces)
        if len(content) < size * len(rows):
            short = next(int(row) for row, piece in zip(rows, pieces, strict=True) if len(piece) < size)
            raise UserError(f"{self._folder / shard.file}: row {short}: the file ends before it")
        tokens = np.frombuffer(content, np.uint16).reshape(len(rows), self._length)
        if int(tokens.max()) >= self.manifest.vocab_size:
            bad = int(np.argmax((tokens >= self.manifest.vocab_size).any(axis=1)))
            raise UserError(
                f"{self._folder / shard.file}: row {rows[bad]} has token {tokens[bad].max()};"
                f" allowed below {self.manifest.vocab_size}"
            )
        return tokens


def _token_file(
    place: Location, reader: pa.RecordBatchFileReader, start: int, shard: Shard, length: int, manifest: TokenManifest
) -> _TokenFile:
    """What is known of a token shard whose file lies in memory from address ``start``; only its ends are touched."""
    if not reader.schema.equals(token_schema(length)):
        raise UserError(f"{place}: columns are {_named(reader.schema)}; wanted {_named(token_schema(length))}")
    if reader.num_record_batches != 1:
        raise UserError(f"{place}: {reader.num_record_batches} record batches; wanted one")
    batch = reader.get_batch(0)
    if batch.num_rows != shard.rows:
        raise UserError(f"{place}: {batch.num_rows} rows where the manifest says {shard.rows}")
    if batch["label"].null_count or batch["tokens"].null_count:
        raise UserError(f"{place}: a label or tokens are missing")
    offset = batch["tokens"].values.buffers()[1].address - start
    if not 0 < offset <= shard.bytes - 2 * length * shard.rows:
        raise UserError(f"{place}: compressed; wanted an uncompressed file")
    labels = batch["label"].to_numpy().copy()
    _check_labels(place, labels, len(manifest.classes))
    return _TokenFile(offset, labels)


def _named(schema: pa.Schema) -> str:
    return "{" + ", ".join(f"{field.name}: {field.type}" for field in schema) + "}"


def _shards_of(manifest: ImageManifest | TokenManifest, split: str, folder: Location) -> tuple[Shard, ...]:
    """The shards of a split that has rows."""
    if split not in manifest.splits:
        raise UserError(f"{folder}: no split '{split}'; it has {', '.join(manifest.splits)}")
    if not sum(shard.rows for shard in manifest.splits[split]):
        raise UserError(f"{folder}: split '{split}' is empty; wanted at least one row")
    return manifest.splits[split]


def _begins(shards: Sequence[Shard]) -> np.ndarray:
    """First row of each shard, int64 [shards]."""
    return np.cumsum([0, *(shard.rows for shard in shards)])[:-1]


def _overlapping(shards: tuple[Shard, ...], start: int, stop: int) -> tuple[tuple[Shard, ...], int]:
    """The shards that hold rows ``start`` … ``stop``-1, and how many rows stand before them."""
    begins = _begins(shards)
    chosen = [i for i, shard in enumerate(shards) if begins[i] < stop and begins[i] + shard.rows > start]
    return tuple(shards[i] for i in chosen), int(begins[chosen[0]])


def _check_files(folder: Location, shards: Sequence[Shard]) -> None:
    """Refuse shards that are not there or whose size is not the manifest's."""
    found = folder.files()
    for shard in shards:
        if shard.file not in found:
            raise UserError(f"{folder / shard.file}: no such file; the manifest names it, with {shard.rows} rows")
        if found[shard.file] != shard.bytes:
            raise UserError(
                f"{folder / shard.file}: {found[shard.file]} bytes where the manifest says {shard.bytes}; it was cut"
                " short or written anew"
            )


def _columns(folder: Location, shards: Sequence[Shard], columns: list[str]) -> list[pa.Table]:
    """These columns of image shards, checked; none may have gaps."""
    _check_files(folder, shards)

    def read(shard: Shard) -> pa.Table:
        place, file = folder / shard.file, _parquet(folder, shard)
        try:
            table = file.read(columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(f"{place}: rows 0-{shard.rows - 1}", error) from error
        for name in columns:
            if table[name].null_count:
                raise UserError(f"{place}: column '{name}' has gaps; wanted a value in every row")
        return table

    with ThreadPoolExecutor(OPENING_THREADS) as pool:
        return list(pool.map(read, shards))


def _parquet(folder: Location, shard: Shard) -> pq.ParquetFile:
    """An image shard, opened and of the right schema."""
    place = folder / shard.file
    try:
        file = pq.ParquetFile(place.open(), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(str(place), error) from error
    if not file.schema_arrow.equals(IMAGE_SCHEMA):
        raise UserError(f"{place}: columns are {_named(file.schema_arrow)}; wanted {_named(IMAGE_SCHEMA)}")
    if file.metadata.num_rows != shard.rows:
        raise UserError(f"{place}: {file.metadata.num_rows} rows where the manifest says {shard.rows}")
    return file


def _check_labels(place: Location, labels: np.ndarray, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserError(
            f"{place}: row {wrong[0]} has label {labels[wrong[0]]}; allowed 0-{classes - 1}, as the manifest names"
            f" {classes} classes"
        )


def _unreadable(where: str, error: Exception) -> UserError | EnvironmentalError:
    """The system's own failures have a number; all else is in the file."""
    if isinstance(error, OSError) and error.errno is not None:
        return EnvironmentalError(f"{where}: {error}")
    return UserError(f"{where}: not readable: {str(error).splitlines()[0]}")
