"""``varscale tokenizer evaluate``: a tokenizer's file against any split of image shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lawfit.records import schema
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards, check_sides
from varscale.data.views import shown_views, validation_batches
from varscale.device import best_device
from varscale.errors import UserError
from varscale.evaluate.reconstruction import Reconstruction, measure, save_scale_grid
from varscale.metrics.features import INCEPTION, SPACES, TOKENIZER, FeatureSpace, fixed_features, own_features
from varscale.models.store import Loaded, load_model
from varscale.models.vqvae import VQVAE
from varscale.progress import Progress

RFID = "rfid"


@dataclass(frozen=True)
class Question:
    """What is asked of a tokenizer."""

    split: str
    features: str
    """Space of the Fréchet distance, one of ``features.SPACES``."""
    weights: Path | None
    """Of that space, if it is not the tokenizer's own."""
    images: int | None
    """Only the first so many."""
    batch: int
    resize_ratio: float | None
    """None takes the one it was trained with."""
    picture: Path | None
    """PNG to write: originals, then what is decoded after each scale."""


@dataclass(frozen=True)
class Answer:
    """What was measured, and in which space."""

    quality: Reconstruction
    distance_name: str
    """``rfid`` in Inception's features, else ``rfd/<features>``."""
    dimensions: int
    """Of the features: a distance from fewer images than that says little."""

    def to_json(self) -> dict[str, Any]:
        """Flat figures, and lists by scale."""
        quality = self.quality
        return {
            "images": quality.images,
            schema.PSNR: quality.psnr,
            schema.SSIM: quality.ssim,
            self.distance_name: quality.distance,
            schema.CODES_USED: quality.used,
            f"{schema.CODES_USED}_by_scale": list(quality.used_by_scale),
            f"{schema.CODE_PERPLEXITY}_by_scale": list(quality.perplexity),
        }


def assess(tokenizer: Path, images: Path, question: Question) -> Answer:
    """Measure a tokenizer on centre views of a split's images.

    Raises:
        UserError: unusable weights or shards, an unknown split, images too small for the tokenizer.
    """
    loaded = load_model(tokenizer, VQVAE)
    device = best_device(1)
    model = loaded.model.to(device)
    space = _space(model, question, device)
    check_sides(images, question.split, model.cfg.image_size)
    shards = ImageShards(images, question.split)
    rule = ViewRule(model.cfg.image_size, _resize_ratio(loaded, question))
    count = min(question.images or len(shards), len(shards))
    batches = validation_batches(shards, rule, count, question.batch)
    quality = measure(model, _counted(batches, count), device, space)
    if question.picture:
        save_scale_grid(question.picture, model, shown_views(shards, rule), device)
    assert quality.reference is not None  # a feature space was given
    name = RFID if space.name == INCEPTION else f"rfd/{space.name}"
    return Answer(quality, name, len(quality.reference.total))


def _space(model: VQVAE, question: Question, device: torch.device) -> FeatureSpace:
    if question.features not in SPACES:
        raise UserError(f"--features {question.features}: wanted one of {', '.join(SPACES)}")
    if question.features == TOKENIZER:
        return own_features(model)
    if question.weights is None:
        raise UserError(f"--features {question.features}: needs its network's weights, --weights FILE")
    return fixed_features(question.features, question.weights, device)


def _resize_ratio(loaded: Loaded[VQVAE], question: Question) -> float:
    trained_with = loaded.facts.get("data", {}).get("resize_ratio", ViewRule.resize_ratio)
    return trained_with if question.resize_ratio is None else question.resize_ratio


def _counted(batches: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
    progress = Progress("evaluate", total, "images")
    for batch in batches:
        yield batch
        progress.advance(len(batch))
    progress.close()
