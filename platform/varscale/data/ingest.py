"""``varscale ingest``: labelled images become Parquet shards with a manifest.

What goes into which shard is planned from the source's listing alone, so a shard is a function of source and options,
and it does not matter who makes it, when, or after how many interruptions. Shards are Ray tasks where Ray is up. A task
streams: images are read, prepared and written a row group at a time, so memory does not grow with the shard.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varscale.data.assembly import Assembly, check_apart, clear
from varscale.data.fingerprint import MODULUS, content_fingerprint, row_digest
from varscale.data.images import ImageError, decode, encode, inspect, is_jpeg, resize_shorter
from varscale.data.parallel import each
from varscale.data.schema import IMAGE_SCHEMA, MANIFEST, REJECTS, SPLITS, ImageManifest, Shard, read_image_manifest
from varscale.data.sources import Source, open_source
from varscale.errors import UserError
from varscale.identity import Facts, facts, image_key
from varscale.interruption import stage
from varscale.locations import AnyPath, Location
from varscale.progress import Progress, say
from varscale.spec.marks import WHERE

PILOT_RUNS, PILOT_RUN = 8, 8
"""Images of a split that are re-encoded to learn how large they become: runs of neighbours, evenly spread."""
SHARDS_AT_LEAST = 8
"""Even a small split has so many shards, for as many CPUs, unless they would hold fewer than SHARD_ROWS_AT_LEAST."""
SHARD_ROWS_AT_LEAST = 64
GROUP_BYTES = 2**20
"""Target size of a row group, the least that a reader of one image reads."""
GROUP_ROWS = (8, 1024)
"""Least and most rows of a row group."""
SHOWN_REASONS = 5
SMALL_BYTES = 32 * 2**20


@dataclass(frozen=True)
class IngestOptions:
    """How images are stored."""

    size: int | None = None
    """Shorter side in pixels after Lanczos, re-encoded; None keeps the original bytes."""
    quality: int = 95
    """JPEG quality, without chroma subsampling, where a JPEG is re-encoded; everything else becomes PNG."""
    shard_mib: int = 256
    """Target size of a shard."""
    val_fraction: float = 0.1
    """Share of images for validation where the source has no splits."""
    strict: Annotated[bool, WHERE] = False
    """Stop at the first unusable image instead of listing it."""

    def recorded(self) -> Facts:
        """The options that change what is made."""
        return facts(self) | ({"quality": None} if self.size is None else {})


@dataclass(frozen=True)
class ImagePart:
    """One shard to be made: rows ``start`` … ``stop``-1 of the source's listing."""

    file: str
    split: str
    start: int
    stop: int
    group_rows: int


@dataclass(frozen=True)
class IngestJob:
    """An ingest that has its destination; what all its parts share."""

    source: Source
    name: str
    """Name of the source."""
    assembly: Assembly
    options: IngestOptions
    key: str
    finished: ImageManifest | None
    """What stands at the destination already, if it is just this."""

    @property
    def is_small(self) -> bool:
        """Whether it is made sooner than Ray starts."""
        return self.finished is not None or pc.sum(self.source.listing["size"]).as_py() < SMALL_BYTES


@dataclass
class Receipt:
    """What is known of a finished shard; JSON of its fields lies beside it until the data set is whole."""

    counts: list[int]
    """Images by label."""
    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    fingerprint: int = 0
    """Sum of the rows' digests."""
    rejects: list[tuple[str, str, str]] = field(default_factory=list)
    """Key, class and reason of each image left out."""


def ingest(source: AnyPath, dest: AnyPath, options: IngestOptions) -> ImageManifest:
    """Make ``source`` an image data set at ``dest``: as Ray tasks where Ray is up, else in this process.

    An interrupted ingest goes on where it stopped and ends with the same bytes as one that was not. What is left out
    is listed in ``rejects.csv`` and summed up on stderr.

    Raises:
        UserError: unusable source or destination, no usable image in a split, or, under ``strict``, an unusable image.
        EnvironmentalError: the destination cannot be written.
    """
    return finish_ingest(begin_ingest(source, dest, options))


def begin_ingest(source: AnyPath, dest: AnyPath, options: IngestOptions, opened: Source | None = None) -> IngestJob:
    """List the source and claim the destination; raises as :func:`ingest`.

    Args:
        opened: the listing of ``source``, if it was made before.
    """
    place, folder = Location.of(source), Location.of(dest)
    check_apart(place, folder)
    opened = opened or open_source(place, options.val_fraction)
    for note in opened.notes:
        say(note)
    key = image_key(options.recorded(), ImageManifest.model_fields["format"].default, opened.digest())
    finished = read_image_manifest(folder) if (folder / MANIFEST).is_file() else None
    if finished is None or finished.key != key:
        return IngestJob(opened, place.name, Assembly.begin(folder, key), options, key, None)
    _check_finished(folder, finished, options)
    clear(folder)
    say(f"{folder}: holds just these images already; nothing to do")
    return IngestJob(opened, place.name, Assembly(folder), options, key, finished)


