"""Block-causal attention over the token pyramid that never computes its masked part.

A token sees its own scale and all earlier ones, so the queries of a scale need the keys up to its end and no mask at
all: 62 % of the dense products at the 256 px geometry. Small scales share a span, whose mask is cut from the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from varscale.models.shapes import Span


def block_causal_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor, spans: Sequence[Span]
) -> torch.Tensor:
    """softmax(q kᵀ + bias) v, with q already scaled; q, k, v and the result [B, H, L, D], bias additive [1, 1, L, L].

    On a CPU the fused kernel is slower than batched products that keep the weights for the backward pass
    (``benchmarks/train_step.py``); elsewhere each span without a mask gets the device's flash kernel.
    """
    if q.device.type == "cpu":
        return _SpanAttention.apply(q, k, v, bias, spans)
    parts = []
    for span in spans:
        rows, keys = slice(span.begin, span.end), slice(span.end)
        mask = bias[:, :, rows, keys].to(q.dtype) if span.masked else None
        parts.append(F.scaled_dot_product_attention(q[:, :, rows], k[:, :, keys], v[:, :, keys], mask, scale=1.0))
    return torch.cat(parts, dim=2)


def full_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q kᵀ) v with every query seeing every key: q [B, H, l, D], k and v [B, H, L, D] -> [B, H, l, D]."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
    scores = torch.bmm(q.reshape(-1, *q.shape[2:]), k.flatten(0, 1).mT)
    return torch.bmm(torch.softmax(scores, dim=-1), v.flatten(0, 1)).view(q.shape)


class _SpanAttention(torch.autograd.Function):
    """The same by batched matrix products over B·H, the softmax weights of each span kept for backward."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor, spans: Sequence[Span]
    ) -> torch.Tensor:
        shape = q.shape
        q, k, v = (t.reshape(-1, *shape[2:]) for t in (q, k, v))
        out, weights = torch.empty_like(q), []
        with torch.autocast("cpu", enabled=False):
            for span in spans:
                rows, keys = slice(span.begin, span.end), slice(span.end)
                scores = torch.bmm(q[:, rows], k[:, keys].mT)
                if span.masked:
                    scores += bias[0, :, rows, keys]
                weights.append(torch.softmax(scores, dim=-1, out=scores))
                out[:, rows] = torch.bmm(scores, v[:, keys])
        ctx.save_for_backward(q, k, v, *weights)
        ctx.spans, ctx.shape = spans, shape
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, *weights = ctx.saved_tensors
        grad = grad.reshape(q.shape)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for span, weight in zip(ctx.spans, weights, strict=True):
            rows, keys = slice(span.begin, span.end), slice(span.end)
            dv[:, keys] += torch.bmm(weight.mT, grad[:, rows])
            d_weight = torch.bmm(grad[:, rows], v[:, keys].mT)
            d_scores = torch._softmax_backward_data(d_weight, weight, -1, weight.dtype)
            dq[:, rows] = torch.bmm(d_scores, k[:, keys])
            dk[:, keys] += torch.bmm(d_scores.mT, q[:, rows])
        return dq.view(ctx.shape), dk.view(ctx.shape), dv.view(ctx.shape), None, None
