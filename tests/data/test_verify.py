"""Damaged data sets: each fault is named with shard and row."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crafted import shard
from PIL import Image
from typer.testing import CliRunner

from varscale.cli import app
from varscale.data.assembly import Assembly
from varscale.data.checks.problems import SHOWN, Problem, Problems
from varscale.data.checks.verify import Verdict, verify
from varscale.data.fingerprint import content_fingerprint, row_digest
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.schema import (
    MANIFEST,
    REJECTS,
    ImageManifest,
    read_image_manifest,
    write_manifest,
)
from varscale.errors import UserError
from varscale.locations import Location

ROWS_A_GROUP = 20
PAGE_BYTES = 4096  # two or three of the pictures below


@pytest.fixture(scope="module")
def sound(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound data set of noisy pictures that all differ, its shards in several row groups and with page checksums."""
    source, folder = tmp_path_factory.mktemp("noise"), tmp_path_factory.mktemp("sets") / "sound"
    rng = np.random.default_rng(0)
    for name, count in (("train/blue", 30), ("train/red", 30), ("val/blue", 5), ("val/red", 5)):
        (source / name).mkdir(parents=True)
        for i in range(count):
            noise = Image.fromarray(rng.integers(0, 255, (24 + i % 3, 20, 3), dtype=np.uint8))
            noise.save(source / name / f"{i:03d}.png")
    ingest(source, folder, IngestOptions())
    for split in ("train", "val"):
        rewrite(folder, split, lambda rows: rows)
    return folder


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def path_of(folder: Path, split: str = "train") -> Path:
    (shard,) = read_image_manifest(Location.of(folder)).splits[split]
    return folder / shard.file


def rewrite(folder: Path, split: str, change: Callable[[list[dict]], list[dict]], schema: pa.Schema = None) -> None:
    """Change rows of a split's shard, and let the manifest mean the new one, its fingerprint and counts too."""
    path = path_of(folder, split)
    table = pq.read_table(path)
    table = pa.Table.from_pylist(change(table.to_pylist()), schema=schema or table.schema)
    pq.write_table(
        table,
        path,
        compression="none",
        use_dictionary=False,
        row_group_size=ROWS_A_GROUP,
        write_statistics=["key", "label"],  # else whole images stand in the heads of pages, too
        write_page_checksum=True,
        write_batch_size=1,  # pages are cut between batches only
        data_page_size=PAGE_BYTES,
    )
    renew(folder, split, table.num_rows)


def renew(folder: Path, split: str, rows: int) -> None:
    path = path_of(folder, split)
    old = read_image_manifest(Location.of(folder))
    new = old.model_copy(update={"splits": old.splits | {split: (shard(path, rows),)}})
    tables = {s: pq.read_table(path_of(folder, s)).to_pylist() for s in new.splits}
    total = sum(row_digest(s, r["key"], r["label"], r["image"]) for s, table in tables.items() for r in table)
    counts = {s: tuple(sum(r["label"] == label for r in table) for label in range(2)) for s, table in tables.items()}
    update = {"fingerprint": content_fingerprint(new.classes, total), "counts": counts}
    write_manifest(Location.of(folder), new.model_copy(update=update))


def changed(row: int, **values: Any) -> Callable[[list[dict]], list[dict]]:
    def change(rows: list[dict]) -> list[dict]:
        return [held | values if i == row else held for i, held in enumerate(rows)]

    return change


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x55
    path.write_bytes(content)


def kinds(verdict: Verdict) -> dict[str, int]:
    return verdict.problems.count


def lines(verdict: Verdict) -> str:
    return "\n".join(verdict.problems.lines())


def checked(folder: Path) -> Verdict:
    return verify(Location.of(folder))


def test_a_sound_data_set_has_no_problems(data: Path) -> None:
    verdict = checked(data)
    assert (verdict.sound, lines(verdict)) == (True, "")
    assert verdict.summary() == "2 shards, 70 rows; errors: 0, warnings: 0"


def test_a_data_set_anywhere_is_verified(data: Path) -> None:
    assert verify(Location.of(f"file://{data}")).sound
    memory = Location.of("memory://verified")
    for name in (MANIFEST, "train-00000.parquet", "val-00000.parquet"):
        (memory / name).write_bytes((data / name).read_bytes())
    try:
        assert verify(memory).sound
        (memory / "val-00000.parquet").write_bytes(b"PAR1")
        assert kinds(verify(memory)) == {"size": 1, "checksum": 1, "unreadable": 1}
    finally:
        memory.remove()


