"""``varscale tokenizer evaluate``: a tokenizer's file against any split of image shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lawfit.records import schema
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards, check_sides
from varscale.data.manifests import ImageSet
from varscale.data.views import shown_views, validation_batches
from varscale.device import best_device
from varscale.errors import UserError
from varscale.evaluate.reconstruction import Reconstruction, measure, scale_grid
from varscale.locations import AnyPath, Location
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
    weights: AnyPath | None
    """File of that space's network, if the space is not the tokenizer's own."""
    images: int | None
    """Number of images, from the first on; None takes all."""
    batch: int
    resize_ratio: float | None
    """Shorter side before the crop, times the tokenizer's side; None takes the one it was trained with."""
    picture: AnyPath | None
    """PNG to write: originals, then what is decoded after each scale."""


@dataclass(frozen=True)
class Answer:
    """What was measured, and in which space."""

    quality: Reconstruction
    distance_name: str
    """``rfid`` in Inception's features, else ``rfd/<features>``."""
    dimensions: int
    """Length of a feature vector: a distance from fewer images than that says little."""

    def caveats(self) -> list[str]:
        """One sentence for each reason not to trust the distance."""
        found = []
        if self.distance_name == f"rfd/{TOKENIZER}":
            found.append(f"{self.distance_name} is circular: the tokenizer's own encoder is the judge")
        if self.quality.images <= self.dimensions:
            few = f"{self.quality.images} images for {self.dimensions} feature dimensions"
            found.append(f"{self.distance_name} is biased: {few}")
        return found

    def table(self) -> str:
        """One line per figure."""
        lines = []
        for name, value in self.to_json().items():
            shown = ", ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else value
            lines.append(f"{name:<30} {shown:.5g}" if isinstance(shown, float) else f"{name:<30} {shown}")
        return "\n".join(lines)

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


def evaluate_tokenizer(tokenizer: AnyPath, images: AnyPath, question: Question) -> Answer:
    """Measure a tokenizer on centre views of a split's images.

    Raises:
        UserError: unusable weights or shards, an unknown split, images too small for the tokenizer, a picture that
            cannot be written.
    """
    _check(question)
    loaded = load_model(tokenizer, VQVAE)
    device = best_device(1)
    model = loaded.model.to(device)
    space = _space(model, question, device)
    check_sides(ImageSet.read(images), question.split, model.cfg.image_size)
    shards = ImageShards(images, question.split)
    rule = ViewRule(model.cfg.image_size, _resize_ratio(loaded, question))
    count = min(question.images or len(shards), len(shards))
    batches = validation_batches(shards, rule, count, question.batch)
    quality = measure(model, _counted(batches, count), device, space)
    if question.picture:
        Location.of(question.picture).write_bytes(scale_grid(model, shown_views(shards, rule), device))
    assert quality.reference is not None  # a feature space was given
    name = RFID if space.name == INCEPTION else f"rfd/{space.name}"
    return Answer(quality, name, len(quality.reference.total))


def _check(question: Question) -> None:
    """Refuse, before work begins, what could only fail after it."""
    if question.weights and question.features == TOKENIZER:
        raise UserError(
            f"--weights {question.weights}: the tokenizer judges itself; name their network with --features"
        )
    if question.picture:
        Location.of(question.picture).check_writable()


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
