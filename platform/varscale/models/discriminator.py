"""The patch discriminator of adversarial training: images to a map of logits, one a patch (Isola et al. 2017)."""

from __future__ import annotations

import torch
from torch import nn

SLOPE = 0.2
INIT_STD = 0.02
MAX_FACTOR = 8
"""Widest layer, as a multiple of the first."""
NORM_GROUPS = 8


class PatchDiscriminator(nn.Module):
    """``layers`` convolutions of stride 2 and two of stride 1, all 4×4: logits [B, 1, h, w] of images [B, 3, S, S].

    Group norm where the original has batch norm: a logit then depends on its own image alone, and training on how a
    batch is split among workers not at all.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        width = channels
        for i in range(1, layers + 1):
            out = channels * min(2**i, MAX_FACTOR)
            stride = 2 if i < layers else 1
            parts += [
                nn.Conv2d(width, out, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(NORM_GROUPS, out),
                nn.LeakyReLU(SLOPE),
            ]
            width = out
        self.main = nn.Sequential(*parts, nn.Conv2d(width, 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, INIT_STD)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.main(images)
