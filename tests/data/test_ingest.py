"""Images into shards."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varscale.data.images import ViewRule, decode, training_view, validation_view
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.loader import ImageShards
from varscale.data.schema import MANIFEST, read_image_manifest
from varscale.errors import UserError
from varscale.locations import Location


def test_committed_shards_are_what_ingest_makes_of_the_tar(root: Path, shared: Path, tmp_path: Path) -> None:
    made = tmp_path / "emoji32"
    ingest(shared / "data" / "emoji64.tar", made, IngestOptions(size=32))
    committed = root / "studies" / "data" / "emoji32"
    names = sorted(path.name for path in made.iterdir())
    assert names == ["manifest.json", "train-00000.parquet", "val-00000.parquet"]
    for name in names:
        assert (made / name).read_bytes() == (committed / name).read_bytes(), name


def test_committed_shards_are_small_and_complete(root: Path) -> None:
    folder = root / "studies" / "data" / "emoji32"
    manifest = read_image_manifest(Location.of(folder))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 13_000_000
    assert {split: manifest.rows(split) for split in manifest.splits} == {"train": 6766, "val": 796}
    assert (len(manifest.classes), manifest.rejected) == (9, 0)


def test_folder_and_tar_of_it_give_the_same_content(picture_folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(picture_folder, arcname="top")
    first = ingest(picture_folder, tmp_path / "a", IngestOptions(size=16))
    second = ingest(archive, tmp_path / "b", IngestOptions(size=16))
    assert first.fingerprint == second.fingerprint
    assert first.classes == ("blue", "red")
    assert first.rows("train") + first.rows("val") == 80
    assert first.rows("val") > 0


def test_sharding_does_not_change_the_fingerprint(picture_folder: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(picture_folder, large)
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    for i in range(3):
        Image.fromarray(noise).save(large / "red" / f"noise{i}.png")
    one = ingest(large, tmp_path / "one", IngestOptions())
    many = ingest(large, tmp_path / "many", IngestOptions(shard_mib=1))
    assert len(many.splits["train"]) > len(one.splits["train"]) == 1
    assert one.fingerprint == many.fingerprint
    whole = ImageShards(tmp_path / "one", "train")
    split = ImageShards(tmp_path / "many", "train")
    assert [split.key(row) for row in range(len(split))] == [whole.key(row) for row in range(len(whole))]
    first = many.splits["train"][0].rows
    part = ImageShards(tmp_path / "many", "train", first - 2, first + 1)
    assert [part.key(row) for row in range(3)] == [whole.key(row) for row in range(first - 2, first + 1)]
    assert [part.encoded(i) for i in range(3)] == [whole.encoded(i) for i in range(first - 2, first + 1)]


def test_only_a_data_set_is_ever_replaced(picture_folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "photos"
    kept.mkdir()
    (kept / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is no image data set"):
        ingest(picture_folder, kept, IngestOptions())
    with pytest.raises(UserError, match="inside each other"):
        ingest(picture_folder, picture_folder, IngestOptions())
    assert (kept / "precious.txt").read_text() == "mine"
    for _ in range(2):
        ingest(picture_folder, tmp_path / "shards", IngestOptions(size=16))


def test_unreadable_images_are_listed_or_stop_the_ingest(picture_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(picture_folder, broken)
    (broken / "red" / "cut.png").write_bytes((broken / "red" / "000.png").read_bytes()[:60])
    (broken / "red" / "empty.jpg").write_bytes(b"")
    manifest = ingest(broken, tmp_path / "out", IngestOptions(size=16))
    assert manifest.rejected == 2
    assert manifest.rows("train") + manifest.rows("val") == 80
    with pytest.raises(UserError, match=r"red/(cut\.png|empty\.jpg): not a readable image"):
        ingest(broken, tmp_path / "strict", IngestOptions(size=16, strict=True))
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("layout", ["missing", "empty", "flat"])
def test_unusable_sources_are_refused(tmp_path: Path, layout: str) -> None:
    source = tmp_path / "source"
    if layout != "missing":
        source.mkdir()
    if layout == "flat":
        Image.new("RGB", (8, 8)).save(source / "lonely.png")
    with pytest.raises(UserError, match=str(source)):
        ingest(source, tmp_path / "out", IngestOptions())
    assert not (tmp_path / "out").exists()


def test_a_folder_without_or_with_a_strange_manifest_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="varscale ingest SOURCE DEST"):
        read_image_manifest(Location.of(tmp_path))
    (tmp_path / MANIFEST).write_text('{"format": "varscale-images/99"}')
    with pytest.raises(UserError, match=r"manifest\.json: field '.+'"):
        read_image_manifest(Location.of(tmp_path))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_odd_pictures_decode_upright_rgb_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decode(encoded(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert decode(encoded(Image.new("CMYK", (4, 4)), "JPEG")).mode == "RGB"
    wide = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    assert decode(encoded(wide, "JPEG", exif=exif)).size == (4, 8)


def test_views_are_functions_of_seed_key_and_view() -> None:
    rng = np.random.default_rng(0)
    picture = encoded(Image.fromarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)), "PNG")
    rule = ViewRule(32, flip=True)
    first = training_view(picture, rule, 0, "a", 0)
    assert first.shape == (3, 32, 32)
    assert np.array_equal(first, training_view(picture, rule, 0, "a", 0))
    others = [training_view(picture, rule, *pair) for pair in ((1, "a", 0), (0, "b", 0), (0, "a", 1))]
    assert not any(np.array_equal(first, other) for other in others)
    assert np.array_equal(validation_view(picture, rule), validation_view(picture, rule))
