"""The authors' checkpoint format: plain state dicts in ``.pth`` files, read and written key for key.

Such a file names no configuration. All of a transformer's follows from the shapes of its tensors and the levels in
``lvl_1L``; a tokenizer's all but its scales, which only the transformer beside it knows, and what the releases share
(32 norm groups, φ mixed by half, codes chosen by distance).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from varscale.errors import UserError
from varscale.locations import AnyPath, Location
from varscale.models.shapes import DROP_PATH_AT_DEPTH_24, VARConfig, VQVAEConfig, check_scales

SUFFIX = ".pth"
State = dict[str, torch.Tensor]


def kind(state: State) -> str:
    """Which of the two released models these weights are."""
    return "var" if "class_emb.weight" in state else "tokenizer"


def config(kind: str, path: AnyPath, state: State, patch_nums: Sequence[int] | None = None) -> VARConfig | VQVAEConfig:
    """The shape of a model of this kind whose released weights these are.

    Args:
        patch_nums: the scales of a tokenizer; None is 256 px.

    Raises:
        UserError: no such kind was released, or as :func:`var_config` and :func:`vqvae_config`.
    """
    if kind == "var":
        return var_config(path, state)
    if kind == "tokenizer":
        return vqvae_config(path, state, patch_nums or VQVAEConfig.patch_nums)
    raise UserError(f"{path}: a released file; wanted a {kind}, of which none was released")


def write_state(path: AnyPath, state: State) -> None:
    """Write tensors as the released files hold them, atomically."""
    with Location.of(path).written_path() as temporary, temporary.open("wb") as stream:
        # A stream has no name that would become part of the content.
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, stream)


def var_config(path: AnyPath, state: State) -> VARConfig:
    """The shape of the transformer whose released weights these are.

    Raises:
        UserError: a tensor it is read from is missing or has other dimensions; levels that are no pyramid's; a width
            that does not divide among the heads.
    """
    classes, width = _shape(path, state, "class_emb.weight", 2)
    _shape(path, state, "blocks.0.attn.mat_qkv.weight", 2)
    depth = _count(state, "blocks.{}.attn.mat_qkv.weight")
    l2_norm = "blocks.0.attn.scale_mul_1H11" in state
    heads = _shape(path, state, "blocks.0.attn.scale_mul_1H11", 4)[1] if l2_norm else depth
    if heads == 0 or width % heads:
        raise UserError(f"{path}: width {width} ('class_emb.weight') does not divide among {heads} heads")
    return VARConfig(
        depth=depth,
        width=width,
        heads=heads,
        num_classes=classes - 1,
        vocab_size=_shape(path, state, "head.weight", 2)[0],
        z_channels=_shape(path, state, "word_embed.weight", 2)[1],
        patch_nums=_scales(path, state),
        mlp_ratio=_shape(path, state, "blocks.0.ffn.fc1.weight", 2)[0] / width,
        attn_l2_norm=l2_norm,
        shared_adaln="shared_ada_lin.1.weight" in state,
        drop_path=DROP_PATH_AT_DEPTH_24 * depth / 24,
    )


def vqvae_config(path: AnyPath, state: State, patch_nums: Sequence[int]) -> VQVAEConfig:
    """The shape of the tokenizer whose released weights these are, with the scales it is to be used at.

    Raises:
        UserError: a tensor it is read from is missing or has other dimensions, or ``patch_nums`` are no pyramid or not
            as many as its scales.
    """
    vocabulary, channels = _shape(path, state, "quantize.embedding.weight", 2)
    scales = _shape(path, state, "quantize.ema_vocab_hit_SV", 2)[0]
    if scales != len(patch_nums):
        raise UserError(
            f"{path}: a tokenizer of {scales} scales; wanted one of {len(patch_nums)}, {list(patch_nums)}; convert it"
            " with --patch-nums to name others"
        )
    try:
        check_scales(patch_nums)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    ch = _shape(path, state, "encoder.conv_in.weight", 4)[0]
    _shape(path, state, "encoder.down.0.block.0.conv1.weight", 4)
    levels = _count(state, "encoder.down.{}.block.0.conv1.weight")
    widths = [_shape(path, state, f"encoder.down.{i}.block.0.conv1.weight", 4)[0] for i in range(levels)]
    own = _count(state, "quantize.quant_resi.{}.weight")
    shared = _count(state, "quantize.quant_resi.qresi_ls.{}.weight") or (0 if own else 1)
    return VQVAEConfig(
        vocab_size=vocabulary,
        z_channels=channels,
        ch=ch,
        ch_mult=tuple(width // ch for width in widths),
        num_res_blocks=_count(state, "encoder.down.0.block.{}.conv1.weight"),
        patch_nums=tuple(patch_nums),
        level_attention=f"encoder.down.{levels - 1}.attn.0.qkv.weight" in state,
        mid_attention="encoder.mid.attn_1.qkv.weight" in state,
        quant_conv_ks=_shape(path, state, "quant_conv.weight", 4)[-1],
        share_quant_resi=shared,
        default_qresi_counts=own,
    )


def _shape(path: AnyPath, state: State, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise UserError(f"{path}: has no tensor '{name}', which the released layout has")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise UserError(f"{path}: tensor '{name}' is {list(shape)}; the released layout has {dimensions} dimensions")
    return shape


def _scales(path: AnyPath, state: State) -> tuple[int, ...]:
    """The sides p_k that the levels of a transformer's tokens say: 0 p_1² times, then 1 p_2² times, and so on."""
    _shape(path, state, "lvl_1L", 2)
    levels, counts = state["lvl_1L"].flatten().unique_consecutive(return_counts=True)
    sides = [math.isqrt(count) for count in counts.tolist()]
    if (
        len(sides) < 2
        or levels.tolist() != list(range(len(sides)))
        or counts.tolist() != [side * side for side in sides]
    ):
        raise UserError(f"{path}: tensor 'lvl_1L' does not say which scale each token of a pyramid belongs to")
    return tuple(sides)


def _count(state: State, pattern: str) -> int:
    """How many of ``pattern`` with 0, 1, … in its braces there are."""
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count
