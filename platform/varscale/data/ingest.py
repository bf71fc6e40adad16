"""``varscale ingest``: labelled images on disk become Parquet shards with a manifest."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import UnidentifiedImageError

from varscale.data.images import decode, resize_shorter
from varscale.data.schema import IMAGE_SCHEMA, MANIFEST, SPLITS, ImageManifest, Shard, write_manifest
from varscale.data.sources import Source, open_source
from varscale.errors import UserError
from varscale.locations import Location
from varscale.progress import Progress
from varscale.storage import atomic_folder, sha256_file

ROW_GROUP_ROWS = 512
CHUNK = 256


@dataclass(frozen=True)
class IngestOptions:
    """How images are stored."""

    size: int | None = None
    """Shorter side in pixels after Lanczos, re-encoded; None keeps the original bytes."""
    quality: int = 95
    """JPEG quality where a JPEG is re-encoded; PNG stays PNG."""
    shard_mib: int = 256
    """Target size of a shard."""
    val_fraction: float = 0.1
    """Share of images for validation where the source has no splits."""
    strict: bool = False
    """Stop at the first unreadable image instead of listing it."""


def ingest(source: Path, dest: Path, options: IngestOptions) -> ImageManifest:
    """Write ``source`` as shards in ``dest``; ``dest`` appears whole or not at all. Names what it leaves out.

    Raises:
        UserError: unusable source or destination, nothing readable in a split, or, under ``strict``, in an image.
    """
    _check_dest(source, dest)
    images = open_source(source, options.val_fraction)
    classes = images.classes
    with atomic_folder(dest) as folder:
        progress = Progress("ingest", images.listing.num_rows, "images")
        content = hashlib.sha256("\n".join(classes).encode())
        splits: dict[str, tuple[Shard, ...]] = {}
        rejected: dict[str, str] = {}
        counts = {split: [0] * len(classes) for split in SPLITS}
        for split in SPLITS:
            rows = _rows(images, split, options, rejected, progress)
            splits[split] = tuple(
                _write_shards(folder, split, _counted(rows, counts[split]), options.shard_mib, content)
            )
            if not splits[split]:
                raise UserError(f"{source}: split '{split}' holds no readable image")
        manifest = ImageManifest(
            classes=classes,
            splits=splits,
            source=source.name,
            options={"size": options.size, "quality": options.quality, "val_fraction": options.val_fraction},
            counts={split: tuple(counts[split]) for split in SPLITS},
            rejected=len(rejected),
            fingerprint=content.hexdigest(),
            key="",
        )
        write_manifest(Location.of(folder), manifest)
    progress.close()
    for key, reason in rejected.items():
        print(f"left out: {key}: {reason}", file=sys.stderr)
    return manifest


def _check_dest(source: Path, dest: Path) -> None:
    """Only an image data set may be replaced, and never the source."""
    if source.resolve() in (dest.resolve(), *dest.resolve().parents) or dest.resolve() in source.resolve().parents:
        raise UserError(f"{dest}: source and destination are the same or inside each other")
    if dest.exists() and not (dest / MANIFEST).is_file() and (dest.is_file() or any(dest.iterdir())):
        raise UserError(f"{dest}: exists and is no image data set; name a new folder")


def _rows(
    images: Source,
    split: str,
    options: IngestOptions,
    rejected: dict[str, str],
    progress: Progress,
) -> Iterator[dict]:
    first = images.listing["split"].to_pylist().index(split)
    last = first + images.listing["split"].to_pylist().count(split)
    with ThreadPoolExecutor() as pool:  # decoding and encoding release the interpreter lock
        for start in range(first, last, CHUNK):
            stop = min(start + CHUNK, last)
            chunk = images.listing.slice(start, stop - start).to_pylist()
            payloads = images.read(start, stop)
            for image, outcome in zip(chunk, pool.map(lambda p: _prepare(p, options), payloads), strict=True):
                progress.advance(1)
                if isinstance(outcome, str):
                    if options.strict:
                        raise UserError(f"{image['key']}: {outcome} (leave out --strict to list such images and go on)")
                    rejected[image["key"]] = outcome
                    continue
                yield {"key": image["key"], "label": image["label"], **outcome}


def _counted(rows: Iterator[dict], counts: list[int]) -> Iterator[dict]:
    for row in rows:
        counts[row["label"]] += 1
        yield row


def _prepare(payload: bytes, options: IngestOptions) -> dict | str:
    """The image's columns, or the reason why it is rejected."""
    try:
        picture = decode(payload)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        return f"not a readable image: {error}".splitlines()[0].replace(str(io.BytesIO), "bytes")
    if options.size is not None:
        is_jpeg = payload[:2] == b"\xff\xd8"
        picture = resize_shorter(picture, options.size)
        buffer = io.BytesIO()
        if is_jpeg:
            picture.save(buffer, "JPEG", quality=options.quality)
        else:
            picture.save(buffer, "PNG", optimize=True)
        payload = buffer.getvalue()
    return {"image": payload, "width": picture.width, "height": picture.height}


def _write_shards(
    folder: Path, split: str, rows: Iterator[dict], shard_mib: int, content: hashlib._Hash
) -> Iterator[Shard]:
    batch: list[dict] = []
    size = number = 0
    for row in rows:
        content.update(f"{row['key']}\0{row['label']}\0".encode())
        content.update(hashlib.sha256(row["image"]).digest())
        batch.append(row)
        size += len(row["image"])
        if size >= shard_mib * 2**20:
            yield _write_shard(folder, f"{split}-{number:05d}.parquet", batch)
            batch, size, number = [], 0, number + 1
    if batch:
        yield _write_shard(folder, f"{split}-{number:05d}.parquet", batch)


def _write_shard(folder: Path, name: str, rows: list[dict]) -> Shard:
    table = pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)
    # Encoded images do not compress further, and dictionaries of unique values only cost.
    pq.write_table(table, folder / name, compression="none", use_dictionary=False, row_group_size=ROW_GROUP_ROWS)
    return Shard(file=name, rows=len(rows), bytes=(folder / name).stat().st_size, sha256=sha256_file(folder / name))
