"""AdamW, and Muon beside it, in one optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from varscale.train.tokenizer.optimizer import MuonAdamW


def gradients() -> list[torch.Tensor]:
    return list(torch.randn(3, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolutions_take_the_steps_of_torchs_muon(layout: torch.memory_format) -> None:
    start = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    weight = nn.Parameter(start.clone().to(memory_format=layout))
    ours = MuonAdamW([{"params": [weight], "momentum": 0.9, "weight_decay": 0.1, "lr": 0.5}])
    matrix = nn.Parameter(start.view(4, 18).clone())
    theirs = torch.optim.Muon([matrix], 0.5, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients():
        weight.grad, matrix.grad = gradient.clone(), gradient.reshape(4, 18).clone()
        ours.step()
        theirs.step()
    assert (weight - matrix.view(4, 2, 3, 3)).abs().max() < 0.02  # bfloat16 inside: the order of columns rounds
    assert (weight - start).abs().max() > 0.5


def test_the_other_groups_are_left_to_adamw() -> None:
    def stepped(with_muon: bool) -> torch.Tensor:
        torch.manual_seed(0)
        convolution, vector = nn.Parameter(torch.randn(4, 2, 3, 3)), nn.Parameter(torch.randn(5))
        groups = [{"params": [vector]}, *([{"params": [convolution], "momentum": 0.9}] if with_muon else [])]
        optimizer = MuonAdamW(groups, lr=0.1) if with_muon else torch.optim.AdamW(groups, lr=0.1)
        for step, gradient in enumerate(gradients()):
            convolution.grad, vector.grad = gradient, torch.arange(5.0) - step
            optimizer.step()
        return vector.detach()

    assert torch.equal(stepped(True), stepped(False))
