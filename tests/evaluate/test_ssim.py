"""Structural similarity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from varscale.metrics.ssim import ssim


def test_an_image_is_like_itself_and_likeness_is_mutual() -> None:
    a, b = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.allclose(ssim(a, a), torch.ones(3).double())
    assert torch.allclose(ssim(a, b), ssim(b, a))
    assert (ssim(a, b) < 0.5).all()


def test_flat_images_differ_by_their_luminance_alone() -> None:
    a, b = torch.full((1, 3, 12, 12), 0.5), torch.full((1, 3, 12, 12), -0.5)  # 0.75 and 0.25 on the scale of 0 to 1
    wanted = (2 * 0.75 * 0.25 + 1e-4) / (0.75**2 + 0.25**2 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(wanted, rel=1e-9)


def test_agrees_with_the_formula_written_out_window_by_window() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 14, 14))
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(4):
        for left in range(4):
            x, y = a[top : top + 11, left : left + 11], b[top : top + 11, left : left + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            values.append((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    images = [torch.from_numpy(image * 2 - 1).expand(1, 3, 14, 14) for image in (a, b)]
    assert ssim(*images).item() == pytest.approx(np.mean(values), rel=1e-6)
