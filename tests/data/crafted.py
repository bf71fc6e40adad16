"""Data sets made by hand for tests: manifests that need only what a test is about, and shards as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from varscale.data.schema import ImageManifest, Shard, TokenManifest
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig

TINY = VQVAEConfig(32, 4, 8, (1, 2), 1, (1, 2, 4, 8), norm_groups=4)
"""A tokenizer of 16 px images: 85 tokens of 32 codes. The fixture ``tiny_tokenizer`` is one."""


def shard(path: Path, rows: int) -> Shard:
    """What a manifest says of a file."""
    place = Location.of(path)
    return Shard(file=path.name, rows=rows, bytes=place.size(), sha256=place.sha256())


def token_manifest(splits: dict[str, tuple[Shard, ...]], **fields: Any) -> TokenManifest:
    """A manifest of tokens: two classes, a view an image, tokens of 16 px images."""
    usual = {
        "classes": ("a", "b"),
        "views": dict.fromkeys(splits, 1),
        "vocab_size": TINY.vocab_size,
        "patch_nums": TINY.patch_nums,
        "image_size": TINY.image_size,
        "resize_ratio": 1.125,
        "flip": False,
        "seed": 0,
        "data_fingerprint": "d",
        "tokenizer_fingerprint": "t",
        "key": "k",
    }
    return TokenManifest(splits=splits, **{**usual, **fields})


def image_manifest(splits: dict[str, tuple[Shard, ...]], **fields: Any) -> ImageManifest:
    """A manifest of images: two classes, nothing left out."""
    usual = {
        "classes": ("a", "b"),
        "counts": {},
        "source": "s",
        "options": {},
        "rejected": 0,
        "fingerprint": "f",
        "key": "k",
    }
    return ImageManifest(splits=splits, **{**usual, **fields})
