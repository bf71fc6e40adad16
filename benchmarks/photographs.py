"""Photographs that are none, and what decodes them: for benchmarks of JPEGs."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

Decoder = Callable[[bytes], np.ndarray]
"""JPEG bytes -> RGB uint8 [height, width, 3]."""


def photograph(seed: int, width: int = 500, height: int = 375) -> bytes:
    """A JPEG whose spectrum falls as that of photographs does; about 90 kB at the usual size of ImageNet's."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128, np.float32)
    for cells in (4, 16, 64, 256):
        coarse = rng.normal(0, 190 / cells**0.5, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
            pixels[:, :, channel] += np.asarray(layer)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def decoders() -> dict[str, Decoder]:
    """What can be imported here, by name: Pillow, and simplejpeg, OpenCV, PyTurboJPEG where they are installed."""
    found: dict[str, Decoder] = {"Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)))}
    with contextlib.suppress(ImportError):
        import simplejpeg

        found["simplejpeg"] = simplejpeg.decode_jpeg
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
        found["OpenCV"] = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    with contextlib.suppress(ImportError, RuntimeError):  # the library that it wraps is apart
        import turbojpeg

        turbo = turbojpeg.TurboJPEG()
        found["PyTurboJPEG"] = lambda data: turbo.decode(data, pixel_format=turbojpeg.TJPF_RGB)
    return found
