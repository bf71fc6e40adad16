"""Sources: class folders, tars of them, Parquet tables, image shards; on disk and behind URLs."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from crafted import image_manifest, shard

from varscale.data.schema import IMAGE_SCHEMA, write_manifest
from varscale.data.sources import Source, open_source
from varscale.errors import UserError
from varscale.locations import Location

DRAWN = {f"{name}/{i:02d}.png": f"{name}{i}".encode() * (i + 1) for name in ("cat", "dog") for i in range(20)}
SPLIT = {f"{split}/{key}": content + split.encode() for split in ("train", "val") for key, content in DRAWN.items()}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def write_tar(archive: Path, files: dict[str, bytes], top: str = "", kind: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(archive, "w", format=kind) as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(top + path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def contents(source: Source) -> dict[str, bytes]:
    keys = source.listing["key"].to_pylist()
    return dict(zip(keys, source.read(0, len(keys)), strict=True))


def names(source: Source) -> dict[str, str]:
    """Key -> class."""
    labels = source.listing["label"].to_pylist()
    return dict(zip(source.listing["key"].to_pylist(), (source.classes[label] for label in labels), strict=True))


def check(source: Source, files: dict[str, bytes]) -> None:
    """A source lists just these files, in order, and reads them by any range, here and after pickling."""
    assert contents(source) == files
    rows = [(row["split"], row["key"]) for row in source.listing.to_pylist()]
    assert rows == sorted(rows)
    assert source.listing.schema.field("label").type == pa.int32()
    assert source.listing.schema.field("size").type == pa.int64()
    other = pickle.loads(pickle.dumps(source))  # noqa: S301
    expected = [files[key] for _, key in rows]
    for start, stop in ((0, 1), (3, 17), (len(rows) - 2, len(rows)), (5, 5)):
        assert list(other.read(start, stop)) == expected[start:stop]
    assert other.digest() == source.digest()


def test_class_folders_with_splits(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path, SPLIT), 0.1)
    check(source, SPLIT)
    assert source.classes == ("cat", "dog")
    assert source.notes == ()
    assert set(source.listing["size"].to_pylist()) == {len(content) for content in SPLIT.values()}
    assert all(row["split"] == row["key"].split("/")[0] for row in source.listing.to_pylist())
    assert all(name == key.split("/")[1] for key, name in names(source).items())


def test_class_folders_without_splits_draw_them_by_key(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path, DRAWN), 0.2)
    check(source, DRAWN)
    drawn = source.listing.filter(pc.equal(source.listing["split"], "val"))["key"].to_pylist()
    assert drawn == ["cat/09.png", "cat/10.png", "cat/13.png", "cat/17.png", "cat/19.png", "dog/10.png", "dog/19.png"]
    more = open_source(write_folder(tmp_path, {"bird/1.png": b"b"}), 0.2)
    assert set(drawn) <= set(more.listing.filter(pc.equal(more.listing["split"], "val"))["key"].to_pylist())


def test_suffixes_in_any_case_and_deep_folders_are_images_and_the_rest_is_noted(tmp_path: Path) -> None:
    suffixes = ("JPG", "jpeg", "jfif", "PnG", "webp", "BMP", "gif", "tif", "HEIC")
    images = {f"cat/deep/er/{i}.{suffix}": b"i" for i, suffix in enumerate(suffixes)}
    others = {"cat/.DS_Store": b"", "cat/._1.jpg": b"", "cat/a.txt": b"", "README": b"", "b.txt": b""}
    source = open_source(write_folder(tmp_path, DRAWN | images | others), 0.2)
    check(source, DRAWN | images)
    assert source.notes == (
        "not taken: 2 files, hidden (.DS_Store 1, .jpg 1)",
        "not taken: 3 files, no image by suffix (.txt 2, README 1)",
    )


def test_validation_and_test_folders_stand_for_val(tmp_path: Path) -> None:
    train = {f"train/{key}": content for key, content in DRAWN.items()}
    validation = {f"validation/{key}": content for key, content in DRAWN.items()}
    test = {f"test/{i}.png": b"unlabelled" for i in range(3)}
    source = open_source(write_folder(tmp_path / "a", train | validation | test), 0.1)
    check(source, train | validation)
    assert source.notes == ("validation/ is the val split", "not taken: 3 images in test/")
    labelled = {f"test/{key}": content for key, content in DRAWN.items()}
    source = open_source(write_folder(tmp_path / "b", train | labelled), 0.1)
    check(source, train | labelled)
    assert source.notes == ("test/ is the val split",)


def test_a_class_may_be_called_train_or_test(tmp_path: Path) -> None:
    files = DRAWN | {"train/locomotive.png": b"choo", "test/tube.png": b"glass"}
    source = open_source(write_folder(tmp_path, files), 0.2)
    check(source, files)
    assert source.classes == ("cat", "dog", "test", "train")


@pytest.mark.parametrize("top", ["", "./", "pictures/", "./pictures/", "/pictures/", "../pictures/"])
@pytest.mark.parametrize("files", [DRAWN, SPLIT], ids=["drawn", "splits"])
def test_a_tar_is_its_folder(tmp_path: Path, files: dict[str, bytes], top: str) -> None:
    folder = open_source(write_folder(tmp_path / "folder", files), 0.2)
    archive = open_source(write_tar(tmp_path / "a.tar", files, top), 0.2)
    check(archive, files)
    assert archive.digest() == folder.digest()
    assert archive.listing.select(["key", "split", "label", "size"]).equals(
        folder.listing.select(["key", "split", "label", "size"])
    )


def test_a_tar_of_a_single_class_keeps_its_folder(tmp_path: Path) -> None:
    files = {key: content for key, content in DRAWN.items() if key.startswith("cat")}
    assert open_source(write_tar(tmp_path / "a.tar", files), 0.2).classes == ("cat",)


def test_links_in_a_tar_are_noted(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", DRAWN)
    with tarfile.open(archive, "a") as tar:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "00.png"
        tar.addfile(link)
    source = open_source(archive, 0.2)
    check(source, DRAWN)
    assert source.notes == ("not taken: 1 tar members of kind link",)


def test_the_digest_follows_all_that_is_listed(tmp_path: Path) -> None:
    first = open_source(write_folder(tmp_path / "a", DRAWN), 0.2).digest()
    assert open_source(write_folder(tmp_path / "b", DRAWN), 0.2).digest() == first
    assert open_source(tmp_path / "a", 0.3).digest() != first
    longer = DRAWN | {"cat/00.png": DRAWN["cat/00.png"] + b"!"}
    assert open_source(write_folder(tmp_path / "c", longer), 0.2).digest() != first
    moved = {key.replace("cat/", "cow/"): content for key, content in DRAWN.items()}
    assert open_source(write_folder(tmp_path / "d", moved), 0.2).digest() != first


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no \.jpg/.* image here; wanted class folders"),
        ({"cat/a.svg": b""}, r"no \.jpg/.*no image by suffix \(\.svg 1\)"),
        ({"lonely.png": b""} | DRAWN, r"'lonely\.png' is not inside a class folder"),
        ({"train/a.png": b"", "val/cat/a.png": b""}, r"'train/a\.png' is not inside a class folder"),
        ({"train/cat/a.png": b""}, r"holds train/ only; wanted train/ and val/"),
        ({"cat/00.png": b""}, r"no image for split 'val'"),
    ],
)
def test_folders_of_another_layout_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(write_folder(tmp_path, files), 0.2)


def test_links_that_lead_nowhere_and_special_files_are_noted(tmp_path: Path) -> None:
    write_folder(tmp_path, DRAWN)
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "cat" / "00.png")
    for name in ("a.png", "b.png"):
        (tmp_path / "cat" / name).symlink_to("nowhere")
    (tmp_path / "cat" / "itself.png").symlink_to("itself.png")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    source = open_source(tmp_path, 0.2)
    check(source, DRAWN | {"cat/link.png": DRAWN["cat/00.png"]})
    assert source.notes == ("not taken: 3 links that lead nowhere", "not taken: 1 pipes, sockets or devices")
    (tmp_path / "cat" / "up").symlink_to("..")
    with pytest.raises(UserError, match=r"cat/up: a link to a folder that it is in; remove it"):
        open_source(tmp_path, 0.2)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 an image", b"\xff\xd8\xff\xe0" * 1000])
def test_a_file_that_is_no_tar_is_told_what_a_source_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.jpg: not a tar: no header at byte 0; wanted a folder of class folders"):
        open_source(tmp_path / "x.jpg", 0.1)


def test_an_empty_name_is_refused() -> None:
    for place in ("", Location.of("")):
        with pytest.raises(UserError, match=r"^SOURCE is empty; wanted a folder of class folders"):
            open_source(place, 0.1)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing there"):
        open_source(tmp_path / "nowhere", 0.1)
    (tmp_path / "words.tar").write_text("words " * 200)
    with pytest.raises(UserError, match=r"words\.tar: not a tar: no header"):
        open_source(tmp_path / "words.tar", 0.1)
    twice = write_tar(tmp_path / "twice.tar", {"cat/a.png": b"1", "./cat/a.png": b"2"} | DRAWN)
    with pytest.raises(UserError, match=r"twice\.tar: 'cat/a\.png' is there more than once"):
        open_source(twice, 0.1)


def test_an_image_that_changed_since_it_was_listed_is_named(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path, SPLIT), 0.1)
    (tmp_path / "train" / "cat" / "00.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"train/cat/00\.png: 0 bytes where 9 were listed"):
        list(source.read(0, 1))
    (tmp_path / "train" / "cat" / "00.png").unlink()
    with pytest.raises(UserError, match=r"train/cat/00\.png: no such file"):
        list(source.read(0, 1))


@pytest.mark.parametrize("scheme", ["memory://sources", "fsspec+file://"])
def test_urls_are_as_good_as_paths(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path}"
    if scheme.startswith("memory"):
        for path, content in SPLIT.items():
            fsspec.filesystem("memory").pipe(f"/sources{tmp_path}/folder/{path}", content)
        archive = write_tar(tmp_path / "a.tar", SPLIT).read_bytes()
        fsspec.filesystem("memory").pipe(f"/sources{tmp_path}/a.tar", archive)
    else:
        write_folder(tmp_path / "folder", SPLIT)
        write_tar(tmp_path / "a.tar", SPLIT)
    folder, archive = open_source(f"{url}/folder", 0.1), open_source(f"{url}/a.tar", 0.1)
    check(folder, SPLIT)
    check(archive, SPLIT)
    assert folder.digest() == archive.digest()


FEATURES = {
    "info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}
}


def table(images: list[bytes | None], labels: list | np.ndarray, named: bool = True, **renamed: str) -> pa.Table:
    pictures = [{"bytes": image, "path": "somewhere"} for image in images]
    made = pa.table(
        {
            "image": pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(labels),
        }
    )
    made = made.rename_columns([renamed.get(name, name) for name in made.column_names])
    return made.replace_schema_metadata({"huggingface": json.dumps(FEATURES)}) if named else made


def pictures(word: str, count: int) -> list[bytes]:
    return [f"{word}{i}".encode() * (1 + i % 7) for i in range(count)]


def test_tables_by_split_with_class_names(tmp_path: Path) -> None:
    first, second, held_out = pictures("a", 100), pictures("b", 50), pictures("v", 70)
    (tmp_path / "data").mkdir()
    for name, images in (
        ("train-00000-of-00002", first),
        ("train-00001-of-00002", second),
        ("validation-00000-of-00001", held_out),
    ):
        made = table(images, [i % 2 for i in range(len(images))])
        pq.write_table(made, tmp_path / "data" / f"{name}.parquet", row_group_size=40)
    pq.write_table(table(pictures("t", 5), [-1] * 5), tmp_path / "data" / "test-00000-of-00001.parquet")
    for name in ("README.md", "._train.parquet", "._logo.png"):
        (tmp_path / name).write_text("no table")
    source = open_source(tmp_path, 0.1)
    files = {f"data/train-00000-of-00002/{i:08d}": image for i, image in enumerate(first)}
    files |= {f"data/train-00001-of-00002/{i:08d}": image for i, image in enumerate(second)}
    files |= {f"data/validation-00000-of-00001/{i:08d}": image for i, image in enumerate(held_out)}
    check(source, files)
    assert source.classes == ("cat", "dog")
    assert set(names(source).values()) == {"cat", "dog"}
    assert source.listing["split"].to_pylist() == ["train"] * 150 + ["val"] * 70
    assert source.notes == (
        "not taken: 3 files, no Parquet (.png 1, .parquet 1, .md 1)",
        "not taken: test-00000-of-00001.parquet, 5 test rows without labels",
    )


def test_tables_without_split_names_draw_by_key(tmp_path: Path) -> None:
    images = pictures("a", 200)
    pq.write_table(table(images, [i % 3 for i in range(200)], named=False, label="labels"), tmp_path / "all.parquet")
    for place in (tmp_path, tmp_path / "all.parquet"):
        source = open_source(place, 0.25)
        check(source, {f"all/{i:08d}": image for i, image in enumerate(images)})
        assert source.classes == ("0", "1", "2")
        assert 20 < pc.sum(pc.equal(source.listing["split"], "val")).as_py() < 80
        assert all(int(name) == int(key[-8:]) % 3 for key, name in names(source).items())


def test_labelled_test_tables_stand_in_for_a_missing_validation(tmp_path: Path) -> None:
    pq.write_table(table(pictures("a", 30), [0, 1] * 15), tmp_path / "train-0.parquet")
    drawn = open_source(tmp_path, 0.3)
    assert drawn.notes == ("no validation file: a share of 0.3 of the training rows is the val split",)
    pq.write_table(table(pictures("t", 10), [0, 1] * 5), tmp_path / "test-0.parquet")
    source = open_source(tmp_path, 0.3)
    assert source.listing["split"].to_pylist() == ["train"] * 30 + ["val"] * 10
    assert source.notes == ("the test files are the val split",)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (table([b"a"], ["cat"]), r"label: string; wanted image: struct<bytes: binary, path: string> and label"),
        (table([b"a"], [0], image="img"), r"columns img: struct.*label: int64; wanted image"),
        (table([b"a", b"b"], [0, None]), r"x\.parquet: row 1: label null; wanted 0 to 1"),
        (table([b"a", b"b", b"c"], [0, 1, 2]), r"x\.parquet: row 2: label 2; wanted 0 to 1"),
        (table([b"a", b"b"], [0, -3], named=False), r"x\.parquet: row 1: label -3; wanted 0 to"),
        (table([None, None], [0, 0]), r"x\.parquet: none of its 2 rows has image\.bytes; wanted the encoded images"),
        (table([b"a"] * 2, [0, 10**6], named=False), r"x\.parquet: row 1: label 1000000; wanted 0 to 999999$"),
        (table([b"a"] * 2, [0, 2**31 - 2], named=False), r"x\.parquet: row 1: label 2147483646; wanted 0 to 999999$"),
        (
            table([b"a"] * 2, np.array([0, 2**63 + 5], np.uint64), named=False),
            r"x\.parquet: row 1: label 9223372036854775813;",
        ),
        (
            table([b"a"], [0]).replace_schema_metadata({"huggingface": json.dumps(FEATURES).replace("dog", "cat")}),
            r"x\.parquet: class name 'cat' is there more than once in its schema",
        ),
    ],
)
def test_tables_of_another_kind_are_refused(tmp_path: Path, made: pa.Table, message: str) -> None:
    pq.write_table(made, tmp_path / "x.parquet")
    with pytest.raises(UserError, match=message):
        open_source(tmp_path, 0.5)


@pytest.mark.parametrize("statistics", [True, False])
def test_a_row_without_bytes_is_an_empty_image(tmp_path: Path, statistics: bool) -> None:
    images = [b"a", b"b", None, *pictures("c", 30)]
    pq.write_table(table(images, [0] * 33), tmp_path / "x.parquet", write_statistics=statistics)
    assert contents(open_source(tmp_path, 0.3)) == {f"x/{i:08d}": image or b"" for i, image in enumerate(images)}


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ("no json", "no JSON"),
        ("[1]", "no 'info'"),
        ('{"info": null}', "no 'info'"),
        ('{"info": {}}', "no 'features'"),
        ('{"info": {"features": {"label": {"names": "cat"}}}}', "'names' are no list of words"),
    ],
)
def test_metadata_that_cannot_be_read_are_noted_and_classes_are_numbers(
    tmp_path: Path, metadata: str, fault: str
) -> None:
    made = table(pictures("a", 30), [0, 1] * 15)
    pq.write_table(made.replace_schema_metadata({"huggingface": metadata}), tmp_path / "train.parquet")
    pq.write_table(made, tmp_path / "val.parquet")
    source = open_source(tmp_path, 0.5)
    assert source.classes == ("0", "1")
    place = tmp_path / "train.parquet"
    assert source.notes == (f"{place}: 'huggingface' metadata: {fault}; classes are named by their numbers",)


def flip(place: Path, wanted: bytes) -> None:
    """Change one bit within the first place where ``wanted`` stands."""
    content = bytearray(place.read_bytes())
    content[content.index(wanted) + len(wanted) // 2] ^= 1
    place.write_bytes(content)


@pytest.mark.parametrize("where", ["label", "image.bytes"])
def test_a_damaged_page_of_a_table_is_named(tmp_path: Path, where: str) -> None:
    place = tmp_path / "x.parquet"
    pq.write_table(table(pictures("a", 60), [0, 1] * 30), place, row_group_size=20)
    group = pq.ParquetFile(place).metadata.row_group(1)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == where)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(place.read_bytes())
    content[start : start + 20] = b"\xff" * 20
    place.write_bytes(content)
    fault = "column label" if where == "label" else "rows 20 to 39"
    with pytest.raises(UserError, match=rf"x\.parquet: {fault}: damaged: ") as raised:
        list(open_source(tmp_path, 0.3).read(0, 60))
    assert "\n" not in str(raised.value)


def test_a_cut_off_table_is_refused(tmp_path: Path) -> None:
    pq.write_table(table(pictures("a", 30), [0] * 30), tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match=r"x\.parquet: no whole Parquet file"):
        open_source(tmp_path, 0.5)


def write_shards(folder: Path, keys: dict[str, list[str]]) -> dict[str, bytes]:
    """Image shards of two files a split, in the keys' order; returns key -> bytes."""
    folder.mkdir()
    images = {key: f"image {key}".encode() for split in keys.values() for key in split}
    splits = {}
    for split, held in keys.items():
        shards = []
        for number, part in enumerate((held[: len(held) // 2], held[len(held) // 2 :])):
            rows = [
                {"key": key, "label": int(key[-1]) % 3, "image": images[key], "width": 1, "height": 1} for key in part
            ]
            name = f"{split}-{number:05d}.parquet"
            made = pa.Table.from_pylist(rows, IMAGE_SCHEMA)
            options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
            pq.write_table(made, folder / name, row_group_size=7, **options)
            shards.append(shard(folder / name, len(part)))
        splits[split] = tuple(shards)
    write_manifest(Location.of(folder), image_manifest(splits, classes=("x", "y", "z"), rejected=2))
    return images


def test_image_shards_are_a_source_whatever_their_order(tmp_path: Path) -> None:
    keys = {"train": [f"t/{i * 37 % 100:03d}" for i in range(100)], "val": [f"v/{i:03d}" for i in range(20)]}
    images = write_shards(tmp_path / "shards", keys)
    source = open_source(tmp_path / "shards", 0.1)
    check(source, images)
    assert source.classes == ("x", "y", "z")
    assert all(name == "xyz"[int(key[-1]) % 3] for key, name in names(source).items())
    assert source.listing["split"].to_pylist() == ["train"] * 100 + ["val"] * 20
    assert source.notes == ("2 images were left out when these shards were made",)


def test_broken_image_shards_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", {"train": ["a/1", "a/2"], "val": ["b/1", "b/2"]})
    (tmp_path / "shards" / "val-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"val-00001\.parquet: no such file"):
        open_source(tmp_path / "shards", 0.1)
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json: field"):
        open_source(tmp_path / "shards", 0.1)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    keys = {"train": [f"t/{i:03d}" for i in range(60)], "val": [f"v/{i:03d}" for i in range(20)]}
    write_shards(tmp_path / "shards", keys)
    return tmp_path / "shards"


@pytest.mark.parametrize("checksums", [True, False])
def test_a_shard_with_a_changed_bit_hands_out_nothing(shards: Path, checksums: bool) -> None:
    if not checksums:  # as other tools write them; the manifest is of the whole file all the same
        made = pq.read_table(shards / "train-00000.parquet")
        pq.write_table(made, shards / "train-00000.parquet", compression="none", use_dictionary=False)
        text = json.loads((shards / "manifest.json").read_text())
        now = Location.of(shards / "train-00000.parquet")
        text["splits"]["train"][0] |= {"bytes": now.size(), "sha256": now.sha256()}
        (shards / "manifest.json").write_text(json.dumps(text))
    flip(shards / "train-00000.parquet", b"image t/005")
    images = open_source(shards, 0.1).read(0, 60)
    with pytest.raises(UserError, match=r"train-00000\.parquet: damaged or changed: its SHA-256 is \w{64}; wanted"):
        next(images)


def test_a_shard_that_is_damaged_after_its_check_is_found_by_its_pages(shards: Path) -> None:
    source = open_source(shards, 0.1)
    assert len(list(source.read(0, 60))) == 60
    flip(shards / "train-00000.parquet", b"image t/009")
    with pytest.raises(UserError, match=r"train-00000\.parquet: rows 7 to 13: damaged: .*CRC"):
        list(source.read(0, 60))


def test_a_shard_with_damaged_keys_or_another_size_is_not_listed(shards: Path) -> None:
    place = shards / "val-00001.parquet"
    sound = place.read_bytes()
    flip(place, b"v/015")
    with pytest.raises(UserError, match=r"val-00001\.parquet: keys or labels: damaged: .*CRC"):
        open_source(shards, 0.1)
    place.write_bytes(sound + b"x")
    with pytest.raises(
        UserError, match=rf"val-00001\.parquet: damaged: {len(sound) + 1} bytes; wanted .* {len(sound)}"
    ):
        open_source(shards, 0.1)
