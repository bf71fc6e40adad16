"""``varscale tokenise``: every image is encoded once, in several augmented views, into token shards.

Training then never runs the encoder, which would cost most of a small model's step (docs/MODEL.md 7). Ray actors
hold the tokenizer and take parts as they finish; each part is a shard that appears whole, and what is killed and
started again goes on with the parts that are missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from varscale import identity
from varscale.data.assembly import Assembly, clear
from varscale.data.encoder import ASSESSMENT, Assess, PartEncoder, TokeniseJob, TokenPart
from varscale.data.parallel import each
from varscale.data.schema import (
    MANIFEST,
    SPLITS,
    Shard,
    TokenManifest,
    read_token_manifest,
)
from varscale.data.shard_opening import as_image_shard, check_labels, read_failure
from varscale.errors import UserError
from varscale.interruption import stage
from varscale.locations import Location
from varscale.progress import Progress, say

SHARD_BYTES = 64 * 2**20
"""No shard is larger, unless its keys are very long."""
ROW_OVERHEAD = 64
"""Bytes taken for a row's key, label and view."""
FEWEST_PARTS = 8
"""A split is cut in so many at least: small sets, too, keep several actors busy and lose little when killed."""
LARGEST_VOCABULARY = 2**16
"""Tokens are stored in two bytes."""
FEWEST_VALIDATION = 2
"""Images whose features have a covariance."""


def token_key(job: TokeniseJob) -> str:
    """Digest of everything the tokens depend on."""
    layout, tokenizer = TokenManifest.model_fields["format"].default, job.tokenizer
    data = job.images.manifest.fingerprint
    return identity.token_key(job, layout, data, tokenizer.fingerprint, tokenizer.cfg.patch_nums)


@dataclass(frozen=True)
class TokensBegun:
    """Tokens that have their destination."""

    job: TokeniseJob
    key: str
    assembly: Assembly
    finished: TokenManifest | None
    """What stands at the destination already, if it is just these tokens."""


def tokenise(job: TokeniseJob, dest: Location, assess: Assess) -> TokenManifest:
    """Encode all images into ``dest``, unless it holds just these tokens already, with the files of ``assess`` beside.

    Raises:
        UserError: unusable images, images and tokenizer do not fit each other, or ``dest`` holds something else.
        EnvironmentalError: ``dest`` cannot be written.
    """
    return finish_tokens(begin_tokens(job, dest), assess)


def begin_tokens(job: TokeniseJob, dest: Location) -> TokensBegun:
    """Compare images and tokenizer, and claim the destination; raises as :func:`tokenise`."""
    _check_tokenizer(job)
    key = token_key(job)
    finished = _finished(dest, key)
    return TokensBegun(job, key, Assembly(dest) if finished else Assembly.begin(dest, key), finished)


def finish_tokens(begun: TokensBegun, assess: Assess) -> TokenManifest:
    """Make what is missing; raises as :func:`tokenise`."""
    if begun.finished:
        return begun.finished
    job, assembly = begun.job, begun.assembly
    try:
        _check_images(job)
    except UserError:
        if not assembly.receipts():
            clear(assembly.dest)  # so that mended images, which are others, may become tokens here
        raise
    receipts = _make_missing(job, assembly, plan_token_parts(job), assess)
    manifest = TokenManifest(
        classes=job.images.manifest.classes,
        splits={split: _shards(receipts, split) for split in SPLITS},
        views={split: job.views_of(split) for split in SPLITS},
        vocab_size=job.tokenizer.cfg.vocab_size,
        patch_nums=job.tokenizer.cfg.patch_nums,
        image_size=job.rule.size,
        resize_ratio=job.rule.resize_ratio,
        flip=job.rule.flip,
        seed=job.seed,
        data_fingerprint=job.images.manifest.fingerprint,
        tokenizer_fingerprint=job.tokenizer.fingerprint,
        key=begun.key,
    )
    assembly.finish(manifest)
    return manifest


