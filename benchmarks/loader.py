"""Reading shards: tokens by row, what a step waits for them, how large data sets open, JPEGs in random order.

    python benchmarks/loader.py            # about 1.5 minutes on 2 cores; writes some 700 MB into a temporary folder

Token rows have L = 680. The large data set, 1.28 M images in 12 views (20.9 GB), is real in all but its tokens, which
are holes in sparse files: they read as zeros, from memory like anything else in the page cache.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from photographs import photograph
from PIL import Image
from published import SCALES_256, Memory, cell, in_fresh_process, seconds
from record import print_table, recorded
from train_step import _engine

from varscale.data.batches import TokenBatches
from varscale.data.images import decode
from varscale.data.loader import ImageShards, TokenShards
from varscale.data.order import SampleOrder
from varscale.data.schema import IMAGE_SCHEMA, ImageManifest, Shard, TokenManifest, token_schema, write_manifest
from varscale.device import keep_freed_memory
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.vqvae import VQVAE

LENGTH, CODES, CLASSES = 680, 4096, 1000
BATCH, BATCHES = 256, 300
STEP_BATCH, STEPS = 4, 15
LARGE_IMAGES, LARGE_VIEWS, LARGE_SHARDS = 1_280_000, 12, 500
LARGE_READS = 1000
JPEGS, JPEG_SIZE, JPEG_SHARDS, GROUP_ROWS = 1200, (500, 375), 3, 16


class Sparse(io.RawIOBase):
    """A file whose zeros are not written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def writable(self) -> bool:
        return True

    def write(self, content) -> int:
        view = memoryview(content)
        if len(view) > 2**20 and not np.frombuffer(view, np.uint8).any():
            self._file.seek(len(view), os.SEEK_CUR)
        else:
            self._file.write(view)
        return len(view)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def write_tokens(path: Path, tokens: np.ndarray, labels: np.ndarray) -> Shard:
    """A token shard; its sha256 is that of the file only if tokens are not all zero."""
    schema = token_schema(LENGTH)
    columns = {
        "key": pa.array([""] * len(labels)),
        "label": labels.astype(np.int32),
        "view": np.zeros(len(labels), np.int32),
        "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), LENGTH),
    }
    with Sparse(path) as sink, pa.ipc.new_file(pa.PythonFile(sink, "w"), schema) as writer:
        writer.write_table(pa.table(columns, schema=schema))
    sha256 = Location.of(path).sha256() if tokens.any() else "not compared"
    return Shard(file=path.name, rows=len(labels), bytes=path.stat().st_size, sha256=sha256)


def write_token_set(folder: Path, shards: list[Shard], views: int) -> Path:
    """The manifest of these shards."""
    manifest = TokenManifest(
        classes=tuple(map(str, range(CLASSES))), splits={"train": tuple(shards)}, views={"train": views},
        vocab_size=CODES, patch_nums=SCALES_256, image_size=256, resize_ratio=1.125, flip=False, seed=0,
        data_fingerprint="", tokenizer_fingerprint="", key="",
    )  # fmt: skip
    write_manifest(Location.of(folder), manifest)
    return folder


def real_tokens(folder: Path) -> Path:
    """60,000 rows of random tokens in 3 shards, 82 MB."""
    rng, shards = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(3):
        tokens = rng.integers(0, CODES, (20_000, LENGTH), dtype=np.uint16)
        shards.append(write_tokens(folder / f"train-{number}.arrow", tokens, rng.integers(0, CLASSES, 20_000)))
    return write_token_set(folder, shards, views=1)


def large_tokens(folder: Path) -> Path:
    """The large data set."""
    rng, rows = np.random.default_rng(0), LARGE_IMAGES * LARGE_VIEWS // LARGE_SHARDS
    folder.mkdir()
    tokens = np.zeros((rows, LENGTH), np.uint16)
    names = [folder / f"train-{number:05d}.arrow" for number in range(LARGE_SHARDS)]
    return write_token_set(
        folder, [write_tokens(name, tokens, rng.integers(0, CLASSES, rows)) for name in names], LARGE_VIEWS
    )


def jpegs(folder: Path) -> Path:
    """Image shards of JPEGs as large as ImageNet's usual ones."""
    shards = []
    folder.mkdir()
    width, height = JPEG_SIZE
    pictures = [photograph(seed, width, height) for seed in range(100)]
    rows = JPEGS // JPEG_SHARDS
    for number in range(JPEG_SHARDS):
        path = folder / f"train-{number}.parquet"
        columns = [
            [f"{number}/{i}" for i in range(rows)], [0] * rows, [pictures[i % 100] for i in range(rows)],
            [width] * rows, [height] * rows,
        ]  # fmt: skip
        table = pa.table(
            [pa.array(c, t) for c, t in zip(columns, IMAGE_SCHEMA.types, strict=True)], schema=IMAGE_SCHEMA
        )
        pq.write_table(
            table, path, row_group_size=GROUP_ROWS, compression="none", use_dictionary=False, write_page_checksum=True
        )
        shards.append(Shard(file=path.name, rows=rows, bytes=path.stat().st_size, sha256=""))
    manifest = ImageManifest(
        classes=("0",), splits={"train": tuple(shards)}, counts={"train": (JPEGS,)}, source="", options={}, rejected=0,
        fingerprint="", key="",
    )  # fmt: skip
    write_manifest(Location.of(folder), manifest)
    return folder


