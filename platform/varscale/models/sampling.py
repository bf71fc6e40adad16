"""Drawing images from a VAR: guided, scale by scale, with a KV cache.

The conditional and unconditional halves run as one batch; class modulations are computed once. Image i draws from its
own generator, seeded by (seed, i), so a picture does not depend on the batch it is drawn in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from varscale.models.quantizer import MultiScaleQuantizer
from varscale.models.var import VAR, KVCache

SEED_STRIDE = 1_000_003
"""Keeps the seeds of neighbouring studies' images apart."""
BELOW_ONE = 1 - 2**-20
"""Keeps a uniform number, once multiplied by a sum, below that sum in float32."""


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn; top_k and top_p 0 disable their filters (docs/MODEL.md 4)."""

    guidance: float = 1.5
    """Classifier-free guidance at the last scale; grows linearly from 0 at the first."""
    top_k: int = 0
    top_p: float = 0.0
    seed: int = 0


def likeliest(logits: torch.Tensor, top_k: int, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits that may be drawn, descending, and their probabilities, [..., n] each, from logits [..., V].

    The top-k first, ties at the k-th value kept; of their mass the top-p, the largest always kept. Probabilities of the
    others are 0, and what is left is not renormalised.
    """
    vocabulary = logits.shape[-1]
    count = min(top_k or vocabulary, vocabulary)
    values = _largest(logits, count)
    threshold = values[..., -1:]
    tied = int((logits >= threshold).sum(dim=-1).max())
    if tied > count:
        values = _largest(logits, tied)
        values = values.masked_fill(values < threshold, -torch.inf)
    probabilities = values.softmax(dim=-1)
    if top_p:
        rest = probabilities.flip(-1).cumsum(dim=-1).flip(-1)  # of this token and all less likely ones
        outside = rest <= 1 - top_p
        outside[..., 0] = False
        probabilities = probabilities.masked_fill(outside, 0.0)
    return values, probabilities


def _largest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` largest of each row, descending. On a CPU, NumPy's vectorised sort is several times torch's."""
    if logits.device.type != "cpu":
        return logits.topk(count, dim=-1).values
    rows = logits.numpy()
    if count < rows.shape[-1]:
        rows = np.partition(rows, -count, axis=-1)[..., -count:]
    return torch.from_numpy(-np.sort(-rows, axis=-1))


def image_generators(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """A generator for each image, seeded by (seed, its index)."""
    return [torch.Generator().manual_seed(seed * SEED_STRIDE + i) for i in indices]


def _draw(logits: torch.Tensor, sampling: SamplingConfig, generators: list[torch.Generator]) -> torch.Tensor:
    """One token a position, [B, l] from logits [B, l, V], by one uniform number each."""
    uniform = torch.stack([torch.rand(logits.shape[1], 1, generator=g) for g in generators]).to(logits.device)
    if not sampling.top_k and not sampling.top_p:
        return _invert(logits.softmax(dim=-1), uniform)[..., 0]
    values, probabilities = likeliest(logits, sampling.top_k, sampling.top_p)
    place = _invert(probabilities, uniform)
    value = values.gather(-1, place)
    rank = place - torch.searchsorted(-values, -value)  # among equal logits, whose places are their tokens in order
    equal = logits == value
    tied = rank[..., 0] > 0
    equal[tied] &= equal[tied].cumsum(dim=-1) == rank[tied] + 1
    return equal.to(torch.uint8).argmax(dim=-1)


def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Where the running sum of probabilities [..., n] passes their total times ``uniform`` [..., 1]: int64 [..., 1]."""
    distribution = probabilities.cumsum(dim=-1)
    found = torch.searchsorted(distribution, uniform * BELOW_ONE * distribution[..., -1:], right=True)
    return found.clamp_max(probabilities.shape[-1] - 1)  # a diverged model's logits are NaN, and no sum passes those


@dataclass(frozen=True)
class ScaleDraw:
    """One scale of a generation."""

    tokens: torch.Tensor
    """int64 [B, p_k²]."""
    logits: torch.Tensor
    """Guided logits before filtering, [B, p_k², V]."""
    f_hat: torch.Tensor
    """The latent after this scale, [B, C_vae, p_K, p_K]."""


@torch.inference_mode()
def generate(
    model: VAR, quantizer: MultiScaleQuantizer, labels: torch.Tensor, indices: Sequence[int], sampling: SamplingConfig
) -> Iterator[ScaleDraw]:
    """Draw images scale by scale.

    Args:
        labels: int64 [B], on the model's device.
        indices: the image index of each row, which seeds its draws.
    """
    cfg, batch = model.cfg, labels.shape[0]
    cond = model.class_emb(torch.cat((labels, torch.full_like(labels, cfg.num_classes))))
    block_cond = model.block_condition(cond)
    modulations = [block.modulation(block_cond) for block in model.layers()]
    caches = [KVCache(2 * batch, cfg.heads, cfg.seq_len, cfg.width // cfg.heads, cond) for _ in model.layers()]
    generators = image_generators(sampling.seed, indices)
    level_position = model.level_position()
    f_hat = cond.new_zeros(batch, cfg.z_channels, cfg.patch_nums[-1], cfg.patch_nums[-1])
    x = cond[:, None] + model.pos_start
    for k, part in enumerate(quantizer.slices):
        x = x + level_position[:, part]
        for block, modulation, cache in zip(model.layers(), modulations, caches, strict=True):
            x = block(x, modulation, cache.attend)
        logits = model.guided_logits(x, cond, guidance=sampling.guidance * k / (len(cfg.patch_nums) - 1))
        tokens = _draw(logits, sampling, generators)
        f_hat = f_hat + quantizer.contribution(k, quantizer.embedding(tokens))
        yield ScaleDraw(tokens, logits, f_hat)
        if k + 1 < len(cfg.patch_nums):
            x = model.word_embed(quantizer.next_input(k, f_hat)).repeat(2, 1, 1)


def sample_tokens(
    model: VAR, quantizer: MultiScaleQuantizer, labels: torch.Tensor, indices: Sequence[int], sampling: SamplingConfig
) -> torch.Tensor:
    """Tokens int64 [B, L] of drawn images; arguments as :func:`generate`."""
    return torch.cat([draw.tokens for draw in generate(model, quantizer, labels, indices, sampling)], dim=1)
