"""Images into shards: what is stored, in which shards, and that neither kills nor bad images change it."""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from varscale.data.assembly import UNFINISHED
from varscale.data.fingerprint import content_fingerprint, row_digest
from varscale.data.images import ImageError, decode
from varscale.data.ingest import IngestOptions, begin_ingest, ingest, plan_parts, prepare
from varscale.data.loader import ImageShards
from varscale.data.schema import MANIFEST, REJECTS, SPLITS, read_image_manifest
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 small noisy PNGs in 3 classes: several shards, and row groups of more than one page."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for i in range(1000):
        place = folder / f"class{i % 3}" / f"{i:04d}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i % 7, 24, 3), dtype=np.uint8)).save(place)
    return folder


@pytest.fixture(scope="module")
def noise_shards(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted ingest makes of ``noise``."""
    folder = tmp_path_factory.mktemp("made") / "shards"
    ingest(noise, folder, IngestOptions())
    return folder


def test_committed_shards_are_what_ingest_makes_of_the_tar(root: Path, shared: Path, tmp_path: Path) -> None:
    made = tmp_path / "emoji32"
    ingest(shared / "data" / "emoji64.tar", made, IngestOptions(size=32))
    assert content(made) == content(root / "studies" / "data" / "emoji32")


def test_committed_shards_are_small_and_complete(root: Path) -> None:
    folder = root / "studies" / "data" / "emoji32"
    manifest = read_image_manifest(Location.of(folder))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 13_000_000
    assert {split: manifest.rows(split) for split in manifest.splits} == {"train": 6766, "val": 796}
    assert (len(manifest.classes), manifest.rejected) == (9, 0)


def test_bytes_are_kept_and_described(noise: Path, noise_shards: Path) -> None:
    manifest = read_image_manifest(Location.of(noise_shards))
    total = 0
    for split in SPLITS:
        shards = ImageShards(noise_shards, split)
        keys = [shards.key(row) for row in range(len(shards))]
        assert keys == sorted(keys)
        for row in range(len(shards)):
            image = shards.encoded(row)
            assert image == (noise / keys[row]).read_bytes()
            assert manifest.classes[shards.labels[row]] == keys[row].split("/")[0]
            total += row_digest(split, keys[row], int(shards.labels[row]), image)
        assert manifest.counts[split] == tuple(np.bincount(shards.labels, minlength=3))
    assert manifest.fingerprint == content_fingerprint(manifest.classes, total)
    assert manifest.rows("train") + manifest.rows("val") == 1000
    for split, shards in manifest.splits.items():
        for shard in shards:
            place = Location.of(noise_shards / shard.file)
            assert (place.size(), place.sha256()) == (shard.bytes, shard.sha256)
            table = pq.read_table(noise_shards / shard.file, page_checksum_verification=True)
            assert (table.num_rows, split) == (shard.rows, shard.file.split("-")[0])
            sizes = [Image.open(noise / key).size for key in table["key"].to_pylist()]
            assert list(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)) == sizes


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


def test_shards_of_shards_have_the_same_content(noise_shards: Path, tmp_path: Path) -> None:
    again = ingest(noise_shards, tmp_path / "again", IngestOptions())
    made = read_image_manifest(Location.of(noise_shards))
    assert (again.fingerprint, again.splits, again.counts) == (made.fingerprint, made.splits, made.counts)
    assert again.key != made.key


def test_sized_images_are_as_large_as_asked(picture_folder: Path, tmp_path: Path) -> None:
    ingest(picture_folder, tmp_path / "sized", IngestOptions(size=20, quality=80))
    for split in SPLITS:
        table = pq.read_table(next((tmp_path / "sized").glob(f"{split}-*.parquet"))).to_pylist()
        for row in table:
            picture = decode(row["image"])
            assert (row["width"], row["height"]) == picture.size
            assert min(picture.size) == 20
            assert row["image"].startswith(b"\xff\xd8" if row["key"].endswith("jpg") else b"\x89PNG")


def test_even_a_small_set_has_shards_for_several_cpus_and_their_size_is_bounded(noise: Path, tmp_path: Path) -> None:
    job = begin_ingest(noise, tmp_path / "out", IngestOptions())
    parts = plan_parts(job)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    train = [part.stop - part.start for part in parts if part.split == "train"]
    assert len(train) == 8
    assert len([part for part in parts if part.split == "val"]) == 2
    assert parts == plan_parts(begin_ingest(noise, tmp_path / "out", IngestOptions()))


def test_sharding_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(1200):
        place = tmp_path / "large" / f"class{i % 2}" / f"{i:04d}.bmp"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(place)
    few = ingest(tmp_path / "large", tmp_path / "few", IngestOptions())
    many = ingest(tmp_path / "large", tmp_path / "many", IngestOptions(shard_mib=1))
    assert len(many.splits["train"]) > len(few.splits["train"]) == 8
    assert all(shard.bytes < 1.5 * 2**20 for shard in many.splits["train"])
    assert few.fingerprint == many.fingerprint


def test_only_a_new_or_unfinished_folder_is_ever_written_to(picture_folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "photos"
    kept.mkdir()
    (kept / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match=r"exists and is no data set \(it holds precious.txt\)"):
        ingest(picture_folder, kept, IngestOptions())
    for inside in (picture_folder, picture_folder / "red" / "new", picture_folder.parent):
        with pytest.raises(UserError, match="inside each other"):
            ingest(picture_folder, inside, IngestOptions())
    ingest(picture_folder, tmp_path / "shards", IngestOptions(size=16))
    with pytest.raises(UserError, match="holds a data set already"):
        ingest(picture_folder, tmp_path / "shards", IngestOptions(size=17))
    assert list(kept.iterdir()) == [kept / "precious.txt"]


def test_the_same_ingest_again_does_nothing(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ingest(picture_folder, tmp_path / "shards", IngestOptions(size=16))
    (tmp_path / "shards" / "unfinished").mkdir()  # as a kill between the last two steps leaves it
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.*")}
    capsys.readouterr()
    assert ingest(picture_folder, tmp_path / "shards", IngestOptions(size=16)) == first
    assert "nothing to do" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}


@pytest.fixture
def broken(picture_folder: Path, tmp_path: Path) -> Path:
    """The pictures with a truncated, an empty, and a text file among them, and a PNG that is named JPEG."""
    folder = tmp_path / "broken"
    shutil.copytree(picture_folder, folder)
    (folder / "red" / "cut.jpg").write_bytes((folder / "red" / "001.jpg").read_bytes()[:700])
    (folder / "red" / "empty.jpg").write_bytes(b"")
    (folder / "blue" / "page, saved.png").write_bytes(b"<html>")
    shutil.copy(folder / "red" / "000.png", folder / "red" / "odd.jpg")
    return folder


@pytest.mark.parametrize("size", [None, 16])
def test_bad_images_are_listed_with_their_reason(
    broken: Path, tmp_path: Path, size: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = ingest(broken, tmp_path / "out", IngestOptions(size=size))
    assert manifest.rejected == 3
    assert manifest.rows("train") + manifest.rows("val") == 81
    with (tmp_path / "out" / REJECTS).open(newline="") as stream:
        listed = {row["key"]: row for row in csv.DictReader(stream)}
    assert set(listed) == {"red/cut.jpg", "red/empty.jpg", "blue/page, saved.png"}
    assert listed["red/empty.jpg"]["reason"] == "empty file"
    assert listed["red/empty.jpg"]["class"] == "red"
    assert "truncated" in listed["red/cut.jpg"]["reason"]
    assert {row["split"] for row in listed.values()} <= set(SPLITS)
    said = capsys.readouterr().err
    assert "left out: 3 images (" in said
    assert "1 × empty file" in said
    assert str(tmp_path / "out" / REJECTS) in said


def test_strict_stops_at_a_bad_image(broken: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(cut\.jpg|empty\.jpg|page, saved\.png): .*\(leave out --strict to list"):
        ingest(broken, tmp_path / "out", IngestOptions(size=16, strict=True))
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert ingest(broken, tmp_path / "out", IngestOptions(size=16)).rejected == 3


def test_a_split_without_usable_images_is_no_data_set(picture_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(picture_folder, tmp_path / "source" / "train")
    for name in ("blue", "red"):
        (tmp_path / "source" / "val" / name).mkdir(parents=True)
        (tmp_path / "source" / "val" / name / "0.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(UserError, match="source: split 'val' holds no usable image"):
            ingest(tmp_path / "source", tmp_path / "out", IngestOptions())
        assert not (tmp_path / "out" / MANIFEST).exists()
    with pytest.raises(UserError, match=r"val/blue/0\.png: no image .*--strict"):  # its receipt remembers
        ingest(tmp_path / "source", tmp_path / "out", IngestOptions(strict=True))


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


def test_a_folder_without_or_with_a_strange_manifest_is_no_data_set(picture_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="varscale ingest SOURCE DEST"):
        read_image_manifest(Location.of(tmp_path))
    (tmp_path / MANIFEST).write_text('{"format": "varscale-images/99"}')
    with pytest.raises(UserError, match=r"manifest\.json: field '.+'"):
        ingest(picture_folder, tmp_path, IngestOptions())


KILLED = """
import os, signal, sys
from varscale.data.assembly import Assembly
from varscale.data.ingest import IngestOptions, ingest
source, dest, receipts = sys.argv[1:]
note, noted = Assembly.note, []

def note_or_die(*arguments):
    if len(noted) == int(receipts):
        os.kill(os.getpid(), signal.SIGKILL)
    noted.append(note(*arguments))

Assembly.note = note_or_die
ingest(source, dest, IngestOptions())
"""


@pytest.mark.parametrize("receipts", [0, 3, 9])
def test_a_killed_ingest_goes_on_and_ends_with_the_same_bytes(
    noise: Path, noise_shards: Path, tmp_path: Path, receipts: int
) -> None:
    dest = tmp_path / "shards"
    killed = [sys.executable, "-c", KILLED, str(noise), str(dest), str(receipts)]
    assert subprocess.run(killed, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert not (dest / MANIFEST).exists()
    (dest / ".train-00004.parquet.0badcafe.part").write_bytes(b"half a shard")  # as a kill in mid-shard leaves it
    with pytest.raises(UserError, match="beginnings of a data set of another source or other options"):
        ingest(noise, dest, IngestOptions(size=8))
    found = {path: path.stat().st_mtime_ns for path in dest.glob("*.parquet")}
    ingest(noise, dest, IngestOptions())
    assert content(dest) == content(noise_shards)
    made_again = [path for path, time in found.items() if path.stat().st_mtime_ns != time]
    assert (len(found), len(made_again)) == (receipts + 1, 1)  # the one shard without a receipt


FULL = """
import resource, signal, sys
from varscale.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing on is an error then, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
from varscale.data.ingest import IngestOptions, ingest
main(lambda arguments, standalone_mode: ingest(*arguments, IngestOptions()))
"""


def test_a_disk_that_fills_leaves_no_data_set(noise: Path, noise_shards: Path, tmp_path: Path) -> None:
    dest = tmp_path / "shards"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(noise), str(dest)], capture_output=True, text=True, check=False
    )
    assert done.returncode == EnvironmentalError.exit_code
    last = done.stderr.strip().splitlines()[-1]
    assert f"{dest / 'train-00000.parquet'}: not written" in last
    assert "File too large" in last
    assert sorted(path.name for path in dest.rglob("*")) == ["plan.json", "unfinished"]
    ingest(noise, dest, IngestOptions())
    assert content(dest) == content(noise_shards)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two CPUs, for this module alone."""
    path = os.pathsep.join(sys.path)
    ray.init(address="local", num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    yield
    ray.shutdown()


def test_ray_tasks_make_the_same_bytes(
    cluster: None, noise: Path, noise_shards: Path, broken: Path, tmp_path: Path
) -> None:
    ingest(noise, tmp_path / "shards", IngestOptions())
    assert content(tmp_path / "shards") == content(noise_shards)
    with pytest.raises(UserError, match="leave out --strict"):
        ingest(broken, tmp_path / "out", IngestOptions(strict=True))


def test_a_resumed_ingest_makes_again_what_is_missing_or_cut(noise: Path, noise_shards: Path, tmp_path: Path) -> None:
    dest = tmp_path / "shards"
    killed = [sys.executable, "-c", KILLED, str(noise), str(dest), "4"]
    assert subprocess.run(killed, capture_output=True, check=False).returncode == -signal.SIGKILL
    first, second, third = sorted(dest.glob("*.parquet"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:1000])
    (dest / UNFINISHED / f"{third.name}.json").write_text("")  # as a power cut may leave it
    ingest(noise, dest, IngestOptions())
    assert content(dest) == content(noise_shards)


def test_done_is_said_of_a_whole_data_set_alone(picture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "odd" / "red").mkdir(parents=True)
    shutil.copytree(picture_folder, tmp_path / "odd", dirs_exist_ok=True)
    (tmp_path / "odd" / "red" / "empty.png").write_bytes(b"")
    dest = tmp_path / "shards"
    ingest(tmp_path / "odd", dest, IngestOptions(size=16))
    with pytest.raises(UserError, match=r"made before with 1 images left out, see rejects\.csv"):
        ingest(tmp_path / "odd", dest, IngestOptions(size=16, strict=True))
    (dest / "train-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"train-00000\.parquet: missing, or not of [\d,]+ bytes"):
        ingest(tmp_path / "odd", dest, IngestOptions(size=16))


@pytest.mark.parametrize("size", [None, 256])
def test_a_line_is_no_picture(size: int | None) -> None:
    for kind, sides in (("JPEG", (3000, 1)), ("PNG", (1, 20_000))):
        buffer = io.BytesIO()
        Image.new("RGB", sides).save(buffer, kind)
        with pytest.raises(ImageError, match=rf"{sides[0]} × {sides[1]} pixels: a line, no picture"):
            prepare(buffer.getvalue(), IngestOptions(size=size))


def test_a_picture_is_not_enlarged_beyond_what_a_jpeg_holds() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (400, 4)).save(buffer, "JPEG")
    with pytest.raises(ImageError, match="400 × 4 pixels would become 102400 × 1024"):
        prepare(buffer.getvalue(), IngestOptions(size=1024))


def test_a_destination_is_a_folder_and_its_own(picture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file; name a folder"):
        ingest(picture_folder, tmp_path / "file", IngestOptions())
    (tmp_path / "held" / "below").mkdir(parents=True)
    (tmp_path / "held" / "below" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"exists and is no data set \(it holds below/mine\.txt\)"):
        ingest(picture_folder, tmp_path / "held", IngestOptions())
