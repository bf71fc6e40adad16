"""Checksums of local shards, compared once, on the first read and beside it.

A background thread reads a split's shards from end to end, which also fills the page cache, and compares them with
the manifest. Whoever reads meets a difference at the next read after it was found, or at the latest in
:meth:`Checksums.finish`. What was found right is noted in the cache folder by size, time of change and inode; a file
that keeps these is not read through again. Processes of one machine do this one after another: the first does the
work, the others find the notes.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from varscale.data.cache import cache_folder
from varscale.data.schema import Shard
from varscale.errors import EnvironmentalError, UserError
from varscale.identity import digest
from varscale.locations import Location


class Checksums:
    """The comparison for some shards of one local folder; it begins with the first :meth:`check`."""

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self._folder, self._shards = folder, shards
        self._failure: Exception | None = None
        self._thread = Thread(target=self._run, name="checksums", daemon=True)
        self._starting = Lock()

    def check(self) -> None:
        """Raise what was found so far.

        Raises:
            UserError: a shard's content is not what the manifest says.
            EnvironmentalError: a shard cannot be read, or the cache folder not written.
        """
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
        if self._failure:
            raise self._failure

    def finish(self) -> None:
        """Wait until every shard was compared; raises as :meth:`check`."""
        self.check()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            self._compare()
        except OSError as error:
            self._failure = EnvironmentalError(f"{self._folder}: checksums not compared: {error}")
        except UserError as error:
            self._failure = error

    def _compare(self) -> None:
        notes = cache_folder() / "checked" / f"{digest(str(self._folder))[:16]}.json"
        notes.parent.mkdir(parents=True, exist_ok=True)
        with notes.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = json.loads(notes.read_text()) if notes.exists() else {}
            for shard in self._shards:
                path = self._folder / shard.file
                facts = _facts(path, shard)
                if known.get(shard.file) != facts:
                    _compare(path, shard)
                    known[shard.file] = facts
                    Location.of(notes).write_json(known)


def _facts(path: Path, shard: Shard) -> list[Any]:
    """What changes with the file: a copy has another inode, an edit another time."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino, shard.sha256]


def _compare(path: Path, shard: Shard) -> None:
    found = Location.of(path).sha256()
    if found != shard.sha256:
        raise UserError(f"{path}: its sha256 begins {found[:12]}, the manifest's {shard.sha256[:12]}: bytes changed")
