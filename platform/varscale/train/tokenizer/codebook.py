"""The codebook while it trains: who is used, at which scale, and what becomes of codes that nobody uses.

All figures are of the global batch, so that every rank sees the same codes dead and moves them to the same places.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from varscale.models.quantizer import MultiScaleQuantizer
from varscale.models.vqvae import VQVAE
from varscale.train.peers import Rank

HITS_EARLY_DECAY, HITS_DECAY, HITS_EARLY_STEPS = 0.9, 0.99, 100
"""Decays of the running mean that the model itself keeps (docs/MODEL.md 1.5)."""
FOUNDING_IMAGES = 256
"""Images that a codebook is made from, at least."""
NEAREST_ROWS = 4096
"""Vectors compared with all centres at a time: 64 MiB of distances at V = 4096."""
KMEANS_VECTORS, KMEANS_ITERATIONS = 20_000, 10


class CodeUsage:
    """Counts of codes by scale, int64 [K, V], since the last :meth:`reset`."""

    def __init__(self, model: VQVAE, rank: Rank) -> None:
        self._quantizer, self._rank = model.quantize, rank
        self.hits = torch.zeros_like(model.quantize.ema_vocab_hit_SV, dtype=torch.long)

    @torch.no_grad()
    def add(self, tokens: torch.Tensor, step: int) -> None:
        """Count this rank's tokens [B, L] of ``step``; ranks call this together."""
        now = self._quantizer.code_hits(tokens)
        if self._rank.world_size > 1:
            dist.all_reduce(now)
        self.hits += now
        decay = 0.0 if step == 0 else HITS_EARLY_DECAY if step < HITS_EARLY_STEPS else HITS_DECAY
        self._quantizer.ema_vocab_hit_SV.mul_(decay).add_(now, alpha=1 - decay)

    def used_percent(self) -> list[float]:
        """Percent of the codes that were used, by scale."""
        return (100 * (self.hits > 0).float().mean(dim=1)).tolist()

    def dead(self) -> torch.Tensor:
        """Codes that no scale used, bool [V]."""
        return self.hits.sum(dim=0) == 0

    def reset(self) -> None:
        """Begin a new count."""
        self.hits.zero_()


@torch.no_grad()
def revive(model: VQVAE, batches: list[torch.Tensor], dead: torch.Tensor, seed: int, step: int, rank: Rank) -> int:
    """Move dead codes onto residual vectors of the global batch; return how many.

    Which vectors is a function of (seed, step). Vectors that no code stands near are among them, and each scale gives
    as many as its share of the tokens.

    Args:
        batches: this rank's images, in micro-batches [B, 3, S, S].
        dead: bool [V], the same on every rank.
    """
    count = int(dead.sum())
    if count == 0:
        return 0
    pool = torch.cat([model.quantize.residuals(model.encode(images))[1].flatten(0, 1) for images in batches])
    rng = np.random.default_rng((seed, step, count))
    chosen = torch.from_numpy(rng.integers(len(pool) * rank.world_size, size=count)).to(pool.device)
    mine = chosen // len(pool) == rank.index
    codes = torch.where(mine[:, None], pool[chosen % len(pool)], 0.0)
    if rank.world_size > 1:
        dist.all_reduce(codes)
    model.quantize.embedding.weight[dead] = codes
    return count


@torch.no_grad()
def found_codebook(model: VQVAE, steps: list[list[torch.Tensor]], seed: int, rank: Rank) -> None:
    """Set all codes to k-means of the residuals that the images of the coming steps have.

    Args:
        steps: this rank's micro-batches [B, 3, S, S] of each of several steps; the images of all ranks count.
    """
    latents = torch.cat([_all_ranks(torch.cat([model.encode(images) for images in step]), rank) for step in steps])
    codes = residual_kmeans(model.quantize, latents.float().cpu(), seed).to(rank.device)
    if rank.world_size > 1:
        dist.broadcast(codes, src=0)
    model.quantize.embedding.weight.copy_(codes)


def _all_ranks(x: torch.Tensor, rank: Rank) -> torch.Tensor:
    """The rows of all ranks, in their order in the global batch."""
    if rank.world_size == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(rank.world_size)]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def residual_kmeans(quantizer: MultiScaleQuantizer, f: torch.Tensor, seed: int) -> torch.Tensor:
    """Codes [V, C] for latents f [N, C, H, W]: each scale's residuals are clustered and taken away (φ left out), then
    the residuals of all scales, equally many of each, are clustered into V."""
    generator = torch.Generator().manual_seed(seed)
    vocab_size, rest = quantizer.embedding.num_embeddings, f
    full, pools = quantizer.patch_nums[-1], []
    for side in quantizer.patch_nums:
        vectors = F.interpolate(rest, size=(side, side), mode="area").flatten(2).transpose(1, 2).flatten(0, 1)
        pools.append(vectors)
        centres = kmeans(vectors, min(vocab_size, max(2, len(vectors) // 4)), generator)
        h = centres[_nearest(vectors, centres)].view(len(f), side * side, -1).transpose(1, 2).unflatten(2, (side, side))
        rest = rest - F.interpolate(h, size=(full, full), mode="bicubic")
    share = KMEANS_VECTORS // len(pools)
    return kmeans(torch.cat([_drawn(pool, share, generator) for pool in pools]), vocab_size, generator)


def kmeans(x: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Centres [count, C] of vectors x [N, C] by Lloyd's iterations from random ones; an empty cluster starts anew."""
    x = x if len(x) <= KMEANS_VECTORS else _drawn(x, KMEANS_VECTORS, generator)
    centres = _drawn(x, count, generator)
    for _ in range(KMEANS_ITERATIONS):
        nearest = _nearest(x, centres)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        means = torch.zeros_like(centres).index_add_(0, nearest, x) / sizes.clamp(min=1)
        centres = torch.where(sizes > 0, means, _drawn(x, count, generator))
    return centres


def _drawn(x: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` rows of x: each at most once while there are enough."""
    repeated = [torch.randperm(len(x), generator=generator) for _ in range(-(-count // len(x)))]
    return x[torch.cat(repeated)[:count]]


def _nearest(x: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Which of the centres [count, C] is nearest to each of x [N, C]; a chunk of distances at a time."""
    norms = centres.square().sum(dim=1)
    return torch.cat([(norms - 2 * part @ centres.T).argmin(dim=1) for part in x.split(NEAREST_ROWS)])
