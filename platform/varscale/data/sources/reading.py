"""Readers of images that are files, or ranges of files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from varscale.errors import UserError
from varscale.locations import Location

Item = TypeVar("Item")
Result = TypeVar("Result")
REMOTE_READS = 16
"""Reads under way at once where each waits for a network."""


def read_threads(place: Location) -> int:
    """Reads worth having under way at once: threads only cost where the disk is near."""
    return 1 if place.local else REMOTE_READS


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """``work`` of every item, in order, with as many under way as there are threads."""
    if threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True)
class FileReader:
    """Each image is a file: its key below ``root``."""

    root: Location

    def read(self, rows: pa.Table) -> Iterator[bytes]:
        """See :class:`varscale.data.sources.listing.Reader`."""
        wanted = zip(rows["key"].to_pylist(), rows["size"].to_pylist(), strict=True)
        return in_order(lambda image: self._bytes(*image), wanted, read_threads(self.root))

    def _bytes(self, key: str, size: int) -> bytes:
        place = self.root / key
        return _unchanged(place.read_bytes(), size, str(place))


@dataclass(frozen=True)
class RangeReader:
    """Each image is ``size`` bytes from ``offset`` in ``files[file]``; these are columns of the listing."""

    files: tuple[Location, ...]

    def read(self, rows: pa.Table) -> Iterator[bytes]:
        """See :class:`varscale.data.sources.listing.Reader`."""
        columns = [rows[name].to_pylist() for name in ("file", "offset", "size")]
        with ExitStack() as stack:
            opened = {file: stack.enter_context(self.files[file].open()) for file in sorted(set(columns[0]))}

            def fetch(image: tuple[int, int, int]) -> bytes:
                file, offset, size = image
                return _unchanged(opened[file].read_at(size, offset), size, f"{self.files[file]}: at byte {offset}")

            yield from in_order(fetch, zip(*columns, strict=True), read_threads(self.files[0]))


def _unchanged(content: bytes, size: int, shown: str) -> bytes:
    if len(content) != size:
        raise UserError(f"{shown}: {len(content)} bytes where {size} were listed; the source changed meanwhile")
    return content
