"""A tokenizer's optimizer: AdamW, and Muon for convolutions where asked, as one, so that an engine saves it as one.

Muon (Jordan et al. 2024) makes the momentum of a weight orthogonal before each update: all its directions move alike,
where AdamW lets a few dominate. torch's own step does the work; it wants matrices, and gets each convolution as
[output channels, the rest]. Updates have the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so its learning
rates fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from varscale.models.decay import groups_by_decay
from varscale.spec.tokenizer import TokenizerRecipe
from varscale.train.tokenizer.objective import TokenizerObjective

NOT_MATRICES = ("encoder.conv_in.", "decoder.conv_out.", "quantize.")
"""The layers at RGB, and φ."""


class MuonAdamW(torch.optim.AdamW):
    """AdamW, but groups with ``momentum`` hold weights [out, in, h, w] that take Muon's step."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on all gradients; those of Muon's groups are then gone, so that AdamW passes their weights by."""
        for group in self.param_groups:
            if "momentum" in group:
                self._muon_step(group)
        return super().step(closure)

    def _muon_step(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        matrices = [_as_matrix(weight) for weight in weights]
        settings = {name: group[name] for name in ("lr", "weight_decay", "momentum")}
        muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **settings)
        for weight, matrix in zip(weights, matrices, strict=True):
            muon.state[matrix]["momentum_buffer"] = _columns(self._mean(weight), weight)
        muon.step()
        for weight in weights:
            weight.grad = None

    def _mean(self, weight: torch.Tensor) -> torch.Tensor:
        """The gradient's running mean, laid out as the weight; AdamW asks for ``step`` in every state it restores."""
        state = self.state[weight]
        if not state:
            state["step"], state["mean"] = torch.zeros(()), torch.zeros_like(weight)
        state["step"] += 1
        return state["mean"]


def _columns(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A tensor of the weight's shape as matrix, columns in the order of the weight's memory."""
    columns = (0, 1, 2, 3) if weight.is_contiguous() else (0, 2, 3, 1)
    return tensor.permute(columns).reshape(len(weight), -1)


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """A view of the weight as matrix with its gradient."""
    matrix = _columns(weight, weight).detach()
    matrix.grad = _columns(weight.grad, weight) if weight.grad is not None else None
    return matrix


def tokenizer_optimizer(objective: TokenizerObjective, recipe: TokenizerRecipe) -> MuonAdamW:
    """The optimizer of a recipe: codes with their own learning rate, convolutions with Muon if it is on."""
    codes = objective.tokenizer.quantize.embedding.weight
    matrices = {
        id(parameter)
        for name, parameter in objective.tokenizer.named_parameters()
        if recipe.muon and parameter.dim() == 4 and not name.startswith(NOT_MATRICES)
    }
    groups = []
    for group in groups_by_decay(objective):
        rest = [p for p in group["params"] if id(p) not in matrices and p is not codes]
        groups.append({**group, "params": rest})
    groups.append({"params": [codes], "decayed": False, "lr_scale": recipe.codebook_lr_scale})
    if recipe.muon:
        chosen = [p for p in objective.parameters() if id(p) in matrices]
        scale = recipe.muon.lr / recipe.lr
        groups.append({"params": chosen, "decayed": True, "lr_scale": scale, "momentum": recipe.muon.momentum})
    return MuonAdamW(groups, lr=recipe.lr, betas=recipe.betas)
