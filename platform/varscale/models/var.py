"""The VAR transformer: next-scale prediction over token pyramids.

Tian et al. 2024 (arXiv 2404.02905), section 3, in the released parametrisation, with the released state-dict keys.
B batch, C width, D = C condition width, L = Σ p_k² tokens, K scales, V vocabulary, H heads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from varscale.models.attention import block_causal_attention, full_attention
from varscale.models.decay import is_matrix
from varscale.models.head_loss import linear_cross_entropy
from varscale.models.linear import Linear, linear
from varscale.models.precision import full_precision
from varscale.models.scales import attention_bias, level_of_token
from varscale.models.shapes import VARConfig, attention_spans
from varscale.models.store import StoredModel

MAX_HEAD_SCALE = math.log(100)
NO_DECAY_NAMES = (
    "cls_token", "start_token", "task_token", "cfg_uncond", "pos_embed", "pos_1LC", "pos_start", "start_pos",
    "lvl_embed", "gamma", "beta", "ada_gss", "moe_bias", "scale_mul",
)  # fmt: skip

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Queries (scaled), keys and values of the new positions, [B, H, l, C/H] each, to what they attend to, the same."""


class KVCache:
    """Keys and values of one attention layer, in buffers allocated once: [B, H, L, C/H] each."""

    def __init__(self, batch: int, heads: int, length: int, head_dim: int, like: torch.Tensor) -> None:
        self.k = like.new_empty(batch, heads, length, head_dim)
        self.v = torch.empty_like(self.k)
        self.filled = 0

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Write the new positions' keys and values; attend from them to all positions so far. All [B, H, l, C/H]."""
        begin, self.filled = self.filled, self.filled + k.shape[2]
        self.k[:, :, begin : self.filled] = k
        self.v[:, :, begin : self.filled] = v
        keys = slice(self.filled)
        return full_attention(q, self.k[:, :, keys], self.v[:, :, keys])


