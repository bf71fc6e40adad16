"""Tables of text: read as they are written, or refused by row and counts; never shifted."""

import gzip
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.records.table import load, points

ROWS = ((1e6, 9.7055, "a"), (3e6, 7.2155, "b"), (1e7, 5.3591, "c"), (3e7, 4.2104, "d"), (1e8, 3.3745, "e"))
CLEAN = "n_params,loss,note\n" + "".join(f"{n:.0f},{loss},{note}\n" for n, loss, note in ROWS)


def written(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.lower().endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.csv", CLEAN),
        ("RUNS.CSV", CLEAN),
        ("runs.csv.gz", CLEAN),
        ("runs.tsv", CLEAN.replace(",", "\t")),
        ("runs.TSV.gz", CLEAN.replace(",", "\t")),
        ("runs.csv", CLEAN.replace(",", ";")),
        ("runs.csv", CLEAN.replace(",", ";").replace(".", ",")),
        ("runs.tsv", CLEAN.replace(",", "\t").replace(".", ",")),
        ("bom.csv", "\ufeff" + CLEAN),
        ("crlf.csv", CLEAN.replace("\n", "\r\n")),
        ("blank.csv", CLEAN.replace("\n", "\n\n") + "  \n"),
        ("spaces.csv", CLEAN.replace("loss", " loss ")),
        ("quoted.csv", CLEAN.replace(",a\n", ',"a, or ""b"""\n')),
    ],
)
def test_one_table_in_any_writing_is_one_frame(tmp_path: Path, name: str, text: str) -> None:
    frame = load(written(tmp_path, text, name))
    assert list(frame) == ["n_params", "loss", "note"]
    assert list(frame["n_params"]) == [row[0] for row in ROWS]
    assert list(frame["loss"]) == [row[1] for row in ROWS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CLEAN.replace(",a\n", ",a,\n"), r"row 0 \(line 2\) holds 4 fields, the header 3: take away the separator at"),
        (CLEAN.replace(",c\n", ",c,\n"), r"row 2 \(line 4\) holds 4 fields, the header 3"),
        (
            "n_params,loss,note\n" + "".join(f"{n:.0f},{y},{z},\n" for n, y, z in ROWS),
            r"holds 4 fields, the header 3 \(5 such rows of 5\)",
        ),
        (CLEAN.replace("loss,note", "loss,note,"), "column 4 of the 4 in the header has no name"),
        ("," + CLEAN.replace("\n", "\n0,").removesuffix("0,"), "column 1 of the 4 .* such as pandas' index"),
        (CLEAN.replace("loss,note", "loss"), "row 0 .* holds 3 fields, the header 2 .*quote text that has commas"),
        (CLEAN.replace(",note", ",note,seed"), "row 0 .* holds 3 fields, the header 4 .*write all 3 commas of a row"),
        (CLEAN.replace("note", "loss"), r"the header names 'loss' twice \(columns 2 and 3\)"),
        (CLEAN.replace("note", " loss"), r"the header names 'loss' twice"),
        ("gflops,fid\n1000,60,08\n2000,51,68\n", "holds 3 fields, the header 2 .*if it is a decimal comma"),
        ("x;y\n1,5;2.5\n", "numbers have commas .row 0, column 'x'. and points .row 0, column 'y'."),
        ("x;y\n1.000.000;2\n", "row 0, column 'x': '1.000.000' sets thousands apart"),
        ("x\ty\n1,000\t2\n", "row 0, column 'x': '1,000' sets thousands apart"),
        ('x,y\n1,"2\n3,4\n', "line 3: unexpected end of data"),
        ("", "the file is empty"),
    ],
)
def test_what_would_shift_or_guess_is_refused_by_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecordError, match=message) as refused:
        load(written(tmp_path, text, "runs.tsv" if "\t" in text else "runs.csv"))
    assert "\n" not in str(refused.value)


def test_decimal_commas_are_said(tmp_path: Path) -> None:
    frame = load(written(tmp_path, CLEAN.replace(",", ";").replace(".", ",")))
    assert frame.attrs["notes"] == (
        "fields are separated by semicolons, and commas in numbers are taken for decimal points",
    )
    assert load(written(tmp_path, CLEAN)).attrs["notes"] == ()


def test_a_quoted_decimal_comma_is_refused_where_it_is_used(tmp_path: Path) -> None:
    table = load(written(tmp_path, 'gflops,fid\n1000,"60,08"\n2000,"51,68"\n'))
    with pytest.raises(RecordError, match="row 0, column 'fid': '60,08' holds a comma: write numbers with a decimal"):
        points(table, x="gflops", y="fid")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path, CLEAN, "runs.csv.gz")
    whole.write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(RecordError, match="damaged, it does not decompress"):
        load(whole)
    (tmp_path / "plain.csv.gz").write_text(CLEAN)
    with pytest.raises(RecordError, match="not a readable csv table: Not a gzipped file"):
        load(tmp_path / "plain.csv.gz")


@pytest.mark.parametrize("engine", ["decimal", "nullable"])
def test_decimals_and_nullable_numbers_of_parquet_are_numbers(tmp_path: Path, engine: str) -> None:
    table = pd.DataFrame({"n_params": [int(row[0]) for row in ROWS], "loss": [Decimal(str(row[1])) for row in ROWS]})
    if engine == "nullable":
        table = table.astype({"n_params": "Int64", "loss": float}).astype({"loss": "Float64"})
    table.to_parquet(tmp_path / "runs.PARQUET")
    frame = load(tmp_path / "runs.PARQUET", where="loss < 9.8", columns={"half": "loss/2"})
    assert frame["half"].iloc[0] == pytest.approx(9.7055 / 2)
    law = fit(frame["n_params"].to_numpy(float), points(frame, y="loss")["y"], "power")
    assert law.n == len(ROWS)


def test_a_frame_with_one_name_twice_is_refused() -> None:
    twice = pd.DataFrame([[1e6, 9.7, 9.6]], columns=["n_params", "loss", "loss"])
    with pytest.raises(RecordError, match="frame: two columns are named 'loss'"):
        load(twice)
