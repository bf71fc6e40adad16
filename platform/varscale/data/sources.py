"""Where labelled images come from: a folder of class folders, or a tar of one.

Layouts, with any images below a class folder::

    SOURCE/train/<class>/…  and  SOURCE/val/<class>/…      the splits as they are
    SOURCE/<class>/…                                       validation drawn by key

A tar may hold the whole below one top folder.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from varscale.errors import UserError
from varscale.storage import digest

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = ("train", "val")
Files = dict[str, tuple[int, Callable[[], bytes]]]
"""Key -> size in bytes, and how to read it."""


@dataclass(frozen=True)
class SourceImage:
    """One labelled image of a source."""

    key: str
    """Path below the source, unique."""
    split: str
    class_name: str
    size: int
    """Bytes."""
    read: Callable[[], bytes]


@contextmanager
def open_source(source: Path, val_fraction: float) -> Iterator[list[SourceImage]]:
    """All images of ``source``, sorted by key.

    Args:
        val_fraction: share of images that become validation where the source has no splits of its own; the choice
            is a function of the key alone.

    Raises:
        UserError: the source does not exist, is of no known layout, or holds no image.
    """
    if source.is_dir():
        yield _label(source, _folder_files(source), val_fraction)
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            yield _label(source, _tar_files(archive), val_fraction)
    else:
        raise UserError(f"{source}: neither a folder of class folders nor a tar of one")


def listing_digest(source: Path, val_fraction: float) -> str:
    """Digest of what a source lists, names and sizes: whether an earlier ingest of it still stands."""
    with open_source(source, val_fraction) as images:
        return digest([[image.key, image.split, image.size] for image in images])


def _folder_files(source: Path) -> Files:
    files = (path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return {path.relative_to(source).as_posix(): (path.stat().st_size, path.read_bytes) for path in files}


def _tar_files(archive: tarfile.TarFile) -> Files:
    members = [m for m in archive if m.isfile() and m.name.lower().endswith(SUFFIXES)]
    tops = {PurePosixPath(m.name).parts[0] for m in members}
    skip = 1 if len(tops) == 1 and not tops & set(SPLITS) else 0
    return {"/".join(PurePosixPath(m.name).parts[skip:]): (m.size, _tar_reader(archive, m)) for m in members}


def _tar_reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        stream = archive.extractfile(member)
        assert stream is not None  # only regular files are listed
        return stream.read()

    return read


def _label(source: Path, files: Files, val_fraction: float) -> list[SourceImage]:
    has_splits = {key.split("/")[0] for key in files} <= set(SPLITS)
    depth = 3 if has_splits else 2
    images = []
    for key in sorted(files):
        parts = key.split("/")
        if len(parts) < depth:
            raise UserError(f"{source}: '{key}' is not inside a class folder ([train|val]/<class>/<image>)")
        split = parts[0] if has_splits else _split_of(key, val_fraction)
        images.append(SourceImage(key, split, parts[depth - 2], *files[key]))
    for split in SPLITS:
        if not any(image.split == split for image in images):
            raise UserError(f"{source}: no {'/'.join(SUFFIXES)} image for split '{split}'; wanted train and val")
    return images


def _split_of(key: str, val_fraction: float) -> str:
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "val" if position < val_fraction else "train"