class SelfAttention(nn.Module):
    """Multi-head attention; with l2 norm, q and k are unit vectors and each head learns its temperature."""

    zero_k_bias: torch.Tensor

    def __init__(self, cfg: VARConfig) -> None:
        super().__init__()
        self.heads, self.head_dim, self.l2_norm = cfg.heads, cfg.width // cfg.heads, cfg.attn_l2_norm
        if self.l2_norm:
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, cfg.heads, 1, 1), math.log(4)))
        self.mat_qkv = nn.Linear(cfg.width, 3 * cfg.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(cfg.width))
        self.v_bias = nn.Parameter(torch.zeros(cfg.width))
        self.register_buffer("zero_k_bias", torch.zeros(cfg.width))
        self.proj = Linear(cfg.width, cfg.width)

    def forward(self, x: torch.Tensor, attend: Attend) -> torch.Tensor:
        """x [B, l, C] -> [B, l, C]; ``attend`` knows who sees whom."""
        b, length, c = x.shape
        bias = torch.cat((self.q_bias, self.zero_k_bias, self.v_bias))
        qkv = linear(x, self.mat_qkv.weight, bias).view(b, length, 3, self.heads, self.head_dim)
        out = attend(*self._scaled(*qkv.permute(2, 0, 3, 1, 4)))
        return self.proj(out.transpose(1, 2).reshape(b, length, c))

    def _scaled(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """q and k so that their product needs no further scale."""
        if not self.l2_norm:
            return q * (0.25 / math.sqrt(self.head_dim)), k, v  # the released constant, a quarter of the usual one
        temperature = self.scale_mul_1H11.clamp(max=MAX_HEAD_SCALE).exp()
        return (q * (temperature / _length(q))).to(v.dtype), (k / _length(k)).to(v.dtype), v


def _length(x: torch.Tensor) -> torch.Tensor:
    """Euclidean length over the last dimension, float32 [..., 1], at least 1e-12."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).clamp_min(1e-12)


class FFN(nn.Module):
    """fc2(gelu_tanh(fc1 x))."""

    def __init__(self, cfg: VARConfig) -> None:
        super().__init__()
        hidden = round(cfg.width * cfg.mlp_ratio)
        self.fc1 = Linear(cfg.width, hidden)
        self.fc2 = Linear(hidden, cfg.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def norm(x: torch.Tensor) -> torch.Tensor:
    """LayerNorm without parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def modulated(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """AdaLN: norm(x)·(1 + scale) + shift in one pass."""
    return torch.addcmul(shift, norm(x), scale + 1)


class Block(nn.Module):
    """Attention and FFN, each modulated by the condition through AdaLN."""

    def __init__(self, cfg: VARConfig, drop_path_rate: float) -> None:
        super().__init__()
        self.drop_path_rate = drop_path_rate
        self.attn = SelfAttention(cfg)
        self.ffn = FFN(cfg)
        self.shared = cfg.shared_adaln
        if self.shared:
            self.ada_gss = nn.Parameter(torch.randn(1, 1, 6, cfg.width) / math.sqrt(cfg.width))
        else:
            self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(cfg.width, 6 * cfg.width))

    def modulation(self, cond: torch.Tensor) -> torch.Tensor:
        """[B, 1, 6, C]: γ1, γ2, scale1, scale2, shift1, shift2 from the condition ([B, C], or shared [B, 1, 6, C])."""
        if self.shared:
            return self.ada_gss + cond
        return self.ada_lin(cond).view(cond.shape[0], 1, 6, -1)

    def forward(
        self, x: torch.Tensor, modulation: torch.Tensor, attend: Attend, draws: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``draws``, in training, float [B, 2] uniform in [0, 1): which samples keep which residual branch."""
        gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
        draw1, draw2 = (None, None) if draws is None else draws.unbind(1)
        x = torch.addcmul(x, self.attn(modulated(x, scale1, shift1), attend), self._kept(gamma1, draw1))
        return torch.addcmul(x, self.ffn(modulated(x, scale2, shift2)), self._kept(gamma2, draw2))

    def _kept(self, gamma: torch.Tensor, draw: torch.Tensor | None) -> torch.Tensor:
        """γ [B, 1, C] with drop path in it: whole samples of the residual branch vanish, the rest are scaled up."""
        if draw is None or self.drop_path_rate == 0:
            return gamma
        keep = (draw >= self.drop_path_rate)[:, None, None]
        return gamma * keep / (1 - self.drop_path_rate)


class HeadNorm(nn.Module):
    """AdaLN before the head: scale and shift from the raw class embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        scale, shift = self.ada_lin(cond).view(cond.shape[0], 1, 2, -1).unbind(2)
        return modulated(x, scale, shift)


class Head(Linear):
    """Logits of every token or, given the targets int64 [B, L], their mean cross-entropy in nats."""

    def forward(self, x: torch.Tensor, target: torch.Tensor | None = None) -> torch.Tensor:
        if target is None:
            return super().forward(x)
        return linear_cross_entropy(x.flatten(0, 1), self.weight, self.bias, target.flatten())


class VAR(StoredModel):
    """Class-conditional transformer over the tokens of all scales.

    Args:
        checkpoint_blocks: in training keep only the input of each block and compute the rest again for the backward
            pass: memory of about one block's activations for a third more arithmetic.
    """

    kind, config = "var", VARConfig
    cfg: VARConfig
    attn_bias_for_masking: torch.Tensor
    lvl_1L: torch.Tensor  # noqa: N815  the released key

    def __init__(self, cfg: VARConfig, checkpoint_blocks: bool = False) -> None:
        super().__init__()
        self.cfg = cfg
        self.checkpoint_blocks = checkpoint_blocks
        self.spans = attention_spans(cfg.patch_nums)
        n_scales, first = len(cfg.patch_nums), cfg.patch_nums[0] ** 2
        self.word_embed = nn.Linear(cfg.z_channels, cfg.width)
        self.class_emb = nn.Embedding(cfg.num_classes + 1, cfg.width)
        self.pos_start = nn.Parameter(torch.empty(1, first, cfg.width))
        self.pos_1LC = nn.Parameter(torch.empty(1, cfg.seq_len, cfg.width))
        self.lvl_embed = nn.Embedding(n_scales, cfg.width)
        if cfg.shared_adaln:
            self.shared_ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(cfg.width, 6 * cfg.width))
        rates = np.linspace(0, cfg.drop_path, cfg.depth).tolist()
        self.blocks = nn.ModuleList(Block(cfg, rate) for rate in rates)
        self.head_nm = HeadNorm(cfg.width)
        self.head = Head(cfg.width, cfg.vocab_size)
        self.register_buffer("attn_bias_for_masking", attention_bias(cfg.patch_nums))
        self.register_buffer("lvl_1L", level_of_token(cfg.patch_nums)[None])

    @staticmethod
    def fixed_tensors(cfg: VARConfig) -> dict[str, torch.Tensor]:
        """The mask of the scales, [1, 1, L, L], which holds minus infinity where no attention is allowed."""
        return {"attn_bias_for_masking": attention_bias(cfg.patch_nums)}

    def forward(
        self,
        labels: torch.Tensor,
        var_input: torch.Tensor,
        target: torch.Tensor | None = None,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits [B, L, V] for labels int64 [B] and the teacher-forcing input [B, L - p_1², C_vae].

        Given the true tokens as ``target``, int64 [B, L], the mean cross-entropy in nats instead; the logits of all
        tokens then never stand in memory. In training a share ``label_dropout`` of the labels becomes "no class", and
        drop path leaves residual branches out, as ``draws`` say: uniform in [0, 1), float [B, 1 + 2·depth]; by
        default from torch's global generator.
        """
        if self.training and draws is None:
            draws = torch.rand(len(labels), 1 + 2 * self.cfg.depth, device=labels.device)
        elif not self.training:
            draws = None
        cond = self.class_emb(labels if draws is None else self._drop_labels(labels, draws[:, 0]))
        x = self._embed(cond, var_input)
        block_cond = self.block_condition(cond)
        attend = functools.partial(block_causal_attention, bias=self.attn_bias_for_masking, spans=self.spans)
        for i, block in enumerate(self.layers()):
            of_block = None if draws is None else draws[:, 1 + 2 * i : 3 + 2 * i]
            arguments = (x, block.modulation(block_cond), attend, of_block)
            if self.checkpoint_blocks and self.training:
                x = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x = block(*arguments)
        if target is None:
            return self.logits(x, cond)
        return self.head(self.head_nm(x, cond), target)

    def layers(self) -> list[Block]:
        """The blocks in order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def block_condition(self, cond: torch.Tensor) -> torch.Tensor:
        """What the blocks are modulated by: cond [B, C] itself, or the shared AdaLN's [B, 1, 6, C]."""
        if self.cfg.shared_adaln:
            return self.shared_ada_lin(cond).view(cond.shape[0], 1, 6, -1)
        return cond

    def level_position(self) -> torch.Tensor:
        """Level plus position embedding of every token, [1, L, C]."""
        return self.lvl_embed(self.lvl_1L) + self.pos_1LC

    @full_precision
    def logits(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """Head in float32: [B, l, C] -> [B, l, V]."""
        return self.head(self.head_nm(x.float(), cond))

    @full_precision
    def guided_logits(self, x: torch.Tensor, cond: torch.Tensor, guidance: float) -> torch.Tensor:
        """(1 + guidance)·conditional - guidance·unconditional logits, [B, l, V], of x [2B, l, C], conditional first.

        The head is linear and its bias counts once, so the halves are mixed before it and it works once.
        """
        conditional, unconditional = self.head_nm(x.float(), cond).chunk(2)
        return self.head(conditional + guidance * (conditional - unconditional))

    @full_precision
    def _embed(self, cond: torch.Tensor, var_input: torch.Tensor) -> torch.Tensor:
        first = cond[:, None] + self.pos_start
        rest = self.word_embed(var_input.float())
        return torch.cat((first, rest), dim=1) + self.level_position()

    def _drop_labels(self, labels: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
        return torch.where(draw < self.cfg.label_dropout, self.cfg.num_classes, labels)


def init_weights(model: VAR, adaln_gamma: float = 1e-5, adaln: float = 0.5, head: float = 0.02) -> None:
    """The published initialisation (docs/MODEL.md 2.6), from torch's global generator.

    Everything is N(0, 1/(3C)); biases are 0; then the head, the AdaLN rows and the residual projections shrink, so
    that training starts at loss ln V.

    Args:
        adaln_gamma: factor on the γ rows. 1e-3 to 1e-5 in published runs of 1e5 steps; short runs need it near 0.5.
        adaln: factor on the other AdaLN rows.
        head: factor on the head's weight.
    """
    width, depth = model.cfg.width, model.cfg.depth
    std = math.sqrt(1 / width / 3)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for parameter in (model.pos_start, model.pos_1LC):
        nn.init.trunc_normal_(parameter, std=std)
    with torch.no_grad():
        model.head.weight *= head
        for name, parameter in model.named_parameters():
            if name == "head_nm.ada_lin.1.weight":
                parameter.mul_(adaln)
            elif name.endswith((".attn.proj.weight", ".ffn.fc2.weight")):
                parameter.div_(math.sqrt(2 * depth))
            elif name.endswith(".ada_gss"):
                parameter[:, :, :2] *= adaln_gamma
                parameter[:, :, 2:] *= adaln
            elif name.startswith("blocks.") and name.endswith(".ada_lin.1.weight"):
                parameter[: 2 * width] *= adaln_gamma
                parameter[2 * width :] *= adaln


def is_decayed(name: str, parameter: torch.Tensor) -> bool:
    """Whether AdamW decays this parameter: not 1-D ones, biases, or the names the authors exempt (docs/MODEL.md 3)."""
    return is_matrix(name, parameter) and not any(part in name for part in NO_DECAY_NAMES)