def test_a_flipped_byte_of_an_image_is_named_by_page(data: Path) -> None:
    path = path_of(data)
    image = pq.read_table(path)["image"][30].as_py()
    assert PAGE_BYTES / 3 < len(image) < PAGE_BYTES
    flip(path, path.read_bytes().find(image) + len(image) // 2)
    verdict = checked(data)
    assert not verdict.sound
    assert kinds(verdict)["checksum"] == kinds(verdict)["damage"] == 1
    named = re.search(r"train-00000\.parquet: damage in column 'image' within rows (\d+)…39: ", lines(verdict))
    assert named
    assert 28 <= int(named[1]) <= 30
    assert "train-00000.parquet row 30 (key train/red/000.png): image does not decode: " in lines(verdict)


def test_without_page_checksums_the_row_is_named_by_its_content(data: Path) -> None:
    path = path_of(data)
    pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False)
    image = pq.read_table(path)["image"][25].as_py()
    flip(path, path.read_bytes().find(image) + len(image) // 2)
    verdict = checked(data)
    key = pq.read_table(path)["key"][25].as_py()
    assert f"train-00000.parquet row 25 (key {key}): image does not decode: " in lines(verdict)
    assert {"checksum", "undecodable", "fingerprint"} <= kinds(verdict).keys()


@pytest.mark.parametrize("from_end", [4, 6, 40])
def test_a_broken_footer_is_named(data: Path, from_end: int) -> None:
    path = path_of(data)
    flip(path, path.stat().st_size - from_end)
    verdict = checked(data)
    assert "checksum" in kinds(verdict)
    if from_end <= 6:
        assert "train-00000.parquet: not a readable Parquet file: " in lines(verdict)


def test_a_cut_shard_and_a_missing_one_are_named(data: Path) -> None:
    path = path_of(data)
    path.write_bytes(path.read_bytes()[:-100])
    path_of(data, "val").unlink()
    verdict = checked(data)
    assert kinds(verdict) == {"size": 1, "checksum": 1, "unreadable": 1, "missing": 1}
    assert "val-00000.parquet: no such file; the manifest names it" in lines(verdict)
    assert verdict.summary().endswith("counts and fingerprint were not compared")


def test_labels_sizes_and_cut_images_are_named_by_row(data: Path) -> None:
    rewrite(data, "train", changed(7, label=2))
    rewrite(data, "train", changed(8, label=-1))
    rewrite(data, "val", changed(3, width=21, height=99))
    rewrite(data, "train", lambda rows: changed(9, image=rows[9]["image"][:50])(rows))
    verdict = checked(data)
    text = lines(verdict)
    assert "train-00000.parquet row 7 (key train/blue/007.png): label 2; allowed 0…1" in text
    assert "train-00000.parquet row 8 (key train/blue/008.png): label -1; allowed 0…1" in text
    assert (
        "val-00000.parquet row 3 (key val/blue/003.png): width × height 21 × 99; the upright picture is 20 × 24" in text
    )
    assert "train-00000.parquet row 9 (key train/blue/009.png): image does not decode: " in text
    assert kinds(verdict) == {"label": 2, "sides": 1, "undecodable": 1}


def test_an_upright_size_is_wanted_of_turned_pictures(data: Path) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (30, 10)).save(buffer, "JPEG", exif=exif)
    rewrite(data, "val", changed(0, image=buffer.getvalue(), width=10, height=30))
    assert checked(data).sound


def test_a_swapped_label_shows_in_counts_and_fingerprint(data: Path) -> None:
    before = read_image_manifest(Location.of(data))
    rewrite(data, "train", changed(7, label=1))
    after = read_image_manifest(Location.of(data))
    kept = {"fingerprint": before.fingerprint, "counts": before.counts}
    write_manifest(Location.of(data), after.model_copy(update=kept))
    verdict = checked(data)
    assert kinds(verdict) == {"counts": 2, "fingerprint": 1}
    assert "manifest.json: field 'counts.train': 30 images of label 0; the shards hold 29" in lines(verdict)


def test_a_key_may_occur_once_in_all_splits(data: Path) -> None:
    rewrite(data, "val", changed(2, key="train/blue/004.png"))
    verdict = checked(data)
    assert kinds(verdict) == {"repeated key": 1}
    assert lines(verdict) == (
        "val-00000.parquet row 2 (key train/blue/004.png): the key of train-00000.parquet row 4 again;"
        " allowed once in all splits"
    )


def test_repeated_images_are_warnings_with_both_keys(data: Path) -> None:
    rows = pq.read_table(path_of(data)).to_pylist()
    copy = {name: rows[4][name] for name in ("image", "width", "height")}
    rewrite(data, "val", changed(2, **copy))
    rewrite(data, "train", changed(6, **copy))
    verdict = checked(data)
    assert verdict.sound
    assert kinds(verdict) == {"repeated image": 1, "image in two splits": 1}
    assert (
        "warning: val-00000.parquet row 2 (key val/blue/002.png): the image of train-00000.parquet row 4"
        " (key train/blue/004.png) again;" in lines(verdict)
    )


