"""Shards read back by row, and what is said of shards that are not what they were."""

from __future__ import annotations

import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import torch
from crafted import image_manifest, shard, token_manifest

from varscale.data.batches import TokenBatches
from varscale.data.loader import ImageShards, TokenShards, check_sides
from varscale.data.manifests import ImageSet
from varscale.data.schema import (
    IMAGE_SCHEMA,
    Shard,
    read_token_manifest,
    token_schema,
    write_manifest,
)
from varscale.errors import UserError
from varscale.locations import Location


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("VARSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


IMAGES, VIEWS, LENGTH = 50, 3, 21
ROW_GROUP = 4


def token_table(images: range, views: int, **changed: Any) -> pa.Table:
    """View j of image i: token t is 100·i + 10·j + t mod 7; its label is i mod 5."""
    pairs = [(i, j) for i in images for j in range(views)]
    tokens = np.array([[100 * i + 10 * j + t % 7 for t in range(LENGTH)] for i, j in pairs], np.uint16)
    columns = {
        "key": [f"image{i}" for i, _ in pairs],
        "label": pa.array([i % 5 for i, _ in pairs], pa.int32()),
        "view": pa.array([j for _, j in pairs], pa.int32()),
        "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), LENGTH),
        **changed,
    }
    return pa.table(columns, schema=token_schema(LENGTH))


def write_arrow(path: Path, table: pa.Table, **options: Any) -> None:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)


def write_token_manifest(folder: Path, splits: dict[str, tuple[Shard, ...]], vocab_size: int = 6000) -> None:
    views = {"train": VIEWS, "val": 1}
    fields = {"classes": tuple("abcde"), "views": views, "vocab_size": vocab_size, "patch_nums": (1, 2, 4)}
    write_manifest(Location.of(folder), token_manifest(splits, **fields))


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """50 images in 3 views in 4 shards, and 10 validation images."""
    folder, shards = tmp_path / "tokens", []
    folder.mkdir()
    for number, images in enumerate((range(20), range(20, 21), range(21, 40), range(40, 50))):
        path = folder / f"train-{number}.arrow"
        write_arrow(path, token_table(images, VIEWS))
        shards.append(shard(path, VIEWS * len(images)))
    write_arrow(folder / "val-0.arrow", token_table(range(10), 1))
    write_token_manifest(folder, {"train": tuple(shards), "val": (shard(folder / "val-0.arrow", 10),)})
    return folder


def change(folder: Path, file: str, **facts: Any) -> None:
    """Write what the manifest says of a shard anew."""
    path = folder / file
    manifest = read_token_manifest(Location.of(folder))
    splits = {
        split: tuple(shard(path, s.rows).model_copy(update=facts) if s.file == file else s for s in shards)
        for split, shards in manifest.splits.items()
    }
    write_manifest(Location.of(folder), manifest.model_copy(update={"splits": splits}))


def test_tokens_are_those_of_row_and_view(tokens: Path) -> None:
    shards = TokenShards(tokens, "train")
    rng = np.random.default_rng(0)
    rows, epochs = rng.integers(0, IMAGES, 200), rng.integers(0, 9, 200)
    found, labels = shards.batch(rows, epochs)
    wanted = (100 * rows + 10 * (epochs % VIEWS))[:, None] + np.arange(LENGTH) % 7
    assert (len(shards), found.dtype, labels.dtype) == (IMAGES, np.int64, np.int64)
    assert np.array_equal(found, wanted)
    assert np.array_equal(labels, rows % 5)
    assert np.array_equal(shards.labels, np.arange(IMAGES) % 5)
    first = shards.first_views()
    assert first.dtype == np.uint16
    assert np.array_equal(first, 100 * np.arange(IMAGES)[:, None] + np.arange(LENGTH) % 7)


def test_a_flipped_byte_among_tokens_stops_whoever_reads(tokens: Path) -> None:
    path = tokens / "train-2.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # of an allowed token another one
    path.write_bytes(content)
    shards = TokenShards(tokens, "train")
    with pytest.raises(UserError, match=r"train-2\.arrow: its sha256 begins"):
        shards.finish_checks()
    with pytest.raises(UserError, match=r"train-2\.arrow: its sha256 begins"):
        shards.batch(np.array([0]), np.array([0]))


def test_shards_elsewhere_are_read_through_copies(tokens: Path, images: Path, cache: Path) -> None:
    storage = pafs.SubTreeFileSystem(str(tokens.parent), pafs.LocalFileSystem())
    far = TokenShards(Location(storage, "tokens", "bucket://tokens"), "train")
    assert np.array_equal(far.first_views(), TokenShards(tokens, "train").first_views())
    far.finish_checks()
    assert len(list(cache.glob("shards/[!.]*"))) == 4
    pictures = ImageShards(Location(storage, "images", "bucket://images"), "train")
    assert [pictures.encoded(row) for row in range(30)] == [b"%d " % i * 100 for i in range(30)]
    assert len(list(cache.glob("shards/[!.]*"))) == 4 + 3
    assert pickle.loads(pickle.dumps(pictures)).encoded(29) == b"29 " * 100  # noqa: S301


