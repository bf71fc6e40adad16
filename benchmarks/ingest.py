"""Ingest against what the machine can do: re-encoding, plain storing, memory, and decoding large photographs in part.

    python benchmarks/ingest.py            # about 2 minutes on 2 cores, 2 GB of temporary files

Photographs are synthetic: smooth noise, 500 × 375, about 90 kB. Ray runs already, with its workers' imports done.

Re-encoding: a folder that lists each photograph several times under other names (hard links), in the page cache. The
bare loop knows no listing, no digests and no shards: two processes read, decode with the fastest decoder that can be
imported (simplejpeg, OpenCV, PyTurboJPEG, Pillow), resize and encode as ingest does, and forget the result.

Plain storing: a tar of 10,000 images that is not in the page cache, against a plain copy of that tar, also read from
the disk; and the folder, in the page cache. Times end when the disk has what was written (fsync).

Memory is the largest sum, sampled every 20 ms, of the resident memory of this process and of Ray's workers at work,
pages they share counted for each; Ray's own processes and idle workers are left out. 300 MiB of it are torch, which
this benchmark imports and the command does not.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
from photographs import decoders, photograph
from PIL import Image
from published import median_seconds, seconds
from record import print_table, recorded

from varscale.data.images import decode, encode, resize_shorter
from varscale.data.ingest import IngestOptions, ingest
from varscale.ray_session import connected

SIDE, QUALITY = 256, 95
PHOTOS = 200
IMAGES = 10_000


def make_source(folder: Path, photographs: list[Path], images: int) -> None:
    """A folder of ten class folders with so many images."""
    for i in range(images):
        place = folder / f"class{i % 10}" / f"{i:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(photographs[i % len(photographs)], place)


def bare_loop(decoder: str, paths: list[Path]) -> int:
    """Decode, resize, encode; the bytes made."""
    read = decoders()[decoder]
    return sum(
        len(encode(resize_shorter(Image.fromarray(read(path.read_bytes())), SIDE), True, QUALITY)) for path in paths
    )


def written(folder: Path, work: Callable[[], object]) -> float:
    """Seconds until ``work``'s files in ``folder`` are on the disk."""

    def both() -> None:
        work()
        for path in folder.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())

    os.sync()
    return seconds(both)


class WorkersMemory:
    """Samples the resident memory of this process and of Ray's workers at work."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> WorkersMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, sum(_resident(folder) for folder in Path("/proc").glob("[0-9]*")))


def _resident(process: Path) -> int:
    try:
        title = (process / "cmdline").read_bytes()
        if process.name != str(os.getpid()) and not title.startswith(b"ray::_make_shard"):
            return 0
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0


def reencoding(folder: Path, source: Path, pool: Pool) -> list[tuple[str, ...]]:
    """Both cores, ours and the bare loop."""
    paths = sorted(source.rglob("*.jpg"))
    sample = [path.read_bytes() for path in paths[:50]]
    speeds = {
        name: median_seconds(lambda read=read: [read(data) for data in sample], 3) for name, read in decoders().items()
    }
    fastest = min(speeds, key=speeds.__getitem__)
    halves = [(fastest, paths[half::2]) for half in range(2)]
    pool.starmap(bare_loop, [(name, half[:4]) for name, half in halves])
    bare, ours = math.inf, math.inf
    for attempt in range(2):  # the best of each: what else runs on the machine only ever costs time
        dest, options = folder / f"sized{attempt}", IngestOptions(size=SIDE, quality=QUALITY)
        bare = min(bare, seconds(lambda: pool.starmap(bare_loop, halves, chunksize=1)))
        ours = min(ours, seconds(lambda dest=dest, options=options: ingest(source, dest, options)))
    others = ", ".join(f"{name} {time / 50 * 1e3:.2f} ms" for name, time in speeds.items())
    return [
        (f"bare loop, {SIDE} px, {fastest}", f"{len(paths) / bare:.0f} images/s", "1.00", f"decoding alone: {others}"),
        (f"ingest --size {SIDE}", f"{len(paths) / ours:.0f} images/s", f"{bare / ours:.2f}", "target 0.85"),
    ]  # fmt: skip


def evict(path: Path) -> None:
    """Take a file out of the page cache."""
    os.sync()
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def storing(folder: Path, source: Path) -> list[tuple[str, ...]]:
    """The original bytes: ours from a tar and from a folder, and a copy of the tar; and memory."""
    archive, copied = folder / "images.tar", folder / "copied"
    with tarfile.open(archive, "w", dereference=True) as tar:
        tar.add(source, arcname="images")
    size = archive.stat().st_size / 2**20
    copied.mkdir()
    evict(archive)
    copy = written(copied, lambda: shutil.copyfile(archive, copied / "copy"))
    shutil.rmtree(copied)
    rows: list[tuple[str, ...]] = [("copy of a tar", f"{size / copy:.0f} MiB/s", "1.00", f"{size:.0f} MiB")]
    for place, shard_mib in ((archive, 4096), (archive, 1), (source, 256)):
        dest = folder / "kept"
        dest.mkdir()
        evict(archive)
        with WorkersMemory() as memory:
            ours = written(dest, lambda p=place, m=shard_mib, d=dest: ingest(p, d, IngestOptions(shard_mib=m)))
        shards = len(list(dest.glob("*.parquet")))
        shutil.rmtree(dest)
        rows.append((
            f"ingest {place.name} --shard-mib {shard_mib}", f"{size / ours:.0f} MiB/s", f"{copy / ours:.2f}",
            f"target 0.5; {IMAGES:,} images, {shards} shards, {memory.peak / 2**20:.0f} MiB of memory",
        ))  # fmt: skip
    return rows


def partial_decoding() -> tuple[str, ...]:
    """What decoding a large photograph at a part of its size gains and costs."""
    large = [photograph(seed, 3000, 2250) for seed in range(4)]

    def stored(side: int | None) -> list[np.ndarray]:
        return [np.asarray(resize_shorter(decode(data, side), SIDE)).astype(float) for data in large]

    full, part = stored(None), stored(SIDE)
    psnr = [10 * np.log10(255**2 / ((a - b) ** 2).mean()) for a, b in zip(full, part, strict=True)]
    gain = median_seconds(lambda: stored(None), 3) / median_seconds(lambda: stored(SIDE), 3)
    return (f"3000 × 2250 to {SIDE} px, decoded in part", f"{gain:.1f} ×", "", f"PSNR {min(psnr):.1f} dB against whole")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="ingest-") as name, multiprocessing.get_context("spawn").Pool(2) as pool:
        folder = Path(name)
        photographs = [folder / f"{seed}.jpg" for seed in range(PHOTOS)]
        for path, data in zip(photographs, pool.map(photograph, range(PHOTOS)), strict=True):
            path.write_bytes(data)
        for images in (PHOTOS, 3000, IMAGES):
            make_source(folder / str(images), photographs, images)
        with connected():
            ingest(folder / str(PHOTOS), folder / "warm", IngestOptions())
            rows = [
                *reencoding(folder, folder / "3000", pool),
                *storing(folder, folder / str(IMAGES)),
                partial_decoding(),
            ]
    print_table(("part", "rate", "ratio", "notes"), rows)


if __name__ == "__main__":
    with recorded(__file__):
        main()