def rows_per_second(folder: Path) -> float:
    """Random rows through the seeded order, checked and as int64, from the page cache."""
    shards = TokenShards(folder, "train")
    shards.finish_checks()
    order = SampleOrder(len(shards), 0)
    batches = [order.take(i * BATCH, BATCH) for i in range(BATCHES)]
    return BATCH / statistics.median(seconds(lambda b=b: shards.batch(*b)) for b in batches)


def wait_share(folder: Path) -> tuple[float, float, float]:
    """A training at depth 4: seconds a step, seconds of it that it waits for tokens; seconds to read a batch."""
    keep_freed_memory()
    torch.set_num_threads(2)
    plan = cell(4, STEP_BATCH)
    engine, quantizer = _engine(plan), VQVAE(VQVAEConfig()).requires_grad_(False).quantize
    shards = TokenShards(folder, "train")
    shards.finish_checks()
    batches, waited, took = TokenBatches(shards, 0, STEP_BATCH, STEP_BATCH, 0), [], []
    for step in range(STEPS):
        start = time.perf_counter()
        batch = batches.take(step)
        waited.append(time.perf_counter() - start)
        engine.step([batch], lambda model, b: plan.family.loss(model, quantizer, *b), lr=1e-4, weight_decay=0.05)
        took.append(time.perf_counter() - start)
    alone = statistics.median(seconds(lambda s=s: batches._read(s)) for s in range(100))
    return statistics.median(took[1:]), statistics.mean(waited[1:]), alone


def opening(folder: Path) -> tuple[float, int, float]:
    """Seconds to open the large data set; memory after random reads; rows/s of these."""
    memory = Memory()
    start = time.perf_counter()
    shards = TokenShards(folder, "train")
    opened = time.perf_counter() - start
    shards._checksums = None  # which would read 20 GB of holes
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for epoch in range(LARGE_READS):
        shards.batch(rng.integers(0, LARGE_IMAGES, BATCH), np.full(BATCH, epoch))
    return opened, memory.peak(), LARGE_READS * BATCH / (time.perf_counter() - start)


def decode_rates(folder: Path) -> tuple[float, float]:
    """JPEGs/s on two threads: bytes in memory through the decoder alone; through shards in random order."""
    shards = ImageShards(folder, "train")
    rows = SampleOrder(len(shards), 0).take(0, len(shards))[0].tolist()
    encoded = [shards.encoded(row) for row in range(len(shards))]

    def bare(row: int) -> None:
        image = Image.open(io.BytesIO(encoded[row]))
        image.load()

    rates: tuple[list[float], list[float]] = ([], [])
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):  # in turns, for the machine's speed drifts
            for found, work in zip(rates, (bare, lambda row: decode(shards.encoded(row))), strict=True):
                found.append(len(rows) / seconds(lambda work=work: list(pool.map(work, rows))))
    return statistics.median(rates[0]), statistics.median(rates[1])


def main(folder: Path) -> None:
    """Measure and print."""
    small, images = real_tokens(folder / "small"), jpegs(folder / "images")
    rate = in_fresh_process(rows_per_second, small)
    step, waited, alone = in_fresh_process(wait_share, small)
    large = large_tokens(folder / "large")
    opened, memory, large_rate = in_fresh_process(opening, large)
    bare, through = in_fresh_process(decode_rates, images)
    size = sum(path.stat().st_size for path in large.iterdir()) / 1e9
    print_table(
        ("measured", "figure", "wanted"),
        [
            ("rows/s, random, one process, page cache", f"{rate:,.0f}", "≥ 100,000"),
            (f"depth 4, batch {STEP_BATCH}: ms a step", f"{1e3 * step:.0f}", ""),
            ("  of it waiting for tokens", f"{waited / step:.3%}", "≤ 1 %"),
            ("  if nothing were read ahead", f"{alone / step:.3%}", ""),
            (f"opening {LARGE_IMAGES:,} images × {LARGE_VIEWS} views ({size:.1f} GB), s", f"{opened:.2f}", "< 2"),
            (f"  MiB resident after {LARGE_READS * BATCH:,} random rows", f"{memory / 2**20:.0f}", "< 1024"),
            ("  rows/s of these, most read for the first time", f"{large_rate:,.0f}", ""),
            ("JPEG/s, 2 threads: Pillow (libjpeg-turbo) on bytes in memory", f"{bare:.0f}", ""),
            ("  from shards in random order, to upright RGB", f"{through:.0f}", ""),
            ("  ratio", f"{through / bare:.2f}", ""),
        ],
    )


if __name__ == "__main__":
    with recorded(__file__), tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        os.environ["VARSCALE_CACHE"] = place
        main(Path(place))
