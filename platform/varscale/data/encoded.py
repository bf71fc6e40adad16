"""A rank's share of every global batch of tokens, encoded as training goes: fresh crops for ever."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from varscale.data.images import ViewRule
from varscale.data.views import TrainingViews
from varscale.locations import Location
from varscale.metrics.pictures import to_tensor
from varscale.models.vqvae import VQVAE

ENCODED_PIXELS = 2**19
"""Encoded at once: 8 views of 256 px, whose maps in the published tokenizer take 0.3 GB each."""


@dataclass(frozen=True)
class FreshCrops:
    """What training encodes at every step: crops of which images, cut how."""

    images: Location
    """Image shards."""
    rule: ViewRule


class EncodedBatches:
    """Tokens of crops that nobody saw before: epoch e sees view e of each image, the one that ``varscale tokenise``
    makes where there are more views than e.

    Args:
        views: the crops; what of them lies ahead is decoded while a step computes.
        labels: int64 [rows], of all images.
        tokenizer: frozen, on its device; there the tokens are made when a step takes them.
    """

    def __init__(self, views: TrainingViews, labels: np.ndarray, tokenizer: VQVAE) -> None:
        self._views, self._labels, self._tokenizer = views, labels, tokenizer

    def take(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens int64 [share, L] and labels int64 [share] of ``step``; raises as :meth:`TrainingViews.take`."""
        rows, _ = self._views.samples(step)
        return encode(self._tokenizer, self._views.take(step)), torch.from_numpy(self._labels[rows])


def encode(tokenizer: VQVAE, pixels: np.ndarray) -> torch.Tensor:
    """Tokens int64 [B, L], on the tokenizer's device, of views uint8 [B, 3, S, S]."""
    at_once = max(1, ENCODED_PIXELS // pixels.shape[-1] ** 2)
    device = tokenizer.quantize.embedding.weight.device
    with torch.inference_mode():
        pieces = [
            tokenizer.tokens(to_tensor(part).to(device))
            for part in np.split(pixels, range(at_once, len(pixels), at_once))
        ]
    return torch.cat(pieces)  # outside: tensors of inference mode take no part in a backward pass
