"""How well a tokenizer keeps images: PSNR, SSIM, Fréchet distance, use of its codes by scale; and pictures of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from lawfit.records import schema
from varscale.metrics.features import FeatureSpace
from varscale.metrics.frechet import Moments, frechet_distance
from varscale.metrics.pictures import png_grid, to_tensor, to_uint8
from varscale.metrics.ssim import WINDOW, ssim
from varscale.models.vqvae import VQVAE

LARGEST_ZOOMED = 64
"""Pixels: larger images are shown as they are, smaller ones twice as large."""


@dataclass(frozen=True)
class Reconstruction:
    """Quality of a tokenizer on a set of images."""

    images: int
    psnr: float
    """dB, from the squared error over all pixels of all images, clamped to [-1, 1]."""
    ssim: float | None
    """Mean over images; None below 11 px, where no window fits."""
    used: float
    """Percent of codes used at any scale."""
    used_by_scale: tuple[float, ...]
    """Percent of codes used, by scale."""
    perplexity: tuple[float, ...]
    """exp of the entropy of code use, by scale."""
    reference: Moments | None = None
    """Moments of the originals' features, where a feature space was given."""
    distance: float | None = None
    """Fréchet distance of reconstructions from originals in that space."""

    def facts(self) -> dict[str, float]:
        """Flat figures for records."""
        by_scale = {schema.by_scale(schema.CODES_USED, k): value for k, value in enumerate(self.used_by_scale)}
        by_scale |= {schema.by_scale(schema.CODE_PERPLEXITY, k): value for k, value in enumerate(self.perplexity)}
        optional = {schema.SSIM: self.ssim, schema.FD_RECONSTRUCTION: self.distance}
        known = {name: value for name, value in optional.items() if value is not None}
        return {schema.PSNR: self.psnr, **known, schema.CODES_USED: self.used, **by_scale}


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1]."""
    return 10 * math.log10(4 / max(mean_squared_error, 1e-12))


@dataclass
class _Sums:
    """What adds up over batches and ranks."""

    hits: torch.Tensor
    """int64 [K, V]."""
    images: int = 0
    squared: float = 0.0
    """Mean squared error of each image, summed."""
    ssim: float = 0.0
    originals: Moments | None = None
    """Moments of their features, where a feature space was given."""
    reconstructions: Moments | None = None

    def add_features(self, originals: np.ndarray, reconstructions: np.ndarray) -> None:
        """Take in the features [B, d] of a batch and of what became of it."""
        a, b = Moments.of(originals), Moments.of(reconstructions)
        self.originals = a if self.originals is None else self.originals + a
        self.reconstructions = b if self.reconstructions is None else self.reconstructions + b

    def all_reduce(self, device: torch.device) -> None:
        """Sum over all ranks, which call this together."""
        scalars = torch.tensor([self.images, self.squared, self.ssim], dtype=torch.float64, device=device)
        hits = self.hits.to(device)
        for tensor in (scalars, hits):
            dist.all_reduce(tensor)
        images, self.squared, self.ssim = scalars.tolist()
        self.images, self.hits = int(images), hits.cpu()
        if self.originals and self.reconstructions:
            self.originals = self.originals.all_reduced(device)
            self.reconstructions = self.reconstructions.all_reduced(device)


@torch.no_grad()
def measure(
    model: VQVAE,
    batches: Iterable[np.ndarray],
    device: torch.device,
    space: FeatureSpace | None = None,
    world_size: int = 1,
) -> Reconstruction:
    """Pass images through the tokenizer and compare.

    Args:
        batches: uint8 [B, 3, S, S] each; at least one for each rank, none twice.
        space: feature space of the Fréchet distance; without one there is none.
        world_size: ranks that call this together and get the same result.
    """
    windowed = model.cfg.image_size >= WINDOW
    sums = _Sums(torch.zeros(len(model.cfg.patch_nums), model.cfg.vocab_size, dtype=torch.long))
    for batch in batches:
        images = to_tensor(batch).to(device)
        tokens = model.tokens(images)
        output = model.decode(tokens)
        sums.images += len(batch)
        sums.squared += (output - images).square().mean(dim=(1, 2, 3)).sum(dtype=torch.float64).item()
        sums.ssim += ssim(output, images).sum(dtype=torch.float64).item() if windowed else 0.0
        sums.hits += model.quantize.code_hits(tokens).cpu()
        if space:
            sums.add_features(space.extract(images), space.extract(output))
    if world_size > 1:
        sums.all_reduce(device)
    return _result(sums, windowed)


def _result(sums: _Sums, windowed: bool) -> Reconstruction:
    share = sums.hits / sums.hits.sum(dim=1, keepdim=True)
    entropy = -(share * share.clamp_min(1e-12).log()).sum(dim=1)
    distance = None
    if sums.originals and sums.reconstructions:
        distance = frechet_distance(sums.reconstructions, sums.originals)
    return Reconstruction(
        images=sums.images,
        psnr=psnr(sums.squared / sums.images),
        ssim=sums.ssim / sums.images if windowed else None,
        used=100 * (sums.hits.sum(dim=0) > 0).float().mean().item(),
        used_by_scale=tuple((100 * (sums.hits > 0).float().mean(dim=1)).tolist()),
        perplexity=tuple(entropy.exp().tolist()),
        reference=sums.originals,
        distance=distance,
    )


@torch.no_grad()
def scale_grid(model: VQVAE, originals: np.ndarray, device: torch.device) -> bytes:
    """A PNG: uint8 originals [N, 3, S, S] in the first row, below them what is decoded after each scale.

    Row k is the decoder's picture of f̂ after k scales; the last is the reconstruction.
    """
    tokens = model.tokens(to_tensor(originals).to(device))
    partial = [to_uint8(model.decode_latent(f_hat)) for f_hat in model.quantize.partial_latents(tokens)]
    zoom = 2 if originals.shape[-1] <= LARGEST_ZOOMED else 1
    return png_grid(np.concatenate([originals, *partial]), len(originals), zoom)
