"""Which kind of source a place is."""

from __future__ import annotations

import pyarrow.compute as pc

from varscale.data.schema import MANIFEST
from varscale.data.sources.folders import list_files, open_folder
from varscale.data.sources.ilsvrc import has_class_tars, is_tar, open_class_tars, open_ilsvrc
from varscale.data.sources.layout import HIDDEN, IMAGE, not_taken
from varscale.data.sources.listing import Source, first_line
from varscale.data.sources.shards import open_shards
from varscale.data.sources.tables import open_tables
from varscale.data.sources.tar_members import BLOCK, begins_tar, check_uncompressed
from varscale.data.sources.tars import list_tar, open_tar
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import AnyPath, Location

PARQUET = ".parquet"
WANTED = (
    "wanted a folder of class folders of images, a tar of such, ILSVRC's tars, Parquet tables, or a folder of image"
    " shards"
)


def open_source(place: AnyPath, val_fraction: float) -> Source:
    """The labelled images at a path or URL, of whatever kind.

    Args:
        val_fraction: share of images that become validation where the source has no such split; the choice is a
            function of the key alone.

    Raises:
        UserError: nothing is named or there, it is of no known layout, or a split has no image.
        EnvironmentalError: the place cannot be read.
    """
    if not str(place):
        raise UserError(f"SOURCE is empty; {WANTED}")
    place = Location.of(place)
    try:
        if place.is_file():
            return _open_file(place, val_fraction)
        if place.is_folder():
            return _open_folder(place, val_fraction)
    except OSError as error:
        raise EnvironmentalError(f"{place}: {first_line(error)}") from error
    raise UserError(f"{place}: nothing there; {WANTED}")


def _open_file(place: Location, val_fraction: float) -> Source:
    if place.name.endswith(PARQUET):
        return open_tables(place, {place.name: place}, val_fraction, [])
    with place.open() as file:
        head = file.read(BLOCK)
    check_uncompressed(head, str(place))
    if not begins_tar(head):
        raise UserError(f"{place}: not a tar: no header at byte 0; {WANTED}")
    if has_class_tars(place):
        return open_class_tars(place, val_fraction, [])
    files, notes = list_tar(place)
    return open_tar(place, files, notes, val_fraction)


def _open_folder(place: Location, val_fraction: float) -> Source:
    if (place / MANIFEST).is_file():
        return open_shards(place)
    files, notes = list_files(place)
    seen = files["path"].filter(pc.invert(pc.match_substring_regex(files["path"], HIDDEN)))
    if not pc.any(pc.match_substring_regex(seen, IMAGE, ignore_case=True), min_count=0).as_py():
        paths = sorted(files["path"].to_pylist())
        tables = {path: place / path for path in sorted(seen.to_pylist()) if path.endswith(PARQUET)}
        if tables:
            notes += not_taken("no Parquet", [path for path in paths if path not in tables])
            return open_tables(place, tables, val_fraction, notes)
        if any(is_tar(path) for path in paths):
            return open_ilsvrc(place, paths, notes, val_fraction)
    return open_folder(place, files, notes, val_fraction)
