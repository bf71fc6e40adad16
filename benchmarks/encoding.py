"""What encoding fresh crops at every step costs, against tokens made once; how fast images are decoded for it.

    python benchmarks/encoding.py            # under 3 minutes on 2 cores

Small: quickstart sizes on emoji32, one thread, as their workers run. Large: depth 4 at the published 256 px geometry
with a tokenizer of the released size (random weights), batch 4, two threads. Both train through the engine of studies.

Decoding: synthetic 500×375 JPEGs in shards, shorter side to 288, crop of 256, by the processes of a worker with two
CPUs; the bare loops do it in two processes too, with nothing between them and a list in memory. Decoders other than
Pillow take part where they are installed (simplejpeg, opencv-python-headless, PyTurboJPEG). Epochs of 32 images show
what memory grows by, in the worker and its processes (which hold torch here, since this script imports it).
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from photographs import decoders, photograph
from PIL import Image
from published import ROOT, cell, in_fresh_process, seconds
from record import print_table, recorded

from varscale.data import views as views_module
from varscale.data.encoded import EncodedBatches, encode
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards
from varscale.data.schema import IMAGE_SCHEMA, ImageManifest, Shard, write_manifest
from varscale.data.views import TrainingViews
from varscale.device import keep_freed_memory
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import load_model
from varscale.models.vqvae import VQVAE
from varscale.plan.cells import Cell, Inputs, make_plan
from varscale.spec.files import load_study
from varscale.train.cell import loop
from varscale.train.cell.draws import draws
from varscale.train.engine import ZeroEngine
from varscale.train.peers import Rank

PHOTO, STORED = (500, 375), (384, 288)
"""Width and height as ImageNet has them, and with the shorter side as views want it."""
PHOTOS, DECODED = 64, 256
"""Pictures in a data set, and how many are decoded for one figure."""
BATCH, CPUS = 16, 2
RULE = ViewRule(256)
ALONE = Rank(0, 1, torch.device("cpu"))
EMOJI = ROOT / "studies" / "data" / "emoji32"


def photos(size: tuple[int, int], count: int) -> list[bytes]:
    """JPEGs of this width and height."""
    return [photograph(seed, *size) for seed in range(count)]


def write_shards(folder: Path, images: list[bytes], size: tuple[int, int]) -> ImageShards:
    """A data set of one shard."""
    path, count = folder / "train-00000.parquet", len(images)
    columns = {
        "key": [f"photo{i}" for i in range(count)],
        "label": [0] * count,
        "image": images,
        "width": [size[0]] * count,
        "height": [size[1]] * count,
    }
    table = pa.table(columns, IMAGE_SCHEMA)
    pq.write_table(table, path, compression="none", row_group_size=16, write_page_checksum=True)
    shard = Shard(file=path.name, rows=count, bytes=path.stat().st_size, sha256=Location.of(path).sha256())
    facts = {"source": "", "options": {}, "rejected": 0, "fingerprint": "", "key": ""}
    manifest = ImageManifest(classes=("photo",), splits={"train": (shard,)}, counts={"train": (count,)}, **facts)
    write_manifest(Location.of(folder), manifest)
    return ImageShards(folder, "train")


def small_steps(depth: int) -> tuple[float, float]:
    """Seconds a step of a quickstart size: tokens there, and encoded."""
    study = load_study(ROOT / "studies" / "quickstart.yaml", [])
    tokenizer = load_model(ROOT / study.tokenizer.path, VQVAE).model.requires_grad_(False)
    cfg, shards = tokenizer.cfg, ImageShards(EMOJI, "train")
    plans = make_plan(study, Inputs(9, cfg.vocab_size, cfg.z_channels, cfg.patch_nums, ""))
    plan = next(each for each in plans if each.depth == depth)
    torch.set_num_threads(1)
    with TrainingViews(shards, ViewRule.of(study.data), plan.seed, plan.batch, plan.batch, 0, cpus=1) as views:
        first = len(shards) // plan.batch + 1
        for step in range(first):
            views.take(step)  # the first epoch decodes, the others find pixels
        return _steps(plan, EncodedBatches(views, shards.labels, tokenizer), tokenizer, first, 100)


def large_steps(folder: Path) -> tuple[float, float, float]:
    """Seconds a step of depth 4 at 256 px, tokens there and encoded; seconds a view to make tokens, 8 at once."""
    views_module.KEPT_BYTES = 0  # as of ImageNet, which nobody keeps decoded
    torch.manual_seed(0)
    tokenizer, shards, plan = VQVAE(VQVAEConfig()).requires_grad_(False), ImageShards(folder, "train"), cell(4, 4)
    torch.set_num_threads(CPUS)
    with TrainingViews(shards, RULE, plan.seed, plan.batch, plan.batch, 0, CPUS) as views:
        pixels = np.concatenate([views.take(step) for step in range(2)])
        before = seconds(lambda: encode(tokenizer, pixels))
        once, fresh = _steps(plan, EncodedBatches(views, shards.labels, tokenizer), tokenizer, 2, 3)
        return once, fresh, (before + seconds(lambda: encode(tokenizer, pixels))) / 2 / len(pixels)


@dataclass(frozen=True)
class Ready:
    """Batches that are there: reading tokens takes no time beside a step (``benchmarks/loader.py``)."""

    batch: tuple[torch.Tensor, torch.Tensor]

    def take(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same batch for every step."""
        return self.batch


