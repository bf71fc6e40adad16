"""Folders: all files below one, and the source that class folders are."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.fs as pafs

from varscale.data.sources.layout import class_folders, images_of
from varscale.data.sources.listing import Source
from varscale.data.sources.reading import FileReader
from varscale.errors import UserError
from varscale.locations import Location


def list_files(place: Location) -> pa.Table:
    """All files below a folder, ``{path below it, size in bytes}``, at any depth; links are followed.

    Raises:
        UserError: a name that is not UTF-8.
    """
    try:
        found = place.filesystem.get_file_info(pafs.FileSelector(place.path, recursive=True))
        files = [(info.path, info.size) for info in found if info.is_file]
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: a file name here is not UTF-8 ({error.object!r}); rename it") from error
    below = place.path.rstrip("/") + "/"
    paths = [path[path.index(below) + len(below) :] for path, _ in files]
    return pa.table({"path": pa.array(paths, pa.string()), "size": pa.array([size for _, size in files], pa.int64())})


def open_folder(place: Location, files: pa.Table, val_fraction: float) -> Source:
    """The source that a folder of class folders is; raises as :func:`class_folders`.

    Args:
        files: all files of the folder.
    """
    images, notes = images_of(files)
    return class_folders(place, images, val_fraction, notes, FileReader(place))
