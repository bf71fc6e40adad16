"""Cross-entropy of a linear head without the logits of all tokens in memory.

Rows go through the head in chunks; each chunk's logits become, in place, the gradient that the two products of the
backward pass need, and are gone before the next chunk.
"""

from __future__ import annotations

from typing import Any

import torch

from varscale.models.linear import linear
from varscale.models.shapes import MAX_HEAD_ROWS


def linear_cross_entropy(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Mean over rows of cross_entropy(x weightᵀ + bias, target), a float32 scalar.

    x [M, C], weight [V, C], bias [V], target int64 [M]. The products run in autocast's dtype where it is on; the
    softmax and the sums over chunks are float32.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        return _LinearCrossEntropy.apply(x, weight, bias, target, dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    """Gradients are made in the forward pass, for a loss that is the end of the graph; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, target: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        dx, d_weight, d_bias = torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        loss = torch.zeros((), device=x.device)
        weight, bias = weight.to(dtype), bias.to(dtype)
        chunks = -(-len(x) // MAX_HEAD_ROWS)  # smaller chunks make smaller, slower products
        for rows, targets, d_rows in zip(x.chunk(chunks), target.chunk(chunks), dx.chunk(chunks), strict=True):
            inputs = rows.to(dtype)
            grad, chunk_loss = _logit_gradient(linear(inputs, weight, bias), targets)
            loss += chunk_loss
            d_rows.copy_(linear(grad, weight.mT, None))
            d_weight += linear(grad.mT, inputs.mT, None)
            d_bias += grad.sum(dim=0)
        ctx.save_for_backward(dx, d_weight, d_bias)
        ctx.rows = len(x)
        return loss / len(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dx, d_weight, d_bias = ctx.saved_tensors
        scale = grad / ctx.rows
        return dx * scale, d_weight * scale, d_bias * scale, None, None


def _logit_gradient(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(logits) - onehot(target) in the logits' dtype, and the summed loss."""
    log_p = logits.log_softmax(dim=-1, dtype=torch.float32)
    index = target[:, None]
    loss = -log_p.gather(-1, index).sum()
    gradient = log_p.exp_().scatter_add_(-1, index, log_p.new_full(index.shape, -1.0))
    return gradient.to(logits.dtype), loss
