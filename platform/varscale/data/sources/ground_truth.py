"""Labels of ILSVRC's validation images, from a devkit or a text of whatever form people keep.

Numbers of a devkit are ILSVRC2012_IDs, which are not in the order of the class folders' names: only ``meta.mat`` says
which is which. Taking one order for the other would mislabel everything without a sign, so it is refused.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from varscale.errors import UserError
from varscale.locations import Location

META = "meta.mat"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
WNID = re.compile(r"n\d{8}")
WANTED = (
    "wanted a devkit (ILSVRC2012_devkit_t12.tar.gz or the folder of it), LOC_val_solution.csv, or a .txt with a line"
    " 'class' or 'image class' for each image"
)


@dataclass(frozen=True)
class Truth:
    """A ground truth as found."""

    shown: str
    """The file's name in messages."""
    text: str
    wnids: dict[int, str] | None
    """ILSVRC2012_ID -> class, where a devkit says so."""


@dataclass(frozen=True)
class Line:
    """One line of a ground truth."""

    number: int
    name: str | None
    """The image's name without suffix, where the line has one."""
    value: str


def find_truth(place: Location, paths: Sequence[str]) -> Truth:
    """The ground truth among the files of a folder: a devkit's, else a text at the top.

    Raises:
        UserError: none, more than one, or an unreadable one.
    """
    devkit = _devkit(place, paths)
    wnids = _wnids(*devkit[META]) if META in devkit else None
    if TRUTH in devkit:
        shown, content = devkit[TRUTH]
    else:
        found = place / _text_file(place, paths)
        shown, content = str(found), found.read_bytes()
    try:
        return Truth(shown, content.decode("utf-8-sig"), wnids)
    except UnicodeDecodeError as error:
        raise UserError(f"{shown}: no text; {WANTED}") from error


def _devkit(place: Location, paths: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """The devkit's two files, name -> (name in messages, content), from wherever they lie; those that are there."""
    archives = [path for path in paths if re.search(r"devkit.*\.(tar(\.\w+)?|tgz)$", PurePosixPath(path).name)]
    found: dict[str, tuple[str, bytes]] = {}
    for path in archives:
        found |= _devkit_archive(place / path)
    for path in paths:
        if PurePosixPath(path).name in (META, TRUTH):
            found[PurePosixPath(path).name] = (str(place / path), (place / path).read_bytes())
    return found


def _devkit_archive(archive: Location) -> dict[str, tuple[str, bytes]]:
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:  # a few MB
            for member in tar:
                name = PurePosixPath(member.name).name
                stream = tar.extractfile(member) if name in (META, TRUTH) else None
                if stream is not None:
                    found[name] = (f"{archive}: {member.name}", stream.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive}: not a readable devkit: {error}") from error
    return found


def _wnids(shown: str, content: bytes) -> dict[int, str]:
    """ILSVRC2012_ID -> WordNet id of the classes proper, those without children, from a ``meta.mat``."""
    try:
        synsets = np.atleast_1d(scipy.io.loadmat(io.BytesIO(content), squeeze_me=True)["synsets"])
        rows = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], synsets["num_children"], strict=True)
        return {int(number): str(wnid) for number, wnid, children in rows if int(children) == 0}
    except (MatReadError, ValueError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        raise UserError(
            f"{shown}: {error}; wanted a MATLAB file with synsets of ILSVRC2012_ID, WNID, num_children"
        ) from error


def _text_file(place: Location, paths: Sequence[str]) -> str:
    texts = [path for path in paths if "/" not in path and path.lower().endswith((".txt", ".csv"))]
    named = [path for path in texts if re.search(r"val|truth", path.lower())] or texts
    if len(named) != 1:
        found = f"more than one: {', '.join(sorted(named))}" if named else "none"
        raise UserError(f"{place}: ground truth of the validation images: {found}; {WANTED}")
    return named[0]


def validation_labels(truth: Truth, images: Sequence[str], classes: Sequence[str], archive: str) -> list[int]:
    """The label of each validation image, an index into ``classes``.

    Args:
        images: file names, sorted.
        classes: class names, sorted: the training split's.
        archive: name of the validation tar in messages.

    Raises:
        UserError: lines that do not fit the images, unknown classes, or numbers whose meaning is unknown.
    """
    lines = _lines(truth)
    if len(lines) != len(images):
        raise UserError(f"{truth.shown}: {len(lines)} lines for the {len(images)} images of {archive}")
    if lines and lines[0].name is not None:
        lines = _by_name(truth, lines, images, archive)
    label_of = _meaning(truth, {line.value for line in lines}, classes)
    for line in lines:
        if line.value not in label_of:
            raise UserError(
                f"{truth.shown}: line {line.number}: unknown class '{line.value}'; wanted one of the {len(classes)}"
                " classes of the training images"
            )
    return [label_of[line.value] for line in lines]


def _lines(truth: Truth) -> list[Line]:
    """Lines ``class`` or ``image class …``, apart by spaces or commas; blank lines and a CSV's heading pass."""
    lines: list[Line] = []
    for number, text in enumerate(truth.text.splitlines(), start=1):
        fields = text.replace(",", " ").split()
        if not fields or (number == 1 and fields[0] == "ImageId"):
            continue
        name = PurePosixPath(fields[0]).stem if len(fields) > 1 else None
        if lines and (name is None) != (lines[0].name is None):
            raise UserError(f"{truth.shown}: line {number}: '{text[:60]}' is not of the form of the lines above")
        lines.append(Line(number, name, fields[min(1, len(fields) - 1)]))
    return lines


def _by_name(truth: Truth, lines: list[Line], images: Iterable[str], archive: str) -> list[Line]:
    """The lines in the order of the images they name."""
    named = {line.name: line for line in lines}
    stems = [PurePosixPath(image).stem for image in images]
    known = set(stems)
    for line in lines:
        if line.name not in known or named[line.name] is not line:
            reason = "named twice" if line.name in known else f"not in {archive}"
            raise UserError(f"{truth.shown}: line {line.number}: image '{line.name}' is {reason}")
    return [named[stem] for stem in stems]


def _meaning(truth: Truth, values: set[str], classes: Sequence[str]) -> dict[str, int]:
    """What the values of a ground truth mean: value -> label."""
    names = {name: label for label, name in enumerate(classes)}
    if values <= set(names) or not all(value.isdigit() for value in values):
        return names
    if "0" in values:  # Caffe's lists count sorted names from 0; a devkit's numbers begin at 1
        return {str(label): label for label in range(len(classes))}
    if truth.wnids is not None:
        return {str(number): names[wnid] for number, wnid in truth.wnids.items() if wnid in names}
    if all(WNID.fullmatch(name) for name in classes):
        raise UserError(
            f"{truth.shown}: numbers from 1 for classes that are WordNet ids are ILSVRC2012_IDs, which only the devkit"
            " explains; put ILSVRC2012_devkit_t12.tar.gz beside it, or have the lines name classes"
        )
    return {str(label + 1): label for label in range(len(classes))}
