"""What is on disk: image shards and token shards, each a folder of files with a ``manifest.json``.

The manifest is written last, so a folder without one is not a data set. Image rows are Parquet ``{key, label, image,
width, height}``; token rows are Arrow IPC ``{key, label, view, tokens}`` with L tokens of uint16, uncompressed and one
record batch per shard: any row is one read of 2·L bytes.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from varscale.errors import UserError
from varscale.locations import Location

MANIFEST = "manifest.json"
REJECTS = "rejects.csv"
SPLITS = ("train", "val")
IMAGE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.int32()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


def token_schema(length: int) -> pa.Schema:
    """Schema of token shards with ``length`` = L tokens per row."""
    return pa.schema(
        [
            ("key", pa.string()),
            ("label", pa.int32()),
            ("view", pa.int32()),
            ("tokens", pa.list_(pa.uint16(), length)),
        ]
    )


class Record(BaseModel):
    """Base of what is stored as JSON: frozen, no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=Record)


class Shard(Record):
    """One file of a split."""

    file: str = Field(pattern=r"^[^/\\]+$")
    """Name in the data set's own folder."""
    rows: int
    bytes: int
    sha256: str


class ImageManifest(Record):
    """What an image data set holds."""

    format: Literal["varscale-images/2"] = "varscale-images/2"
    classes: tuple[str, ...]
    """Class of label 0, 1, …"""
    splits: dict[str, tuple[Shard, ...]]
    counts: dict[str, tuple[int, ...]]
    """Images by label, of each split."""
    source: str
    options: dict[str, int | float | str | None]
    rejected: int
    """Images left out; each has a line in ``rejects.csv``."""
    fingerprint: str
    """Digest of keys, splits, labels, class names and image bytes, whatever the sharding."""
    key: str
    """Digest of the source's listing and the options: whether a later ingest would make the same."""

    def rows(self, split: str) -> int:
        """Number of images in a split."""
        return sum(shard.rows for shard in self.splits[split])


class TokenManifest(Record):
    """What a token data set holds."""

    format: Literal["varscale-tokens/2"] = "varscale-tokens/2"
    classes: tuple[str, ...]
    splits: dict[str, tuple[Shard, ...]]
    views: dict[str, int]
    """Augmented views per image, by split; view j of image i is row i·views + j. 0: the split was not encoded."""
    vocab_size: int
    patch_nums: tuple[int, ...]
    image_size: int
    """Side of a view in pixels."""
    resize_ratio: float
    flip: bool
    seed: int
    """Seed of crops and flips."""
    data_fingerprint: str
    tokenizer_fingerprint: str
    key: str
    """Digest of everything the tokens depend on."""

    def rows(self, split: str) -> int:
        """Number of rows in a split: images times views."""
        return sum(shard.rows for shard in self.splits[split])

    @property
    def length(self) -> int:
        """L, tokens per row."""
        return sum(side * side for side in self.patch_nums)


def write_manifest(folder: Location, manifest: Record) -> None:
    """Write the manifest, which makes the folder a data set."""
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json"))


def read_image_manifest(folder: Location) -> ImageManifest:
    """The manifest of an image data set.

    Raises:
        UserError: not a data set, or of an unknown format.
    """
    return _read(folder, ImageManifest, "an image data set (make one with 'varscale ingest SOURCE DEST')")


def read_token_manifest(folder: Location) -> TokenManifest:
    """The manifest of a token data set; raises as :func:`read_image_manifest`."""
    return _read(folder, TokenManifest, "a token data set (make one with 'varscale tokenise SHARDS TOKENIZER DEST')")


def _read(folder: Location, kind: type[R], wanted: str) -> R:
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: no {MANIFEST} here; wanted {wanted}")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise UserError(f"{path}: field '{field}': {first['msg']}; wanted {wanted}") from error
