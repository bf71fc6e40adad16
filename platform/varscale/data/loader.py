"""Reading shards back: encoded images by row, tokens by row. Memory holds labels and keys; the rest stays in files.

A file that is missing, cut short or of another schema is refused when the split is opened, at no cost that depends on
its size; a byte that changed is found when its row is read (CRC of each Parquet page) or soon after the first read
(sha256 of token shards, see :mod:`varscale.data.checksums`).
"""

from __future__ import annotations

import mmap
import os
from io import FileIO
from threading import Lock
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from varscale.data.cache import CACHE_BYTES, LocalShards
from varscale.data.checksums import Checksums
from varscale.data.manifests import ImageSet
from varscale.data.recent import Recent
from varscale.data.schema import (
    Shard,
    TokenManifest,
    read_image_manifest,
    read_token_manifest,
    token_schema,
)
from varscale.data.shard_opening import (
    check_labels,
    first_rows,
    named,
    open_image_shard,
    overlapping,
    read_columns,
    read_failure,
    shards_of,
)
from varscale.errors import UserError
from varscale.locations import AnyPath, Location

OPEN_FILES = 256
"""Shards held open at once: a process may not open many more, and the footer of an image shard takes 1 MiB. Opening one
again costs less than decoding an image."""
KEPT_GROUPS = 4
"""Row groups of images kept decoded: readers in order stay within two, a few threads that run apart in four."""


def check_sides(images: ImageSet, split: str, side: int) -> None:
    """Refuse image shards that would have to be enlarged: what is reconstructed would not be what was stored.

    Raises:
        UserError: naming the first image whose shorter side is below ``side`` pixels.
    """
    shards = shards_of(images.manifest, split, images.folder)
    local = LocalShards(images.folder, CACHE_BYTES)
    local.fetch(shards, shards)
    for table in read_columns(local, shards, ["key", "width", "height"]):
        shorter = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())
        small = np.flatnonzero(shorter < side)
        if len(small):
            key, found = table["key"][int(small[0])], shorter[small[0]]
            raise UserError(f"{images.folder}: '{key}' is {found} px wide or high; wanted at least {side} px")


