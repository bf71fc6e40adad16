"""Drawing: the filters, the cache, the seeds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from varscale.models.sampling import SamplingConfig, _draw, generate, likeliest, sample_tokens
from varscale.models.shapes import VARConfig, VQVAEConfig
from varscale.models.var import VAR, init_weights
from varscale.models.vqvae import VQVAE

REFERENCE = Path(__file__).parents[1] / "data" / "sampling" / "topk_topp.npz"
SCALES = (1, 2, 4)


@pytest.fixture(scope="module")
def models() -> tuple[VAR, VQVAE]:
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEConfig(32, 4, 8, (1, 1), 1, SCALES, norm_groups=4)).eval()
    var = VAR(VARConfig(2, 16, 2, 5, 32, 4, SCALES))
    init_weights(var, adaln_gamma=0.5, head=3.0)
    return var.eval(), vqvae


def test_filtered_probabilities_match_the_reference() -> None:
    with np.load(REFERENCE) as stored:
        logits = torch.from_numpy(stored["logits"])
        names = [name for name in stored.files if name != "logits"]
        assert len(names) == 6
        for name in names:
            top_k, top_p = name.removeprefix("probs_k").split("_p")
            _, probabilities = likeliest(logits, int(top_k), float(top_p))
            ours = torch.zeros_like(logits)
            ours[..., : probabilities.shape[-1]] = probabilities / probabilities.sum(-1, keepdim=True)
            wanted = torch.from_numpy(stored[name]).view_as(ours)
            assert torch.allclose(ours, wanted.sort(descending=True).values, atol=1e-7), name


def test_equal_logits_are_drawn_as_often_as_each_other() -> None:
    """Six tokens of which three are equal and one of those falls outside the top-p mass."""
    p = torch.tensor([0.1, 0.3, 0.2, 0.2, 0.2, 0.0001])
    logits = p.log().expand(1, 6000, 6).clone()
    tokens = _draw(logits, SamplingConfig(top_p=0.69), [torch.Generator().manual_seed(0)])
    share = torch.bincount(tokens.flatten(), minlength=6) / 6000
    assert share[[0, 4, 5]].max() == 0
    assert torch.allclose(share[[1, 2, 3]], torch.tensor([3, 2, 2]) / 7, atol=0.02)


def test_cached_generation_sees_what_one_whole_pass_sees(models: tuple[VAR, VQVAE]) -> None:
    var, vqvae = models
    labels = torch.tensor([0, 3])
    draws = list(generate(var, vqvae.quantize, labels, [0, 1], SamplingConfig(guidance=0)))
    tokens = torch.cat([draw.tokens for draw in draws], dim=1)
    with torch.no_grad():
        whole = var(labels, vqvae.quantize.var_input(tokens))
    assert torch.allclose(torch.cat([draw.logits for draw in draws], dim=1), whole, atol=1e-5)


def test_pictures_do_not_depend_on_the_batch_split(models: tuple[VAR, VQVAE]) -> None:
    var, vqvae = models
    labels, sampling = torch.tensor([0, 1, 2, 3, 4]), SamplingConfig(guidance=1.5, top_k=20, seed=7)
    together = sample_tokens(var, vqvae.quantize, labels, range(5), sampling)
    apart = [
        sample_tokens(var, vqvae.quantize, labels[i : i + 2], range(i, min(i + 2, 5)), sampling) for i in (0, 2, 4)
    ]
    assert torch.equal(together, torch.cat(apart))
    other = sample_tokens(var, vqvae.quantize, labels, range(5), SamplingConfig(guidance=1.5, top_k=20, seed=8))
    assert not torch.equal(together, other)


def test_draws_follow_the_probabilities(models: tuple[VAR, VQVAE]) -> None:
    var, vqvae = models
    labels = torch.zeros(4000, dtype=torch.long)
    first = next(generate(var, vqvae.quantize, labels, range(4000), SamplingConfig(guidance=0)))
    wanted = first.logits[0, 0].softmax(dim=-1)
    counts = torch.bincount(first.tokens[:, 0], minlength=32)
    chi_squared = ((counts - 4000 * wanted) ** 2 / (4000 * wanted)).sum().item()
    assert chi_squared < 62  # 31 degrees of freedom: exceeded with probability 0.001


def test_guidance_moves_logits_away_from_the_unconditional(models: tuple[VAR, VQVAE]) -> None:
    var, vqvae = models
    labels = torch.tensor([1])
    plain = list(generate(var, vqvae.quantize, labels, [0], SamplingConfig(guidance=0, top_k=1)))
    guided = list(generate(var, vqvae.quantize, labels, [0], SamplingConfig(guidance=2, top_k=1)))
    assert torch.equal(plain[0].logits, guided[0].logits)  # guidance is 0 at the first scale
    assert not torch.allclose(plain[1].logits, guided[1].logits)


def test_a_diverged_model_still_draws_tokens() -> None:
    """Its size is recorded as diverged; sampling must not hide that behind an error of its own."""
    nothing = torch.full((1, 3, 6), torch.nan)
    for sampling in (SamplingConfig(), SamplingConfig(top_k=4), SamplingConfig(top_p=0.9)):
        tokens = _draw(nothing, sampling, [torch.Generator().manual_seed(0)])
        assert ((tokens >= 0) & (tokens < 6)).all()
