"""A data set in the making: its shards appear one by one in their final place, each with a receipt; the manifest last.

``DEST/unfinished/`` holds a digest of what is being made and the receipts. Whoever is killed and started again with the
same digest finds what is done and makes the rest; no manifest stands before all is there, so nothing half-made is ever
taken for a data set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from varscale.data.schema import MANIFEST, Record, write_manifest
from varscale.errors import UserError
from varscale.locations import TEMPORARY, Location

UNFINISHED = "unfinished"
PLAN = "plan.json"


def check_apart(source: Location, dest: Location) -> None:
    """Refuse to make a data set where its source is.

    Raises:
        UserError: the two are one place, or one lies inside the other.
    """
    if dest.overlaps(source):
        raise UserError(f"{dest}: source and destination are the same or inside each other")


@dataclass(frozen=True)
class Assembly:
    """A data set being made at ``dest``. Picklable: Ray tasks write shards and receipts."""

    dest: Location

    @staticmethod
    def begin(dest: Location, key: str) -> Assembly:
        """Start or continue the data set that ``key``, a digest of source and options, names.

        Raises:
            UserError: ``dest`` holds something else: files, a finished data set, or the beginnings of another one.
        """
        if dest.is_file():
            raise UserError(f"{dest}: is a file; name a folder, new or empty")
        plan = dest / UNFINISHED / PLAN
        if (dest / MANIFEST).is_file():
            raise UserError(f"{dest}: holds a data set already; remove it, or name another folder")
        if plan.is_file():
            if _read(plan) != {"key": key}:
                raise UserError(
                    f"{dest}: holds the beginnings of a data set of another source or other options; run that command"
                    " again to finish it, remove the folder, or name another one"
                )
            _drop_halves(dest)
        elif held := dest.files(recursive=True):
            raise UserError(f"{dest}: exists and is no data set (it holds {next(iter(held))}); name a new folder")
        else:
            plan.write_json({"key": key})
        return Assembly(dest)

    def receipts(self) -> dict[str, dict[str, Any]]:
        """Shard's file name -> what was noted when it was finished. What a power cut spoiled is not among them."""
        folder = self.dest / UNFINISHED
        names = [name for name in folder.files() if name.endswith(".json") and name != PLAN]
        found = {name.removesuffix(".json"): _read(folder / name) for name in names}
        return {name: facts for name, facts in found.items() if facts is not None}

    def note(self, shard: str, facts: dict[str, Any]) -> None:
        """Write the receipt of a shard, after the shard itself stands."""
        (self.dest / UNFINISHED / f"{shard}.json").write_json(facts)

    def finish(self, manifest: Record) -> None:
        """Write the manifest, which makes the folder a data set, and drop the receipts."""
        write_manifest(self.dest, manifest)
        clear(self.dest)


def _read(place: Location) -> dict[str, Any] | None:
    """A note's content; None if it is no JSON."""
    try:
        return json.loads(place.read_bytes())
    except ValueError:
        return None


def _drop_halves(dest: Location) -> None:
    """Remove the files that were being written when a process was killed."""
    for name in dest.files(recursive=True):
        if name.endswith(TEMPORARY):
            (dest / name).remove()


def clear(dest: Location) -> None:
    """Drop what a finished data set no longer needs: receipts, and what killed writers left half-written."""
    for name in dest.files():
        if name.endswith(TEMPORARY):
            (dest / name).remove()
    (dest / UNFINISHED).remove()
