"""Validation loss and error of a model, over all tokens and the last scale (docs/MODEL.md 3.2)."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from lawfit.records import schema
from varscale.families.catalogue import family_of
from varscale.models.quantizer import MultiScaleQuantizer
from varscale.models.store import StoredModel


@torch.no_grad()
def validation_metrics(
    model: StoredModel,
    quantizer: MultiScaleQuantizer,
    tokens: np.ndarray,
    labels: np.ndarray,
    batch: int,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, float]:
    """Losses in nats per token and errors in percent, over all tokens and over the last scale, in float32.

    Every label counts: unlike the reference, evaluation drops none. Each rank computes every ``world_size``-th batch
    and all get the same result; ranks call this together.

    Args:
        tokens: uint16 [N, L].
        labels: int64 [N].
    """
    family, device = family_of(model), next(model.parameters()).device
    was_training = model.training
    model.eval()
    last = quantizer.slices[-1]
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    rounds = -(-len(labels) // (batch * world_size))
    for i in range(rounds):  # as many forward passes on every rank: sharded parameters are gathered together
        start = (i * world_size + rank) * batch
        rows = slice(start, start + batch) if start < len(labels) else slice(0, 1)
        target = torch.from_numpy(tokens[rows].astype(np.int64)).to(device)
        logits = family.logits(model, quantizer, target, torch.from_numpy(labels[rows]).to(device))
        if start < len(labels):
            loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
            wrong = logits.argmax(dim=-1) != target
            parts = (loss, loss[:, last], wrong, wrong[:, last])
            sums += torch.stack([part.sum(dtype=torch.float64) for part in parts])
    model.train(was_training)
    if world_size > 1:
        dist.all_reduce(sums)
    all_tokens, last_tokens = tokens.size, len(labels) * (last.stop - last.start)
    loss, loss_last, error, error_last = sums.tolist()
    return {
        schema.VAL_LOSS: loss / all_tokens,
        schema.VAL_LOSS_LAST: loss_last / last_tokens,
        schema.VAL_ERROR: 100 * error / all_tokens,
        schema.VAL_ERROR_LAST: 100 * error_last / last_tokens,
    }
