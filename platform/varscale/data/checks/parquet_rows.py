"""The rows of a Parquet shard that may be damaged, as far as they can be read.

The damage is named as closely as the file can tell: pages with checksums say which page is wrong. What such a page
holds is then read without checking, so that the rows whose content shows the damage are named too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from varscale.data.checks.problems import Problem, Problems
from varscale.data.checks.shard_files import UNREADABLE, note_unreadable, one_line, same_rows, same_schema
from varscale.data.schema import Shard
from varscale.locations import READ_CHUNK

BATCH_ROWS = 64
"""Rows of encoded images in memory at once."""


class ParquetRows:
    """Rows of a Parquet shard in batches, past damaged places; ``whole`` afterwards says whether all were sound."""

    def __init__(self, path: Path, shard: Shard, wanted: pa.Schema, problems: Problems) -> None:
        self._path, self._shard, self._columns, self._problems = path, shard, wanted.names, problems
        self.whole = False
        self.columns_fit = False
        try:
            file = self._open(checked=True)
        except UNREADABLE as error:
            note_unreadable(shard, "Parquet", error, problems)
            return
        self.columns_fit = same_schema(file.schema_arrow, wanted, shard, problems)
        self.whole = same_rows(file.metadata.num_rows, shard, problems) and self.columns_fit
        self._groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]

    def __iter__(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Number of the first row, and the batch."""
        first = 0
        for group, rows in enumerate(self._groups if self.columns_fit else ()):
            yield from self._group(group, first, rows)
            first += rows

    def _group(self, group: int, first: int, rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        read = 0
        try:
            for batch in self._batches(group, checked=True):
                yield first + read, batch
                read += len(batch)
        except UNREADABLE:
            self.whole = False
            self._name_damage(group, first, rows)
            yield from self._unchecked(group, first, read)

    def _unchecked(self, group: int, first: int, skip: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """What can be read of a damaged row group, behind the rows already seen."""
        read = 0
        try:
            for batch in self._batches(group, checked=False):
                if read >= skip:
                    yield first + read, batch
                read += len(batch)
        except UNREADABLE as error:
            what = f"this and the rows behind it in row group {group} cannot be read: {one_line(error)}"
            self._problems.add(Problem("lost rows", self._shard.file, what, "wanted whole pages", first + read))

    def _name_damage(self, group: int, first: int, rows: int) -> None:
        """Pages are read in order: the damage lies at or behind the first row that does not come."""
        for column in self._columns:
            good = 0
            try:
                for batch in self._batches(group, checked=True, columns=[column], size=1):
                    good += len(batch)
            except UNREADABLE as error:
                what = f"damage in column '{column}' within rows {first + good}…{first + rows - 1}: {one_line(error)}"
                self._problems.add(Problem("damage", self._shard.file, what, "wanted pages as they were written"))

    def _batches(
        self, group: int, checked: bool, columns: list[str] | None = None, size: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        yield from self._open(checked).iter_batches(size, row_groups=[group], columns=columns or self._columns)

    def _open(self, checked: bool) -> pq.ParquetFile:
        # With a buffer size pages are read one by one, else the whole column of a row group.
        return pq.ParquetFile(self._path, page_checksum_verification=checked, buffer_size=READ_CHUNK, pre_buffer=False)
