"""What a source lists: one row per image, ordered, checked and digested; its bytes come from a reader of its kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varscale.data.schema import SPLITS
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

COLUMNS = ["key", "split", "label", "size"]


class Reader(Protocol):
    """How the bytes of listed images are read. Picklable: no open handles."""

    def read(self, rows: pa.Table) -> Iterator[bytes]:
        """Encoded bytes of ``rows``, a slice of the listing, in order."""


@dataclass(frozen=True)
class Source:
    """Labelled images that can be read by range of rows. Picklable."""

    classes: tuple[str, ...]
    """Class of label 0, 1, …"""
    listing: pa.Table
    """``{key: string, split: string, label: int32, size: int64}`` and columns of the reader's own; keys are unique,
    rows sorted by (split in order of SPLITS, key). Sizes are bytes; those of Parquet rows are means of a row group."""
    notes: tuple[str, ...]
    """A line on whatever is there and not taken."""
    reader: Reader

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Encoded bytes of rows ``start`` to ``stop - 1`` of the listing, in order, a bounded number in memory.

        Raises:
            UserError: an image is gone or has changed since it was listed.
            EnvironmentalError: the place cannot be read.
        """
        try:
            yield from self.reader.read(self.listing.slice(start, stop - start))
        except OSError as error:
            raise EnvironmentalError(f"reading images: {first_line(error)}") from error

    def digest(self) -> str:
        """Hex digest of keys, splits, labels, sizes and classes: whether an earlier ingest still stands."""
        content = hashlib.sha256(json.dumps(self.classes).encode())
        for name in ("key", "split"):
            for chunk in self.listing[name].chunks:
                content.update(pc.binary_length(chunk).to_numpy().astype("<i4").tobytes())
                content.update(_text(chunk))
        for name, kind in (("label", "<i4"), ("size", "<i8")):
            content.update(self.listing[name].to_numpy().astype(kind).tobytes())
        return content.hexdigest()


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _text(strings: pa.StringArray) -> memoryview:
    """The bytes of all strings, one after another, without a copy."""
    _, offsets, text = strings.buffers()
    if text is None:  # Arrow has no buffer for nothing
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1]
    return memoryview(text)[ends[0] : ends[-1]]


def listed(place: Location, rows: pa.Table, classes: Sequence[str], notes: Sequence[str], reader: Reader) -> Source:
    """A source of ``rows`` in the listing's order.

    Raises:
        UserError: a key occurs twice, or a split has no image.
    """
    for split in SPLITS:
        if not pc.any(pc.equal(rows["split"], split), min_count=0).as_py():
            raise UserError(f"{place}: no image for split '{split}'; wanted train and val")
    if pc.count_distinct(rows["key"]).as_py() < rows.num_rows:
        counts = pc.value_counts(rows["key"]).to_pylist()
        twice = min(count["values"] for count in counts if count["counts"] > 1)
        raise UserError(f"{place}: '{twice}' is there more than once; wanted one image per name")
    rows = rows.select(COLUMNS + [name for name in rows.column_names if name not in COLUMNS])
    rank = pc.index_in(rows["split"], value_set=pa.array(SPLITS))
    order = pc.sort_indices(rows.append_column("rank", rank), [("rank", "ascending"), ("key", "ascending")])
    return Source(tuple(classes), rows.take(order).combine_chunks(), tuple(notes), reader)


def drawn_splits(keys: pa.ChunkedArray, val_fraction: float) -> pa.Array:
    """The split of each key where a source has none: a function of the key alone.

    Args:
        val_fraction: share that becomes validation.
    """
    digests = b"".join(hashlib.sha256(key.encode()).digest()[:8] for key in keys.to_pylist())
    positions = np.frombuffer(digests, ">u8") / 2**64
    return pa.array(np.where(positions < val_fraction, "val", "train"), pa.string())
