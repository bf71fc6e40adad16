"""How well a tokenizer keeps images: PSNR, use of its codes by scale, originals beside reconstructions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from varscale.evaluate.frechet import Moments, frechet_distance, tokenizer_features
from varscale.evaluate.pictures import to_tensor, to_uint8
from varscale.models.vqvae import VQVAE


@dataclass(frozen=True)
class Reconstruction:
    """Quality of a tokenizer on a set of images."""

    psnr: float
    """dB, over all pixels."""
    usage: tuple[float, ...]
    """Percent of codes used, by scale."""
    perplexity: tuple[float, ...]
    """exp of the entropy of code use, by scale."""
    reference: Moments
    """Of the originals' features."""
    fd: float
    """Fréchet distance of reconstructions from originals: the floor for what is sampled through this tokenizer."""
    pictures: np.ndarray
    """uint8 [N, 3, S, S]: originals, then their reconstructions."""

    def facts(self) -> dict[str, float]:
        """Flat figures for records."""
        by_scale = {f"codes_used_percent_scale_{k}": value for k, value in enumerate(self.usage)}
        by_scale |= {f"code_perplexity_scale_{k}": value for k, value in enumerate(self.perplexity)}
        return {"psnr_db": self.psnr, "fd_reconstruction": self.fd, **by_scale}


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1]."""
    return 10 * math.log10(4 / max(mean_squared_error, 1e-12))


@torch.inference_mode()
def measure(
    model: VQVAE, batches: Iterable[np.ndarray], count: int, device: torch.device, shown: int
) -> Reconstruction:
    """Pass ``count`` images, uint8 [B, 3, S, S] a batch, through the tokenizer.

    Args:
        shown: how many of them, evenly spread, are kept as pictures.
    """
    squared, position = 0.0, 0
    hits = torch.zeros(len(model.cfg.patch_nums), model.cfg.vocab_size, dtype=torch.long)
    wanted = set(np.linspace(0, count - 1, min(shown, count)).round().astype(int).tolist())
    originals, reconstructions, features, features_back = [], [], [], []
    for batch in batches:
        images = to_tensor(batch).to(device)
        tokens = model.tokens(images)
        output = model.decode(tokens)
        squared += (output - images).square().mean().item() * len(batch)
        for k, part in enumerate(model.quantize.slices):
            hits[k] += torch.bincount(tokens[:, part].flatten().cpu(), minlength=model.cfg.vocab_size)
        features.append(tokenizer_features(model, images))
        features_back.append(tokenizer_features(model, output))
        chosen = [i for i in range(len(batch)) if position + i in wanted]
        originals.append(batch[chosen])
        reconstructions.append(to_uint8(output)[chosen])
        position += len(batch)
    share = hits / hits.sum(dim=1, keepdim=True)
    entropy = -(share * share.clamp_min(1e-12).log()).sum(dim=1)
    reference = Moments.of(np.concatenate(features))
    return Reconstruction(
        psnr=psnr(squared / count),
        usage=tuple((100 * (hits > 0).float().mean(dim=1)).tolist()),
        perplexity=tuple(entropy.exp().tolist()),
        reference=reference,
        fd=frechet_distance(Moments.of(np.concatenate(features_back)), reference),
        pictures=np.concatenate([*originals, *reconstructions]),
    )
