"""Views of training: what they are, whoever makes them, and the processes that do."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crafted import image_manifest, shard
from PIL import Image

from varscale.data import views as views_module
from varscale.data.images import ViewRule, random_crop, resized
from varscale.data.loader import ImageShards
from varscale.data.order import SampleOrder
from varscale.data.schema import IMAGE_SCHEMA, write_manifest
from varscale.data.views import TrainingViews
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

IMAGES, BATCH, SEED = 40, 12, 3
RULE = ViewRule(16, flip=True)


def jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def write_images(folder: Path, images: list[bytes]) -> Path:
    """Image shards of one split, the first half in one file, the rest in another."""
    folder.mkdir()
    middle, shards = len(images) // 2, []
    for number, rows in enumerate((range(middle), range(middle, len(images)))):
        columns = {
            "key": [f"image{row}" for row in rows],
            "label": [row % 5 for row in rows],
            "image": [images[row] for row in rows],
            "width": [24 for _ in rows],
            "height": [20 for _ in rows],
        }
        path = folder / f"train-{number}.parquet"
        pq.write_table(pa.table(columns, IMAGE_SCHEMA), path, row_group_size=4, write_page_checksum=True)
        shards.append(shard(path, len(rows)))
    write_manifest(Location.of(folder), image_manifest({"train": tuple(shards)}, classes=tuple("abcde")))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    return write_images(tmp_path_factory.mktemp("shards") / "images", [jpeg(rng, 24, 20) for _ in range(IMAGES)])


@pytest.fixture(scope="module")
def shards(folder: Path) -> ImageShards:
    return ImageShards(folder, "train")


@pytest.fixture
def too_large_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views_module, "KEPT_BYTES", 0)


def wanted(shards: ImageShards, step: int) -> np.ndarray:
    rows, epochs = SampleOrder(IMAGES, SEED).take(step * BATCH, BATCH)
    return np.stack([
        random_crop(resized(shards.encoded(row), RULE), RULE, SEED, shards.key(row), epoch)
        for row, epoch in zip(rows.tolist(), epochs.tolist(), strict=True)
    ])  # fmt: skip


def running(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def resident(pid: int) -> int:
    """Bytes of private and shared memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_small_set_is_decoded_once(shards: ImageShards, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    resized = views_module.resized
    monkeypatch.setattr(views_module, "resized", lambda *given: decoded.append(1) or resized(*given))
    with TrainingViews(shards, RULE, SEED, BATCH, BATCH, 0, cpus=1) as views:
        for step in range(20):  # six epochs
            assert np.array_equal(views.take(step), wanted(shards, step))
    assert len(decoded) == IMAGES


@pytest.mark.usefixtures("too_large_to_keep")
@pytest.mark.parametrize("cpus", [1, 2])
def test_views_are_functions_of_seed_key_and_epoch_whoever_makes_them(shards: ImageShards, cpus: int) -> None:
    with TrainingViews(shards, RULE, SEED, BATCH, BATCH, 0, cpus) as views:
        for step in (5, 6, 7, 6, 30, 31, 0):  # a resume, a step back, jumps
            assert np.array_equal(views.take(step), wanted(shards, step))
            rows, epochs = views.samples(step)
            assert np.array_equal(rows, SampleOrder(IMAGES, SEED).take(step * BATCH, BATCH)[0])
            assert epochs[0] == step * BATCH // IMAGES


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_workers_take_slices_of_the_same_batch(shards: ImageShards, world_size: int) -> None:
    share = BATCH // world_size
    for rank in range(world_size):
        with TrainingViews(shards, RULE, SEED, BATCH, share, rank, cpus=1) as views:
            for step in (0, 1, 9):
                assert np.array_equal(views.take(step), wanted(shards, step)[rank * share : (rank + 1) * share])


@pytest.mark.usefixtures("too_large_to_keep")
@pytest.mark.parametrize("cpus", [1, 2])
def test_an_image_that_is_none_is_named_in_one_line(tmp_path: Path, cpus: int) -> None:
    rng = np.random.default_rng(0)
    images = [jpeg(rng, 24, 20) for _ in range(BATCH)]
    images[8] = images[8][:300]
    shards = ImageShards(write_images(tmp_path / "images", images), "train")
    with (
        TrainingViews(shards, RULE, SEED, BATCH, BATCH, 0, cpus) as views,
        pytest.raises(UserError, match=r"^[^\n]*train-1\.parquet: row 2 \('image8'\): not a readable image: [^\n]*$"),
    ):
        views.take(0)


@pytest.mark.usefixtures("too_large_to_keep")
def test_a_process_that_is_killed_is_an_error_not_a_wait(shards: ImageShards) -> None:
    with TrainingViews(shards, RULE, SEED, BATCH, BATCH, 0, cpus=2) as views:
        views.take(0)
        os.kill(decoders(os.getpid())[0], signal.SIGKILL)
        with pytest.raises(EnvironmentalError, match="a process that decodes images was ended"):
            [views.take(step) for step in range(1, 100)]
    assert not decoders(os.getpid())


def decoders(parent: int) -> list[int]:
    """Processes that a process spawned to decode."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            ours = f"\nPPid:\t{parent}\n" in status.read_text()
            command = (status.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if ours and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return found


PARENT = """
import sys, time
from pathlib import Path
from varscale.data import views
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards

if __name__ == "__main__":
    views.KEPT_BYTES = 0
    with views.TrainingViews(ImageShards(Path(sys.argv[1]), "train"), ViewRule(16), 0, 8, 8, 0, cpus=2) as found:
        found.take(0)
        print("ready", flush=True)
        time.sleep(60)
"""


def test_processes_end_with_a_parent_that_is_killed(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        spawned = decoders(parent.pid)
        assert len(spawned) == 2
        parent.kill()
    deadline = time.monotonic() + 10
    while any(running(pid) for pid in spawned):
        assert time.monotonic() < deadline, "processes outlived their parent"
        time.sleep(0.05)


@pytest.mark.usefixtures("too_large_to_keep")
def test_memory_is_flat_over_a_hundred_epochs(tmp_path: Path) -> None:
    rng, rule = np.random.default_rng(0), ViewRule(64)
    shards = ImageShards(write_images(tmp_path / "images", [jpeg(rng, 96, 80) for _ in range(IMAGES)]), "train")
    early, late = (epochs * IMAGES // BATCH for epochs in (20, 100))
    with TrainingViews(shards, rule, SEED, BATCH, BATCH, 0, cpus=2) as views:
        for step in range(early):
            views.take(step)
        pids = [os.getpid(), *decoders(os.getpid())]
        before = [resident(pid) for pid in pids]
        for step in range(early, late):
            views.take(step)
        after = [resident(pid) for pid in pids]
    assert len(pids) == 3
    for end, start in zip(after, before, strict=True):
        assert end - start < 8 * 2**20  # the images of those epochs take 50 MB as crops, 25 MB as files