def _check_finished(folder: Location, manifest: ImageManifest, options: IngestOptions) -> None:
    """A finished data set counts as done only with all its files, and under ``strict`` with no image left out."""
    sizes = folder.files()
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        if sizes.get(shard.file) != shard.bytes:
            raise UserError(
                f"{folder / shard.file}: missing, or not of {shard.bytes:,} bytes as the manifest says; remove the"
                " folder and run again"
            )
    if options.strict and manifest.rejected:
        raise UserError(f"{folder}: made before with {manifest.rejected:,} images left out, see {REJECTS} there")


def finish_ingest(job: IngestJob) -> ImageManifest:
    """Make what is missing; raises as :func:`ingest`."""
    if job.finished:
        return job.finished
    made = _make_missing(job, plan_parts(job))
    _write_rejects(job.assembly.dest, made)
    manifest = _manifest(job, made)
    job.assembly.finish(manifest)
    return manifest


def plan_parts(job: IngestJob) -> list[ImagePart]:
    """The shards to make, in order: from the listing and, under ``size``, a pilot that is the same every time."""
    parts = []
    for split, start, stop in _ranges(job.source):
        mean = _mean_bytes(job, start, stop)
        most = max(SHARD_ROWS_AT_LEAST, -(-(stop - start) // SHARDS_AT_LEAST))
        shard_rows = min(most, max(SHARD_ROWS_AT_LEAST, int(job.options.shard_mib * 2**20 / mean)))
        group_rows = min(max(GROUP_ROWS[0], int(GROUP_BYTES / mean)), GROUP_ROWS[1])
        for number, first in enumerate(range(start, stop, shard_rows)):
            last = min(first + shard_rows, stop)
            parts.append(ImagePart(f"{split}-{number:05d}.parquet", split, first, last, group_rows))
    return parts


def _ranges(source: Source) -> list[tuple[str, int, int]]:
    """Each split with its rows of the listing, which stand together."""
    counts = Counter(source.listing["split"].to_pylist())
    ends = np.cumsum([counts[split] for split in SPLITS]).tolist()
    return [(split, end - counts[split], end) for split, end in zip(SPLITS, ends, strict=True)]


def _mean_bytes(job: IngestJob, start: int, stop: int) -> float:
    """Bytes that an image of these rows will take, at least 1."""
    if job.options.size is not None and stop > start:
        run = min(PILOT_RUN, stop - start)
        firsts = sorted({int(first) for first in np.linspace(start, stop - run, PILOT_RUNS)})
        sizes = [size for _, part in each(_pilot, job, [(first, first + run) for first in firsts]) for size in part]
        if sizes:
            return sum(sizes) / len(sizes)
    return max(1.0, pc.mean(job.source.listing["size"].slice(start, stop - start)).as_py() or 0)


def _pilot(job: IngestJob, rows: tuple[int, int]) -> list[int]:
    """Bytes of each of these images, re-encoded."""
    sizes = []
    for encoded in job.source.read(*rows):
        with suppress(ImageError):  # it will be listed when its turn comes
            sizes.append(len(prepare(encoded, job.options)[0]))
    return sizes


def _make_missing(job: IngestJob, parts: list[ImagePart]) -> list[tuple[ImagePart, Receipt]]:
    """Make the parts that have no receipt yet; return the receipts of all, in their order."""
    sizes = job.assembly.dest.files()
    receipts = {name: Receipt(**facts) for name, facts in job.assembly.receipts().items()}
    noted = {name: it for name, it in receipts.items() if sizes.get(name, 0) == (it.bytes if it.rows else 0)}
    for receipt in noted.values():
        if job.options.strict and receipt.rejects:
            key, _, reason = receipt.rejects[0]
            raise _unusable(key, reason)
    done = sum(part.stop - part.start for part in parts if part.file in noted)
    progress = Progress("ingest", sum(part.stop - part.start for part in parts), "images", done)
    with stage(progress.title, progress.standing):
        for part, receipt in each(_make_shard, job, [part for part in parts if part.file not in noted]):
            noted[part.file] = receipt
            progress.advance(part.stop - part.start)
    progress.close()
    return [(part, noted[part.file]) for part in parts]


def _make_shard(job: IngestJob, part: ImagePart) -> Receipt:
    """Write one shard and its receipt."""
    receipt = Receipt(counts=[0] * len(job.source.classes))
    shard = job.assembly.dest / part.file
    with shard.written() as stream:
        sink = _Sink(stream)
        _write_rows(sink, _rows(job, part, receipt), part.group_rows)
    if receipt.rows == 0:
        shard.remove()
    receipt.bytes, receipt.sha256 = sink.size, sink.content.hexdigest()
    job.assembly.note(part.file, vars(receipt))
    return receipt


def _write_rows(sink: _Sink, rows: Iterator[tuple[Any, ...]], group_rows: int) -> None:
    # Encoded images do not compress further, and dictionaries of unique values only cost.
    with pq.ParquetWriter(
        sink,
        IMAGE_SCHEMA,
        compression="none",
        use_dictionary=False,
        write_statistics=["key", "label"],
        write_page_checksum=True,
    ) as writer:
        while group := list(islice(rows, group_rows)):
            columns = zip(*group, strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, IMAGE_SCHEMA.types, strict=True)]
            writer.write_table(pa.table(arrays, schema=IMAGE_SCHEMA), row_group_size=group_rows)


def _rows(job: IngestJob, part: ImagePart, receipt: Receipt) -> Iterator[tuple[Any, ...]]:
    """A shard's rows in the order of the schema; each is counted in the receipt, or its reject."""
    listed = job.source.listing.slice(part.start, part.stop - part.start)
    names = zip(listed["key"].to_pylist(), listed["label"].to_pylist(), strict=True)
    images = _read_ahead(job.source.read(part.start, part.stop), part.group_rows)
    for (key, label), encoded in zip(names, images, strict=True):
        try:
            image, width, height = prepare(encoded, job.options)
        except ImageError as error:
            if job.options.strict:
                raise _unusable(key, str(error)) from error
            receipt.rejects.append((key, job.source.classes[label], str(error)))
            continue
        receipt.rows += 1
        receipt.counts[label] += 1
        receipt.fingerprint = (receipt.fingerprint + row_digest(part.split, key, label, image)) % MODULUS
        yield key, label, image, width, height


def _read_ahead(images: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The same images; a thread reads the next ``count`` while these are prepared and written."""

    def take() -> list[bytes]:
        return list(islice(images, count))

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(take)
        while group := ahead.result():
            ahead = pool.submit(take)
            yield from group


def _unusable(key: str, reason: str) -> UserError:
    return UserError(f"{key}: {reason} (leave out --strict to list such images and go on)")


def prepare(encoded: bytes, options: IngestOptions) -> tuple[bytes, int, int]:
    """The bytes that are stored of an image, its width and its height, upright.

    Without ``size`` the bytes stay as they are; that their header can be read and their end is there is checked, not
    their pixels: that is the work of ``varscale data verify``.

    Raises:
        ImageError: the image cannot be used.
    """
    if options.size is None:
        header = inspect(encoded)
        return encoded, header.width, header.height
    picture = resize_shorter(decode(encoded, options.size), options.size)
    return encode(picture, is_jpeg(encoded), options.quality), picture.width, picture.height


class _Sink:
    """A stream to write to that knows its content's size and digest, so that a shard is not read back for them."""

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self.content = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write, and take note."""
        self._stream.write(data)
        self.content.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes written."""
        return self.size

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """The stream is closed by who opened it."""


def _write_rejects(dest: Location, made: list[tuple[ImagePart, Receipt]]) -> None:
    """List what was left out in ``rejects.csv``, if anything was, and sum it up on stderr."""
    rejects = [(key, part.split, *why) for part, receipt in made for key, *why in receipt.rejects]
    if rejects:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([("key", "split", "class", "reason"), *rejects])
        (dest / REJECTS).write_bytes(text.getvalue().encode())
        reasons = Counter(reason for *_, reason in rejects).most_common()
        shown = "; ".join(f"{count:,} × {reason}" for reason, count in reasons[:SHOWN_REASONS])
        more = f"; {len(reasons) - SHOWN_REASONS} other reasons" if len(reasons) > SHOWN_REASONS else ""
        say(f"left out: {len(rejects):,} images ({shown}{more}); each has a line in {dest / REJECTS}")


def _manifest(job: IngestJob, made: list[tuple[ImagePart, Receipt]]) -> ImageManifest:
    splits: dict[str, tuple[Shard, ...]] = {}
    counts: dict[str, tuple[int, ...]] = {}
    for split in SPLITS:
        held = [(part.file, receipt) for part, receipt in made if part.split == split and receipt.rows]
        if not held:
            raise UserError(f"{job.name}: split '{split}' holds no usable image")
        splits[split] = tuple(Shard(file=file, rows=r.rows, bytes=r.bytes, sha256=r.sha256) for file, r in held)
        counts[split] = tuple(np.sum([receipt.counts for _, receipt in held], axis=0).tolist())
    return ImageManifest(
        classes=job.source.classes,
        splits=splits,
        counts=counts,
        source=job.name,
        options=job.options.recorded(),
        rejected=sum(len(receipt.rejects) for _, receipt in made),
        fingerprint=content_fingerprint(job.source.classes, sum(receipt.fingerprint for _, receipt in made)),
        key=job.key,
    )
