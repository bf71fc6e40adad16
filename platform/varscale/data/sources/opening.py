"""Which kind of source a place is."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pyarrow.compute as pc

from varscale.data.schema import MANIFEST
from varscale.data.sources.folders import list_files, open_folder
from varscale.data.sources.ilsvrc import has_class_tars, is_tar, open_class_tars, open_ilsvrc
from varscale.data.sources.layout import IMAGE, not_taken
from varscale.data.sources.listing import Source, first_line
from varscale.data.sources.shards import open_shards
from varscale.data.sources.tables import open_tables
from varscale.data.sources.tars import list_tar, open_tar
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

PARQUET = ".parquet"


def open_source(place: str | Path | Location, val_fraction: float) -> Source:
    """The labelled images at a path or URL, of whatever kind.

    Args:
        val_fraction: share of images that become validation where the source has no such split; the choice is a
            function of the key alone.

    Raises:
        UserError: nothing is there, it is of no known layout, or a split has no image.
        EnvironmentalError: the place cannot be read.
    """
    place = Location.of(place)
    try:
        if place.is_file():
            return _open_file(place, val_fraction)
        if place.is_folder():
            return _open_folder(place, val_fraction)
    except OSError as error:
        raise EnvironmentalError(f"{place}: {first_line(error)}") from error
    raise UserError(f"{place}: nothing there; wanted a folder, a tar or a Parquet file of labelled images")


def _open_file(place: Location, val_fraction: float) -> Source:
    if place.name.endswith(PARQUET):
        return open_tables(place, {place.name: place}, val_fraction, [])
    if has_class_tars(place):
        return open_class_tars(place, val_fraction, [])
    files, notes = list_tar(place)
    return open_tar(place, files, notes, val_fraction)


def _open_folder(place: Location, val_fraction: float) -> Source:
    if (place / MANIFEST).is_file():
        return open_shards(place)
    files = list_files(place)
    if not pc.any(pc.match_substring_regex(files["path"], IMAGE, ignore_case=True), min_count=0).as_py():
        paths = sorted(files["path"].to_pylist())
        tables = {path: place / path for path in paths if path.endswith(PARQUET) and not _is_hidden(path)}
        if tables:
            notes = not_taken("no Parquet", [path for path in paths if path not in tables])
            return open_tables(place, tables, val_fraction, notes)
        if any(is_tar(path) for path in paths):
            return open_ilsvrc(place, paths, val_fraction)
    return open_folder(place, files, val_fraction)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path).parts)
