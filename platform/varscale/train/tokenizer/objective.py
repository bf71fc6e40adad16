"""What a tokenizer is trained to make small: error of its images, of its latents, and a critic's displeasure.

docs/MODEL.md 1.5 gives the quantizer's terms; the adversarial ones are those of VQGAN (Esser et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from varscale.models.lpips import LPIPS
from varscale.models.vqvae import VQVAE
from varscale.spec.tokenizer import TokenizerRecipe

RATIO_EPS = 1e-4
RATIO_MAX = 1e4


def hinge_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """½·(mean max(0, 1 - real) + mean max(0, 1 + fake)) of two sets of logits, scalar."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: torch.Tensor) -> torch.Tensor:
    """Minus the mean logit of reconstructions, scalar."""
    return -fake.mean()


def adaptive_weight(reconstruction: torch.Tensor, adversarial: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """‖∂reconstruction/∂last‖ / (‖∂adversarial/∂last‖ + 1e-4), at most 1e4: neither loss drowns the other.

    The gradients are those of the global batch: all ranks of the process group, if there is one, call this together
    and get the same weight.

    Args:
        reconstruction, adversarial: scalars, means over this rank's images.
        last: weight of the decoder's last layer.
    """
    gradients = torch.stack([torch.autograd.grad(x, last, retain_graph=True)[0] for x in (reconstruction, adversarial)])
    if dist.is_initialized():
        dist.all_reduce(gradients)
        gradients /= dist.get_world_size()
    pull, push = gradients.flatten(1).norm(dim=1)
    return (pull / (push + RATIO_EPS)).clamp(max=RATIO_MAX)


@dataclass(frozen=True)
class Judged:
    """One forward pass, judged. All but ``total`` is detached."""

    total: torch.Tensor
    """What is minimised, scalar."""
    terms: dict[str, torch.Tensor]
    """Scalars by name: ``l2``, ``l1``, ``codebook``, ``commitment``, and those of losses that are on."""
    output: torch.Tensor
    """Reconstructions [B, 3, S, S], not clamped."""
    tokens: torch.Tensor | None
    """int64 [B, L]; None without the quantizer."""


class TokenizerObjective(nn.Module):
    """The tokenizer under its loss: images in, loss out.

    Args:
        tokenizer: the model that trains.
        recipe: weights of the terms.
    """

    def __init__(self, tokenizer: VQVAE, recipe: TokenizerRecipe) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._recipe = recipe

    def forward(
        self, images: torch.Tensor, perceptual: LPIPS | None, discriminator: nn.Module | None, quantize: bool = True
    ) -> Judged:
        """Judge the reconstruction of ``images`` [B, 3, S, S] in [-1, 1].

        Args:
            perceptual: the frozen distance, if it takes part.
            discriminator: any module from images to logits, if it takes part; it gets no gradient here.
            quantize: without, the decoder sees the encoder's own latents and the quantizer's terms are left out.
        """
        recipe = self._recipe
        output, quantized = self.tokenizer(images) if quantize else (self.tokenizer.unquantized(images), None)
        output = output.float()
        terms = {"l2": F.mse_loss(output, images), "l1": F.l1_loss(output, images)}
        error = recipe.l2_weight * terms["l2"] + recipe.l1_weight * terms["l1"]
        if perceptual is not None and recipe.perceptual:
            terms["perceptual"] = perceptual(output, images).mean()
            error = error + recipe.perceptual.weight * terms["perceptual"]
        total = error
        if quantized is not None:
            terms["codebook"], terms["commitment"] = quantized.codebook_loss, quantized.commitment_loss
            total = total + recipe.codebook_weight * terms["codebook"] + recipe.commitment * terms["commitment"]
        if discriminator is not None and recipe.adversarial:
            terms["adversarial"] = hinge_generator_loss(_frozen_call(discriminator, output).float())
            ratio = output.new_ones(())
            if recipe.adversarial.adaptive:
                ratio = adaptive_weight(error, terms["adversarial"], self.tokenizer.decoder.conv_out.weight)
            terms["adversarial_weight"] = recipe.adversarial.weight * ratio
            total = total + terms["adversarial_weight"] * terms["adversarial"]
        tokens = quantized.tokens if quantized is not None else None
        return Judged(total, {k: v.detach() for k, v in terms.items()}, output.detach(), tokens)


def _frozen_call(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """``module(images)``, with a gradient to the images and none to the module."""
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return torch.func.functional_call(module, weights, (images,))