def _steps(plan: Cell, fresh: EncodedBatches, tokenizer: VQVAE, first: int, steps: int) -> tuple[float, float]:
    keep_freed_memory()
    engine = _engine(plan)

    def step(batches: loop.Batches, number: int) -> float:
        def loss(model, batch):
            return plan.family.loss(model, tokenizer.quantize, *batch)

        drawn = draws(plan.seed, number, plan.batch, plan.family.draws_per_image(plan.shape))
        micro_batches = loop.micro_batches(plan.split(1), batches, drawn, number, ALONE)
        return seconds(lambda: engine.step(micro_batches, loss, 1e-4, 0.05))

    ready = Ready(fresh.take(first))
    step(ready, 0)
    pairs = [(step(ready, 0), step(fresh, first + 1 + i)) for i in range(steps)]  # in turns: both meet the same machine
    once, encoded = (statistics.median(times) for times in zip(*pairs, strict=True))
    return once, encoded


def _engine(plan: Cell) -> ZeroEngine:
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    torch.manual_seed(0)
    engine = loop.new_engine(plan, plan.family.new_model(plan.shape, plan.optimizer, False), ALONE)
    engine.module.train()
    return engine


def our_rate(folder: Path, in_threads: bool = False) -> tuple[float, float]:
    """Views a second, and seconds until the first batch."""
    views_module.KEPT_BYTES = 0
    if in_threads:
        views_module._processes = _threads
    shards, steps = ImageShards(folder, "train"), DECODED // BATCH
    with TrainingViews(shards, RULE, 0, BATCH, BATCH, 0, CPUS) as views:
        first = seconds(lambda: views.take(0))
        views.take(1)
        return DECODED / seconds(lambda: [views.take(2 + step) for step in range(steps)]), first


def _threads(cutter: Any, count: int) -> ThreadPoolExecutor:
    """What views were made by before processes."""
    views_module._here = cutter
    return ThreadPoolExecutor(count)


