"""What is on disk: image shards and token shards, each a folder of Parquet files with a ``manifest.json``.

The manifest is written last, so a folder without one is not a data set. Image rows are ``{key, label, image, width,
height}``; token rows ``{key, label, view, tokens}`` with L tokens of uint16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from varscale.errors import UserError
from varscale.storage import write_json

MANIFEST = "manifest.json"
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
    """Schema of token shards with ``length`` = L tokens a row."""
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
    """One Parquet file."""

    file: str
    rows: int
    sha256: str


class ImageManifest(Record):
    """What an image data set holds."""

    format: Literal["varscale-images/1"] = "varscale-images/1"
    classes: tuple[str, ...]
    splits: dict[str, tuple[Shard, ...]]
    source: str
    options: dict[str, int | float | str | None]
    rejected: dict[str, str]
    """Key -> reason of images left out."""
    fingerprint: str
    """Digest of class names, keys, labels and image bytes, whatever the sharding."""

    def rows(self, split: str) -> int:
        """Number of images in a split."""
        return sum(shard.rows for shard in self.splits[split])


class TokenManifest(Record):
    """What a token data set holds."""

    format: Literal["varscale-tokens/1"] = "varscale-tokens/1"
    classes: tuple[str, ...]
    splits: dict[str, tuple[Shard, ...]]
    views: dict[str, int]
    """Augmented views an image, by split; view j of image i is row i·views + j."""
    vocab_size: int
    patch_nums: tuple[int, ...]
    seed: int
    data_fingerprint: str
    tokenizer_fingerprint: str
    key: str
    """Digest of everything the tokens depend on."""


def write_manifest(folder: Path, manifest: Record) -> None:
    """Write the manifest, which makes the folder a data set."""
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def read_image_manifest(folder: Path) -> ImageManifest:
    """The manifest of an image data set.

    Raises:
        UserError: not a data set, or of an unknown format.
    """
    return _read(folder, ImageManifest, "an image data set (make one with 'varscale ingest SOURCE DEST')")


def read_token_manifest(folder: Path) -> TokenManifest:
    """The manifest of a token data set; raises as :func:`read_image_manifest`."""
    return _read(folder, TokenManifest, "a token data set (make one with 'varscale tokenise')")


def _read(folder: Path, kind: type[R], wanted: str) -> R:
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: no {MANIFEST} here; wanted {wanted}")
    try:
        return kind.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise UserError(f"{path}: field '{field}': {first['msg']}; wanted {wanted}") from error
