"""Reading shards back, and the order of samples: fixed by seed and step, whoever asks.

The stream of samples is one seeded permutation of all images an epoch, end to end, with no partial batch: a batch may
straddle two epochs. Sample s of the stream depends on (seed, s) alone, so a resume needs only the step, and ranks
take slices of the same global batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varscale.data.schema import ImageManifest, Shard, read_image_manifest, read_token_manifest
from varscale.errors import UserError
from varscale.locations import Location


@dataclass(frozen=True)
class SampleOrder:
    """The stream of (row, epoch) pairs over ``rows`` images."""

    rows: int
    seed: int

    def take(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and epochs, int64 [count] each, of samples start … start+count-1."""
        position = np.arange(start, start + count)
        epoch = position // self.rows
        row = np.empty(count, dtype=np.int64)
        for e in np.unique(epoch):
            here = epoch == e
            permutation = np.random.default_rng((self.seed, int(e))).permutation(self.rows)
            row[here] = permutation[position[here] % self.rows]
        return row, epoch


def _read_split(folder: Path, shards: tuple[Shard, ...], columns: list[str]) -> pa.Table:
    tables = []
    for shard in shards:
        path = folder / shard.file
        try:
            table = pq.read_table(path, columns=columns, memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: not a readable Parquet file: {error}") from error
        if table.num_rows != shard.rows:
            raise UserError(f"{path}: {table.num_rows} rows where the manifest says {shard.rows}")
        tables.append(table)
    return pa.concat_tables(tables)


def _overlapping(shards: tuple[Shard, ...], start: int, stop: int) -> tuple[tuple[Shard, ...], int]:
    """The shards that hold rows ``start`` … ``stop``-1, and how many rows stand before them."""
    ends = np.cumsum([shard.rows for shard in shards])
    begins = ends - [shard.rows for shard in shards]
    chosen = [i for i in range(len(shards)) if begins[i] < stop and ends[i] > start]
    return tuple(shards[i] for i in chosen), int(begins[chosen[0]])


def _manifest_with(folder: Path, split: str) -> ImageManifest:
    manifest = read_image_manifest(Location.of(folder))
    if split not in manifest.splits:
        raise UserError(f"{folder}: no split '{split}'; it has {', '.join(manifest.splits)}")
    return manifest


def check_sides(folder: Path, split: str, side: int) -> None:
    """Refuse image shards that would have to be enlarged: what is reconstructed would not be what was stored.

    Raises:
        UserError: naming the first image whose shorter side is below ``side`` pixels.
    """
    table = _read_split(folder, _manifest_with(folder, split).splits[split], ["key", "width", "height"])
    shorter = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())
    small = np.flatnonzero(shorter < side)
    if len(small):
        key, found = table["key"][int(small[0])], shorter[small[0]]
        raise UserError(f"{folder}: '{key}' is {found} px wide or high; wanted at least {side} px")


class ImageShards:
    """Encoded images of one split, in memory: all of them, or rows ``start`` … ``stop``-1, counted from 0 here."""

    def __init__(self, folder: Path, split: str, start: int = 0, stop: int | None = None) -> None:
        self.manifest = _manifest_with(folder, split)
        stop = self.manifest.rows(split) if stop is None else stop
        shards, skipped = _overlapping(self.manifest.splits[split], start, stop)
        table = _read_split(folder, shards, ["key", "label", "image"]).slice(start - skipped, stop - start)
        self.keys: list[str] = table["key"].to_pylist()
        self.labels = table["label"].to_numpy()
        self._images = table["image"]  # in chunks: one array of bytes ends at 2 GiB

    def __len__(self) -> int:
        return len(self.keys)

    def encoded(self, row: int) -> bytes:
        """PNG or JPEG bytes of one image."""
        return self._images[row].as_py()


class TokenShards:
    """Tokens of one split, in memory.

    Attributes:
        tokens: uint16 [rows, views, L].
        labels: int64 [rows].
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.manifest = read_token_manifest(Location.of(folder))
        table = _read_split(folder, self.manifest.splits[split], ["label", "tokens"])
        views = self.manifest.views[split]
        flat = table["tokens"].combine_chunks().values.to_numpy(zero_copy_only=False)
        self.tokens = flat.reshape(table.num_rows // views, views, -1)
        self.labels = table["label"].to_numpy()[::views].astype(np.int64)
        largest = int(self.tokens.max())
        if largest >= self.manifest.vocab_size:
            raise UserError(f"{folder}: split '{split}' has token {largest}; allowed below {self.manifest.vocab_size}")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int64 [B, L] and labels int64 [B]; epoch e sees view e mod views of each image."""
        views = epochs % self.tokens.shape[1]
        return self.tokens[rows, views].astype(np.int64), self.labels[rows]
