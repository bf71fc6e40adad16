"""Geometry of the token pyramid: which tokens belong to which scale.

Everything in ``models`` stands on it. ``patch_nums`` are the sides p_k of the K token
maps, small to large; L = Σ p_k² tokens stand for one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def scale_slices(patch_nums: Sequence[int]) -> list[slice]:
    """The K slices that cut a sequence of L tokens into its scales."""
    ends = np.cumsum([p * p for p in patch_nums]).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def level_of_token(patch_nums: Sequence[int]) -> torch.Tensor:
    """Scale index k of each token, int64 [L]."""
    return torch.cat([torch.full((p * p,), k) for k, p in enumerate(patch_nums)])


def block_causal_mask(patch_nums: Sequence[int]) -> torch.Tensor:
    """Boolean [L, L]: True where token i (row) may attend to token j: level(i) >= level(j)."""
    level = level_of_token(patch_nums)
    return level[:, None] >= level[None, :]


def attention_bias(patch_nums: Sequence[int]) -> torch.Tensor:
    """What is added to the scores, float32 [1, 1, L, L]: 0 where token i may attend to token j, elsewhere -inf."""
    allowed = block_causal_mask(patch_nums)
    return torch.zeros(1, 1, *allowed.shape).masked_fill_(~allowed, -torch.inf)


def phi_index(n_phi: int, n_scales: int) -> list[int]:
    """Which of ``n_phi`` shared convolutions φ serves each of ``n_scales`` scales.

    φ's ticks are equally spaced in (0, 1); scale k sits at k/(K-1) and takes the nearest, the first on a tie. For
    4 φ and 10 scales two positions are exact mathematical ties which float64 rounding decides, so the ticks must be
    computed just so (released weights depend on it).

    Raises:
        ValueError: fewer than two scales, where the position is undefined.
    """
    if n_scales < 2:
        raise ValueError(f"a multi-scale tokenizer has at least 2 scales, not {n_scales}")
    margin = 1 / 3 / n_phi if n_phi == 4 else 1 / 2 / n_phi
    ticks = np.linspace(margin, 1 - margin, n_phi)
    return [int(np.argmin(np.abs(ticks - k / (n_scales - 1)))) for k in range(n_scales)]
