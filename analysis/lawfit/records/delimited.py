"""Tables of text, read strictly: every row holds as many fields as the header, every name is there once.

A comma too many at the end of rows would shift all columns by one, and so would a decimal comma; a fit to shifted
columns can look perfect. Such files are refused by row and counts. Where fields are separated by semicolons or tabs, a
comma in numbers is a decimal comma, and the table says so.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lawfit.errors import RecordError

DELIMITED = (".csv", ".tsv")
COMPRESSED = ".gz"

SEPARATORS = {".csv": (",", ";", "\t"), ".tsv": ("\t",)}
"""What may separate the fields: the one that the header holds most of, the first of equals."""

NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}

DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")
DECIMAL_POINT = re.compile(r"\s*[-+]?\d*\.\d+([eE][-+]?\d+)?\s*")
GROUPED = re.compile(r"\s*[-+]?\d{1,3}((,\d{3}){2,}|(\.\d{3}){2,})([.,]\d+)?\s*")
"""Thousands set apart: 1,000,000 or 1.000.000."""

PERHAPS_GROUPED = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")
"""1,000: a decimal comma before three digits, or a thousand."""

LONGEST_FIELD = 2**24
"""Characters; the csv module's own limit of 131,072 is below a note's length in some tables."""

Row = tuple[int, list[str]]
"""The line on which it ends, and its fields."""


def kind_of(path: Path) -> str:
    """Ending of a table's name without compression, in lower case: .csv for RUNS.CSV and runs.csv.gz."""
    name = path.name.lower().removesuffix(COMPRESSED)
    return Path(name).suffix


def read_delimited(path: Path) -> pd.DataFrame:
    """The table of a `.csv` or `.tsv` file, compressed (`.gz`) or not; `attrs["notes"]` says what was assumed.

    Raises RecordError for a row whose fields are not as many as the header's, a name that is blank or there twice,
    decimal commas between commas, and text that is no such table.
    """
    text = _text(path)
    separator = _separator(path, text)
    header, rows = _split(path, text, separator)
    _check_names(path, header)
    _check_counts(path, header, rows, separator)
    notes = []
    decimal = "."
    if separator != "," and _has_decimal_commas(path, header, rows, separator):
        decimal = ","
        notes.append(f"fields are separated by {NAMES[separator]}, and commas in numbers are taken for decimal points")
    frame = pd.read_csv(io.StringIO(text), sep=separator, decimal=decimal, names=header, header=0, index_col=False)
    frame.attrs["notes"] = tuple(notes)
    return frame


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.name.lower().endswith(COMPRESSED):
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error) as error:
            raise RecordError(f"{path}: damaged, it does not decompress: {error}") from error
    return data.decode("utf-8-sig")


def _separator(path: Path, text: str) -> str:
    header = re.sub(r'"[^"]*"', "", next((line for line in text.splitlines() if line.strip()), ""))
    return max(SEPARATORS[kind_of(path)], key=header.count)


def _split(path: Path, text: str, separator: str) -> tuple[list[str], list[Row]]:
    """Names, without spaces around them, and the rows below, blank lines left out."""
    found = list(_rows(path, text, separator))
    if not found:
        raise RecordError(f"{path}: the file is empty")
    return [name.strip() for name in found[0][1]], found[1:]


def _rows(path: Path, text: str, separator: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for fields in reader:
            if len(fields) > 1 or (fields and fields[0].strip()):
                yield reader.line_num, fields
    except csv.Error as error:
        raise RecordError(f"{path}, line {reader.line_num}: {error}") from error


def _check_names(path: Path, header: Sequence[str]) -> None:
    for place, name in enumerate(header, 1):
        if not name:
            raise RecordError(
                f"{path}: column {place} of the {len(header)} in the header has no name: name it, or leave the column "
                "out, such as pandas' index (index=False)"
            )
        if (first := header.index(name) + 1) != place:
            raise RecordError(f"{path}: the header names {name!r} twice (columns {first} and {place}): rename one")


def _check_counts(path: Path, header: Sequence[str], rows: Sequence[Row], separator: str) -> None:
    wrong = [(row, line, fields) for row, (line, fields) in enumerate(rows) if len(fields) != len(header)]
    if not wrong:
        return
    row, line, fields = wrong[0]
    more = f" ({len(wrong)} such rows of {len(rows)})" if len(wrong) > 1 else ""
    raise RecordError(
        f"{path}: row {row} (line {line}) holds {len(fields)} fields, the header {len(header)}{more}: "
        f"{_cause(header, fields, separator)}"
    )


def _cause(header: Sequence[str], fields: Sequence[str], separator: str) -> str:
    if len(fields) < len(header):
        return f"write all {len(header) - 1} {NAMES[separator]} of a row, also where a field is empty"
    if len(fields) == len(header) + 1 and not fields[-1].strip():
        return f"take away the separator at the end of rows, since {NAMES[separator]} stand between fields only"
    if separator == ",":
        return "if it is a decimal comma, write a point or separate fields by semicolons; quote text that has commas"
    return f"quote text that holds {NAMES[separator]}"


def _has_decimal_commas(path: Path, header: Sequence[str], rows: Sequence[Row], separator: str) -> bool:
    """Whether numbers have decimal commas. RecordError where that cannot be told, or thousands are set apart."""
    cells = [(f"row {row}, column {name!r}", field) for row, (_, fields) in enumerate(rows)
             for name, field in zip(header, fields, strict=True)]  # fmt: skip
    commas = [cell for cell in cells if DECIMAL_COMMA.fullmatch(cell[1])]
    apart = [cell for cell in cells if GROUPED.fullmatch(cell[1])]
    if not apart and separator == "\t" and all(PERHAPS_GROUPED.fullmatch(field) for _, field in commas):
        apart = commas
    if apart:
        place, field = apart[0]
        raise RecordError(f"{path}: {place}: {field.strip()!r} sets thousands apart: write numbers without that")
    point = next((place for place, field in cells if DECIMAL_POINT.fullmatch(field)), None)
    if commas and point:
        raise RecordError(f"{path}: numbers have commas ({commas[0][0]}) and points ({point}): write points in all")
    return bool(commas)
