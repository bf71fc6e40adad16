"""The multi-scale VQVAE: images to latents to tokens, and back.

The convolutional encoder and decoder are those of the released tokenizer (docs/MODEL.md 1), with widths, levels and
norm groups free. State-dict keys are the released ones, so released weights load unchanged. B batch, C code width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from varscale.models.quantizer import MultiScaleQuantizer, Quantized
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import StoredModel

NORM_EPS = 1e-6


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm x))))), with a 1x1 shortcut where the width changes."""

    def __init__(self, cin: int, cout: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, cin, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, cout, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.nin_shortcut = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions of a map, added to its input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(out.transpose(1, 2).reshape(b, c, h, w))


class Downsample(nn.Module):
    """Stride-2 convolution after padding one zero right and below."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbour ×2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """The blocks at one resolution, and the resampling that leaves it."""

    def __init__(self, widths: list[int], groups: int, attention: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(a, b, groups) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(AttnBlock(c, groups) for c in widths[1:]) if attention else nn.ModuleList()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, groups)
        self.attn_1 = AttnBlock(channels, groups) if attention else nn.Identity()
        self.block_2 = ResnetBlock(channels, channels, groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Images [B, 3, S, S] to maps [B, C, p_K, p_K]."""

    def __init__(self, cfg: VQVAEConfig) -> None:
        super().__init__()
        widths = [cfg.ch * m for m in cfg.ch_mult]
        self.conv_in = nn.Conv2d(3, cfg.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            chain = [widths[i - 1] if i else cfg.ch, *[width] * cfg.num_res_blocks]
            level = Level(chain, cfg.norm_groups, attention=last and cfg.level_attention)
            if not last:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(widths[-1], cfg.norm_groups, cfg.mid_attention)
        self.norm_out = nn.GroupNorm(cfg.norm_groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], cfg.z_channels, 3, padding=1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The last hidden maps [B, ch × ch_mult[-1], p_K, p_K], before the projection to code width."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return F.silu(self.norm_out(self.mid(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_out(self.features(x))


class Decoder(nn.Module):
    """Maps [B, C, p_K, p_K] to images [B, 3, S, S], not clamped. ``up.0`` is the full resolution, run last."""

    def __init__(self, cfg: VQVAEConfig) -> None:
        super().__init__()
        widths = [cfg.ch * m for m in cfg.ch_mult]
        self.conv_in = nn.Conv2d(cfg.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], cfg.norm_groups, cfg.mid_attention)
        self.up = nn.ModuleList()
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            chain = [width if last else widths[i + 1], *[width] * (cfg.num_res_blocks + 1)]
            level = Level(chain, cfg.norm_groups, attention=last and cfg.level_attention)
            if i:
                level.upsample = Upsample(width)
            self.up.append(level)
        self.norm_out = nn.GroupNorm(cfg.norm_groups, widths[0], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VQVAE(StoredModel):
    """Multi-scale tokenizer: ``tokens`` of images, ``decode`` of tokens, ``forward`` for its training."""

    kind, config = "tokenizer", VQVAEConfig
    memory_format = torch.channels_last  # in which convolutions are faster (benchmarks/encode.py)
    cfg: VQVAEConfig

    def __init__(self, cfg: VQVAEConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)
        self.quantize = MultiScaleQuantizer(
            cfg.vocab_size,
            cfg.z_channels,
            cfg.patch_nums,
            cfg.quant_resi,
            cfg.share_quant_resi,
            cfg.default_qresi_counts,
            cfg.using_znorm,
        )
        padding = cfg.quant_conv_ks // 2
        self.quant_conv = nn.Conv2d(cfg.z_channels, cfg.z_channels, cfg.quant_conv_ks, padding=padding)
        self.post_quant_conv = nn.Conv2d(cfg.z_channels, cfg.z_channels, cfg.quant_conv_ks, padding=padding)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latent f [B, C, p_K, p_K] of images [B, 3, S, S] in [-1, 1]."""
        return self.quant_conv(self.encoder(images))

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens int64 [B, L] of images [B, 3, S, S] in [-1, 1]."""
        return self.quantize.tokens(self.encode(images))

    def decode_latent(self, f_hat: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, S, S] in [-1, 1] of a latent, whole or partial."""
        return self.decoder(self.post_quant_conv(f_hat)).clamp(-1, 1)

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, S, S] in [-1, 1] of tokens int64 [B, L]."""
        return self.decode_latent(self.quantize.latent(tokens))

    def unquantized(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruction, not clamped, of the latents as they are: what the codebook would give if it were perfect."""
        return self.decoder(self.post_quant_conv(self.encode(images)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, Quantized]:
        """Reconstruction, not clamped, and what the quantizer has to say (training)."""
        quantized = self.quantize(self.encode(images))
        return self.decoder(self.post_quant_conv(quantized.f_hat)), quantized
