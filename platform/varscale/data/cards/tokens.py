"""``varscale data show`` for tokens: what a token data set holds, and how its codes are used scale by scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from varscale.data.cards.columns import over_shards, readable
from varscale.data.cards.images import split_sizes
from varscale.data.schema import Shard, TokenManifest
from varscale.errors import UserError
from varscale.locations import Location

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Scale:
    """How one scale uses the codebook, over all splits and views."""

    side: int
    """p: the scale has p × p tokens."""
    codes_used_percent: float
    perplexity: float
    """exp of the entropy in nats of how often codes are used: V where all are used alike."""


@dataclass(frozen=True)
class TokenCard:
    """A token data set in figures."""

    manifest: TokenManifest
    counts: dict[str, tuple[int, ...]]
    """Images by label, a split."""
    scales: list[Scale]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and values of what the manifest says in one line each."""
        manifest, side = self.manifest, self.manifest.image_size
        flips = "half of them mirrored" if manifest.flip else "none mirrored"
        return [
            ("format", manifest.format),
            ("tokens per row", f"{manifest.length}, scales {' '.join(map(str, manifest.patch_nums))}"),
            ("codes", f"{manifest.vocab_size:,}"),
            ("views per image", ", ".join(f"{views} {split}" for split, views in manifest.views.items())),
            ("a view", f"{side} px of images resized to {round(manifest.resize_ratio * side)} px, {flips}"),
            ("seed", str(manifest.seed)),
            ("data", manifest.data_fingerprint),
            ("tokenizer", manifest.tokenizer_fingerprint),
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it, flat where it can be."""
        manifest = self.manifest
        return {
            "format": manifest.format,
            "patch_nums": list(manifest.patch_nums),
            "vocab_size": manifest.vocab_size,
            "views": manifest.views,
            "image_size": manifest.image_size,
            "resize_ratio": manifest.resize_ratio,
            "flip": manifest.flip,
            "seed": manifest.seed,
            "data_fingerprint": manifest.data_fingerprint,
            "tokenizer_fingerprint": manifest.tokenizer_fingerprint,
            "splits": split_sizes(manifest.splits),
            "classes": list(manifest.classes),
            "counts": self.counts,
            "scales": [asdict(scale) for scale in self.scales],
        }


def token_card(dest: Location, manifest: TokenManifest) -> TokenCard:
    """Count codes and labels of all rows.

    Raises:
        UserError: a shard is missing, unreadable, or holds tokens or labels out of range.
    """
    parts = [(split, shard) for split, shards in manifest.splits.items() for shard in shards]
    usage = np.zeros((len(manifest.patch_nums), manifest.vocab_size), np.int64)
    counts = {split: np.zeros(len(manifest.classes), np.int64) for split in manifest.splits}
    read = over_shards(lambda shard: _count(dest, shard, manifest), [shard for _, shard in parts])
    for (split, _), (labels, codes) in zip(parts, read, strict=True):
        counts[split] += labels
        usage += codes
    images = {split: tuple((rows // max(manifest.views[split], 1)).tolist()) for split, rows in counts.items()}
    return TokenCard(manifest, images, [_scale(p, row) for p, row in zip(manifest.patch_nums, usage, strict=True)])


def _count(dest: Location, shard: Shard, manifest: TokenManifest) -> tuple[np.ndarray, np.ndarray]:
    """Rows by label [classes], and uses by scale and code [K, V]."""
    ends = np.cumsum([p * p for p in manifest.patch_nums]).tolist()
    with readable(dest, shard), (dest / shard.file).open() as stream:
        batch = pa.ipc.open_file(stream).get_batch(0)
        tokens = batch["tokens"].flatten().to_numpy().reshape(-1, ends[-1])
        labels = batch["label"].to_numpy()
    if tokens.max(initial=0) >= manifest.vocab_size or not np.isin(labels, range(len(manifest.classes))).all():
        raise UserError(f"{dest / shard.file}: tokens or labels out of range; 'varscale data verify {dest}' names them")
    usage = np.zeros((len(ends), manifest.vocab_size), np.int64)
    for start in range(0, len(tokens), BLOCK_ROWS):  # bincount makes int64 of what it counts
        block = tokens[start : start + BLOCK_ROWS]
        for scale, (begin, end) in enumerate(pairwise([0, *ends])):
            usage[scale] += np.bincount(block[:, begin:end].ravel(), minlength=manifest.vocab_size)
    return np.bincount(labels, minlength=len(manifest.classes)), usage


def _scale(side: int, uses: np.ndarray) -> Scale:
    shares = uses[uses > 0] / max(uses.sum(), 1)
    return Scale(side, 100 * len(shares) / len(uses), float(np.exp(-(shares * np.log(shares)).sum())))