def test_a_range_of_images_elsewhere_copies_its_shards_and_then_the_next(images: Path, cache: Path) -> None:
    storage = pafs.SubTreeFileSystem(str(images.parent), pafs.LocalFileSystem())
    largest = max(path.stat().st_size for path in images.glob("*.parquet"))
    part = ImageShards(Location(storage, "images", "bucket://images"), "train", 2, 5, cache_bytes=2 * largest)
    assert [part.encoded(row) for row in range(3)] == [b"%d " % i * 100 for i in range(2, 5)]
    deadline = time.monotonic() + 20
    while len(list(cache.glob("shards/[!.]*[!t]"))) < 2 and time.monotonic() < deadline:  # not those that end in .part
        time.sleep(0.01)
    held = {path.name for path in cache.glob("shards/[!.]*")}
    assert held == {shard.sha256 for shard in part.manifest.splits["train"][:2]}


@pytest.mark.parametrize("kills", range(4))
def test_ranks_that_come_and_go_see_the_same_global_batches(tokens: Path, kills: int) -> None:
    batch, steps, rng = 12, 25, np.random.default_rng(kills)
    alone = TokenBatches(TokenShards(tokens, "train"), 4, batch, batch, 0)
    wanted = [alone.take(step) for step in range(steps)]
    step = 0
    while step < steps:
        world, stop = int(rng.integers(1, 5)), min(steps, step + int(rng.integers(1, 9)))
        share = batch // world
        ranks = [TokenBatches(TokenShards(tokens, "train"), 4, batch, share, rank) for rank in range(world)]
        for at in range(step, stop):
            found = [rank.take(at) for rank in ranks]
            for part in range(2):
                assert torch.equal(torch.cat([each[part] for each in found]), wanted[at][part])
        step = stop


def test_a_batch_is_read_ahead_and_its_failure_comes_when_it_is_taken(tokens: Path) -> None:
    shards = TokenShards(tokens, "val")
    shards.finish_checks()
    batches = TokenBatches(shards, 0, 4, 4, 0)
    batches.take(0)
    with (tokens / "val-0.arrow").open("r+b") as stream:
        stream.truncate(0)
    with pytest.raises(UserError, match=r"val-0\.arrow: row \d: the file ends before it"):
        batches.take(7)  # step 1 may have been read before


def test_a_missing_token_shard_is_named(tokens: Path) -> None:
    (tokens / "train-2.arrow").unlink()
    with pytest.raises(UserError, match=r"train-2\.arrow: no such file; the manifest names it, with 57 rows"):
        TokenShards(tokens, "train")


def test_a_token_shard_cut_short_is_named_before_anything_is_read(tokens: Path) -> None:
    path = tokens / "train-1.arrow"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"train-1\.arrow: {size - 100} bytes where the manifest says {size}"):
        TokenShards(tokens, "train")


def test_a_token_shard_cut_short_under_a_reader_names_the_row(tokens: Path) -> None:
    shards = TokenShards(tokens, "train")
    shards.finish_checks()
    path = tokens / "train-0.arrow"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"train-0\.arrow: row 57: the file ends before it"):
        shards.batch(np.array([0, 19]), np.array([0, 0]))


def test_a_token_of_no_code_names_file_and_row(tokens: Path) -> None:
    manifest = read_token_manifest(Location.of(tokens))
    write_token_manifest(tokens, manifest.splits, vocab_size=4900)
    shards = TokenShards(tokens, "train")
    shards.batch(np.arange(40), np.zeros(40, np.int64))
    with pytest.raises(UserError, match=r"train-3\.arrow: row 27 has token 4906; allowed below 4900"):
        shards.batch(np.array([3, 49]), np.array([0, 0]))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (token_table(range(10), 1).drop_columns("view"), {}, r"columns are \{key: string, label: int32, tokens"),
        (token_table(range(9), 1), {}, "9 rows where the manifest says 10"),
        (token_table(range(10), 1, label=pa.array([7] * 10, pa.int32())), {}, "row 0 has label 7; allowed 0-4"),
        (token_table(range(10), 1, label=pa.array([None] * 10, pa.int32())), {}, "a label or tokens are missing"),
        (token_table(range(10), 1), {"compression": "zstd"}, "compressed; wanted an uncompressed file"),
    ],
)
def test_other_token_shards_are_refused(tokens: Path, table: pa.Table, options: dict[str, Any], message: str) -> None:
    write_arrow(tokens / "val-0.arrow", table, **options)
    change(tokens, "val-0.arrow")
    with pytest.raises(UserError, match=rf"val-0\.arrow: {message}"):
        TokenShards(tokens, "val")


def test_a_file_that_is_no_arrow_file_is_refused(tokens: Path) -> None:
    (tokens / "val-0.arrow").write_bytes(b"no such thing" * 100)
    change(tokens, "val-0.arrow")
    with pytest.raises(UserError, match=r"val-0\.arrow: not readable"):
        TokenShards(tokens, "val")


