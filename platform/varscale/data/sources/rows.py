"""Images that are rows of Parquet files: opening, sizes from the footer alone, and reading by row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varscale.data.sources.listing import first_line
from varscale.errors import UserError
from varscale.locations import Location

BATCH = 32
"""Images decoded from Parquet at once."""
READ_BYTES = 4 * 2**20
"""Read at once, so that memory does not grow with a file's row groups."""
_sound: set[tuple[str, str, str]] = set()
"""File system, path and digest of the files that this process has found to be whole."""


def open_parquet(stream: pa.NativeFile, place: Location) -> pq.ParquetFile:
    """An open file as Parquet.

    Raises:
        UserError: it is none, or cut off.
    """
    with damage_named(place, "no whole Parquet file"):
        parquet = pq.ParquetFile(stream, buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True)
        str(parquet.schema_arrow)  # names are decoded only when they are asked for
        return parquet


@contextmanager
def damage_named(place: Location, fault: str) -> Iterator[None]:
    """What Parquet says of a damaged file, with the file and the fault before it.

    Raises:
        UserError: the file is damaged.
        OSError: its bytes cannot be read at all.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        place.sha256()  # Arrow tells damage and failing disks or networks apart by their words only
        raise UserError(f"{place}: {fault}: {first_line(error)}") from error


def row_sizes(metadata: pq.FileMetaData, column: str, place: Location) -> np.ndarray:
    """Bytes of each row's ``column``, int64 [rows], as the footer tells: the mean of its row group.

    Raises:
        UserError: the footer tells that no row has bytes.
    """
    index = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column)
    sizes, missing = [np.zeros(0, np.int64)], 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunk = group.column(index)
        if chunk.statistics is not None and chunk.statistics.has_null_count:
            missing += chunk.statistics.null_count
        sizes.append(np.full(group.num_rows, chunk.total_uncompressed_size // max(1, group.num_rows), np.int64))
    if missing and missing == metadata.num_rows:
        raise UserError(
            f"{place}: none of its {missing} rows has {column}; wanted the encoded images themselves, not their paths"
        )
    return np.concatenate(sizes)


@dataclass(frozen=True)
class RowReader:
    """Each image is ``column`` of row ``row`` in ``files[file]``; file and row are columns of the listing.

    A row without an image is no bytes.
    """

    files: tuple[Location, ...]
    column: str
    """Dotted where it is a field of a struct."""
    digests: tuple[str, ...] = ()
    """SHA-256 of each file where they are known; a file is checked before its first row is handed out."""

    def read(self, rows: pa.Table) -> Iterator[bytes]:
        """See :class:`varscale.data.sources.listing.Reader`."""
        file, row = rows["file"].to_numpy(), rows["row"].to_numpy()
        # One pass over a file serves rows as long as they go upwards in it.
        cuts = np.flatnonzero((np.diff(file) != 0) | (np.diff(row) <= 0)) + 1
        for begin, end in zip([0, *cuts], [*cuts, len(row)], strict=True):
            if begin < end:
                if self.digests:
                    check_digest(self.files[file[begin]], self.digests[file[begin]])
                yield from self._pass(self.files[file[begin]], row[begin:end])

    def _pass(self, place: Location, wanted: np.ndarray) -> Iterator[bytes]:
        """Rows of one file, ascending."""
        with place.open() as stream:
            parquet = open_parquet(stream, place)
            begin = 0
            for group in range(parquet.num_row_groups):
                end = begin + parquet.metadata.row_group(group).num_rows
                inside = wanted[(wanted >= begin) & (wanted < end)]
                if len(inside):
                    yield from self._group(parquet, group, inside, begin, place)
                begin = end

    def _group(
        self, parquet: pq.ParquetFile, group: int, wanted: np.ndarray, begin: int, place: Location
    ) -> Iterator[bytes]:
        """Rows of one row group that starts at row ``begin``; pages behind the last of them stay unread."""
        for batch in self._batches(parquet, group, begin, place):
            images = batch.column(0)
            if pa.types.is_struct(images.type):
                images = images.field(0)
            for row in wanted[(wanted >= begin) & (wanted < begin + len(images))]:
                yield images[row - begin].as_py() or b""
            begin += len(images)
            if begin > wanted[-1]:
                return

    def _batches(self, parquet: pq.ParquetFile, group: int, begin: int, place: Location) -> Iterator[pa.RecordBatch]:
        end = begin + parquet.metadata.row_group(group).num_rows
        with damage_named(place, f"rows {begin} to {end - 1}: damaged"):
            yield from parquet.iter_batches(BATCH, row_groups=[group], columns=[self.column])


def check_digest(place: Location, sha256: str) -> None:
    """Read a file through and compare its digest, once per process.

    Raises:
        UserError: it is another.
    """
    known = (place.filesystem.type_name, place.path, sha256)
    if known in _sound:
        return
    found = place.sha256()
    if found != sha256:
        raise UserError(f"{place}: damaged or changed: its SHA-256 is {found}; wanted the manifest's {sha256}")
    _sound.add(known)