def test_columns_that_are_missing_foreign_or_of_another_type_are_named(data: Path) -> None:
    path = path_of(data)
    table = pq.read_table(path)
    pq.write_table(table.append_column("caption", pa.array(["x"] * len(table))), path)
    assert "column 'caption'; allowed key, label, image, width, height" in lines(checked(data))
    wide = table.set_column(1, "label", table["label"].cast(pa.int64())).drop_columns(["width"])
    pq.write_table(wide, path)
    text = lines(checked(data))
    assert "train-00000.parquet: column 'label': int64; allowed int32" in text
    assert "train-00000.parquet: column 'width': missing; allowed int32" in text


def test_rows_without_a_value_and_too_few_rows_are_named(data: Path) -> None:
    path = path_of(data)
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist(changed(5, image=None)(rows[:-1]), schema=pq.read_schema(path)), path)
    text = lines(checked(data))
    assert "train-00000.parquet row 5 (key train/blue/005.png): nothing in column 'image'; wanted a value" in text
    assert "train-00000.parquet: 59 rows; the manifest says 60" in text


def test_files_that_nothing_reads_and_empty_splits_are_named(data: Path) -> None:
    (data / "train-00001.parquet").write_bytes(b"")
    manifest = read_image_manifest(Location.of(data))
    path_of(data, "val").unlink()
    write_manifest(Location.of(data), manifest.model_copy(update={"splits": manifest.splits | {"val": ()}}))
    text = lines(checked(data))
    assert "warning: train-00001.parquet: not in the manifest" in text
    assert "manifest.json: split 'val' holds no rows; wanted at least one" in text


def test_images_left_out_are_listed_as_often_as_counted(data: Path) -> None:
    manifest = read_image_manifest(Location.of(data))
    write_manifest(Location.of(data), manifest.model_copy(update={"rejected": 2}))
    assert lines(checked(data)) == "rejects.csv: 0 images are listed as left out; the manifest counts 2"
    (data / REJECTS).write_text('key,split,class,reason\na,train,blue,"cut\nshort"\nb,val,red,empty file\n')
    assert checked(data).sound


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    place = Location.of(tmp_path / "set")
    with pytest.raises(UserError, match=r"set: no manifest\.json here; wanted a data set"):
        verify(place)
    assembly = Assembly.begin(place, "key")
    assembly.note("train-00000.parquet", {})
    with pytest.raises(UserError, match="set: unfinished: 1 of its shards stand; run the ingest"):
        verify(place)
    (place / MANIFEST).write_json({"format": "varscale-images/9"})
    with pytest.raises(UserError, match=r"'format': 'varscale-images/9' is not known; allowed varscale-images/2, vars"):
        verify(place)
    (place / MANIFEST).write_bytes(b"{")
    with pytest.raises(UserError, match=r"manifest\.json: not readable as JSON"):
        verify(place)
    (place / MANIFEST).write_json({"format": ImageManifest.model_fields["format"].default})
    with pytest.raises(UserError, match=r"manifest\.json: field 'classes'"):
        verify(place)


def test_of_many_problems_the_first_are_shown_and_the_others_counted() -> None:
    problems, others = Problems(), Problems()
    for row in range(SHOWN + 5):
        problems.add(Problem("label", "a", f"label {row}", "allowed 0…1", row, "x\ny"))
        others.add(Problem("label", "b", "label 9", "allowed 0…1", row))
    problems.take(others)
    shown = list(problems.lines())
    assert len(shown) == SHOWN + 1
    assert shown[0] == r"a row 0 (key x\ny): label 0; allowed 0…1"
    assert shown[-1] == f"… and {SHOWN + 10} more of this kind (label)"
    assert (problems.total(warnings=False), problems.total(warnings=True)) == (2 * SHOWN + 10, 0)


def test_the_verb_prints_problems_and_ends_with_2(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(data, "train", changed(7, label=2))
    done = CliRunner().invoke(app, ["data", "verify", str(data)])
    assert done.exit_code == 2
    assert done.stdout.splitlines() == [
        "train-00000.parquet row 7 (key train/blue/007.png): label 2; allowed 0…1",
        "2 shards, 70 rows; errors: 1, warnings: 0",
    ]
    done = CliRunner().invoke(app, ["data", "verify", str(data), "--json"])
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["errors"], answer["problems"][0]["row"]) == (2, 1, 7)


def test_whatever_byte_is_wrong_it_is_reported(data: Path) -> None:
    path = path_of(data, "val")
    whole = path.read_bytes()
    footer = np.arange(len(whole) - 1500, len(whole))
    for position in np.random.default_rng(0).choice(footer, 60, replace=False):
        path.write_bytes(whole)
        flip(path, int(position))
        assert "val-00000.parquet: sha256 " in lines(checked(data))
