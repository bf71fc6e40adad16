"""Class folders: which of the files found are images, and what split and class their paths say."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from varscale.data.sources.listing import Reader, Source, drawn_splits, listed
from varscale.errors import UserError
from varscale.locations import Location

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
REFUSED = (".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".ppm", ".tga")
"""Images of formats that are not read: taken all the same, so that each one is listed among the rejects."""
IMAGE = rf"({'|'.join(re.escape(suffix) for suffix in SUFFIXES + REFUSED)})$"
HIDDEN = r"(^|/)\."
VALIDATION = ("val", "validation", "test")
"""Folders that may hold the validation split, best first."""


def images_of(files: pa.Table) -> tuple[pa.Table, list[str]]:
    """The files (``path`` and whatever else) that are images by suffix; and a note on those that are not."""
    hidden = pc.match_substring_regex(files["path"], HIDDEN)
    suffixed = pc.match_substring_regex(files["path"], IMAGE, ignore_case=True)
    images = files.filter(pc.and_not(suffixed, hidden))
    other = pc.invert(pc.or_(suffixed, hidden))
    notes = not_taken("hidden", files["path"].filter(hidden).to_pylist())
    return images, notes + not_taken("no image by suffix", files["path"].filter(other).to_pylist())


def not_taken(reason: str, paths: list[str]) -> list[str]:
    """A note on files that are not taken, with their kinds; none where there are none."""
    if not paths:
        return []
    kinds = Counter(PurePosixPath(path).suffix.lower() or PurePosixPath(path).name for path in paths)
    shown = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(8)) + (", …" if len(kinds) > 8 else "")
    return [f"not taken: {len(paths)} files, {reason} ({shown})"]


def class_folders(place: Location, images: pa.Table, val_fraction: float, notes: list[str], reader: Reader) -> Source:
    """The source that images in class folders are.

    Args:
        images: ``{path, size}`` and the reader's columns; the path becomes the key.

    Raises:
        UserError: no images, an image in no class folder, a split without images.
    """
    if not images.num_rows:
        raise UserError(
            f"{place}: no {'/'.join(SUFFIXES)} image here; wanted class folders of them, ILSVRC tars, Parquet with"
            f" image and label, or image shards" + "".join(f" ({note})" for note in notes)
        )
    images, split, more = _splits(place, images)
    depth = 2 if split is None else 3
    parts = _inside_classes(place, images["path"], depth)
    names = pc.list_element(parts, depth - 2)
    classes = sorted(pc.unique(names).to_pylist())
    rows = images.rename_columns({"path": "key"})
    rows = rows.append_column("split", drawn_splits(rows["key"], val_fraction) if split is None else split)
    rows = rows.append_column("label", pc.index_in(names, value_set=pa.array(classes, pa.string())))
    return listed(place, rows, classes, notes + more, reader)


def _splits(place: Location, images: pa.Table) -> tuple[pa.Table, pa.ChunkedArray | None, list[str]]:
    """The images of the splits, the split of each (None where there are none but classes), and notes."""
    top = pc.list_element(pc.split_pattern(images["path"], "/", max_splits=1), 0)
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(top).to_pylist()}
    validation = next((name for name in VALIDATION if name in counts), None)
    if not _are_splits(set(counts), validation):
        return images, None, []
    if "train" not in counts or validation is None:
        raise UserError(
            f"{place}: holds {'/, '.join(sorted(counts))}/ only; wanted train/ and val/, or class folders without them"
            " (validation is then drawn)"
        )
    notes = [f"not taken: {counts[name]} images in {name}/" for name in sorted(set(counts) - {"train", validation})]
    if validation != "val":
        notes.insert(0, f"{validation}/ is the val split")
    used = pc.is_in(top, value_set=pa.array(["train", validation]))
    is_train = pc.equal(top.filter(used), "train")
    return images.filter(used), pc.if_else(is_train, "train", "val"), notes


def _are_splits(tops: set[str], validation: str | None) -> bool:
    """Whether top folders are splits; a folder 'train' or 'test' among others is taken for a class."""
    known = {"train", *VALIDATION}
    return ("train" in tops and validation in ("val", "validation")) or (tops <= known and tops != {"test"})


def _inside_classes(place: Location, paths: pa.ChunkedArray, depth: int) -> pa.ChunkedArray:
    """The parts of each path, ``depth`` at the least."""
    parts = pc.split_pattern(paths, "/", max_splits=depth - 1)
    stray = paths.filter(pc.less(pc.list_value_length(parts), depth))
    if len(stray):
        first = min(stray.to_pylist())
        raise UserError(f"{place}: '{first}' is not inside a class folder ([train|val]/<class>/<image>)")
    return parts
