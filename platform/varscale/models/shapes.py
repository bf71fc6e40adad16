"""Shapes of the two models, free of torch, so that plans are made without loading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DROP_PATH_AT_DEPTH_24 = 0.1
SMALLEST_SPAN = 64
"""Tokens below which scales share a span: products as small as that cost their calls, not their arithmetic."""
MAX_HEAD_ROWS = 2048
"""Rows of logits that stand in memory at a time in training: 32 MiB in float32 at V = 4096."""


@dataclass(frozen=True)
class Span:
    """Consecutive tokens whose attention is computed together: queries begin…end against keys 0…end."""

    begin: int
    end: int
    masked: bool
    """Several scales share it, so that some of its pairs must be masked."""


def attention_spans(patch_nums: Sequence[int]) -> tuple[Span, ...]:
    """The spans of a pyramid: one per scale, small scales together until they hold ``SMALLEST_SPAN`` tokens."""
    spans, begin, end, scales = [], 0, 0, 0
    for k, side in enumerate(patch_nums):
        end, scales = end + side * side, scales + 1
        if end - begin >= SMALLEST_SPAN or k == len(patch_nums) - 1:
            spans.append(Span(begin, end, masked=scales > 1))
            begin, scales = end, 0
    return tuple(spans)


def check_scales(patch_nums: Sequence[int]) -> None:
    """Refuse, with a ValueError, what is no pyramid."""
    if len(patch_nums) < 2 or patch_nums[0] < 1 or list(patch_nums) != sorted(patch_nums):
        raise ValueError(
            f"scales {list(patch_nums)}: wanted at least 2 whole numbers above 0, none below the one before"
        )


@dataclass(frozen=True)
class VQVAEConfig:
    """Shape of a tokenizer; the defaults are the released one (256 px, 108,948,355 parameters)."""

    vocab_size: int = 4096
    """V, number of codes."""
    z_channels: int = 32
    """C, width of a code."""
    ch: int = 160
    """Channels at full resolution; level i has ch × ch_mult[i]."""
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    """One factor per level; the image side is 2^(levels-1) × patch_nums[-1]."""
    num_res_blocks: int = 2
    patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    norm_groups: int = 32
    level_attention: bool = True
    """Attention after each block of the lowest level."""
    mid_attention: bool = True
    quant_conv_ks: int = 3
    quant_resi: float = 0.5
    share_quant_resi: int = 4
    default_qresi_counts: int = 0
    using_znorm: bool = False

    def __post_init__(self) -> None:
        check_scales(self.patch_nums)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.patch_nums[-1] * 2 ** (len(self.ch_mult) - 1)


@dataclass(frozen=True)
class VARConfig:
    """Shape of one VAR; :meth:`of_depth` gives the family rule."""

    depth: int
    width: int
    heads: int
    num_classes: int
    vocab_size: int
    z_channels: int
    """Code width of the tokenizer."""
    patch_nums: tuple[int, ...]
    mlp_ratio: float = 4.0
    attn_l2_norm: bool = True
    shared_adaln: bool = False
    drop_path: float = 0.0
    """Largest drop-path rate, at the last block; linear from 0 at the first."""
    label_dropout: float = 0.1
    """Share of labels replaced by "no class" in training, for classifier-free guidance."""

    def __post_init__(self) -> None:
        check_scales(self.patch_nums)
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")

    @property
    def seq_len(self) -> int:
        """L, tokens of an image."""
        return sum(side * side for side in self.patch_nums)

    @staticmethod
    def of_depth(
        depth: int, *, num_classes: int, vocab_size: int, z_channels: int, patch_nums: tuple[int, ...],
        aspect: int = 64, label_dropout: float = 0.1,
    ) -> VARConfig:  # fmt: skip
        """The family rule: width = aspect·depth, heads = depth, drop-path = 0.1·depth/24 (paper: aspect 64)."""
        return VARConfig(
            depth=depth,
            width=aspect * depth,
            heads=depth,
            num_classes=num_classes,
            vocab_size=vocab_size,
            z_channels=z_channels,
            patch_nums=patch_nums,
            drop_path=DROP_PATH_AT_DEPTH_24 * depth / 24,
            label_dropout=label_dropout,
        )
