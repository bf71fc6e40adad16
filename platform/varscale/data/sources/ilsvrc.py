"""ILSVRC as it is given out: a tar of class tars, a flat tar of validation images, and their ground truth.

Images are ranges of the outer tars and nothing is unpacked. Keys are those of the unpacked folders,
``train/<class>/<image>`` and ``val/<class>/<image>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from varscale.data.sources.ground_truth import find_truth, validation_labels
from varscale.data.sources.layout import class_folders, images_of, not_taken
from varscale.data.sources.listing import Source
from varscale.data.sources.reading import RangeReader, in_order
from varscale.data.sources.tar_members import Headers, Member, members
from varscale.data.sources.tars import list_tar, member_table
from varscale.errors import UserError
from varscale.locations import Location

LISTERS = 8
"""Class tars listed at once over a network; each holds some MB."""
TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
TEST = re.compile(r"(^|[_.-])test([_.-])")


@dataclass
class _Tars:
    """The tars of a folder by what is in them."""

    nested: list[str] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_ilsvrc(place: Location, paths: Sequence[str], notes: list[str], val_fraction: float) -> Source:
    """The source that a folder of ILSVRC tars is.

    Args:
        paths: all files below the folder.
        val_fraction: share of images that become validation where there is no tar of them.

    Raises:
        UserError: tars that are not these, a broken one, or a ground truth that does not fit.
    """
    tars = _sorted_out(place, [path for path in paths if is_tar(path)])
    tars.notes[:0] = notes
    tars.notes += not_taken("no tar and no ground truth", [path for path in paths if not _is_part(path)])
    train = place / _one(place, tars.nested, TRAIN, "tar of class tars", tars.notes)
    if not tars.flat:
        return open_class_tars(train, val_fraction, tars.notes)
    val = place / _one(place, tars.flat, VAL, "tar of validation images", tars.notes)
    images, noted = _training_images(train)
    classes = sorted(pc.unique(_class_of(images)).to_pylist())
    held_out, more = _validation_images(place, val, paths, classes)
    images = images.set_column(0, "path", pc.binary_join_element_wise("train", images["path"], "/"))
    both = pa.concat_tables([images, held_out])
    return class_folders(place, both, val_fraction, tars.notes + noted + more, RangeReader((train, val)))


def open_class_tars(train: Location, val_fraction: float, notes: list[str]) -> Source:
    """The source that a tar of class tars is by itself; raises as :func:`open_ilsvrc`."""
    images, more = _training_images(train)
    drawn = f"no tar of validation images: a share of {val_fraction:g} of the training images is the val split"
    return class_folders(train, images, val_fraction, [*notes, drawn, *more], RangeReader((train,)))


def is_tar(path: str) -> bool:
    """Whether a path at a folder's top is a tar of images by its name."""
    return re.fullmatch(r"(?!\.|.*devkit)[^/]*\.tar", path, re.IGNORECASE) is not None


def _is_part(path: str) -> bool:
    """Whether a file is a tar, or may be (of) a ground truth."""
    return is_tar(path) or "devkit" in path or PurePosixPath(path).suffix in (".txt", ".csv", ".mat")


def has_class_tars(place: Location) -> bool:
    """Whether the first file in a tar is a tar; raises as :func:`members`."""
    size = place.size()
    with place.open() as file:
        found = members(Headers(file, place), 0, size, str(place))
        first = next((member for member in found if _counts(member)), None)
    return first is not None and first.name.lower().endswith(".tar")


def _counts(member: Member) -> bool:
    return member.kind == "file" and not PurePosixPath(member.name).name.startswith(".")


def _sorted_out(place: Location, names: Sequence[str]) -> _Tars:
    tars = _Tars()
    for name in sorted(names):
        if has_class_tars(place / name):
            tars.nested.append(name)
        elif TEST.search(name.lower()):
            tars.notes.append(f"not taken: {name}, test images without labels")
        else:
            tars.flat.append(name)
    return tars


def _one(place: Location, found: list[str], usual: str, kind: str, notes: list[str]) -> str:
    """The one tar of a kind, or among several the one of the usual name, with a note on the others."""
    if len(found) == 1:
        return found[0]
    if usual not in found:
        shown = f"{len(found)} ({', '.join(found)})" if found else "none"
        raise UserError(
            f"{place}: {kind}: {shown}; wanted one, or {usual} among them (a tar of class folders is given by itself)"
        )
    notes += [f"not taken: {name}, another {kind}" for name in found if name != usual]
    return usual


def _training_images(train: Location) -> tuple[pa.Table, list[str]]:
    """The images of all class tars, ``path`` = class/image, as ranges of the outer tar, its file 0."""
    outer, notes = list_tar(train)
    is_class = pc.ends_with(outer["path"], ".tar", ignore_case=True)
    _, more = images_of(outer.filter(pc.invert(is_class)))
    class_tars = outer.filter(is_class).to_pylist()
    with train.open() as file:
        threads = 1 if train.local else LISTERS
        lists = list(in_order(partial(_class_images, train, file), class_tars, threads))
    if not lists:
        raise UserError(f"{train}: no class tar in it")
    images, others = images_of(pa.concat_tables([table for table, _ in lists]))
    return images, notes + more + [note for _, kinds in lists for note in kinds] + others


def _class_images(train: Location, file: pa.NativeFile, class_tar: dict) -> tuple[pa.Table, list[str]]:
    """The files of one class tar."""
    shown = f"{train}: {class_tar['path']}"
    start, name = class_tar["offset"], PurePosixPath(class_tar["path"]).stem
    found = members(Headers(file, train), start, start + class_tar["size"], shown)
    table, notes = member_table(member._replace(name=f"{name}/{member.name}") for member in found)
    return table, [f"{class_tar['path']}: {note}" for note in notes]


def _class_of(images: pa.Table) -> pa.ChunkedArray:
    return pc.list_element(pc.split_pattern(images["path"], "/", max_splits=1), 0)


def _validation_images(
    place: Location, val: Location, paths: Sequence[str], classes: Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """The validation images, ``path`` = val/class/image, as ranges of the reader's file 1."""
    files, notes = list_tar(val)
    images, more = images_of(files)
    names = [PurePosixPath(path).name for path in images["path"].to_pylist()]
    order = sorted(range(len(names)), key=names.__getitem__)  # line k of a ground truth is the k-th name
    labels = validation_labels(find_truth(place, paths), [names[i] for i in order], classes, str(val))
    images = images.take(pa.array(order, pa.int64()))
    keys = [f"val/{classes[label]}/{names[i]}" for i, label in zip(order, labels, strict=True)]
    images = images.set_column(0, "path", pa.array(keys, pa.string()))
    return images.set_column(3, "file", pa.repeat(pa.scalar(1, pa.int32()), len(keys))), notes + more
