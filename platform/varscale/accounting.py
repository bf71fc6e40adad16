"""What a model costs, in pure Python: parameters N, FLOPs, memory (VAR.md sections 2.2 and 7).

FLOPs count 2 a multiply-add, over matrix products of the transformer alone. Attention is counted dense, the masked
pairs included, unless said otherwise: that is the number to compare with other people's, and the compute axis of a
law; what is executed is less. A training step costs three forward passes (backward = 2 × forward). Tokenizer and
evaluation are not part of a run's FLOPs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from varscale.shapes import VARConfig, attention_spans

Pairs = Callable[[Sequence[int]], int]
"""Counts the attention pairs of one head and image, given patch_nums."""

FORWARD_PASSES_PER_STEP = 3
"""Forward, and backward at twice its cost."""
STATE_BYTES = 4
"""Parameters, gradients and both Adam moments are float32."""


def paper_params(depth: int, width: int) -> int:
    """The paper's N = 18·d·w²: attention 4, FFN 8 and AdaLN 6 times w² a block; embeddings and head left out."""
    return 18 * depth * width * width


def exact_params(cfg: VARConfig) -> int:
    """Every trained parameter of the transformer."""
    c, length = cfg.width, cfg.seq_len
    hidden = round(cfg.width * cfg.mlp_ratio)
    attention = 4 * c * c + 3 * c + (cfg.heads if cfg.attn_l2_norm else 0)
    ffn = 2 * c * hidden + hidden + c
    adaln = 6 * c if cfg.shared_adaln else 6 * c * c + 6 * c
    shared = 6 * c * c + 6 * c if cfg.shared_adaln else 0
    embeddings = (cfg.z_channels + 1) * c + (cfg.num_classes + 1) * c
    positions = cfg.patch_nums[0] ** 2 * c + length * c + len(cfg.patch_nums) * c
    head = 2 * c * c + 2 * c + c * cfg.vocab_size + cfg.vocab_size
    return cfg.depth * (attention + ffn + adaln) + shared + embeddings + positions + head


def dense_pairs(patch_nums: Sequence[int]) -> int:
    """Attention pairs of an image with the masked ones: L²."""
    return sum(side * side for side in patch_nums) ** 2


def allowed_pairs(patch_nums: Sequence[int]) -> int:
    """Attention pairs that the block-causal mask allows: Σ p_k² · (tokens up to scale k)."""
    ends = itertools.accumulate(side * side for side in patch_nums)
    return sum(side * side * end for side, end in zip(patch_nums, ends, strict=True))


def executed_pairs(patch_nums: Sequence[int]) -> int:
    """Attention pairs that are computed: the allowed ones, and the masked ones among small scales."""
    return sum((span.end - span.begin) * span.end for span in attention_spans(patch_nums))


def forward_flops(cfg: VARConfig, pairs: Pairs = dense_pairs) -> int:
    """FLOPs of one forward pass of one image, with the attention pairs that ``pairs`` counts."""
    c, length = cfg.width, cfg.seq_len
    per_block = (8 + 4 * cfg.mlp_ratio) * c * c * length + 4 * pairs(cfg.patch_nums) * c
    adaln = 12 * c * c * (1 if cfg.shared_adaln else cfg.depth)
    head = 4 * c * c + 2 * c * cfg.vocab_size * length
    word_embed = 2 * cfg.z_channels * c * (length - cfg.patch_nums[0] ** 2)
    return round(cfg.depth * per_block + adaln + head + word_embed)


def training_flops(cfg: VARConfig, images: int, pairs: Pairs = dense_pairs) -> int:
    """FLOPs of training on ``images`` images: forward and backward."""
    return FORWARD_PASSES_PER_STEP * forward_flops(cfg, pairs) * images


def model_state_bytes(n_params: int, zero_stage: int, workers: int) -> int:
    """Parameters, gradients and Adam moments one worker holds under a ZeRO stage.

    Stage 1 shards the moments, 2 the gradients too, 3 the parameters too (Rajbhandari et al. 2020, section 3).
    """
    whole, sharded = {1: (2, 2), 2: (1, 3), 3: (0, 4)}[zero_stage]
    return round(STATE_BYTES * n_params * (whole + sharded / workers))


def activation_bytes(cfg: VARConfig, micro_batch: int) -> int:
    """Rough size of what backward needs: about 34 values a token and channel a block, the attention weights, logits."""
    tokens = micro_batch * cfg.seq_len
    blocks = cfg.depth * (34 * tokens * cfg.width + 2 * tokens * cfg.seq_len * cfg.heads)
    return STATE_BYTES * (blocks + 3 * tokens * cfg.vocab_size)
