"""``varscale data show``: what an image data set holds, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from varscale.data.cards.columns import Columns, all_columns, group_images
from varscale.data.cards.histogram import Bin, shape_bins, size_bins
from varscale.data.schema import ImageManifest, Shard
from varscale.locations import Location

WEIGHED_GROUPS = 16
"""Row groups whose images are weighed, spread over the data set: reading all would be reading everything."""


@dataclass(frozen=True)
class Weights:
    """Bytes of encoded images."""

    median: float
    p95: float
    of: int
    """Images weighed."""


@dataclass(frozen=True)
class ImageCard:
    """An image data set in figures."""

    manifest: ImageManifest
    columns: dict[str, list[Columns]]
    """Figures of each shard, by split."""
    shorter_sides: list[Bin]
    shapes: list[Bin]
    weights: Weights

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and values of what the manifest says in one line each."""
        manifest = self.manifest
        options = ", ".join(f"{name} {value}" for name, value in manifest.options.items() if value is not None)
        return [
            ("format", manifest.format),
            ("source", manifest.source),
            ("options", options or "none"),
            ("fingerprint", manifest.fingerprint),
            ("left out", f"{manifest.rejected:,}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it, flat where it can be."""
        manifest = self.manifest
        return {
            "format": manifest.format,
            "source": manifest.source,
            "options": manifest.options,
            "fingerprint": manifest.fingerprint,
            "rejected": manifest.rejected,
            "splits": split_sizes(manifest.splits),
            "classes": list(manifest.classes),
            "counts": manifest.counts,
            "shorter_sides": [asdict(found) for found in self.shorter_sides],
            "shapes": [asdict(found) for found in self.shapes],
            "bytes_per_image": asdict(self.weights),
        }


def image_card(dest: Location, manifest: ImageManifest) -> ImageCard:
    """Read the small columns of all images, and weigh some.

    Raises:
        UserError: a shard is missing, unreadable or of another schema.
    """
    read = iter(all_columns(dest, [shard for shards in manifest.splits.values() for shard in shards]))
    columns = {split: [next(read) for _ in shards] for split, shards in manifest.splits.items()}
    every = [shard for shards in columns.values() for shard in shards]
    widths, heights = (np.concatenate([getattr(c, side) for c in every]) for side in ("widths", "heights"))
    return ImageCard(
        manifest, columns, size_bins(np.minimum(widths, heights)), shape_bins(widths, heights), _weigh(dest, every)
    )


def split_sizes(splits: dict[str, tuple[Shard, ...]]) -> dict[str, dict[str, int]]:
    """Rows, shards and bytes of each split."""
    return {
        split: {
            "rows": sum(shard.rows for shard in shards),
            "shards": len(shards),
            "bytes": sum(shard.bytes for shard in shards),
        }
        for split, shards in splits.items()
    }


def evenly(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the numbers 0 … count-1, evenly spread."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def _weigh(dest: Location, columns: Sequence[Columns]) -> Weights:
    groups = [(held.shard, group) for held in columns for group in range(len(held.group_rows))]
    read = (group_images(dest, *groups[i]) for i in evenly(len(groups), WEIGHED_GROUPS))
    sizes = np.concatenate([pc.binary_length(images).to_numpy() for images in read])
    return Weights(float(np.median(sizes)), float(np.percentile(sizes, 95)), len(sizes))
