"""What stands beside token shards: the tokenizer's quality on these images, and what samples are compared with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lawfit.records import schema
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards
from varscale.data.views import shown_views
from varscale.evaluate.reconstruction import measure, scale_grid
from varscale.evaluate.references import REFERENCE
from varscale.locations import readable_json
from varscale.metrics.features import own_features
from varscale.models.vqvae import VQVAE

QUALITY = "quality.json"


def assess(model: VQVAE, images: ImageShards, rule: ViewRule, batches: Iterator[np.ndarray]) -> dict[str, bytes]:
    """Files by name: moments of the images' features, the tokenizer's quality on them, a picture.

    Args:
        batches: centre views uint8 [B, 3, S, S] of all ``images``.
    """
    device = next(model.parameters()).device
    quality = measure(model, batches, device, own_features(model))
    assert quality.reference is not None  # a feature space was given
    return {
        REFERENCE: quality.reference.to_bytes(),
        QUALITY: readable_json(quality.facts()),
        schema.RECONSTRUCTIONS_FILE: scale_grid(model, shown_views(images, rule), device),
    }
