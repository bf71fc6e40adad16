"""Feature spaces for Fréchet distances. Only Inception's gives an FID; each other distance carries its space's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from varscale.locations import AnyPath
from varscale.models.inception import load_inception
from varscale.models.lpips import load_vgg16
from varscale.models.vqvae import VQVAE

TOKENIZER, VGG16, INCEPTION = "tokenizer", "vgg16", "inception"
SPACES = (TOKENIZER, VGG16, INCEPTION)


@dataclass(frozen=True)
class FeatureSpace:
    """A named map from images to vectors."""

    name: str
    extract: Callable[[torch.Tensor], np.ndarray]
    """Float [B, 3, S, S] in [-1, 1] -> float64 [B, d]."""
    weights: AnyPath | None = None
    """File of the network's weights; None: the tokenizer's own."""


def own_features(model: VQVAE) -> FeatureSpace:
    """The tokenizer's own encoder. Judging a tokenizer by it is circular: it cannot see what its encoder misses."""
    return FeatureSpace(TOKENIZER, lambda images: _encoder_features(model, images))


@torch.inference_mode()
def _encoder_features(model: VQVAE, images: torch.Tensor) -> np.ndarray:
    """Mean over positions of the encoder's last hidden maps: float64 [B, ch·ch_mult[-1]]."""
    return _array(model.encoder.features(images).mean(dim=(2, 3)))


def fixed_features(name: str, weights: AnyPath, device: torch.device) -> FeatureSpace:
    """A space that does not depend on the tokenizer: ``vgg16`` (mean over positions of the last maps before pooling,
    d = 512) or ``inception`` (d = 2,048, as FID is defined).

    Raises:
        UserError: unusable weights.
    """
    if name == INCEPTION:
        inception = load_inception(weights).to(device)
        return FeatureSpace(name, lambda images: _array(inception(images)), weights)
    vgg16 = load_vgg16(weights).to(device)
    return FeatureSpace(name, lambda images: _array(vgg16(images)[-1].mean(dim=(2, 3))), weights)


def _array(features: torch.Tensor) -> np.ndarray:
    return features.double().cpu().numpy()
