"""A data set at a glance: one picture with a row of images for each of some classes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from varscale.data.cards.columns import Columns, group_images
from varscale.data.cards.images import ImageCard, evenly
from varscale.data.images import decode
from varscale.errors import UserError
from varscale.locations import Location

CLASSES, IMAGES = 8, 12
SIDE, GAP, MARGIN = 96, 6, 16
TITLE_SIZE, NAME_SIZE, SMALL_SIZE, LINE = 20, 15, 13, 20
TOP = MARGIN + TITLE_SIZE + SMALL_SIZE + 3 * GAP
NAME_WIDTH = 200
"""For the names of classes; all of these in pixels."""
NAME_LINES = 3
INK, FAINT, BOX = (20, 20, 20), (110, 110, 110), (240, 240, 240)


def contact_sheet(dest: Location, card: ImageCard) -> bytes:
    """The picture, a PNG.

    Raises:
        UserError: a shard cannot be read, or an image to be shown does not decode.
    """
    counts = card.manifest.counts
    split = max(counts, key=lambda name: sum(counts[name]))
    held = np.flatnonzero(counts[split]).tolist()
    labels = [held[i] for i in evenly(len(held), CLASSES)]
    width = MARGIN + NAME_WIDTH + IMAGES * (SIDE + GAP) - GAP + MARGIN
    sheet = Image.new("RGB", (width, TOP + len(labels) * (SIDE + GAP) - GAP + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    _write_title(draw, dest.name, card, f"{len(labels)} of {len(held)} classes, from {split}")
    for line, label in enumerate(labels):
        top = TOP + line * (SIDE + GAP)
        name = _wrapped(card.manifest.classes[label], NAME_SIZE, NAME_LINES)
        middle = top + (SIDE - LINE * (len(name) + 1)) // 2
        for i, words in enumerate(name):
            _write(draw, (MARGIN, middle + i * LINE), words, NAME_SIZE, INK, NAME_WIDTH - GAP)
        below = (MARGIN, middle + len(name) * LINE)
        _write(draw, below, f"{counts[split][label]:,} in {split}", SMALL_SIZE, FAINT, NAME_WIDTH - GAP)
        for column, image in enumerate(_images(dest, card.columns[split], label)):
            sheet.paste(_boxed(image), (MARGIN + NAME_WIDTH + column * (SIDE + GAP), top))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _write_title(draw: ImageDraw.ImageDraw, name: str, card: ImageCard, shown: str) -> None:
    manifest = card.manifest
    rows = {split: manifest.rows(split) for split in manifest.splits}
    title = f"{name}: {sum(rows.values()):,} images of {len(manifest.classes):,} classes"
    below = ", ".join(f"{count:,} {split}" for split, count in rows.items()) + f". Shown: {shown}"
    room = IMAGES * (SIDE + GAP) + NAME_WIDTH
    _write(draw, (MARGIN, MARGIN), title, TITLE_SIZE, INK, room)
    _write(draw, (MARGIN, MARGIN + TITLE_SIZE + GAP), below, SMALL_SIZE, FAINT, room)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _wrapped(name: str, size: int, most: int) -> list[str]:
    """A class's name in at most ``most`` lines; the last one holds whatever is left."""
    font, lines = _font(size), [""]
    for word in name.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(lines) < most and font.getlength(longer) > NAME_WIDTH - GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], line: str, size: int, ink: tuple[int, int, int], room: int
) -> None:
    """A line of text, its end left out if it is wider than ``room`` pixels."""
    font, kept = _font(size), len(line)
    while kept and font.getlength(line[:kept] + "…") > room:
        kept -= 1
    draw.text(place, line if font.getlength(line) <= room else line[:kept] + "…", ink, font)


def _images(dest: Location, columns: list[Columns], label: int) -> Iterator[Image.Image]:
    """Images of a class from as few row groups as hold enough of it: each is read whole."""
    held = {(i, group): rows for i, column in enumerate(columns) for group, rows in _rows_by_group(column, label)}
    fullest = sorted(held, key=lambda place: -len(held[place]))
    enough = int(np.searchsorted(np.cumsum([len(held[place]) for place in fullest]), IMAGES)) + 1
    candidates = [(place, row) for place in sorted(fullest[:enough]) for row in held[place]]
    chosen = [candidates[i] for i in evenly(len(candidates), IMAGES)]
    for place in sorted({place for place, _ in chosen}):
        shard = columns[place[0]].shard
        images = group_images(dest, shard, place[1])
        for row in (row for of, row in chosen if of == place):
            yield _decoded(images[row].as_py(), f"{dest / shard.file} row group {place[1]} row {row}")


def _rows_by_group(columns: Columns, label: int) -> Iterator[tuple[int, list[int]]]:
    """Row groups that hold a class, and its rows within them."""
    first = 0
    for group, rows in enumerate(columns.group_rows):
        found = np.flatnonzero(columns.labels[first : first + rows] == label)
        if len(found):
            yield group, found.tolist()
        first += rows


def _decoded(image: bytes, place: str) -> Image.Image:
    try:
        return decode(image, SIDE)
    except (OSError, ValueError) as error:
        raise UserError(f"{place}: image does not decode: {error}; wanted a whole PNG or JPEG") from error


def _boxed(image: Image.Image) -> Image.Image:
    """A thumbnail in the middle of a square; tiny pictures are enlarged by whole numbers, to be seen as they are."""
    if max(image.size) > SIDE:
        image = ImageOps.contain(image, (SIDE, SIDE), Image.Resampling.LANCZOS)
    else:
        image = ImageOps.scale(image, SIDE // max(image.size), Image.Resampling.NEAREST)
    box = Image.new("RGB", (SIDE, SIDE), BOX)
    box.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return box
