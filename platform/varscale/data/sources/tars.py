"""Tars: their members as a table of ranges, and the source that a tar of class folders is."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from varscale.data.sources.layout import VALIDATION, class_folders, images_of
from varscale.data.sources.listing import Source
from varscale.data.sources.reading import RangeReader
from varscale.data.sources.tar_members import Headers, Member, members
from varscale.locations import Location


def list_tar(place: Location) -> tuple[pa.Table, list[str]]:
    """The files of a tar, ``{path, offset, size, file = 0}``, and a note on members that are none.

    Raises:
        UserError: compressed, no tar, damaged, or cut off.
    """
    size = place.size()
    with place.open() as file:
        return member_table(members(Headers(file, place), 0, size, str(place)))


def member_table(found: Iterable[Member], file: int = 0) -> tuple[pa.Table, list[str]]:
    """Members as a table of ranges of ``file``, a number among the reader's files; and a note on what is no file."""
    names: list[str] = []
    offsets, sizes = array("q"), array("q")
    others: Counter[str] = Counter()
    for member in found:
        if member.kind != "file":
            others[member.kind] += 1
            continue
        names.append(normal(member.name))
        offsets.append(member.offset)
        sizes.append(member.size)
    table = pa.table(
        {
            "path": pa.array(names, pa.string()),
            "offset": pa.array(offsets, pa.int64()),
            "size": pa.array(sizes, pa.int64()),
            "file": pa.repeat(pa.scalar(file, pa.int32()), len(names)),
        }
    )
    return table, [f"not taken: {count} tar members of kind {kind}" for kind, count in sorted(others.items())]


def normal(name: str) -> str:
    """A member's name as a path below its tar."""
    if not name.startswith(("/", ".")) and "//" not in name and "/." not in name:
        return name  # as nearly all are
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def open_tar(place: Location, files: pa.Table, notes: list[str], val_fraction: float) -> Source:
    """The source that a tar of class folders is; raises as :func:`class_folders`.

    Args:
        files: the tar's files.
    """
    images, more = images_of(files)
    return class_folders(place, _below_top(images), val_fraction, notes + more, RangeReader((place,)))


def _below_top(images: pa.Table) -> pa.Table:
    """The images by their paths below the one folder that the tar holds, if that is neither a split nor a class."""
    parts = pc.split_pattern(images["path"], "/", max_splits=1)
    tops = pc.unique(pc.list_element(parts, 0)).to_pylist() if images.num_rows else []
    if len(tops) != 1 or tops[0] in ("train", *VALIDATION):
        return images
    below = pc.utf8_slice_codeunits(images["path"], len(tops[0]) + 1)
    has_class = pc.all(pc.greater(pc.count_substring(below, "/"), 0)).as_py()
    return images.set_column(0, "path", below) if has_class else images
