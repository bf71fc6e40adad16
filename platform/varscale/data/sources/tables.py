"""Hugging Face style Parquet: ``image: struct<bytes, path>`` and an integer ``label``, in files named by split."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varscale.data.sources.listing import Source, drawn_splits, listed
from varscale.data.sources.reading import in_order, read_threads
from varscale.data.sources.rows import RowReader, damage_named, open_parquet, row_sizes
from varscale.errors import UserError
from varscale.locations import Location

LABELS = ("label", "labels")
SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
SPLIT = re.compile(f"({'|'.join(SPLITS)})(?![a-z])")
BYTES = "image.bytes"
MOST_CLASSES = 1_000_000
"""Larger labels where there are no names are something else than classes."""
WANTED = "wanted image: struct<bytes: binary, path: string> and label (or labels): an integer"


@dataclass(frozen=True)
class _File:
    """One Parquet file, its images unread."""

    place: Location
    stem: str
    """Path below the source without suffix: the first part of its keys."""
    split: str
    """train, val, test, or nothing where the name says none."""
    names: tuple[str, ...] | None
    """Class names, where the schema has them."""
    fault: str
    """What keeps Hugging Face's metadata from being read; nothing where they are sound or not there."""
    labels: pa.ChunkedArray
    """int64, by row; unchecked."""
    sizes: np.ndarray
    """Bytes by row, a row group's mean."""


def open_tables(place: Location, paths: dict[str, Location], val_fraction: float, notes: list[str]) -> Source:
    """The source that Parquet files are.

    Args:
        paths: path below the source -> file.
        val_fraction: share of rows that become validation where no file is named so.

    Raises:
        UserError: another schema, a label that is null or out of range, images without bytes, an empty split.
    """
    found = list(in_order(lambda item: _look(*item), paths.items(), read_threads(place)))
    files, more = _splits(place, found, val_fraction)
    classes, faults = _classes([file for file, _ in files])
    rows = pa.concat_tables([_rows(number, *file) for number, file in enumerate(files)])
    if not any(split == "val" for _, split in files):
        rows = rows.set_column(1, "split", drawn_splits(rows["key"], val_fraction))
    return listed(place, rows, classes, notes + more + faults, RowReader(tuple(file.place for file, _ in files), BYTES))


def _look(path: str, place: Location) -> _File:
    """What a file says without its images being read."""
    with place.open() as stream:
        parquet = open_parquet(stream, place)
        label = _label_column(parquet.schema_arrow, place)
        with damage_named(place, f"column {label}: damaged"):
            labels = parquet.read(columns=[label])[label]
        sizes = row_sizes(parquet.metadata, BYTES, place)
        if len(labels) != len(sizes):
            raise UserError(f"{place}: damaged: {len(labels)} labels for the {len(sizes)} rows of its row groups")
        names, fault = _class_names(parquet.schema_arrow, label)
        return _File(
            place=place,
            stem=str(PurePosixPath(path).with_suffix("")),
            split=_named_split(path),
            names=names,
            fault=fault,
            labels=_as_int64(labels, place),
            sizes=sizes,
        )


def _label_column(schema: pa.Schema, place: Location) -> str:
    label = next((name for name in LABELS if name in schema.names), None)
    kind = schema.field("image").type if "image" in schema.names else pa.null()
    has_bytes = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if label is None or not has_bytes or not pa.types.is_integer(schema.field(label).type):
        shown = ", ".join(f"{field.name}: {field.type}" for field in list(schema)[:12])
        raise UserError(f"{place}: columns {shown}; {WANTED}")
    return label


def _as_int64(labels: pa.ChunkedArray, place: Location) -> pa.ChunkedArray:
    if labels.type == pa.uint64():
        too_large = pc.greater(labels, pa.scalar(2**63 - 1, pa.uint64())).fill_null(False)
        row = pc.index(too_large, True).as_py()
        if row >= 0:
            raise UserError(f"{place}: row {row}: label {labels[row]}; wanted 0 to {MOST_CLASSES - 1}")
    return labels.cast(pa.int64())