def plan_token_parts(job: TokeniseJob) -> list[TokenPart]:
    """The assessment, then the shards to make: a function of the images' number and their views alone."""
    images, length = job.images.manifest, sum(p * p for p in job.tokenizer.cfg.patch_nums)
    parts = [TokenPart(ASSESSMENT, "val", 0, images.rows("val"))]
    for split in SPLITS:
        rows, views = images.rows(split), job.views_of(split)
        if not views:
            continue
        at_most = SHARD_BYTES // (views * (2 * length + ROW_OVERHEAD))
        images_per_shard = max(1, min(at_most, rows // FEWEST_PARTS))
        for number, start in enumerate(range(0, rows, images_per_shard)):
            parts.append(TokenPart(f"{split}-{number:05d}.arrow", split, start, min(start + images_per_shard, rows)))
    return parts


def _finished(dest: Location, key: str) -> TokenManifest | None:
    """The manifest of just these tokens, if they are all there."""
    if not (dest / MANIFEST).is_file():
        return None
    manifest = read_token_manifest(dest)
    if manifest.key != key:
        return None
    clear(dest)
    return manifest


def _make_missing(job: TokeniseJob, assembly: Assembly, parts: list[TokenPart], assess: Assess) -> dict[str, Any]:
    """Make the parts that have no receipt yet, and tell how far it is; return the receipts of all, by name."""
    there = assembly.dest.files()
    receipts = {
        name: receipt
        for name, receipt in assembly.receipts().items()
        if all(there.get(file) == facts["bytes"] for file, facts in receipt.items())
    }
    missing = [part for part in parts if part.file not in receipts]
    views = {part: 0 if part.file == ASSESSMENT else _view_count(job, part) for part in parts}
    total = sum(views.values())
    progress = Progress("tokens", total, "views", total - sum(views[part] for part in missing))
    with stage(progress.title, progress.standing):
        for part, receipt in _make_parts(job, assembly, missing, assess):
            receipts[part.file] = receipt
            progress.advance(views[part])
    progress.close()
    return receipts


def _view_count(job: TokeniseJob, part: TokenPart) -> int:
    return (part.stop - part.start) * job.views_of(part.split)


def _shards(receipts: dict[str, Any], split: str) -> tuple[Shard, ...]:
    names = sorted(name for name in receipts if name.startswith(f"{split}-"))
    return tuple(Shard(**receipts[name][name]) for name in names)


def _make_parts(
    job: TokeniseJob, assembly: Assembly, parts: list[TokenPart], assess: Assess
) -> Iterator[tuple[TokenPart, dict[str, Any]]]:
    """Make parts, in the order in which they end: by as many actors as fit, or here where Ray is down."""
    if not ray.is_initialized():
        encoder = PartEncoder(job, assembly, assess)
        for part in parts:
            yield part, encoder.make(part)
        return
    actor = ray.remote(num_cpus=job.cpus_per_actor, num_gpus=job.gpus_per_actor)(PartEncoder)
    idle = [actor.remote(job, assembly, assess) for _ in range(min(_actors_that_fit(job), len(parts)))]
    waiting = list(reversed(parts))
    running: dict[Any, tuple[Any, TokenPart]] = {}
    while waiting or running:
        while waiting and idle:
            encoder, part = idle.pop(), waiting.pop()
            running[encoder.make.remote(part)] = encoder, part
        (ready,), _ = ray.wait(list(running))
        encoder, part = running.pop(ready)
        idle.append(encoder)
        yield part, ray.get(ready)


def _actors_that_fit(job: TokeniseJob) -> int:
    """Actors that the nodes have room for, at least one even if others use them now."""
    wanted = {"CPU": job.cpus_per_actor, "GPU": job.gpus_per_actor}
    nodes = [_times(wanted, node["Resources"]) for node in ray.nodes() if node["Alive"]]
    if not any(nodes):
        raise UserError(
            f"tokenise: an actor is to take {job.cpus_per_actor} CPU and {job.gpus_per_actor:g} GPU; no node of this"
            " cluster has so many"
        )
    return max(1, min(sum(nodes), _times(wanted, ray.available_resources())))


def _times(wanted: dict[str, float], offered: dict[str, float]) -> int:
    """How often ``wanted`` goes into ``offered``."""
    return min(math.floor(offered.get(kind, 0) / share + 1e-6) for kind, share in wanted.items() if share)


def _check_tokenizer(job: TokeniseJob) -> None:
    path, cfg = job.tokenizer.path, job.tokenizer.cfg
    if cfg.image_size != job.rule.size:
        raise UserError(f"{path}: made for {cfg.image_size} px images; data.image_size is {job.rule.size}")
    if cfg.vocab_size > LARGEST_VOCABULARY:
        raise UserError(f"{path}: has {cfg.vocab_size:,} codes; token shards hold {LARGEST_VOCABULARY:,}")


@dataclass(frozen=True)
class _Small:
    """Images of a shard that a view would enlarge."""

    images: int
    example: str
    """The smallest: key and shorter side."""
    side: int


def _check_images(job: TokeniseJob) -> None:
    """Read every image shard once before hours of work; tell of images smaller than the view.

    Raises:
        UserError: a shard that is not what the manifest says; too few images; most of them smaller than the view.
    """
    folder, manifest = job.images.folder, job.images.manifest
    fewest = {"train": 1, "val": FEWEST_VALIDATION}
    for split in SPLITS:
        rows = sum(shard.rows for shard in manifest.splits.get(split, ()))
        if rows < fewest[split]:
            raise UserError(f"{folder}: split '{split}' has {rows} images; wanted at least {fewest[split]}")
    shards = [shard for split in SPLITS if job.views_of(split) for shard in manifest.splits[split]]
    shared = (folder, job.rule.size, len(manifest.classes))
    small = [found for _, found in each(_check_shard, shared, shards) if found.images]
    count, total = sum(found.images for found in small), sum(shard.rows for shard in shards)
    if count:
        least = min(small, key=lambda found: (found.side, found.example))
        text = (
            f"{folder}: {count:,} of {total:,} images are smaller than the view of {job.rule.size} px, e.g."
            f" '{least.example}' with a shorter side of {least.side} px"
        )
        if 2 * count > total:
            raise UserError(f"{text}; wanted images that most views need not enlarge")
        say(f"{text}; they are enlarged")


def _check_shard(shared: tuple[Location, int, int], shard: Shard) -> _Small:
    """One task: a shard's bytes against the manifest, its labels against the classes, its sides against the view."""
    folder, side, classes = shared
    place = folder / shard.file
    size = place.size()
    if size != shard.bytes:
        raise UserError(f"{place}: {size:,} bytes; the manifest says {shard.bytes:,}")
    if folder.local and place.sha256() != shard.sha256:  # copies from elsewhere are compared as they are made
        raise UserError(f"{place}: its checksum is not the manifest's; the file was changed or damaged")
    try:
        with place.open() as stream:
            table = as_image_shard(stream, place, shard).read(["key", "label", "width", "height"])
    except (OSError, pa.ArrowException) as error:
        raise read_failure(str(place), error) from error
    check_labels(place, table["label"].fill_null(-1).to_numpy(), classes)
    shorter = np.minimum(table["width"].to_numpy(), table["height"].to_numpy())
    least = int(shorter.argmin())
    return _Small(int((shorter < side).sum()), table["key"][least].as_py(), int(shorter[least]))
