"""What a model costs, in pure Python: parameters N, FLOPs, memory (docs/MODEL.md 2.2 and 5).

FLOPs count 2 per multiply-add, over matrix products of the transformer alone. Attention is counted dense, the masked
pairs included, unless said otherwise: that is the number to compare with other people's, and the compute axis of a
law; what is executed is less. A training step costs three forward passes (backward = 2 × forward). Tokenizer and
evaluation are not part of a run's FLOPs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from varscale.models.shapes import MAX_HEAD_ROWS, VARConfig, attention_spans

Pairs = Callable[[Sequence[int]], int]
"""Counts the attention pairs of one head and image, given patch_nums."""

FORWARD_PASSES_PER_STEP = 3
"""Forward, and backward at twice its cost."""
STATE_BYTES = 4
"""Parameters, gradients and both Adam moments are float32."""
FRAGMENTATION, SCRATCH = 1.24, 24 * 2**20
"""Resident memory over the bytes in use, and what libraries keep for themselves, as ``benchmarks/train_step.py``
measured them over depths, micro-batches and precisions."""


def paper_params(depth: int, width: int) -> int:
    """The paper's N = 18·d·w²: attention 4, FFN 8 and AdaLN 6 times w² per block; embeddings and head left out."""
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
    """What one worker holds under a ZeRO stage: parameters, gradients, the optimizer's copy and both Adam moments.

    Stage 1 shards the optimizer's part, 2 the gradients too, 3 the parameters too (Rajbhandari et al. 2020, section
    3). DeepSpeed keeps the optimizer's copy of the parameters even where all is float32.
    """
    whole, sharded = {1: (2, 3), 2: (1, 4), 3: (0, 5)}[zero_stage]
    return round(STATE_BYTES * n_params * (whole + sharded / workers))


def worker_bytes(
    cfg: VARConfig, micro_batch: int, zero_stage: int, workers: int, half: bool = False, checkpointing: bool = False
) -> int:
    """Memory that training takes on one worker at the fullest moment of a step, with what allocators lose.

    That is the end of the forward pass, when all activations stand; the end of the backward pass, when all gradients
    do; or the optimizer's step, for which DeepSpeed gathers the gradients once more.

    Args:
        half: products run in bf16 autocast, which keeps bf16 copies of the weights.
        checkpointing: blocks keep their input only, and one at a time is computed again.
    """
    n_params = exact_params(cfg)
    states = model_state_bytes(n_params, zero_stage, workers)
    gradients = STATE_BYTES * n_params // (workers if zero_stage > 1 else 1)
    copies = 2 * n_params if half else 0
    saved, block, backward, head = _activation_bytes(cfg, micro_batch, half)
    inputs = STATE_BYTES * cfg.depth * micro_batch * cfg.seq_len * cfg.width if checkpointing else 0
    forward = inputs + max(head, block + backward) if checkpointing else saved + max(head, backward)
    at_work = max(copies + forward - gradients, copies + inputs + block + backward, gradients)
    return round(FRAGMENTATION * (states + at_work)) + SCRATCH


def _activation_bytes(cfg: VARConfig, micro_batch: int, half: bool) -> tuple[int, int, int, int]:
    """Saved by all blocks, saved by one, at work in the backward pass of one, at work in the head.

    A block saves, for each token and channel, 4 values of the residual stream in float32 and 11 + 2·mlp_ratio inputs of
    its products, and the softmax weights that it executed (counted on the saved tensors of the model).
    """
    size, values = (2 if half else 4), micro_batch * cfg.seq_len * cfg.width
    weights = size * micro_batch * cfg.heads * executed_pairs(cfg.patch_nums)
    block = round((16 + size * (11 + 2 * cfg.mlp_ratio)) * values) + weights
    backward = round(size * (1 + 2 * cfg.mlp_ratio) * values) + weights
    rows = min(micro_batch * cfg.seq_len, MAX_HEAD_ROWS)
    logits = 10 if half else 8  # bytes at the softmax: in bf16, as its float32 input and its output
    head = 16 * values + 4 * cfg.vocab_size * cfg.width + logits * rows * cfg.vocab_size
    return cfg.depth * block, block, backward, head
