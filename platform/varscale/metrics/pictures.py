"""Tensors to pictures, and pictures to PNG."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

GAP = 2


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 [..., 3, S, S] -> float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Float in [-1, 1] -> uint8, rounded."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()


def png_grid(images: np.ndarray, columns: int, zoom: int = 2) -> bytes:
    """One PNG of uint8 images [N, 3, S, S], row by row, each pixel ``zoom`` wide."""
    side = images.shape[-1]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (side + GAP) + GAP, columns * (side + GAP) + GAP, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (GAP + (side + GAP) * n for n in divmod(i, columns))
        sheet[top : top + side, left : left + side] = image.transpose(1, 2, 0)
    picture = Image.fromarray(sheet)
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
