"""What one shard of images holds, row by row: every picture decodes and is as its columns say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from varscale.data.checks.parquet_rows import ParquetRows
from varscale.data.checks.problems import Problem, Problems
from varscale.data.checks.shard_files import DIGEST_BYTES, ShardFacts, column_bytes, one_line, same_file, shown
from varscale.data.fingerprint import row_digest
from varscale.data.images import ImageError, decode
from varscale.data.schema import IMAGE_SCHEMA, Shard
from varscale.locations import Location


@dataclass(frozen=True)
class ImageCheck:
    """What every shard is held against."""

    dest: Location
    classes: int


def check_image_shard(check: ImageCheck, part: tuple[str, Shard]) -> ShardFacts:
    """Read one shard whole; one task."""
    split, shard = part
    problems = Problems()
    held = _Held(split, np.zeros(check.classes, np.int64))
    whole = False
    with same_file(check.dest, shard, problems) as path:
        if path is not None:
            rows = ParquetRows(path, shard, IMAGE_SCHEMA, problems)
            for row, key, label, image, size in _values(rows):
                place = _Place(shard.file, row, shown(key), problems)
                if place.misses(key=key, label=label, image=image, width=size[0], height=size[1]):
                    rows.whole = False
                    continue
                _check_picture(place, image, size)
                if not 0 <= label < check.classes:
                    place.note("label", f"label {label}", f"allowed 0…{check.classes - 1}")
                held.take(row, place.key or "", label, image)
            whole = rows.whole
    return held.facts(problems, whole)


@dataclass(frozen=True)
class _Place:
    """A row that problems are noted at."""

    file: str
    row: int
    key: str | None
    problems: Problems

    def note(self, kind: str, what: str, allowed: str) -> None:
        self.problems.add(Problem(kind, self.file, what, allowed, self.row, self.key))

    def misses(self, **values: object) -> bool:
        """Note the columns that hold nothing."""
        missing = [name for name, value in values.items() if value is None]
        for name in missing:
            self.note("no value", f"nothing in column '{name}'", "wanted a value in every row")
        return bool(missing)


@dataclass
class _Held:
    """What has been read of a shard."""

    split: str
    counts: np.ndarray
    rows: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    content: int = 0

    def take(self, row: int, key: str, label: int, image: bytes) -> None:
        self.rows.append(row)
        self.keys.append(key)
        self.images.append(hashlib.sha256(image).digest()[:DIGEST_BYTES])
        self.content += row_digest(self.split, key, label, image)
        if 0 <= label < len(self.counts):
            self.counts[label] += 1

    def facts(self, problems: Problems, whole: bool) -> ShardFacts:
        keys, images = pa.array(self.keys, pa.large_string()), pa.array(self.images, pa.binary(DIGEST_BYTES))
        return ShardFacts(problems, whole, self.rows, keys, images, self.counts, self.content)


Row = tuple[int, bytes | None, int, bytes, tuple[int, int]]


def _values(rows: ParquetRows) -> Iterator[Row]:
    for first, batch in rows:
        keys = column_bytes(batch["key"])
        columns = (batch[name].to_pylist() for name in ("label", "image", "width", "height"))
        for i, (key, label, image, width, height) in enumerate(zip(keys, *columns, strict=True)):
            yield first + i, key, label, image, (width, height)


def _check_picture(place: _Place, image: bytes, stored: tuple[int, int]) -> None:
    try:
        upright = decode(image).size
    except ImageError as error:
        place.note("undecodable", f"image does not decode: {one_line(error)}", "wanted a whole PNG or JPEG")
        return
    if upright != stored:
        found, allowed = (" × ".join(map(str, sides)) for sides in (stored, upright))
        place.note("sides", f"width × height {found}", f"the upright picture is {allowed}")