class ImageShards:
    """Encoded images of one split: all of them, or rows ``start`` … ``stop``-1, counted from 0 here.

    Keys and labels are in memory; images are read when asked for, a row group at a time. Threads may share one, and
    other processes get it pickled. Of a folder in object storage the shards of these rows are copied here first
    (:mod:`varscale.data.cache`), and the one behind them while they are read; ``cache_bytes`` limits the copies.

    Attributes:
        manifest: of the data set.
        labels: int64 [rows].
    """

    def __init__(
        self,
        folder: AnyPath,
        split: str,
        start: int = 0,
        stop: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._folder = Location.of(folder)
        self.manifest = read_image_manifest(self._folder)
        shards = shards_of(self.manifest, split, self._folder)
        stop = self.manifest.rows(split) if stop is None else stop
        self._shards, following, skipped = overlapping(shards, start, stop)
        self._first = start - skipped
        self._local = LocalShards(self._folder, cache_bytes)
        self._local.fetch(self._shards, self._shards)
        for shard in following:
            self._local.begin(shard)
        tables = read_columns(self._local, self._shards, ["key", "label"])
        for shard, table in zip(self._shards, tables, strict=True):
            check_labels(self._folder / shard.file, table["label"].to_numpy(), len(self.manifest.classes))
        kept = pa.concat_tables(tables).slice(self._first, stop - start).combine_chunks()
        self._keys = kept["key"]
        self.labels = kept["label"].to_numpy().astype(np.int64)
        self._begins = first_rows(self._shards)
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
        file = self._files.get(number, lambda: _ImageFile(self._local, self._shards[number]))
        group = int(np.searchsorted(file.begins, inside, side="right")) - 1
        images = self._groups.get((number, group), lambda: file.images(group))
        return images[inside - int(file.begins[group])].as_py()

    def place(self, row: int) -> str:
        """File, row in it and key of one image, as an error names them."""
        number, inside = self._position(row)
        return f"{self._folder / self._shards[number].file}: row {inside} ('{self.key(row)}')"

    def _position(self, row: int) -> tuple[int, int]:
        """Number of a row's shard, and the row in it."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = int(np.searchsorted(self._begins, row + self._first, side="right")) - 1
        return number, row + self._first - int(self._begins[number])


class _ImageFile:
    """One image shard, read by row group."""

    def __init__(self, local: LocalShards, shard: Shard) -> None:
        self._place, self._file = local.place(shard), open_image_shard(local, shard)
        self._lock = Lock()  # a Parquet reader is for one thread at a time
        counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self.begins = np.cumsum([0, *counts])
        """First row of each row group, and the end of the last: int64 [groups + 1]."""

    def images(self, group: int) -> pa.ChunkedArray:
        """Encoded images of one row group; raises as :meth:`ImageShards.encoded`."""
        rows = f"rows {self.begins[group]}-{self.begins[group + 1] - 1}"
        try:
            with self._lock:
                images = self._file.read_row_group(group, columns=["image"], use_threads=False)["image"]
        except (OSError, pa.ArrowException) as error:
            raise read_failure(f"{self._place}: {rows}", error) from error
        if images.null_count:
            raise UserError(f"{self._place}: {rows}: an image is missing")
        return images


class _TokenFile(NamedTuple):
    """Where a token shard's rows lie, and their labels."""

    offset: int
    """Bytes before the first token."""
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

    def __init__(self, folder: AnyPath, split: str, cache_bytes: int = CACHE_BYTES) -> None:
        self._folder = Location.of(folder)
        self.manifest: TokenManifest = read_token_manifest(self._folder)
        self._shards = shards_of(self.manifest, split, self._folder)
        self._local = LocalShards(self._folder, cache_bytes)
        self._local.fetch(self._shards, [shard for shards in self.manifest.splits.values() for shard in shards])
        local = self._folder.local
        self._checksums = Checksums(local, self._shards) if local else None
        self._views = self.manifest.views[split]
        self._length = sum(side * side for side in self.manifest.patch_nums)
        files = [self._layout(shard) for shard in self._shards]
        self._offsets = np.array([file.offset for file in files])
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
        place = self._local.place(shard)
        try:
            with self._local.path(shard).open("rb") as stream:
                # Not pyarrow's own memory map, which would have the system read the whole file ahead.
                whole = pa.py_buffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
                return _token_file(place, whole, shard, self._length, self.manifest)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise read_failure(str(place), error) from error

    def _read(self, index: np.ndarray) -> np.ndarray:
        """Tokens uint16 [n, L] of rows ``index`` of the split, read in the order in which they lie."""
        if self._checksums:
            self._checksums.check()
        order = np.argsort(index)
        numbers = np.searchsorted(self._begins, index[order], side="right") - 1
        rows = index[order] - self._begins[numbers]
        pieces = self._pieces(numbers, self._offsets[numbers] + rows * 2 * self._length)
        sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
        if (short := np.flatnonzero(sizes < 2 * self._length)).size:
            raise UserError(f"{self._row(numbers, rows, short[0])}: the file ends before it")
        found = np.frombuffer(b"".join(pieces), np.uint16).reshape(len(index), self._length)
        codes = self.manifest.vocab_size
        if len(found) and int(found.max()) >= codes:
            bad = np.flatnonzero((found >= codes).any(axis=1))[0]
            raise UserError(f"{self._row(numbers, rows, bad)} has token {found[bad].max()}; allowed below {codes}")
        tokens = np.empty_like(found)
        tokens[order] = found
        return tokens

    def _pieces(self, numbers: np.ndarray, offsets: np.ndarray) -> list[bytes]:
        """The bytes of one row at each offset, each in the shard of that number; numbers ascend."""
        pieces: list[bytes] = []
        starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        for start, stop in zip(starts, [*starts[1:], len(numbers)], strict=True):
            file = self._file(int(numbers[start]))  # held for as long as its descriptor is used
            descriptor, size = file.fileno(), 2 * self._length
            pieces += [os.pread(descriptor, size, offset) for offset in offsets[start:stop].tolist()]
        return pieces

    def _file(self, number: int) -> FileIO:
        return self._files.get(number, lambda: FileIO(self._local.path(self._shards[number])))

    def _row(self, numbers: np.ndarray, rows: np.ndarray, i: int) -> str:
        return f"{self._local.place(self._shards[numbers[i]])}: row {rows[i]}"


def _token_file(place: Location, whole: pa.Buffer, shard: Shard, length: int, manifest: TokenManifest) -> _TokenFile:
    """What is known of a token shard from its mapped file, of which only the ends and the labels are touched."""
    reader = pa.ipc.open_file(whole)
    if not reader.schema.equals(token_schema(length)):
        raise UserError(f"{place}: columns are {named(reader.schema)}; wanted {named(token_schema(length))}")
    if reader.num_record_batches != 1:
        raise UserError(f"{place}: {reader.num_record_batches} record batches; wanted one")
    batch = reader.get_batch(0)
    if batch.num_rows != shard.rows:
        raise UserError(f"{place}: {batch.num_rows} rows where the manifest says {shard.rows}")
    if batch["label"].null_count or batch["tokens"].null_count:
        raise UserError(f"{place}: a label or tokens are missing")
    offset = batch["tokens"].values.buffers()[1].address - whole.address
    if not 0 < offset <= shard.bytes - 2 * length * shard.rows:
        raise UserError(f"{place}: compressed; wanted an uncompressed file")
    labels = np.frombuffer(batch["label"].buffers()[1], np.int32, shard.rows).copy()  # to_numpy imports pandas
    check_labels(place, labels, len(manifest.classes))
    return _TokenFile(offset, labels)
