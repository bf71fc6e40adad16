"""LPIPS, the learned perceptual distance of two images (Zhang et al. 2018, arXiv 1801.03924), on VGG16 features."""

from __future__ import annotations

import torch
from torch import nn

from varscale.locations import AnyPath
from varscale.models.weights import load_published

VGG16_LAYOUT = "torchvision's VGG16 ('features.0.weight' … 'features.28.bias')"
HEADS_LAYOUT = "the heads of LPIPS for VGG16 ('lin0.model.1.weight' … 'lin4.model.1.weight')"
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Widths of VGG16's convolutions between its poolings."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""From images in [-1, 1] to what VGG16 was trained on; LPIPS rounds ImageNet's mean and deviation so."""
NORM_EPS = 1e-20
"""Under the root, where a vector of zeros would have no gradient."""


class VGG16Features(nn.Module):
    """The five maps of VGG16 before each pooling, from images [B, 3, H, W] in [-1, 1], H and W at least 16."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        width = 3
        for stage in STAGES:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for out in stage:
                layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()]
                width = out
            self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        x = (images - self.shift) / self.scale
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                maps.append(x)
        return maps


class LPIPS(nn.Module):
    """Distance [B] of two batches of images [B, 3, H, W] in [-1, 1]: squared differences of unit feature vectors,
    weighed by channel, averaged over positions, summed over the five maps."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg16 = VGG16Features()
        self.heads = nn.ModuleList(nn.Conv2d(stage[-1], 1, 1, bias=False) for stage in STAGES)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        distance = a.new_zeros(len(a))
        for head, x, y in zip(self.heads, self.vgg16(a), self.vgg16(b), strict=True):
            difference = (_unit(x.float()) - _unit(y.float())).square()
            weighed = difference * head.get_parameter("weight")[0]  # a convolution would be bf16 under autocast
            distance = distance + weighed.sum(dim=1).mean(dim=(1, 2))
        return distance


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Channel vectors of length 1."""
    return x * (x.square().sum(dim=1, keepdim=True) + NORM_EPS).rsqrt()


def load_vgg16(path: AnyPath) -> VGG16Features:
    """Frozen features from torchvision's weights (its classifier, if there, is left out); UserError if unusable."""
    model = VGG16Features()
    load_published(model, path, VGG16_LAYOUT)
    return model.eval().requires_grad_(False)


def load_lpips(vgg16: AnyPath, heads: AnyPath) -> LPIPS:
    """The frozen distance from its two published files, or one file that holds both, given twice.

    Raises:
        UserError: a file that is missing or of another layout.
    """
    model = LPIPS()
    model.vgg16 = load_vgg16(vgg16)
    load_published(model.heads, heads, HEADS_LAYOUT, {f"{k}.weight": f"lin{k}.model.1.weight" for k in range(5)})
    return model.eval().requires_grad_(False)
