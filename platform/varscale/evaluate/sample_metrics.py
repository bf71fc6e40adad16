"""What a trained model's samples are measured by: metrics that ``lawfit.records.schema`` registers, each made here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist

from lawfit.records import schema
from varscale.evaluate.references import tokenizer_reference
from varscale.evaluate.sample import draw_images
from varscale.locations import Location
from varscale.metrics.features import FeatureSpace, own_features
from varscale.metrics.frechet import Moments, frechet_distance
from varscale.models.sampling import SamplingConfig
from varscale.models.store import StoredModel
from varscale.models.vqvae import VQVAE


class SampleMetric(Protocol):
    """One number of many samples, gathered batch by batch."""

    def add(self, images: torch.Tensor) -> None:
        """Take in a batch of samples, float32 [B, 3, S, S] in [-1, 1]."""

    def value(self, world_size: int) -> float:
        """The metric over the samples of all ranks, which call this together and get the same."""


@dataclass(frozen=True)
class Setting:
    """What a metric may compare samples with."""

    tokenizer: VQVAE
    tokens: Location
    """Token shards of the study, with what stands beside them."""


class Distance:
    """Fréchet distance of the samples' features from a reference."""

    def __init__(self, space: FeatureSpace, reference: Moments) -> None:
        self._space, self._reference = space, reference
        self._moments = Moments(0, np.zeros_like(reference.total), np.zeros_like(reference.outer))
        self._device = torch.device("cpu")

    def add(self, images: torch.Tensor) -> None:
        """See :class:`SampleMetric`."""
        self._device = images.device
        self._moments += Moments.of(self._space.extract(images))

    def value(self, world_size: int) -> float:
        """See :class:`SampleMetric`."""
        moments = self._moments.all_reduced(self._device) if world_size > 1 else self._moments
        return frechet_distance(moments, self._reference)


class Mean:
    """Mean over samples of a figure that each image has of itself.

    Args:
        figure: float32 [B, 3, S, S] in [-1, 1] -> [B].
    """

    def __init__(self, figure: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._figure, self._sum = figure, torch.zeros(2, dtype=torch.float64)

    def add(self, images: torch.Tensor) -> None:
        """See :class:`SampleMetric`."""
        figures = self._figure(images).double()
        self._sum = self._sum.to(images.device) + torch.stack([figures.sum(), torch.ones_like(figures).sum()])

    def value(self, world_size: int) -> float:
        """See :class:`SampleMetric`."""
        if world_size > 1:
            dist.all_reduce(self._sum)
        total, count = self._sum.tolist()
        return total / count


def _tokenizer_distance(setting: Setting) -> SampleMetric:
    return Distance(own_features(setting.tokenizer), tokenizer_reference(setting.tokens))


SAMPLE_METRICS: dict[str, Callable[[Setting], SampleMetric]] = {
    schema.FD_TOKENIZER: _tokenizer_distance,
}
"""What every trained cell's samples are measured by: the metric's name -> a new metric for one set of samples."""


@torch.no_grad()
def measure_samples(
    model: StoredModel,
    setting: Setting,
    labels: np.ndarray,
    count: int,
    sampling: SamplingConfig,
    batch: int,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, float]:
    """Every metric of ``SAMPLE_METRICS`` of ``count`` samples, by name.

    Sample i has the label of validation image i·N/count, so that classes are as frequent as there. Ranks share the
    drawing and all get the same values; the pictures do not depend on how they are shared.

    Args:
        labels: int64 [N], of the validation images.
        batch: images drawn at once.
    """
    mine = np.arange(rank, count, world_size)
    metrics = {name: made(setting) for name, made in SAMPLE_METRICS.items()}
    for start in range(0, len(mine), batch):
        indices = mine[start : start + batch]
        chosen = labels[indices * len(labels) // count].tolist()
        images = draw_images(model, setting.tokenizer, chosen, indices.tolist(), sampling)
        for metric in metrics.values():
            metric.add(images)
    return {name: metric.value(world_size) for name, metric in metrics.items()}
