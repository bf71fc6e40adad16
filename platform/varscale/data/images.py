"""Pictures as arrays: decoding, resizing, and the views that training and validation see (VAR.md 3.1)."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from varscale.spec import Data


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


def decode(encoded: bytes) -> Image.Image:
    """An upright RGB picture from PNG or JPEG bytes; transparency becomes white.

    Raises:
        OSError: the bytes are no whole image.
    """
    opened = Image.open(io.BytesIO(encoded))
    opened.load()
    image: Image.Image = ImageOps.exif_transpose(opened)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def resize_shorter(image: Image.Image, side: int) -> Image.Image:
    """Scale so that the shorter side is ``side`` pixels (Lanczos)."""
    width, height = image.size
    scale = side / min(width, height)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
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


def training_view(encoded: bytes, rule: ViewRule, seed: int, key: str, view: int) -> np.ndarray:
    """:func:`random_crop` of an encoded image."""
    return random_crop(resized(encoded, rule), rule, seed, key, view)


def validation_view(encoded: bytes, rule: ViewRule) -> np.ndarray:
    """Centre crop as uint8 [3, size, size]."""
    image = resized(encoded, rule)
    left, top = (image.shape[2] - rule.size) // 2, (image.shape[1] - rule.size) // 2
    return image[:, top : top + rule.size, left : left + rule.size]


def _view_seed(seed: int, key: str, view: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{view}/{key}".encode()).digest()[:8], "big")
