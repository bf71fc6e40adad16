"""Pictures as arrays: decoding, resizing, and the views that training and validation see (docs/MODEL.md 3.1)."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from varscale.spec.sections import Data

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""MPO opens as JPEG: it is one with more of them behind it."""
MOST_PIXELS = 89_478_485
"""What Pillow takes for safe: 256 MiB of RGB. More is a decompression bomb, or no picture to train on."""
MOST_STRETCHED = 100
"""Sides that differ more make a line, of which no view can be cut."""
LONGEST = 65_500
"""Pixels that a side of a JPEG may have."""
SPARE = 3
"""A JPEG decoded at a part of its size keeps at least so many times the side that is wanted."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright; from 5 on, width and height change places."""
PNG_DEPTH = 24
"""Where a PNG says how many bits a sample has."""
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
)
"""What Pillow raises on bytes that are no whole image."""


@dataclass(frozen=True)
class ViewRule:
    """How an image becomes a square view: shorter side to resize_ratio × size, then a crop of ``size``."""

    size: int
    """Side of the view in pixels."""
    resize_ratio: float = 1.125
    flip: bool = False
    """Mirror half of the training views."""

    @staticmethod
    def of(data: Data) -> ViewRule:
        """The rule a specification's data section asks for."""
        return ViewRule(data.image_size, data.resize_ratio, data.flip)


class ImageError(ValueError):
    """Why an image cannot be used, in one line."""


@dataclass(frozen=True)
class Header:
    """What an image says of itself, before its pixels are decoded."""

    format: str
    """JPEG, MPO, PNG, WEBP, BMP or GIF: by content, whatever the file was called."""
    width: int
    height: int
    """Both as the image is seen: upright."""


def decode(encoded: bytes, side: int | None = None) -> Image.Image:
    """An upright RGB picture from JPEG, PNG, WebP, BMP or GIF bytes.

    Transparency becomes white, CMYK is read as Adobe writes it (inverted), 16-bit grey is scaled to 8 bits, and of an
    MPO the first picture counts.

    Args:
        side: the shorter side that is wanted. A JPEG that is far larger is decoded at a half, a quarter or an eighth,
            never below SPARE × ``side``. Pixels then differ a little from those of the whole image.

    Raises:
        ImageError: no image of these formats, cut short, animated, or too large.
    """
    with _opened(encoded) as image:
        if side is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (SPARE * side, SPARE * side))
        image.load()
        if image.format == "PNG":
            _scale_clear_colour(image, encoded[PNG_DEPTH])
        turn = TURNS.get(_orientation(image))
        return _rgb(image if turn is None else image.transpose(turn))


def inspect(encoded: bytes) -> Header:
    """Read an image's header, and check that the file ends as its format does; pixels are not decoded.

    An image whose end looks cut is decoded after all: some cameras write other things behind a whole picture.

    Raises:
        ImageError: as :func:`decode`, as far as header and end tell.
    """
    with _opened(encoded) as image:
        if not _ends_well(encoded, image.format or ""):
            decode(encoded)
        width, height = image.size
        if image.format == "PNG" and any(name in encoded for name in PNG_ORIENTATION):
            image.load()  # it may stand behind the pixels
        if _orientation(image) >= 5:
            width, height = height, width
        return Header(image.format or "", width, height)


@contextmanager
def _opened(encoded: bytes) -> Iterator[ImageFile.ImageFile]:
    """The image with its header read; whatever Pillow raises about the bytes becomes a ImageError."""
    if not encoded:
        raise ImageError("empty file")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ImageError(f"{width} × {height} pixels; allowed are {MOST_PIXELS:,}")
            if max(width, height) > MOST_STRETCHED * min(width, height):
                raise ImageError(f"{width} × {height} pixels: a line, no picture")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise ImageError(f"animated, {frames} frames")
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"no image of the formats {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than {MOST_PIXELS:,} pixels") from error
    except UNREADABLE as error:
        raise ImageError(f"not a readable image: {' '.join(str(error).split()) or type(error).__name__}") from error


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1–8."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
        return found if found in TURNS else 1
    except UNREADABLE:  # broken EXIF says nothing of the pixels, which may be whole
        return 1


def _ends_well(encoded: bytes, kind: str) -> bool:
    if kind in ("JPEG", "MPO"):
        return encoded.rstrip(b"\0").endswith(b"\xff\xd9")
    if kind == "PNG":
        return encoded.endswith(PNG_END)
    return False


def _rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB on white."""
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_clear_colour(image: Image.Image, bits: int) -> None:
    """Pillow scales a PNG's samples to 8 bits, but not the colour that stands for transparent."""
    clear = image.info.get("transparency")
    if image.mode == "L" and isinstance(clear, int) and bits < 8:
        image.info["transparency"] = clear * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(clear, tuple) and bits == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in clear)


def _from_16_bits(image: Image.Image) -> Image.Image:
    """16-bit grey: Pillow itself would clip all above 255 to white."""
    wide = np.asarray(image)
    grey = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if "transparency" in image.info:
        grey[wide == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def is_jpeg(encoded: bytes) -> bool:
    """Whether these bytes are a JPEG, whatever the file was called."""
    return encoded.startswith(b"\xff\xd8")


def encode(picture: Image.Image, as_jpeg: bool, quality: int) -> bytes:
    """The picture as JPEG of this quality with full chroma (4:4:4), or else as PNG; nothing but its pixels."""
    picture.info.clear()  # profiles and comments of the original
    buffer = io.BytesIO()
    if as_jpeg:
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def resize_shorter(image: Image.Image, side: int) -> Image.Image:
    """Scale so that the shorter side is ``side`` pixels (Lanczos).

    Raises:
        ImageError: the picture would become too long or too large.
    """
    width, height = image.size
    scale = side / min(width, height)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if max(size) > LONGEST or size[0] * size[1] > MOST_PIXELS:
        raise ImageError(f"{width} × {height} pixels would become {size[0]} × {size[1]}")
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def resized(encoded: bytes, rule: ViewRule) -> np.ndarray:
    """The whole image at the size that views are cropped from: uint8 [3, H, W]."""
    image = resize_shorter(decode(encoded), round(rule.resize_ratio * rule.size))
    return np.asarray(image).transpose(2, 0, 1)


def random_crop(image: np.ndarray, rule: ViewRule, seed: int, key: str, view: int) -> np.ndarray:
    """A view uint8 [3, size, size] of a resized image, mirrored or not: a pure function of (seed, key, view)."""
    rng = np.random.default_rng(_view_seed(seed, key, view))
    left = int(rng.integers(image.shape[2] - rule.size + 1))
    top = int(rng.integers(image.shape[1] - rule.size + 1))
    crop = image[:, top : top + rule.size, left : left + rule.size]
    return crop[:, :, ::-1] if rule.flip and rng.integers(2) else crop


def validation_view(encoded: bytes, rule: ViewRule) -> np.ndarray:
    """Centre crop as uint8 [3, size, size]."""
    image = resized(encoded, rule)
    left, top = (image.shape[2] - rule.size) // 2, (image.shape[1] - rule.size) // 2
    return image[:, top : top + rule.size, left : left + rule.size]


def _view_seed(seed: int, key: str, view: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{view}/{key}".encode()).digest()[:8], "big")
