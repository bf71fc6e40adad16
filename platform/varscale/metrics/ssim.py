"""Structural similarity of images (Wang et al. 2004), with the published constants."""

from __future__ import annotations

import torch
import torch.nn.functional as F

WINDOW, SIGMA = 11, 1.5
"""Side and deviation of the Gaussian window, in pixels."""
K1, K2 = 0.01, 0.03


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM, float64 [B], of two batches of images [B, C, H, W] in [-1, 1], H and W at least 11.

    Images are taken to [0, 1] (data range 1); each channel counts alike; only windows wholly inside the image count;
    variances are those of the Gaussian weights (no n - 1 correction).
    """
    a, b = (a.double() + 1) / 2, (b.double() + 1) / 2  # variances of flat areas would drown in float32's rounding
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    structure = (2 * covariance + K2**2) / (var_a + var_b + K2**2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(x: torch.Tensor) -> torch.Tensor:
    """Gaussian mean of each channel over every window inside."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = (-(offsets**2) / (2 * SIGMA**2)).exp()
    weights = weights / weights.sum()
    channels = x.shape[1]
    for kernel in (weights.view(1, 1, -1, 1), weights.view(1, 1, 1, -1)):
        x = F.conv2d(x, kernel.expand(channels, 1, *kernel.shape[2:]), groups=channels)
    return x
