"""Multi-scale residual quantizer: a latent map f becomes K token maps, and token maps become f̂ again.

Tian et al. 2024 (arXiv 2404.02905), Algorithms 1 and 2. Symbols: B batch, C code width, V vocabulary, p_k side of
scale k, H = W = p_K. Works in float32 whatever autocast says: an argmin over codes is not a place for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from varscale.models.precision import full_precision
from varscale.models.scales import phi_index, scale_slices

NO_PHI = 1e-6
"""Largest |quant_resi| at which φ is the identity and has no weights."""


class Phi(nn.Conv2d):
    """φ(x) = (1 - r)·x + r·conv3x3(x): repairs what resizing loses (paper, section 3.2)."""

    def __init__(self, channels: int, resi_ratio: float) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=1)
        self.resi_ratio = abs(resi_ratio)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 - self.resi_ratio) + super().forward(x) * self.resi_ratio


class SharedPhi(nn.Module):
    """S convolutions φ shared among K scales; the key names are the released ones."""

    def __init__(self, phis: list[nn.Module], n_scales: int, single: bool) -> None:
        super().__init__()
        if single:
            self.qresi = phis[0]
        else:
            self.qresi_ls = nn.ModuleList(phis)
        self.index = phi_index(len(phis), n_scales)

    def __getitem__(self, k: int) -> nn.Module:
        return self.qresi if hasattr(self, "qresi") else self.qresi_ls[self.index[k]]


class PhiPerScale(nn.ModuleList):
    """One φ for each scale (or ``count`` of them); keys ``quant_resi.{i}.weight``."""

    def __init__(self, phis: list[nn.Module], n_scales: int) -> None:
        super().__init__(phis)
        self.index = phi_index(len(phis), n_scales)

    def __getitem__(self, k: int) -> nn.Module:  # type: ignore[override]
        return super().__getitem__(self.index[k])


@dataclass(frozen=True)
class Quantized:
    """What the training forward returns."""

    f_hat: torch.Tensor
    """[B, C, H, W], with the straight-through gradient to f."""
    codebook_loss: torch.Tensor
    """Mean over scales of mse(f̂_k, sg f): gradients reach codes and φ."""
    commitment_loss: torch.Tensor
    """Mean over scales of mse(sg f̂_k, f): gradients reach the encoder. Not yet times beta."""
    tokens: torch.Tensor
    """int64 [B, L]."""


class MultiScaleQuantizer(nn.Module):
    """Codebook and φ of the released layout (``quantize.*`` keys).

    Args:
        vocab_size: V.
        channels: C, width of a code.
        patch_nums: p_1 … p_K, ascending; f must be p_K × p_K.
        quant_resi: mixing ratio r of φ, by absolute value.
        share_quant_resi: how many φ the scales share; 0 gives each scale its own.
        default_qresi_counts: with ``share_quant_resi`` 0, the number of φ if not K.
        using_znorm: choose codes by cosine similarity instead of distance.
    """

    ema_vocab_hit_SV: torch.Tensor  # noqa: N815 (the released key)

    def __init__(
        self,
        vocab_size: int,
        channels: int,
        patch_nums: Sequence[int],
        quant_resi: float = 0.5,
        share_quant_resi: int = 4,
        default_qresi_counts: int = 0,
        using_znorm: bool = False,
    ) -> None:
        super().__init__()
        self.patch_nums = tuple(patch_nums)
        self.using_znorm = using_znorm
        self.slices = scale_slices(self.patch_nums)
        self.quant_resi = self._build_phi(channels, quant_resi, share_quant_resi, default_qresi_counts)
        self.embedding = nn.Embedding(vocab_size, channels)
        self.register_buffer("ema_vocab_hit_SV", torch.zeros(len(self.patch_nums), vocab_size))

    def _build_phi(self, channels: int, ratio: float, shared: int, counts: int) -> SharedPhi | PhiPerScale:
        n_scales = len(self.patch_nums)
        n_phi = shared if shared > 0 else (counts or n_scales)
        phis: list[nn.Module] = [Phi(channels, ratio) if abs(ratio) > NO_PHI else nn.Identity() for _ in range(n_phi)]
        if shared > 0:
            return SharedPhi(phis, n_scales, single=shared == 1)
        return PhiPerScale(phis, n_scales)

    @full_precision
    def tokens(self, f: torch.Tensor) -> torch.Tensor:
        """Tokens int64 [B, L] of the latent f [B, C, H, W]."""
        with torch.no_grad():
            return torch.cat([tokens for tokens, _ in self._residual_walk(f.float())], dim=1)

    @full_precision
    def forward(self, f: torch.Tensor) -> Quantized:
        """Training forward: straight-through f̂, both quantizer losses, tokens (docs/MODEL.md 1.5)."""
        f = f.float()
        f_detached = f.detach()
        f_hat = torch.zeros_like(f)
        codebook = commitment = f.new_zeros(())
        tokens = []
        for k, (token, _) in enumerate(self._residual_walk(f_detached)):
            f_hat = f_hat + self.contribution(k, self.embedding(token))
            codebook = codebook + F.mse_loss(f_hat, f_detached)
            commitment = commitment + F.mse_loss(f_hat.detach(), f)
            tokens.append(token)
        n_scales = len(self.patch_nums)
        straight_through = f + (f_hat - f).detach()
        return Quantized(straight_through, codebook / n_scales, commitment / n_scales, torch.cat(tokens, dim=1))

    @full_precision
    def contribution(self, k: int, codes: torch.Tensor) -> torch.Tensor:
        """h_k = φ_k(bicubic(codes)): what scale k adds to f̂. codes [B, p_k², C] -> [B, C, H, W]."""
        side, full = self.patch_nums[k], self.patch_nums[-1]
        h = codes.transpose(1, 2).reshape(codes.shape[0], -1, side, side)
        if k < len(self.patch_nums) - 1:
            h = F.interpolate(h, size=(full, full), mode="bicubic")
        return self.quant_resi[k](h)

    def code_hits(self, tokens: torch.Tensor) -> torch.Tensor:
        """How often each scale uses each code: int64 [K, V] of tokens [B, L]."""
        vocab_size = self.embedding.num_embeddings
        return torch.stack([torch.bincount(tokens[:, part].flatten(), minlength=vocab_size) for part in self.slices])

    def next_input(self, k: int, f_hat: torch.Tensor) -> torch.Tensor:
        """f̂ after scale k, seen at the size of scale k+1: [B, p_{k+1}², C]."""
        side = self.patch_nums[k + 1]
        small = f_hat if side == f_hat.shape[-1] else F.interpolate(f_hat, size=(side, side), mode="area")
        return small.flatten(2).transpose(1, 2)

    def partial_latents(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """f̂ after each scale, [B, C, H, W] each, from tokens int64 [B, L]."""
        full = self.patch_nums[-1]
        f_hat = self.embedding.weight.new_zeros(tokens.shape[0], self.embedding.embedding_dim, full, full)
        for k, part in enumerate(self.slices):
            f_hat = f_hat + self.contribution(k, self.embedding(tokens[:, part]))
            yield f_hat

    def latent(self, tokens: torch.Tensor) -> torch.Tensor:
        """The whole f̂ [B, C, H, W] of tokens int64 [B, L]."""
        return list(self.partial_latents(tokens))[-1]

    @full_precision
    def var_input(self, tokens: torch.Tensor) -> torch.Tensor:
        """Teacher-forcing input [B, L - p_1², C]: for each scale but the first, f̂ so far at that scale's size."""
        latents = self.partial_latents(tokens)
        steps = range(len(self.patch_nums) - 1)
        return torch.cat([self.next_input(k, next(latents)) for k in steps], dim=1)

    def _residual_walk(self, f: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Scale by scale: tokens [B, p_k²] of what is left, and the residual vectors they stand for."""
        rest = f
        for k, side in enumerate(self.patch_nums):
            last = k == len(self.patch_nums) - 1
            z = rest if last else F.interpolate(rest, size=(side, side), mode="area")
            vectors = z.flatten(2).transpose(1, 2)
            with torch.no_grad():
                token = self._nearest(vectors)
                rest = rest - self.contribution(k, self.embedding(token))
            yield token, vectors

    def residuals(self, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [B, L] and the residual vectors [B, L, C] that chose them; dead codes are revived from these."""
        with torch.no_grad():
            tokens, vectors = zip(*self._residual_walk(f.float()), strict=True)
        return torch.cat(tokens, dim=1), torch.cat(vectors, dim=1)

    def _nearest(self, vectors: torch.Tensor) -> torch.Tensor:
        codes = self.embedding.weight
        if self.using_znorm:
            return (F.normalize(vectors, dim=-1) @ F.normalize(codes, dim=-1).T).argmax(dim=-1)
        # |z - e|² without |z|², which no choice depends on, would save a pass; the reference keeps it, and its
        # rounding decides near-ties.
        distance = vectors.square().sum(-1, keepdim=True) + codes.square().sum(-1) - 2 * vectors @ codes.T
        return distance.argmin(dim=-1)
