"""The authors' checkpoint format: plain state dicts in ``.pth`` files, read and written key for key.

Such a file names no configuration. All of a transformer's follows from the shapes of its tensors and the levels in
``lvl_1L``; a tokenizer's all but its scales, which only the transformer beside it knows, and what the releases share
(32 norm groups, φ mixed by half, codes chosen by distance).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from varscale.errors import UserError
from varscale.shapes import VARConfig, VQVAEConfig
from varscale.storage import atomic_path

SUFFIX = ".pth"
State = dict[str, torch.Tensor]


def write_state(path: Path, state: State) -> None:
    """Write tensors as the released files hold them, atomically."""
    with atomic_path(path) as temporary:
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary)


def var_config(path: Path, state: State) -> VARConfig:
    """The shape of the transformer whose released weights these are.

    Raises:
        UserError: a tensor it is read from is missing.
    """
    classes, width = _tensor(path, state, "class_emb.weight").shape
    depth = _count(state, "blocks.{}.attn.mat_qkv.weight")
    vocabulary = _tensor(path, state, "head.weight").shape[0]
    l2_norm = "blocks.0.attn.scale_mul_1H11" in state
    heads = state["blocks.0.attn.scale_mul_1H11"].shape[1] if l2_norm else depth
    if depth == 0:
        raise UserError(f"{path}: has no tensor 'blocks.0.attn.mat_qkv.weight', which the released layout has")
    tokens = torch.bincount(_tensor(path, state, "lvl_1L").long().flatten()).tolist()
    family = VARConfig.of_depth(depth, num_classes=classes - 1, vocab_size=vocabulary, z_channels=0, patch_nums=(1,))
    return VARConfig(
        depth=depth,
        width=width,
        heads=heads,
        num_classes=classes - 1,
        vocab_size=vocabulary,
        z_channels=_tensor(path, state, "word_embed.weight").shape[1],
        patch_nums=tuple(round(count**0.5) for count in tokens),
        mlp_ratio=_tensor(path, state, "blocks.0.ffn.fc1.weight").shape[0] / width,
        attn_l2_norm=l2_norm,
        shared_adaln="shared_ada_lin.1.weight" in state,
        drop_path=family.drop_path,
    )


def vqvae_config(path: Path, state: State, patch_nums: Sequence[int]) -> VQVAEConfig:
    """The shape of the tokenizer whose released weights these are, with the scales it is to be used at.

    Raises:
        UserError: a tensor it is read from is missing, or ``patch_nums`` are not as many as its scales.
    """
    vocabulary, channels = _tensor(path, state, "quantize.embedding.weight").shape
    scales = _tensor(path, state, "quantize.ema_vocab_hit_SV").shape[0]
    if scales != len(patch_nums):
        raise UserError(f"{path}: a tokenizer of {scales} scales; wanted one of {len(patch_nums)}, {list(patch_nums)}")
    ch = _tensor(path, state, "encoder.conv_in.weight").shape[0]
    levels = _count(state, "encoder.down.{}.block.0.conv1.weight")
    widths = [state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
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
        quant_conv_ks=_tensor(path, state, "quant_conv.weight").shape[-1],
        share_quant_resi=shared,
        default_qresi_counts=own,
    )


def _tensor(path: Path, state: State, name: str) -> torch.Tensor:
    if name not in state:
        raise UserError(f"{path}: has no tensor '{name}', which the released layout has")
    return state[name]


def _count(state: State, pattern: str) -> int:
    """How many of ``pattern`` with 0, 1, … in its braces there are."""
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count
