"""DeepSpeed ZeRO behind four verbs: step, gather, save, load. The only file that imports it.

A torch AdamW goes in as client optimizer and no DeepSpeed extension is compiled: on a fresh machine a JIT build would
hold everyone up for a minute.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from varscale.models.var import is_decayed
from varscale.plan import Cell

STATE_TAG = "state"


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step says of itself."""

    loss: torch.Tensor
    """Mean over this worker's images, scalar, on the device."""
    grad_norm: float
    """Global, before the clip."""


def import_deepspeed(device: torch.device) -> Any:
    """The deepspeed package, set up for ``device`` and kept from compiling extensions."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    import deepspeed
    import deepspeed.ops
    from deepspeed.utils import logger

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else compiled at initialisation; gloo serves
    logger.setLevel(logging.WARNING)
    return deepspeed


class ZeroEngine:
    """A model under DeepSpeed ZeRO. All ranks of the torch process group, initialised before, build it and call its
    methods together.

    Args:
        model: on ``device``, with the same weights on every rank.
        cell: batch split, ZeRO stage, precision, optimizer.
    """

    def __init__(self, model: torch.nn.Module, cell: Cell, device: torch.device) -> None:
        self._deepspeed = import_deepspeed(device)
        self._deepspeed.init_distributed(dist_backend=dist.get_backend())
        optimizer = torch.optim.AdamW(_parameter_groups(model), lr=cell.lr, betas=cell.optimizer.betas, fused=True)
        self._engine, *_ = self._deepspeed.initialize(
            model=model, optimizer=optimizer, config=_config(cell), dist_init_required=False
        )
        self._stage = cell.zero_stage

    @property
    def module(self) -> torch.nn.Module:
        """The model inside; its parameters are whole only below stage 3 or under :meth:`gathered`."""
        return self._engine.module

    def step(
        self, micro_batches: Iterable[Any], loss: Callable[[Any, Any], torch.Tensor], lr: float, weight_decay: float
    ) -> StepResult:
        """One optimizer step over the accumulated ``micro_batches``.

        Args:
            loss: ``loss(model, micro_batch)`` -> scalar mean over the micro-batch.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
            group["weight_decay"] = weight_decay if group["decayed"] else 0.0
        losses = []
        for micro_batch in micro_batches:
            value = loss(self._engine, micro_batch)
            self._engine.backward(value)
            self._engine.step()
            losses.append(value.detach())
        return StepResult(torch.stack(losses).mean(), float(self._engine.get_global_grad_norm() or 0.0))

    def gathered(self) -> AbstractContextManager[None]:
        """Within this, :attr:`module` holds whole parameters on every rank."""
        parameters = list(self.module.parameters())
        return self._deepspeed.zero.GatheredParameters(parameters, enabled=self._stage == 3)

    def full_state_dict(self) -> dict[str, torch.Tensor]:
        """A copy of all weights, whole, on every rank."""
        with self.gathered():
            return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def save(self, folder: Path, position: dict[str, int]) -> None:
        """Write this rank's part of the resumable state, with the position in training."""
        self._engine.save_checkpoint(str(folder), tag=STATE_TAG, client_state=position, save_latest=False)

    def load(self, folder: Path) -> dict[str, int]:
        """Restore what :meth:`save` wrote, for the same number of ranks; return the position."""
        path, position = self._engine.load_checkpoint(str(folder), tag=STATE_TAG)
        if path is None:
            raise FileNotFoundError(f"{folder}: no checkpoint of this engine")
        return position


def _parameter_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    groups = ((decayed, [p for name, p in named if is_decayed(name, p) == decayed]) for decayed in (True, False))
    return [{"params": params, "decayed": decayed} for decayed, params in groups]


def _config(cell: Cell) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": cell.micro_batch,
        "gradient_accumulation_steps": cell.accumulation,
        "gradient_clipping": cell.optimizer.clip,
        # Stage 1 copies every gradient into one buffer first, to no end while nothing is sharded (3 % of a step).
        "zero_optimization": {"stage": cell.zero_stage, "contiguous_gradients": cell.zero_stage > 1},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": cell.precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }
