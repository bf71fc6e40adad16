"""What a tokenise actor does: it holds the tokenizer, and turns part after part of an image data set into token shards.

While the device encodes a batch, threads read, decode and crop the next one. Batches are cut from the beginning of
each part, so a part comes out the same whoever makes it, and when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow as pa
import torch

from varscale.data.assembly import Assembly
from varscale.data.cache import CACHE_BYTES
from varscale.data.images import ImageError, ViewRule, random_crop, resized, validation_view
from varscale.data.loader import ImageShards
from varscale.data.manifests import ImageSet
from varscale.data.schema import Shard, token_schema
from varscale.device import best_device
from varscale.errors import UserError
from varscale.metrics.pictures import to_tensor
from varscale.models.store import load_model
from varscale.models.tokenizer_file import TokenizerFile
from varscale.models.vqvae import VQVAE
from varscale.spec.marks import CONTENT, WHERE

ASSESSMENT = "assessment"
"""The part that is no shard: what ``Assess`` makes of the validation images."""
BATCH = 128
BATCH_PIXELS = 2**21
"""Views of 256 px are encoded 32 at once: a map of 160 channels over them takes 1.3 GB."""

T = TypeVar("T")
Assess = Callable[[VQVAE, ImageShards, ViewRule, Iterator[np.ndarray]], dict[str, bytes]]
"""Tokenizer, validation images, rule, centre views uint8 [B, 3, S, S] of them all -> files by name, to stand beside the
shards. Given from above: judging is no business of the data."""


@dataclass(frozen=True)
class TokeniseJob:
    """What is encoded, and how."""

    images: Annotated[ImageSet, CONTENT]
    tokenizer: Annotated[TokenizerFile, CONTENT]
    rule: ViewRule
    views: int
    """Augmented views of each training image; 0 leaves that split out. A validation image has one, its centre."""
    seed: int
    cpus_per_actor: Annotated[int, WHERE] = 1
    gpus_per_actor: Annotated[float, WHERE] = 0
    """A fraction lets several actors share a GPU."""
    cache_bytes: Annotated[int, WHERE] = CACHE_BYTES
    """Most that a node's copies of shards in object storage may take."""

    def views_of(self, split: str) -> int:
        """Number of views per image of this split."""
        return self.views if split == "train" else 1


@dataclass(frozen=True)
class TokenPart:
    """Images ``start`` … ``stop``-1 of a split, and the shard they become, or ``ASSESSMENT``."""

    file: str
    split: str
    start: int
    stop: int


class PartEncoder:
    """Makes parts, one after another; a Ray actor, or where Ray is down a plain object."""

    def __init__(self, job: TokeniseJob, assembly: Assembly, assess: Assess) -> None:
        torch.set_num_threads(job.cpus_per_actor)
        self._job, self._assembly, self._assess = job, assembly, assess
        self._device = best_device(int(job.gpus_per_actor > 0))
        self._threads = ThreadPoolExecutor(job.cpus_per_actor)  # decoding releases the interpreter lock
        self._batch = max(1, min(BATCH, BATCH_PIXELS // job.rule.size**2))

    @cached_property
    def _model(self) -> VQVAE:
        """Loaded by the first part, not by the constructor, whose errors Ray would bury."""
        tokenizer = self._job.tokenizer
        return load_model(tokenizer.path, VQVAE, tokenizer.cfg.patch_nums).model.to(self._device)

    def make(self, part: TokenPart) -> dict[str, Any]:
        """Write a part's files, then its receipt; return the receipt: each file as a ``Shard``.

        Raises:
            UserError: an image that cannot be read or decoded, named by file, row and key.
            EnvironmentalError: the destination cannot be written.
        """
        contents = self._assessment(part) if part.file == ASSESSMENT else {part.file: self._shard(part)}
        rows = (part.stop - part.start) * self._job.views_of(part.split)
        receipt = {}
        for name, content in contents.items():
            (self._assembly.dest / name).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            receipt[name] = Shard(file=name, rows=rows, bytes=len(content), sha256=sha256).model_dump()
        self._assembly.note(part.file, receipt)
        return receipt

    def _shard(self, part: TokenPart) -> bytes:
        """The content of a shard: one record batch."""
        images = ImageShards(self._job.images.folder, part.split, part.start, part.stop, self._job.cache_bytes)
        views = self._job.views_of(part.split)
        tokens = np.concatenate([self._tokens(pixels) for pixels in one_ahead(self._pixels(images, part))])
        keys = [images.key(row) for row in range(len(images))]
        schema = token_schema(tokens.shape[1])
        columns = [
            pa.array([key for key in keys for _ in range(views)], pa.string()),
            pa.array(np.repeat(images.labels, views), pa.int32()),
            pa.array(np.tile(np.arange(views), len(images)), pa.int32()),
            pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), type=schema.field("tokens").type),
        ]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        return sink.getvalue().to_pybytes()

    def _tokens(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [B, 3, S, S] -> uint16 [B, L]."""
        with torch.inference_mode():
            return self._model.tokens(to_tensor(pixels).to(self._device)).cpu().numpy().astype(np.uint16)

    def _pixels(self, images: ImageShards, part: TokenPart) -> Iterator[np.ndarray]:
        """Views uint8 [≤ batch, 3, S, S] of a part's images, in order."""
        at_once = max(1, self._batch // self._job.views_of(part.split))
        for first in range(0, len(images), at_once):
            rows = range(first, min(first + at_once, len(images)))
            encoded = [(row, images.encoded(row)) for row in rows]  # here and not by the threads: files lie in order
            views = np.concatenate(list(self._threads.map(lambda of: self._views(images, part.split, *of), encoded)))
            for start in range(0, len(views), self._batch):
                yield views[start : start + self._batch]

    def _views(self, images: ImageShards, split: str, row: int, encoded: bytes) -> np.ndarray:
        """All views uint8 [views, 3, S, S] of an image, which is decoded and resized once."""
        job = self._job
        try:
            if split != "train":
                return validation_view(encoded, job.rule)[None]
            image = resized(encoded, job.rule)
        except ImageError as error:
            raise UserError(f"{images.place(row)}: not a readable image: {error}") from error
        key = images.key(row)
        return np.stack([random_crop(image, job.rule, job.seed, key, view) for view in range(job.views)])

    def _assessment(self, part: TokenPart) -> dict[str, bytes]:
        images = ImageShards(self._job.images.folder, part.split, cache_bytes=self._job.cache_bytes)
        return self._assess(self._model, images, self._job.rule, one_ahead(self._pixels(images, part)))


def one_ahead(batches: Iterator[T]) -> Iterator[T]:
    """The same batches, each made by a thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch
