"""The codebook while it trains: who is used, at which scale, and what becomes of codes that nobody uses.

All figures are of the global batch, so that every rank sees the same codes dead and moves them to the same places.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist

from varscale.models.vqvae import VQVAE
from varscale.train.loop import Place

HITS_EARLY_DECAY, HITS_DECAY, HITS_EARLY_STEPS = 0.9, 0.99, 100
"""Of the running mean kept in the model itself (VAR.md 1.5)."""


class CodeUsage:
    """Counts of codes by scale, int64 [K, V], since the last :meth:`reset`."""

    def __init__(self, model: VQVAE, place: Place) -> None:
        self._quantizer, self._place = model.quantize, place
        self.hits = torch.zeros_like(model.quantize.ema_vocab_hit_SV, dtype=torch.long)

    @torch.no_grad()
    def add(self, tokens: torch.Tensor, step: int) -> None:
        """Count this rank's tokens [B, L] of ``step``; ranks call this together."""
        now = self._quantizer.code_hits(tokens)
        if self._place.world_size > 1:
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
def revive(model: VQVAE, batches: list[torch.Tensor], dead: torch.Tensor, seed: int, step: int, place: Place) -> int:
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
    chosen = torch.from_numpy(rng.integers(len(pool) * place.world_size, size=count)).to(pool.device)
    mine = chosen // len(pool) == place.rank
    codes = torch.where(mine[:, None], pool[chosen % len(pool)], 0.0)
    if place.world_size > 1:
        dist.all_reduce(codes)
    model.quantize.embedding.weight[dead] = codes
    return count
