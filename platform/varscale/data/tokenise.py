"""``varscale tokenise``: every image is encoded once, in several augmented views, into token shards.

Training then never runs the encoder, which would cost most of a small model's step (VAR.md 9). Ray tasks each encode
a range of images; the manifest, written last, makes the folder a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from varscale.data.images import ViewRule, training_view, validation_view
from varscale.data.loader import ImageShards
from varscale.data.schema import (
    MANIFEST,
    Shard,
    TokenManifest,
    read_image_manifest,
    read_token_manifest,
    token_schema,
    write_manifest,
)
from varscale.data.views import shown_views, validation_batches
from varscale.device import best_device
from varscale.errors import UserError
from varscale.evaluate.features import own_features
from varscale.evaluate.pictures import to_tensor
from varscale.evaluate.reconstruction import measure, save_scale_grid
from varscale.locations import Location
from varscale.models.store import load_model
from varscale.models.vqvae import VQVAE
from varscale.storage import atomic_folder, digest, sha256_file, write_json

REFERENCE = "reference.npz"
QUALITY = "quality.json"
PICTURE = "reconstructions.png"
ENCODE_BATCH = 128
ROW_GROUP_ROWS = 4096
ASSESS_BATCH = 64
SHARD_IMAGES = 2048
"""Images a shard and a task; views multiply its rows."""


@dataclass(frozen=True)
class TokeniseJob:
    """What is encoded, and how."""

    images: Path
    tokenizer: Path
    rule: ViewRule
    views: int
    seed: int
    cpus_per_task: int = 1
    gpus_per_task: int = 0


def token_key(job: TokeniseJob, data_fingerprint: str, tokenizer_fingerprint: str) -> str:
    """Digest of everything the tokens depend on."""
    rule = job.rule
    return digest(
        [data_fingerprint, tokenizer_fingerprint, rule.size, rule.resize_ratio, rule.flip, job.views, job.seed]
    )


def tokenise(job: TokeniseJob, dest: Path, on_images: Callable[[int, int], None]) -> TokenManifest:
    """Encode all images into ``dest``, unless it already holds just these tokens. Ray must be initialised.

    Args:
        on_images: called with the number of image views encoded so far and in all.

    Raises:
        UserError: unusable images or tokenizer, or the two do not fit each other.
    """
    images = read_image_manifest(Location.of(job.images))
    loaded = load_model(job.tokenizer, VQVAE)
    cfg = loaded.model.cfg
    if cfg.image_size != job.rule.size:
        raise UserError(f"{job.tokenizer}: made for {cfg.image_size} px images; data.image_size is {job.rule.size}")
    key = token_key(job, images.fingerprint, loaded.fingerprint)
    if (dest / MANIFEST).is_file() and read_token_manifest(Location.of(dest)).key == key:
        return read_token_manifest(Location.of(dest))
    views = {"train": job.views, "val": 1}
    with atomic_folder(dest) as folder:
        parts = [
            (split, number, start, min(start + SHARD_IMAGES, images.rows(split)))
            for split in ("train", "val")
            for number, start in enumerate(range(0, images.rows(split), SHARD_IMAGES))
        ]
        shards: dict[str, tuple[Shard, ...]] = {"train": (), "val": ()}
        total = sum((stop - start) * views[split] for split, _, start, stop in parts)
        for split, shard in _run(job, folder, parts, on_images, total, views):
            shards[split] = tuple(sorted((*shards[split], shard), key=lambda s: s.file))
        manifest = TokenManifest(
            classes=images.classes,
            splits=shards,
            views=views,
            vocab_size=cfg.vocab_size,
            patch_nums=cfg.patch_nums,
            seed=job.seed,
            data_fingerprint=images.fingerprint,
            tokenizer_fingerprint=loaded.fingerprint,
            key=key,
        )
        write_manifest(Location.of(folder), manifest)
    return manifest


def _run(
    job: TokeniseJob,
    folder: Path,
    parts: list[tuple[str, int, int, int]],
    on_images: Callable[[int, int], None],
    total: int,
    views: dict[str, int],
) -> Iterator[tuple[str, Shard]]:
    """Encode all parts as Ray tasks; a task's results come as they are ready."""
    options = {"num_cpus": job.cpus_per_task, "num_gpus": job.gpus_per_task}
    encode = ray.remote(**options)(_encode_part)
    assess = ray.remote(**options)(_assess_tokenizer)
    pending = {encode.remote(job, folder, *part): part for part in parts}
    assessment = assess.remote(job, folder)
    done = 0
    on_images(done, total)
    while pending:
        ready, _ = ray.wait(list(pending))
        split, _, start, stop = pending.pop(ready[0])
        done += (stop - start) * views[split]
        on_images(done, total)
        yield split, ray.get(ready[0])
    ray.get(assessment)


def _encode_part(job: TokeniseJob, folder: Path, split: str, number: int, start: int, stop: int) -> Shard:
    """One task: rows ``start`` … ``stop`` of a split, all views, into one shard."""
    torch.set_num_threads(job.cpus_per_task)
    device = best_device(job.gpus_per_task)
    shards = ImageShards(job.images, split, start, stop)
    model = load_model(job.tokenizer, VQVAE).model.to(device)
    views = job.views if split == "train" else 1
    rows = [(row, view) for row in range(stop - start) for view in range(views)]
    pieces = []
    for first in range(0, len(rows), ENCODE_BATCH):
        pixels = np.stack([_view(job, shards, split, *pair) for pair in rows[first : first + ENCODE_BATCH]])
        with torch.inference_mode():
            pieces.append(model.tokens(to_tensor(pixels).to(device)).cpu().numpy().astype(np.uint16))
    tokens = np.concatenate(pieces)
    schema = token_schema(tokens.shape[1])
    columns = {
        "key": [shards.key(row) for row, _ in rows],
        "label": [int(shards.labels[row]) for row, _ in rows],
        "view": [view for _, view in rows],
        "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), tokens.shape[1]),
    }
    name = f"{split}-{number:05d}.parquet"
    pq.write_table(pa.table(columns, schema=schema), folder / name, compression="none", row_group_size=ROW_GROUP_ROWS)
    path = folder / name
    return Shard(file=name, rows=len(rows), bytes=path.stat().st_size, sha256=sha256_file(path))


def _view(job: TokeniseJob, shards: ImageShards, split: str, row: int, view: int) -> np.ndarray:
    encoded = shards.encoded(row)
    if split == "train":
        return training_view(encoded, job.rule, job.seed, shards.key(row), view)
    return validation_view(encoded, job.rule)


def _assess_tokenizer(job: TokeniseJob, folder: Path) -> None:
    """One task: the tokenizer's quality on validation images, and the moments samples are compared with."""
    torch.set_num_threads(job.cpus_per_task)
    device = best_device(job.gpus_per_task)
    model = load_model(job.tokenizer, VQVAE).model.to(device)
    shards = ImageShards(job.images, "val")
    batches = validation_batches(shards, job.rule, len(shards), ASSESS_BATCH)
    result = measure(model, batches, device, own_features(model))
    assert result.reference is not None  # a feature space was given
    result.reference.save(folder / REFERENCE)
    write_json(folder / QUALITY, result.facts())
    save_scale_grid(folder / PICTURE, model, shown_views(shards, job.rule), device)
