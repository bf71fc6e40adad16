"""Each term of a tokenizer's loss against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varscale.models.shapes import VQVAEConfig
from varscale.models.vqvae import VQVAE
from varscale.spec.tokenizer import Adversarial, Perceptual, TokenizerRecipe
from varscale.train.tokenizer.objective import (
    TokenizerObjective,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
)

BASE = {"steps": 1, "batch": 2, "lr": 1e-3}


def objective(**recipe: object) -> TokenizerObjective:
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEConfig(32, 4, 8, (1, 1), 1, (1, 2, 4), norm_groups=4))
    return TokenizerObjective(vqvae, TokenizerRecipe.model_validate(BASE | recipe))


def images() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_hinge_losses() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(0.5 * ((0 + 0.5) / 2 + (0 + 1.5) / 2))
    assert hinge_generator_loss(fake).item() == pytest.approx(0.75)


def test_adaptive_weight_is_the_ratio_of_gradient_norms() -> None:
    last = nn.Parameter(torch.tensor([1.0, 2.0]))
    reconstruction, adversarial = 3 * last.sum(), (last * torch.tensor([0.0, 0.5])).sum()
    weight = adaptive_weight(reconstruction, adversarial, last)
    assert weight.item() == pytest.approx(18**0.5 / (0.5 + 1e-4))
    assert not weight.requires_grad
    assert adaptive_weight(1e9 * last.sum(), 0 * last.sum(), last).item() == 1e4


def test_total_is_the_weighed_sum_of_its_terms() -> None:
    judged = objective(l2_weight=2.0, l1_weight=0.5, codebook_weight=3.0, commitment=0.7)(images(), None, None)
    terms = judged.terms
    assert terms["l2"].item() == pytest.approx(F.mse_loss(judged.output, images()).item())
    assert terms["l1"].item() == pytest.approx(F.l1_loss(judged.output, images()).item())
    wanted = 2 * terms["l2"] + 0.5 * terms["l1"] + 3 * terms["codebook"] + 0.7 * terms["commitment"]
    assert judged.total.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert judged.tokens.shape == (2, 21)


def test_perceptual_distance_takes_part_with_its_weight() -> None:
    recipe = {"perceptual": Perceptual(weight=4.0)}
    distance = lambda a, b: (a - b).abs().amax(dim=(1, 2, 3))  # noqa: E731
    judged = objective(**recipe)(images(), distance, None)
    plain = objective(**recipe)(images(), None, None)
    assert (judged.total - plain.total).item() == pytest.approx(4 * judged.terms["perceptual"].item(), rel=1e-5)
    assert "perceptual" not in plain.terms


@pytest.mark.parametrize("adaptive", [True, False])
def test_adversarial_term_moves_the_tokenizer_and_not_its_critic(adaptive: bool) -> None:
    model = objective(adversarial=Adversarial(weight=0.3, adaptive=adaptive))
    critic = nn.Conv2d(3, 1, 4)
    judged = model(images(), None, critic)
    plain = model(images(), None, None)
    weight = judged.terms["adversarial_weight"].item()
    assert (weight == pytest.approx(0.3)) is not adaptive
    assert (judged.total - plain.total).item() == pytest.approx(weight * judged.terms["adversarial"].item(), rel=1e-4)
    judged.total.backward()
    assert all(parameter.grad is None for parameter in critic.parameters())
    assert model.tokenizer.decoder.conv_out.weight.grad is not None


def test_straight_through_reaches_the_encoder_and_codebook_terms_the_codes() -> None:
    model = objective(codebook_weight=0.0, commitment=0.0)
    model(images(), None, None).total.backward()
    assert model.tokenizer.encoder.conv_in.weight.grad.abs().sum() > 0
    assert model.tokenizer.quantize.embedding.weight.grad.abs().sum() == 0
    model = objective(codebook_weight=1.0, commitment=0.0)
    model(images(), None, None).total.backward()
    assert model.tokenizer.quantize.embedding.weight.grad.abs().sum() > 0


def test_without_the_quantizer_its_terms_are_left_out() -> None:
    model = objective()
    judged = model(images(), None, None, quantize=False)
    assert judged.tokens is None
    assert judged.terms.keys() == {"l1", "l2"}
    assert judged.total.item() == pytest.approx((judged.terms["l2"] + 0.2 * judged.terms["l1"]).item())
    latents = model.tokenizer.encode(images())
    assert torch.equal(judged.output, model.tokenizer.decoder(model.tokenizer.post_quant_conv(latents)))
