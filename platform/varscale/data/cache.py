"""Shards of object storage on this machine: copied once per node, checked meanwhile, the least recently used dropped.

The folder is ``$VARSCALE_CACHE``, by default ``~/.cache/varscale``. A copy goes by the sha256 of its content, so it is
what the manifest says or not there, and data sets that share a shard share the copy. Ranks of one node wait for each
other's copies through a lock on the unfinished file. Files that are open stay readable when they are dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from varscale.data.schema import Shard
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import READ_CHUNK, TEMPORARY, Location
from varscale.progress import Progress

CACHE_VARIABLE = "VARSCALE_CACHE"
CACHE_BYTES = 200 * 2**30
"""Limit where a study says none."""
LOCK = ".lock"
DOWNLOADS = 4
"""Copies that one process makes at once."""


def cache_folder() -> Path:
    """Where this machine keeps copies, and notes of what it has checked."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "varscale")


def _copies() -> Path:
    return cache_folder() / "shards"


class LocalShards:
    """Paths of a data set's shards on this machine: the files themselves in a local folder, else copies. Picklable."""

    def __init__(self, folder: Location, limit_bytes: int) -> None:
        self._folder, self._limit = folder, limit_bytes

    def place(self, shard: Shard) -> Location:
        """A shard as the user knows it, for messages."""
        return self._folder / shard.file

    def path(self, shard: Shard) -> Path:
        """A shard's file, copied now if it has to be.

        Raises:
            UserError: the shard is missing, or not what the manifest says.
            EnvironmentalError: the storage does not answer, or the disk is full.
        """
        local = self._folder.local
        return local / shard.file if local else _copied(self._folder, shard, self._limit, frozenset())

    def begin(self, shard: Shard) -> None:
        """Copy a shard that will be read next, in the background."""
        if self._folder.local is None:
            Thread(target=self._attempt, args=(shard,), daemon=True).start()

    def _attempt(self, shard: Shard) -> None:
        with contextlib.suppress(UserError, EnvironmentalError):  # whoever reads the shard meets it again
            self.path(shard)

    def fetch(self, shards: Sequence[Shard], together: Sequence[Shard]) -> None:
        """Have all these shards here: checked by size, copied several at a time if they are elsewhere.

        Args:
            together: shards that will be in use at the same time, these included: none of them is dropped.

        Raises:
            UserError: as :meth:`path`, or they do not fit under the limit together.
            EnvironmentalError: as :meth:`path`.
        """
        self._check_sizes(shards)
        if self._folder.local:
            return
        needed = sum(shard.bytes for shard in together)
        if needed > self._limit:
            raise UserError(
                f"{self._folder}: {needed / 2**30:.3g} GiB of shards, and copies may take {self._limit / 2**30:.3g} GiB"
                " (data.cache_gib); a uniform order draws from all shards at once, so allow at least as much"
            )
        missing = [shard for shard in shards if not _touched(_copies() / shard.sha256, shard.bytes)]
        if missing:
            self._copy(missing, frozenset(shard.sha256 for shard in together))

    def _copy(self, shards: Sequence[Shard], needed: frozenset[str]) -> None:
        progress = Progress(f"copying {self._folder}", sum(_mib(shard) for shard in shards), "MiB")
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            copies = {pool.submit(_copied, self._folder, shard, self._limit, needed): shard for shard in shards}
            try:
                for copy in as_completed(copies):
                    copy.result()
                    progress.advance(_mib(copies[copy]))
            finally:
                pool.shutdown(cancel_futures=True)
        progress.close()

    def _check_sizes(self, shards: Sequence[Shard]) -> None:
        found = self._folder.files()
        for shard in shards:
            if shard.file not in found:
                raise UserError(f"{self.place(shard)}: no such file; the manifest names it, with {shard.rows} rows")
            if found[shard.file] != shard.bytes:
                raise UserError(
                    f"{self.place(shard)}: {found[shard.file]} bytes where the manifest says {shard.bytes}; it was cut"
                    " short or written anew"
                )


def _mib(shard: Shard) -> int:
    return max(1, round(shard.bytes / 2**20))


def _copied(folder: Location, shard: Shard, limit: int, needed: frozenset[str]) -> Path:
    """The copy of a shard, made now if no process has made it; none of ``needed`` is dropped for it."""
    source, copies = folder / shard.file, _copies()
    copy = copies / shard.sha256
    part = copy.with_suffix(TEMPORARY)
    try:
        copies.mkdir(parents=True, exist_ok=True)
        while not _touched(copy, shard.bytes):
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                if _is(part, stream):  # else another process had it, and has moved or removed it
                    _make(copy, part, stream, source, shard, limit, needed)
    except OSError as error:
        raise EnvironmentalError(f"{source}: not copied to {copies}: {error}") from error
    return copy


def _touched(copy: Path, size: int) -> bool:
    """Whether a copy is there; if so, it is now the most recently used one."""
    try:
        os.utime(copy)
        return copy.stat().st_size == size
    except FileNotFoundError:
        return False


def _is(path: Path, stream: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _make(
    copy: Path, part: Path, stream: BinaryIO, source: Location, shard: Shard, limit: int, needed: frozenset[str]
) -> None:
    """Copy ``source`` through the locked ``part``; nothing of it stays when that fails."""
    try:
        if not _touched(copy, shard.bytes):  # else it was made between our look and our lock
            _make_room(part, stream, shard.bytes, limit, needed)
            _download(source, shard, stream)
            with _names_held(part.parent):
                part.replace(copy)
    finally:
        with _names_held(part.parent):
            if _is(part, stream):
                part.unlink()


@contextmanager
def _names_held(folder: Path) -> Iterator[None]:
    """No other process or thread makes, renames or drops copies meanwhile."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_room(part: Path, stream: BinaryIO, size: int, limit: int, needed: frozenset[str]) -> None:
    """Drop the least recently used copies until ``size`` more bytes fit, and take these bytes for ``part``."""
    with _names_held(part.parent):
        others = [(path, path.stat()) for path in part.parent.iterdir() if path.name not in (part.name, LOCK)]
        used = sum(facts.st_size for _, facts in others)
        for path, facts in sorted(others, key=lambda other: other[1].st_mtime_ns):
            if used + size <= limit:
                break
            if path.name not in needed and not _being_made(path):
                path.unlink()
                used -= facts.st_size
        if used + size > limit:
            raise UserError(
                f"{part.parent}: shards in use take {used / 2**30:.3g} GiB and {size / 2**30:.3g} GiB more are needed;"
                f" data.cache_gib allows {limit / 2**30:.3g}"
            )
        stream.truncate(size)  # so that others count it


def _being_made(path: Path) -> bool:
    """Whether some process is at an unfinished copy; else it was left by one that was killed."""
    if path.suffix != TEMPORARY:
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _download(source: Location, shard: Shard, stream: BinaryIO) -> None:
    content = hashlib.sha256()
    with source.open() as incoming:
        while chunk := incoming.read(READ_CHUNK):
            content.update(chunk)
            stream.write(chunk)
    if content.hexdigest() != shard.sha256:
        raise UserError(f"{source}: its sha256 begins {content.hexdigest()[:12]}, the manifest's {shard.sha256[:12]}")
    stream.flush()
    os.fsync(stream.fileno())
