"""Image shards as a source: keys, splits, labels and class names stay."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from varscale.data.schema import SPLITS, Shard, read_image_manifest
from varscale.data.shard_opening import as_image_shard, check_labels
from varscale.data.sources.listing import Source, listed
from varscale.data.sources.reading import in_order, read_threads
from varscale.data.sources.rows import RowReader, damage_named, row_sizes
from varscale.errors import UserError
from varscale.locations import Location


def open_shards(place: Location) -> Source:
    """The source that an image data set is.

    Raises:
        UserError: unknown format, a shard that is gone or not what the manifest says, a label out of range.
    """
    manifest = read_image_manifest(place)
    shards = [(split, shard) for split in SPLITS for shard in manifest.splits.get(split, ())]

    def look(item: tuple[int, tuple[str, Shard]]) -> pa.Table:
        number, (split, shard) = item
        return _rows(place / shard.file, number, split, shard, len(manifest.classes))

    tables = list(in_order(look, enumerate(shards), read_threads(place)))
    if not tables:
        raise UserError(f"{place}: its manifest names no shard")
    left_out = [f"{manifest.rejected} images were left out when these shards were made"] if manifest.rejected else []
    files, digests = zip(*((place / shard.file, shard.sha256) for _, shard in shards), strict=True)
    reader = RowReader(files, "image", digests)
    return listed(place, pa.concat_tables(tables), manifest.classes, left_out, reader)


def _rows(place: Location, number: int, split: str, shard: Shard, classes: int) -> pa.Table:
    """The listing's rows of a shard, which is ``number`` among the reader's files."""
    if place.size() != shard.bytes:
        raise UserError(f"{place}: damaged: {place.size()} bytes; wanted the manifest's {shard.bytes}")
    with place.open() as stream:
        parquet = as_image_shard(stream, place, shard)
        with damage_named(place, "keys or labels: damaged"):
            table = parquet.read(columns=["key", "label"])
        sizes = row_sizes(parquet.metadata, "image", place)
    check_labels(place, table["label"].fill_null(-1).to_numpy(), classes)
    return pa.table(
        {
            "key": table["key"],
            "split": pa.repeat(split, shard.rows),
            "label": table["label"],
            "size": pa.array(sizes, pa.int64()),
            "file": pa.repeat(pa.scalar(number, pa.int32()), shard.rows),
            "row": pa.array(np.arange(shard.rows), pa.int32()),
        }
    )
