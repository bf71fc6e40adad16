"""Linear layers by the faster of the CPU's two float32 matrix libraries.

torch hands float32 products on a CPU to MKL, which leaves the wide vector units of some processors idle, and
convolutions to oneDNN, which does not: a 1×1 convolution is the same product, there at twice the rate
(``benchmarks/products.py``). bf16 products go to oneDNN by themselves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

WORTHWHILE = 2**22
"""Multiply-adds below which the call costs more than the product gains."""


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x weightᵀ + bias: x [..., K], weight [N, K] and bias [N] to [..., N]."""
    if not _by_convolution(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # K channels, channels last, of a picture M high
    product = F.conv2d(rows, weight[:, :, None, None], bias)
    return product.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def _by_convolution(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the product is float32 on a CPU, large, and on several threads: torch convolves with MKL on one."""
    kind = x.device.type
    if kind != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled(kind) or torch.get_num_threads() == 1:
        return False
    return x.numel() * weight.shape[0] >= WORTHWHILE


class Linear(nn.Linear):
    """torch's layer, computed by :func:`linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias)
