"""Folders: all files below one, and the source that class folders are."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from varscale.data.sources.layout import class_folders, images_of
from varscale.data.sources.listing import Source
from varscale.data.sources.reading import FileReader
from varscale.errors import UserError
from varscale.locations import Location


def list_files(place: Location) -> tuple[pa.Table, list[str]]:
    """All files below a folder, ``{path below it, size in bytes}``, at any depth, and notes on what is none.

    Links are followed.

    Raises:
        UserError: a name that is not UTF-8, or links in a circle.
    """
    try:
        found = place.filesystem.get_file_info(pafs.FileSelector(place.path, recursive=True))
        files = [(info.path, info.size) for info in found if info.is_file]
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: a file name here is not UTF-8 ({error.object!r}); rename it") from error
    others = {
        "links that lead nowhere": _dead_links(place.local) if place.local else 0,
        "pipes, sockets or devices": sum(info.type == pafs.FileType.Unknown for info in found),
    }
    notes = [f"not taken: {count} {kind}" for kind, count in others.items() if count]
    below = place.path.rstrip("/") + "/"
    paths = [path[path.index(below) + len(below) :] for path, _ in files]
    sizes = [size for _, size in files]
    return pa.table({"path": pa.array(paths, pa.string()), "size": pa.array(sizes, pa.int64())}), notes


def _dead_links(folder: Path) -> int:
    """Links below a folder that lead nowhere, of which Arrow's listing says nothing.

    Raises:
        UserError: a link leads to a folder that it is in, so that its images are there over and over.
    """
    count, folders = 0, [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir():
                    _check_no_circle(entry)
                    folders.append(entry.path)
                elif entry.is_symlink() and not Path(entry.path).exists():
                    count += 1
    return count


def _check_no_circle(entry: os.DirEntry[str]) -> None:
    place = Path(entry.path)
    if entry.is_symlink() and place.parent.resolve().is_relative_to(place.resolve()):
        raise UserError(f"{entry.path}: a link to a folder that it is in; remove it")


def open_folder(place: Location, files: pa.Table, notes: list[str], val_fraction: float) -> Source:
    """The source that a folder of class folders is; raises as :func:`class_folders`.

    Args:
        files: all files of the folder.
    """
    images, more = images_of(files)
    return class_folders(place, images, val_fraction, notes + more, FileReader(place))