def test_an_empty_or_unknown_split_is_refused(tokens: Path) -> None:
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        TokenShards(tokens, "test")
    write_token_manifest(tokens, {"train": (), "val": ()})
    with pytest.raises(UserError, match="split 'train' is empty"):
        TokenShards(tokens, "train")


def image_table(rows: range) -> pa.Table:
    columns = {
        "key": [f"image{i}" for i in rows],
        "label": [i % 5 for i in rows],
        "image": [b"%d " % i * 100 for i in rows],
        "width": [100 + i for i in rows],
        "height": [200 - i for i in rows],
    }
    return pa.table(columns, schema=IMAGE_SCHEMA)


def write_images(folder: Path, tables: list[pa.Table]) -> Path:
    """A data set whose train split has these shards."""
    folder.mkdir(exist_ok=True)
    shards = []
    for number, table in enumerate(tables):
        path = folder / f"train-{number}.parquet"
        pq.write_table(
            table, path, row_group_size=ROW_GROUP, compression="none", use_dictionary=False, write_page_checksum=True
        )
        shards.append(shard(path, table.num_rows))
    write_manifest(Location.of(folder), image_manifest({"train": tuple(shards)}, classes=tuple("abcde")))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """30 images in 3 shards of row groups of 4."""
    return write_images(tmp_path / "images", [image_table(rows) for rows in (range(9), range(9, 11), range(11, 30))])


def test_images_are_read_by_row_from_any_range_in_threads_and_other_processes(images: Path) -> None:
    for start, stop in ((0, 30), (8, 12), (10, 11), (15, 30)):
        shards = ImageShards(images, "train", start, stop)
        again = pickle.loads(pickle.dumps(shards))  # noqa: S301
        rows = range(stop - start)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(shards.encoded, [*rows] * 5))
        assert found == [b"%d " % i * 100 for i in range(start, stop)] * 5
        assert [again.encoded(row) for row in rows] == found[: len(rows)]
        assert [shards.key(row) for row in rows] == [again.key(row) for row in rows]
        assert shards.key(0) == f"image{start}"
        assert (shards.labels.dtype, shards.labels.tolist()) == (np.int64, [i % 5 for i in range(start, stop)])
        with pytest.raises(IndexError):
            shards.encoded(len(shards))


def test_ascending_reads_touch_each_row_group_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda s, *a, **k: read.append(1) or whole(s, *a, **k))
    shards = ImageShards(images, "train")
    for row in range(30):
        shards.encoded(row)
    assert len(read) == 3 + 1 + 5


def test_a_flipped_byte_names_file_and_rows_and_spares_the_others(images: Path) -> None:
    path = images / "train-2.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(b"16 16 16") + 50] ^= 1  # in the second row group
    path.write_bytes(content)
    shards = ImageShards(images, "train")
    assert shards.encoded(14) == b"14 " * 100
    with pytest.raises(UserError, match=r"train-2\.parquet: rows 4-7: not readable: .*CRC"):
        shards.encoded(16)


def test_a_flipped_byte_in_labels_is_found_on_opening(images: Path) -> None:
    path = images / "train-2.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(11, 15, dtype=np.int32).__mod__(5).astype(np.int32).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train-2\.parquet: rows 0-18: not readable: .*CRC"):
        ImageShards(images, "train")


def test_missing_and_cut_image_shards_are_named(images: Path) -> None:
    path = images / "train-1.parquet"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"train-1\.parquet: {size - 1} bytes where the manifest says {size}"):
        ImageShards(images, "train")
    path.unlink()
    with pytest.raises(UserError, match=r"train-1\.parquet: no such file"):
        ImageShards(images, "train")
    shutil.rmtree(images)
    with pytest.raises(UserError, match=r"no manifest\.json here"):
        ImageShards(images, "train")


def test_other_image_shards_are_refused(tmp_path: Path) -> None:
    table = image_table(range(6))
    wrong = write_images(tmp_path / "a", [table.drop_columns("width")])
    with pytest.raises(UserError, match=r"train-0\.parquet: columns are \{key: string, label: int32, image: binary, h"):
        ImageShards(wrong, "train")
    labels = table.set_column(1, "label", pa.array([0, 1, 2, 3, 9, 0], pa.int32()))
    with pytest.raises(UserError, match=r"train-1\.parquet: row 4 has label 9; allowed 0-4"):
        ImageShards(write_images(tmp_path / "b", [table, labels]), "train")
    gap = table.set_column(2, "image", pa.array([b"a", b"b", None, b"d", b"e", b"f"], pa.binary()))
    with pytest.raises(UserError, match=r"train-0\.parquet: rows 0-3: an image is missing"):
        ImageShards(write_images(tmp_path / "c", [gap]), "train").encoded(0)


def test_images_that_are_too_small_are_named(images: Path) -> None:
    check_sides(ImageSet.read(images), "train", 100)
    with pytest.raises(UserError, match="'image0' is 100 px wide or high; wanted at least 101 px"):
        check_sides(ImageSet.read(images), "train", 101)
