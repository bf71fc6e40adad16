"""Inception v3 as FID uses it (Szegedy et al. 2016, Heusel et al. 2017): images to the 2,048 features of its last pool.

Key names are those of the published conversion of the 2015 graph (``pt_inception-2015-12-05``): torchvision's. Where
that graph differs from torchvision's network (padding left out of averages, one max pool, TensorFlow 1's resize) it
is followed. The weights are not ours to ship: they come from a file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from varscale.locations import AnyPath
from varscale.models.weights import load_published

LAYOUT = "the FID Inception ('Conv2d_1a_3x3.conv.weight' … 'Mixed_7c.branch_pool.bn.running_var')"
SIDE = 299
NORM_EPS = 1e-3


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, cin: int, cout: int, kernel: int | tuple[int, int] = 1, stride: int = 1, same: bool = True
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if same else 0
        self.conv = nn.Conv2d(cin, cout, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


def _mean_pool(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """Branches 1×1, 5×5, twice 3×3, pool."""

    def __init__(self, cin: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(cin, 64)
        self.branch5x5_1, self.branch5x5_2 = ConvNorm(cin, 48), ConvNorm(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvNorm(cin, 64), ConvNorm(64, 96, 3)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3)
        self.branch_pool = ConvNorm(cin, pool)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        wide = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), wide, double, self.branch_pool(_mean_pool(x))], dim=1)


class BlockB(nn.Module):
    """Halves the side."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(cin, 384, 3, stride=2, same=False)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvNorm(cin, 64), ConvNorm(64, 96, 3)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2, same=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockC(nn.Module):
    """Convolutions 7×7 as pairs 1×7 and 7×1, ``c`` wide inside."""

    def __init__(self, cin: int, c: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = ConvNorm(cin, 192)
        self.branch7x7_1, self.branch7x7_2 = ConvNorm(cin, c), ConvNorm(c, c, row)
        self.branch7x7_3 = ConvNorm(c, 192, column)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = ConvNorm(cin, c), ConvNorm(c, c, column)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = ConvNorm(c, c, row), ConvNorm(c, c, column)
        self.branch7x7dbl_5 = ConvNorm(c, 192, row)
        self.branch_pool = ConvNorm(cin, 192)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_mean_pool(x))], dim=1)


class BlockD(nn.Module):
    """Halves the side again."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = ConvNorm(cin, 192), ConvNorm(192, 320, 3, stride=2, same=False)
        self.branch7x7x3_1, self.branch7x7x3_2 = ConvNorm(cin, 192), ConvNorm(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2, same=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockE(nn.Module):
    """Convolutions 3×3 split side by side; the last block of the 2015 graph pools by maximum."""

    def __init__(self, cin: int, max_pool: bool) -> None:
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.branch1x1 = ConvNorm(cin, 320)
        self.branch3x3_1 = ConvNorm(cin, 384)
        self.branch3x3_2a, self.branch3x3_2b = ConvNorm(384, 384, row), ConvNorm(384, 384, column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvNorm(cin, 448), ConvNorm(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = ConvNorm(384, 384, row), ConvNorm(384, 384, column)
        self.branch_pool = ConvNorm(cin, 192)
        self._max_pool = max_pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self._max_pool else _mean_pool(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, dim=1)


class Inception(nn.Module):
    """Features [B, 2048] of images [B, 3, S, S] in [-1, 1], which are rounded to bytes first, as files would be."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2, same=False)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3, same=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, max_pool=False), BlockE(2048, max_pool=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
        x = (_resize(pixels) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))


def _resize(x: torch.Tensor) -> torch.Tensor:
    """[B, C, S, S] -> [B, C, 299, 299] as TensorFlow 1 did: output pixel i reads from i·S/299, not from its centre."""
    side = x.shape[-1]
    source = torch.arange(SIDE, device=x.device) * (side / SIDE)
    low = source.floor().long()
    high, part = (low + 1).clamp(max=side - 1), source - low
    rows = x[..., low, :].lerp(x[..., high, :], part[:, None])
    return rows[..., low].lerp(rows[..., high], part)


def load_inception(path: AnyPath) -> Inception:
    """The frozen network from a file of its weights (the classifier, if there, is left out); UserError if unusable."""
    model = Inception()
    load_published(model, path, LAYOUT)
    return model.eval().requires_grad_(False)