def _named_split(path: str) -> str:
    """The split that a file's name begins with, or else a folder's above it."""
    for part in reversed(PurePosixPath(path).parts):
        if match := SPLIT.match(part):
            return SPLITS[match[1]]
    return ""


def _class_names(schema: pa.Schema, label: str) -> tuple[tuple[str, ...] | None, str]:
    """The names of a ClassLabel as Hugging Face's data sets write them into the schema, if they did; and the fault."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None, ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None, "no JSON"
    for field in ("info", "features", label):
        if not isinstance(found, dict) or not isinstance(found.get(field), dict):
            return None, f"no '{field}'"
        found = found[field]
    names = found.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None, "'names' are no list of words"
    return (tuple(names) or None), ""


def _splits(place: Location, found: list[_File], val_fraction: float) -> tuple[list[tuple[_File, str]], list[str]]:
    """The files that are taken, each with its split; all say train where validation is to be drawn; and notes."""
    held = {split: [file for file in found if file.split == split] for split in ("train", "val", "test", "")}
    drawn = f"no validation file: a share of {val_fraction:g} of the training rows is the val split"
    if len(held[""]) == len(found):
        return [(file, "train") for file in found], []
    if not held["train"]:
        raise UserError(f"{place}: no file for split 'train' among {', '.join(file.stem for file in found)}")
    files = [(file, split) for split in ("train", "val") for file in held[split]]
    notes = [f"not taken: {file.place.name}, no split in its name" for file in held[""]]
    unlabelled = all(pc.all(pc.equal(file.labels.fill_null(-1), -1)).as_py() for file in held["test"])
    if held["val"] or unlabelled:
        state = "without labels" if unlabelled else "beside the validation split"
        notes += [f"not taken: {file.place.name}, {len(file.labels)} test rows {state}" for file in held["test"]]
        return files, notes if held["val"] else [*notes, drawn]
    return files + [(file, "val") for file in held["test"]], [*notes, "the test files are the val split"]


def _classes(files: list[_File]) -> tuple[tuple[str, ...], list[str]]:
    """The class names, after a look at every label; numbers where there are no names. And notes on why not."""
    faults = [
        f"{file.place}: 'huggingface' metadata: {file.fault}; classes are named by their numbers"
        for file in files
        if file.fault
    ]
    names = None if faults else _agreed_names(files)
    count = MOST_CLASSES if names is None else len(names)
    for file in files:
        wrong = pc.or_(pc.less(file.labels, 0), pc.greater_equal(file.labels, count)).fill_null(True)
        if pc.any(wrong, min_count=0).as_py():
            row = pc.index(wrong, True).as_py()
            value = file.labels[row].as_py()
            raise UserError(
                f"{file.place}: row {row}: label {'null' if value is None else value}; wanted 0 to {count - 1}"
            )
    if names is not None:
        return names, []
    highest = max((pc.max(file.labels).as_py() for file in files if len(file.labels)), default=-1)
    return tuple(str(label) for label in range(highest + 1)), faults


def _agreed_names(files: list[_File]) -> tuple[str, ...] | None:
    """The class names that all files agree on."""
    first = files[0]
    for file in files:
        if file.names != first.names:
            raise UserError(f"{file.place}: other class names in its schema than in {first.place.name}")
    repeated = [name for name, count in Counter(first.names or ()).items() if count > 1]
    if repeated:
        raise UserError(f"{first.place}: class name '{repeated[0]}' is there more than once in its schema")
    return first.names


def _rows(number: int, file: _File, split: str) -> pa.Table:
    """The listing's rows of a file, which is ``number`` among the reader's."""
    count = len(file.labels)
    row = pa.array(np.arange(count), pa.int32())
    return pa.table(
        {
            "key": pc.binary_join_element_wise(file.stem, pc.utf8_lpad(row.cast(pa.string()), 8, "0"), "/"),
            "split": pa.repeat(split, count),
            "label": file.labels.cast(pa.int32()),
            "size": pa.array(file.sizes, pa.int64()),
            "file": pa.repeat(pa.scalar(number, pa.int32()), count),
            "row": row,
        }
    )
