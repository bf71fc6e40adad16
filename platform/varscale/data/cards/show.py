"""``varscale data show``: the card of a data set of either kind, as text or JSON, with a picture of images."""

from __future__ import annotations

import json
from pathlib import Path

from varscale.data.cards.contact_sheet import contact_sheet
from varscale.data.cards.images import image_card
from varscale.data.cards.text import image_text, token_text
from varscale.data.cards.tokens import token_card
from varscale.data.manifests import read_manifest
from varscale.data.schema import TokenManifest
from varscale.errors import UserError
from varscale.locations import Location
from varscale.progress import say


def show(dest: Location, picture: Path | None, as_json: bool) -> str:
    """What to print; a picture of image sets is written to ``picture``, or into the working folder by their name.

    A file that is in the working folder already may be the user's own: it is left alone, and stderr says so.

    Raises:
        UserError: no data set is here, it cannot be read, or a picture is asked of tokens.
    """
    manifest = read_manifest(dest)
    if not any(shard.rows for shards in manifest.splits.values() for shard in shards):
        raise UserError(f"{dest}: no split holds any row; wanted at least one")
    if isinstance(manifest, TokenManifest):
        if picture:
            raise UserError(f"--picture {picture}: {dest} holds tokens; only images have a picture")
        tokens = token_card(dest, manifest)
        return json.dumps(tokens.to_json()) if as_json else token_text(tokens)
    images = image_card(dest, manifest)
    target = picture or Path(f"{dest.name}.png")
    written = picture is not None or not target.exists()
    if written:
        Location.of(target).write_bytes(contact_sheet(dest, images))
    else:
        say(f"{target}: exists already, so no picture is written; --picture {target} replaces it")
    if as_json:
        return json.dumps(images.to_json() | {"picture": str(target) if written else None})
    return f"{image_text(images)}\npicture: {target}" if written else image_text(images)
