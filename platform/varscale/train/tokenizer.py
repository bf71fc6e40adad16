"""Training of the multi-scale VQVAE on images.

The authors never released theirs; this is the plain part of it: reconstruction (L2 + L1), codebook and commitment
terms with straight-through gradients (VAR.md 1.5), revival of dead codes, cosine schedule, averaged weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from varscale.data.images import ViewRule, training_view
from varscale.data.loader import ImageShards, SampleOrder
from varscale.evaluate.pictures import to_tensor
from varscale.evaluate.reconstruction import psnr
from varscale.models.vqvae import VQVAE
from varscale.shapes import VQVAEConfig
from varscale.spec import TokenizerRecipe

REVIVAL_SHARE = 0.8
"""Dead codes are revived during this first share of the steps; then the codebook settles."""


def _training_batches(
    shards: ImageShards, rule: ViewRule, recipe: TokenizerRecipe, seed: int
) -> Iterator[torch.Tensor]:
    order = SampleOrder(len(shards), seed)
    for step in range(recipe.steps):
        rows, epochs = order.take(step * recipe.batch, recipe.batch)
        views = [
            training_view(shards.encoded(row), rule, seed, shards.keys[row], int(epoch))
            for row, epoch in zip(rows, epochs, strict=True)
        ]
        yield to_tensor(np.stack(views))


def _learning_rate(recipe: TokenizerRecipe, step: int) -> float:
    warmup = max(1, round(recipe.warmup_fraction * recipe.steps))
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, recipe.steps - warmup)))


@torch.no_grad()
def _revive(model: VQVAE, images: torch.Tensor, dead: torch.Tensor, generator: torch.Generator) -> None:
    """Move dead codes onto residual vectors of the batch, the ones that no code stands near included."""
    _, vectors = model.quantize.residuals(model.encode(images))
    pool = vectors.reshape(-1, vectors.shape[-1])
    chosen = torch.randint(len(pool), (int(dead.sum()),), generator=generator).to(pool.device)
    model.quantize.embedding.weight[dead] = pool[chosen]


def train(
    cfg: VQVAEConfig,
    recipe: TokenizerRecipe,
    seed: int,
    shards: ImageShards,
    rule: ViewRule,
    device: torch.device,
    on_step: Callable[[int, dict[str, float]], None],
) -> VQVAE:
    """Train a tokenizer and return it with its averaged weights, in eval mode.

    Args:
        on_step: called after each step with the number of steps done and their figures: ``loss``, ``psnr`` (dB,
            training batch), ``codes_revived``.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = VQVAE(cfg).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.95), weight_decay=0.0)
    used = torch.zeros(cfg.vocab_size, dtype=torch.bool, device=device)
    for step, images in enumerate(_training_batches(shards, rule, recipe, seed)):
        images = images.to(device, memory_format=torch.channels_last)
        revived = 0
        if step % recipe.revive_every == 0 and step < recipe.steps * REVIVAL_SHARE:
            revived = int((~used).sum())
            _revive(model, images, ~used, generator)
            used.zero_()
        optimizer.param_groups[0]["lr"] = _learning_rate(recipe, step)
        output, quantized = model(images)
        l2 = F.mse_loss(output, images)
        loss = l2 + recipe.l1_weight * F.l1_loss(output, images)
        loss = loss + quantized.codebook_loss + recipe.commitment * quantized.commitment_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        used[quantized.tokens.unique()] = True
        decay = min(recipe.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, current in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(current, 1 - decay)
        on_step(step + 1, {"loss": loss.item(), "psnr": psnr(l2.item()), "codes_revived": revived})
    return average.eval()
