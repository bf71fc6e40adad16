"""The manifest of a data set of either kind, told apart by its format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from varscale.data.assembly import PLAN, UNFINISHED, Assembly
from varscale.data.schema import (
    MANIFEST,
    ImageManifest,
    TokenManifest,
    read_image_manifest,
    read_token_manifest,
)
from varscale.errors import UserError
from varscale.locations import AnyPath, Location

IMAGES, TOKENS = ".parquet", ".arrow"
"""How the files of shards end."""
READERS: dict[str, Callable[[Location], ImageManifest | TokenManifest]] = {
    ImageManifest.model_fields["format"].default: read_image_manifest,
    TokenManifest.model_fields["format"].default: read_token_manifest,
}


@dataclass(frozen=True)
class ImageSet:
    """An image data set whose manifest was read. Picklable."""

    folder: Location
    manifest: ImageManifest

    @staticmethod
    def read(folder: AnyPath) -> ImageSet:
        """The data set in ``folder``.

        Raises:
            UserError: none is there, or an unfinished one, or one of an unknown format.
        """
        place = Location.of(folder)
        if not (place / MANIFEST).is_file() and _has_begun(place):
            raise UserError(_without_manifest(place))
        return ImageSet(place, read_image_manifest(place))


def read_manifest(dest: Location) -> ImageManifest | TokenManifest:
    """The manifest at ``dest``, whatever it describes.

    Raises:
        UserError: no data set is here, or an unfinished one, or one of an unknown format.
    """
    path = dest / MANIFEST
    if not path.is_file():
        raise UserError(_without_manifest(dest))
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}; wanted the manifest of a data set") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found not in READERS:
        raise UserError(f"{path}: field 'format': {found!r} is not known; allowed {', '.join(READERS)}")
    return READERS[found](dest)


def _has_begun(dest: Location) -> bool:
    return (dest / UNFINISHED / PLAN).is_file()


def _without_manifest(dest: Location) -> str:
    if not _has_begun(dest):
        return f"{dest}: no {MANIFEST} here; wanted a data set, as 'varscale ingest' and 'varscale tokenise' make them"
    shards = [name for name in Assembly(dest).receipts() if name.endswith((IMAGES, TOKENS))]
    verb = "tokenise" if any(name.endswith(TOKENS) for name in shards) else "ingest"
    return f"{dest}: unfinished: {len(shards):,} of its shards stand; run the {verb} again, it makes the rest"
