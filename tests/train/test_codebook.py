"""Use of codes, their revival, and averaged weights."""

from __future__ import annotations

import torch
from torch import nn

from varscale.models.shapes import VQVAEConfig
from varscale.models.vqvae import VQVAE
from varscale.train.peers import Rank
from varscale.train.tokenizer.average import AveragedModel
from varscale.train.tokenizer.codebook import CodeUsage, found_codebook, kmeans, revive

ALONE = Rank(0, 1, torch.device("cpu"))


def tokenizer() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(VQVAEConfig(32, 4, 8, (1, 1), 1, (1, 2, 4), norm_groups=4))


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_usage_is_counted_by_scale() -> None:
    model = tokenizer()
    usage = CodeUsage(model, ALONE)
    tokens = torch.zeros(2, 21, dtype=torch.long)
    tokens[0, 0], tokens[:, 5:] = 7, 9
    usage.add(tokens, step=0)
    assert usage.hits[0, [0, 7]].tolist() == [1, 1]
    assert usage.hits[1, 0].item() == 8
    assert usage.hits[2, 9].item() == 32
    assert usage.used_percent() == [100 * 2 / 32, 100 / 32, 100 / 32]
    assert torch.nonzero(~usage.dead()).flatten().tolist() == [0, 7, 9]
    assert torch.equal(model.quantize.ema_vocab_hit_SV, usage.hits.float())
    usage.add(tokens, step=1)
    assert torch.allclose(model.quantize.ema_vocab_hit_SV, usage.hits / 2)
    usage.reset()
    assert usage.dead().all()


def test_revived_codes_stand_on_residuals_and_the_others_stay() -> None:
    model, batch = tokenizer(), images(4)
    pool = model.quantize.residuals(model.encode(batch))[1].flatten(0, 1)
    before = model.quantize.embedding.weight.detach().clone()
    dead = torch.zeros(32, dtype=torch.bool)
    dead[[3, 30]] = True
    assert revive(model, [batch], dead, seed=0, step=5, rank=ALONE) == 2
    after = model.quantize.embedding.weight.detach()
    assert torch.equal(after[~dead], before[~dead])
    assert all((pool == code).all(dim=1).any() for code in after[dead])


def test_revival_is_a_function_of_seed_and_step_however_the_batch_is_cut() -> None:
    def codes(batches: list[torch.Tensor], seed: int, step: int) -> torch.Tensor:
        model = tokenizer()
        revive(model, batches, torch.ones(32, dtype=torch.bool), seed, step, ALONE)
        return model.quantize.embedding.weight.detach()

    batch = images(4)
    first = codes([batch], 0, 5)
    assert torch.allclose(codes(list(batch.split(2)), 0, 5), first, atol=1e-6)
    assert not torch.allclose(codes([batch], 0, 6), first)
    assert not torch.allclose(codes([batch], 1, 5), first)


def test_kmeans_finds_clusters_and_leaves_none_empty() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = corners.repeat_interleave(100, dim=0) + 0.1 * torch.randn(300, 2, generator=generator)
    centres = kmeans(x, 6, generator)
    assert torch.cdist(corners, centres).min(dim=1).values.max() < 0.2
    assert torch.cdist(centres, corners).min(dim=1).values.max() < 1
    assert kmeans(corners, 5, generator).shape == (5, 2)  # fewer vectors than centres


def test_a_codebook_of_the_data_keeps_it_better_than_a_random_one() -> None:
    def error(model: VQVAE) -> float:
        with torch.no_grad():
            return model.quantize(model.encode(images(64))).commitment_loss.item()

    model = tokenizer()
    before = error(model)
    found_codebook(model, [[images(32)], [images(64)[32:]]], seed=0, rank=ALONE)
    assert error(model) < before / 2
    again = tokenizer()
    found_codebook(again, [list(images(32).split(16)), [images(64)[32:]]], seed=0, rank=ALONE)
    assert torch.allclose(again.quantize.embedding.weight, model.quantize.embedding.weight, atol=1e-5)


def test_average_warms_up_then_decays() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = AveragedModel(model, decay=0.5)
    model.weight.data.fill_(1.0)
    wanted = 0.0
    for step in range(20):
        average.update(model, step)
        decay = min(0.5, (step + 1) / (step + 10))
        wanted = decay * wanted + (1 - decay)
        assert abs(average.model.weight.item() - wanted) < 1e-6
    assert not average.model.weight.requires_grad
