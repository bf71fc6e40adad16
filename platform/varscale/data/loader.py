"""Reading shards back: encoded images by row, tokens by row. Memory holds labels and keys; the rest stays in files.

A file that is missing, cut short or of another schema is refused when the split is opened, at no cost that depends on
its size; a byte that changed is found when its row is read (CRC of each Parquet page) or soon after the first read
(sha256 of token shards, see :mod:`varscale.data.checksums`).
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from varscale.data.cache import CACHE_BYTES, LocalShards
from varscale.data.checksums import Checksums
from varscale.data.opening import (
    all_shards,
    check_files,
    check_labels,
    first_rows,
    named,
    open_parquet,
    overlapping,
    read_columns,
    shards_of,
    unreadable,
)
from varscale.data.recent import Recent
from varscale.data.schema import (
    Shard,
    TokenManifest,
    read_image_manifest,
    read_token_manifest,
    token_schema,
)
from varscale.errors import UserError
from varscale.locations import Location

OPEN_FILES = 128
"""Shards held open at once: many data sets have more than a process may open."""
KEPT_GROUPS = 4
"""Row groups of images kept decoded: readers in order stay within two, a few threads that run apart in four."""


def check_sides(folder: str | Path | Location, split: str, side: int) -> None:
    """Refuse image shards that would have to be enlarged: what is reconstructed would not be what was stored.

    Raises:
        UserError: naming the first image whose shorter side is below ``side`` pixels.
    """
    place = Location.of(folder)
    shards = shards_of(read_image_manifest(place), split, place)
    for table in read_columns(place, shards, ["key", "width", "height"]):
        shorter = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())
        small = np.flatnonzero(shorter < side)
        if len(small):
            key, found = table["key"][int(small[0])], shorter[small[0]]
            raise UserError(f"{folder}: '{key}' is {found} px wide or high; wanted at least {side} px")


class ImageShards:
    """Encoded images of one split: all of them, or rows ``start`` … ``stop``-1, counted from 0 here.

    Keys and labels are in memory; images are read when asked for, a row group at a time. Threads may share one, and
    other processes get it pickled. Of a folder in object storage each shard is copied here (:mod:`varscale.data.cache`)
    when its first image is read, and the shard behind it meanwhile; ``cache_bytes`` limits the copies.

    Attributes:
        manifest: of the data set.
        labels: int64 [rows].
    """

    def __init__(
        self,
        folder: str | Path | Location,
        split: str,
        start: int = 0,
        stop: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._folder = Location.of(folder)
        self.manifest = read_image_manifest(self._folder)
        shards = shards_of(self.manifest, split, self._folder)
        stop = self.manifest.rows(split) if stop is None else stop
        self._shards, skipped = overlapping(shards, start, stop)
        self._first = start - skipped
        tables = read_columns(self._folder, self._shards, ["key", "label"])
        for shard, table in zip(self._shards, tables, strict=True):
            check_labels(self._folder / shard.file, table["label"].to_numpy(), len(self.manifest.classes))
        kept = pa.concat_tables(tables).slice(self._first, stop - start).combine_chunks()
        self._keys = kept["key"]
        self.labels = kept["label"].to_numpy().astype(np.int64)
        self._begins = first_rows(self._shards)
        self._local = LocalShards(self._folder, cache_bytes)
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
        number, inside = self._position(row)
        file = self._files.get(number, lambda: self._open(number))
        group = int(np.searchsorted(file.begins, inside, side="right")) - 1
        images = self._groups.get((number, group), lambda: file.images(group))
        return images[inside - int(file.begins[group])].as_py()

    def place(self, row: int) -> str:
        """File, row in it and key of one image, as an error names them."""
        number, inside = self._position(row)
        return f"{self._folder / self._shards[number].file}: row {inside} ('{self.key(row)}')"

    def fetch(self) -> None:
        """Copy all shards here, if they are elsewhere: before images are read in a uniform order.

        Raises:
            UserError: a shard is missing or not what the manifest says, or all do not fit under ``cache_bytes``.
        """
        self._local.fetch(self._shards, all_shards(self.manifest))

    def _position(self, row: int) -> tuple[int, int]:
        """Number of a row's shard, and the row in it."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = int(np.searchsorted(self._begins, row + self._first, side="right")) - 1
        return number, row + self._first - int(self._begins[number])

    def _open(self, number: int) -> _ImageFile:
        if number + 1 < len(self._shards):
            self._local.begin(self._shards[number + 1])
        shard = self._shards[number]
        return _ImageFile(Location.of(self._local.path(shard)), self._folder / shard.file, shard)


class _ImageFile:
    """One image shard, read by row group."""

    def __init__(self, copy: Location, place: Location, shard: Shard) -> None:
        self._place, self._file = place, open_parquet(copy, place, shard)
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
            raise unreadable(f"{self._place}: {rows}", error) from error
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

    Files in a local folder are read in place; their checksums are compared in the background from the first read on
    (:mod:`varscale.data.checksums`). Of a folder in object storage all shards are copied here first and compared while
    they are copied (:mod:`varscale.data.cache`); ``cache_bytes`` limits the copies.

    Attributes:
        manifest: of the data set.
        labels: int64 [images].
    """

    def __init__(self, folder: str | Path | Location, split: str, cache_bytes: int = CACHE_BYTES) -> None:
        self._folder = Location.of(folder)
        self.manifest: TokenManifest = read_token_manifest(self._folder)
        self._shards = shards_of(self.manifest, split, self._folder)
        check_files(self._folder, self._shards)
        self._local = LocalShards(self._folder, cache_bytes)
        self._local.fetch(self._shards, all_shards(self.manifest))
        local = self._folder.local
        self._checksums = Checksums(local, self._shards) if local else None
        self._views = self.manifest.views[split]
        self._length = sum(side * side for side in self.manifest.patch_nums)
        files = [self._layout(shard) for shard in self._shards]
        self._offsets = [file.offset for file in files]
        self.labels = np.concatenate([file.labels for file in files])[:: self._views].astype(np.int64)
        self._begins = first_rows(self._shards)
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

    def finish_checks(self) -> None:
        """Wait until the checksums of all shards were compared.

        Raises:
            UserError: a shard's content is not what was written.
        """
        if self._checksums:
            self._checksums.finish()

    def _layout(self, shard: Shard) -> _TokenFile:
        place = self._folder / shard.file
        try:
            with pa.memory_map(str(self._local.path(shard))) as mapped:
                start = mapped.read_buffer().address
                mapped.seek(0)
                return _token_file(place, pa.ipc.open_file(mapped), start, shard, self._length, self.manifest)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(str(place), error) from error

    def _read(self, index: np.ndarray) -> np.ndarray:
        """Tokens uint16 [n, L] of rows ``index`` of the split, read shard by shard."""
        if self._checksums:
            self._checksums.check()
        numbers = np.searchsorted(self._begins, index, side="right") - 1
        tokens = np.empty((len(index), self._length), np.uint16)
        for number in np.unique(numbers):
            here = numbers == number
            tokens[here] = self._read_shard(int(number), index[here] - self._begins[number])
        return tokens

    def _read_shard(self, number: int, rows: np.ndarray) -> np.ndarray:
        shard, size = self._shards[number], 2 * self._length
        file = self._files.get(number, lambda: FileIO(self._local.path(shard)))
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
        raise UserError(f"{place}: columns are {named(reader.schema)}; wanted {named(token_schema(length))}")
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
    check_labels(place, labels, len(manifest.classes))
    return _TokenFile(offset, labels)
