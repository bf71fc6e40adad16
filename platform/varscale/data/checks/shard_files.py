"""A shard as a file: is it there, is it the one the manifest means, has it the columns and rows it should have."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from varscale.data.checks.problems import Problem, Problems
from varscale.data.schema import Shard
from varscale.errors import EnvironmentalError
from varscale.locations import READ_CHUNK, Location

UNREADABLE = (OSError, ValueError, pa.ArrowException)
DIGEST_BYTES = 16
"""Enough that no two images of any data set share them by chance."""


@dataclass
class ShardFacts:
    """What one shard was found to hold. Picklable: it comes back from the shard's task."""

    problems: Problems = field(default_factory=Problems)
    whole: bool = False
    """Every row was read: sums over all rows are those of the manifest, or it is wrong."""
    rows: list[int] = field(default_factory=list)
    """Row of each key: every row of images, the first of each image's views of tokens."""
    keys: pa.Array = field(default_factory=lambda: pa.array([], pa.large_string()))
    images: pa.Array = field(default_factory=lambda: pa.array([], pa.binary(DIGEST_BYTES)))
    """Start of the SHA-256 of each key's image; empty for tokens."""
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Images by label."""
    content: int = 0
    """The shard's share of the fingerprint."""


@contextmanager
def same_file(dest: Location, shard: Shard, problems: Problems) -> Iterator[Path | None]:
    """The shard on this machine, copied for the length of the block if it lies elsewhere; None if it is missing.

    Size and SHA-256 are compared on the way, so that nothing comes over the network twice.

    Raises:
        EnvironmentalError: the storage does not answer, or there is no room for the copy.
    """
    place = dest / shard.file
    if not place.is_file():
        problems.add(Problem("missing", shard.file, "no such file", "the manifest names it"))
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="varscale-") as folder:
        path = place.local or _copy(place, Path(folder) / "shard")
        found, size = Location.of(path).sha256(), path.stat().st_size
        if size != shard.bytes:
            problems.add(Problem("size", shard.file, f"{size:,} bytes", f"the manifest says {shard.bytes:,}"))
        if found != shard.sha256:
            problems.add(Problem("checksum", shard.file, f"sha256 {found}", f"the manifest says {shard.sha256}"))
        yield path


def _copy(place: Location, target: Path) -> Path:
    try:
        with place.open() as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, READ_CHUNK)
    except OSError as error:
        raise EnvironmentalError(f"{place}: not read: {error}") from error
    return target


def same_schema(found: pa.Schema, wanted: pa.Schema, shard: Shard, problems: Problems) -> bool:
    """Note every column that is missing, foreign or of another type; False if some wanted column cannot be read."""

    def note(what: str, allowed: str) -> None:
        problems.add(Problem("schema", shard.file, what, allowed))

    for name in dict.fromkeys(found.names):
        if name not in wanted.names:
            note(f"column '{name}'", f"allowed {', '.join(wanted.names)}")
    usable = True
    for column in wanted:
        fields = [f for f in found if f.name == column.name]
        if len(fields) == 1 and fields[0].type == column.type:
            continue
        usable = False
        what = " and ".join(str(f.type) for f in fields) or "missing"
        note(f"column '{column.name}': {what}", f"allowed {column.type}")
    return usable


def same_rows(found: int, shard: Shard, problems: Problems) -> bool:
    """Note a number of rows that is not the manifest's."""
    if found != shard.rows:
        problems.add(Problem("rows", shard.file, f"{found:,} rows", f"the manifest says {shard.rows:,}"))
    return found == shard.rows


def note_unreadable(shard: Shard, kind: str, error: Exception, problems: Problems) -> None:
    """Note a file of which nothing can be read."""
    problems.add(Problem("unreadable", shard.file, f"not a readable {kind} file: {one_line(error)}", "wanted whole"))


def one_line(error: Exception) -> str:
    """An error's message without line breaks, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def column_bytes(column: pa.Array) -> list[bytes | None]:
    """Values of a text column whatever they hold: damaged text is no UTF-8."""
    return column.cast(pa.binary()).to_pylist()


def shown(key: bytes | None) -> str | None:
    """A key as it may be printed."""
    return None if key is None else key.decode(errors="backslashreplace")