def bare_loop(name: str, images: list[bytes], resize: bool) -> tuple[float, float]:
    """When a loop over all of ``DECODED / CPUS`` pictures began and ended."""
    decoder = decoders()[name]
    decoder(images[0])
    begun = time.monotonic()
    for i in range(DECODED // CPUS):
        pixels = decoder(images[i % len(images)])
        if resize:
            whole = np.asarray(Image.fromarray(pixels).resize(STORED, Image.Resampling.LANCZOS))
            np.ascontiguousarray(whole[:256, :256].transpose(2, 0, 1))
    return begun, time.monotonic()


def bare_rate(name: str, images: list[bytes], resize: bool) -> float:
    """Pictures a second of two bare loops side by side."""
    with multiprocessing.get_context("spawn").Pool(CPUS) as pool:
        pool.map(os.path.exists, ["/"] * CPUS, chunksize=1)  # all are up
        spans = pool.starmap(bare_loop, [(name, images, resize)] * CPUS, chunksize=1)
    return DECODED / (max(end for _, end in spans) - min(begun for begun, _ in spans))


def memory_growth(folder: Path) -> tuple[float, float, float]:
    """MiB of the worker and of its largest process at the end, and what all grew by from epoch 10 to epoch 100."""
    views_module.KEPT_BYTES = 0
    shards = ImageShards(folder, "train")
    with TrainingViews(shards, RULE, 0, BATCH, BATCH, 0, CPUS) as views:
        for step in range(10 * len(shards) // BATCH):
            views.take(step)
        pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        early = [_resident(pid) for pid in pids]
        for step in range(10 * len(shards) // BATCH, 100 * len(shards) // BATCH):
            views.take(step)
        late = [_resident(pid) for pid in pids]
    return late[0], max(late[1:]), max(b - a for a, b in zip(early, late, strict=True))


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def training_rows(folder: Path) -> list[tuple[str, ...]]:
    """A step with tokens made before, and with crops encoded in it."""
    rows = []
    for depth in (3, 6):
        once, fresh = in_fresh_process(small_steps, depth)
        rows += _pair(f"emoji32, depth {depth}, batch 16", 16, once, fresh)
    once, fresh, a_view = in_fresh_process(large_steps, folder)
    rows += _pair("256 px, depth 4, batch 4", 4, once, fresh)
    extra = (fresh - once) / 4
    for views in (1, 10):
        seconds_an_image = views * a_view
        pays = f"pays after {seconds_an_image / extra:.1f} epochs"
        made = f"256 px, {views} views an image made before"
        rows.append((made, f"{1 / seconds_an_image:.2f}", f"{1e3 * seconds_an_image:.0f}", pays))
    return rows


def _pair(name: str, batch: int, once: float, fresh: float) -> list[tuple[str, ...]]:
    return [
        (f"{name}: once", f"{batch / once:.1f}", f"{1e3 * once:.0f}", ""),
        (f"{name}: every step", f"{batch / fresh:.1f}", f"{1e3 * fresh:.0f}", f"{1 - once / fresh:.0%} is encoding"),
    ]


def decoding_rows(folders: dict[tuple[int, int], Path], images: list[bytes]) -> list[tuple[str, ...]]:
    """Rates of views and of bare loops, the best of two rounds each, so that all meet the same machine."""
    work: dict[str, Callable[[], float]] = {
        "views of 500×375, processes": lambda: in_fresh_process(our_rate, folders[PHOTO])[0],
        "views of 500×375, threads": lambda: in_fresh_process(our_rate, folders[PHOTO], True)[0],
        "views of 384×288, processes": lambda: in_fresh_process(our_rate, folders[STORED])[0],
    }
    for name in decoders():
        work[f"bare loop, {name}"] = functools.partial(bare_rate, name, images, False)
        work[f"bare loop, {name}, resize, crop"] = functools.partial(bare_rate, name, images, True)
    best = dict.fromkeys(work, 0.0)
    for _ in range(2):
        best |= {name: max(best[name], rate()) for name, rate in work.items()}
    fastest = max(rate for name, rate in best.items() if name.startswith("bare") and "resize" in name)
    return [(name, f"{rate:.0f}", f"{1e3 / rate:.1f}", f"{rate / fastest:.2f}") for name, rate in best.items()]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folders, images = {}, photos(PHOTO, PHOTOS)
        for size in (PHOTO, STORED):
            folders[size] = Path(name) / f"{size[0]}"
            folders[size].mkdir()
            write_shards(folders[size], images if size == PHOTO else photos(size, PHOTOS), size)
        print_table(("training", "images/s", "ms a step or image", ""), training_rows(folders[PHOTO]))
        print()
        print_table(("decoding", "images/s", "ms", "of the fastest loop that resizes"), decoding_rows(folders, images))
        few = Path(name) / "few"
        few.mkdir()
        write_shards(few, images[:32], PHOTO)
        first = in_fresh_process(our_rate, few)[1]
        worker, process, grown = in_fresh_process(memory_growth, few)
        print(f"\nfirst batch after {first:.1f} s; worker {worker:.0f} MiB, a process {process:.0f} MiB;"
              f" grown by at most {grown:.1f} MiB from epoch 10 to 100")  # fmt: skip


if __name__ == "__main__":
    with recorded(__file__):
        main()
