"""DeepSpeed ZeRO behind four verbs: step, gather, save, load. The only file that imports it; it knows no model.

An optimizer of torch goes in as client optimizer and no DeepSpeed extension is compiled: on a fresh machine a JIT build
would hold everyone up for a minute.
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

from varscale.plan.batch_split import BatchSplit
from varscale.train.state import load_parts, save_part

PARTS = "rank_*.safetensors"


@dataclass(frozen=True)
class EngineSettings:
    """What an engine must know of a training."""

    clip: float
    """Largest global gradient norm."""
    split: BatchSplit
    zero_stage: int
    """0 replicates everything; the caller may then change weights between steps."""
    precision: str
    """fp32, or bf16: autocast, with weights and moments in float32."""


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
        model: on ``device``, with the same weights on every rank; parameters without gradient stay as they are.
        optimizer: of the model's trained parameters, in groups that say ``decayed`` and may say ``lr_scale``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: EngineSettings,
        device: torch.device,
    ) -> None:
        self._deepspeed = import_deepspeed(device)
        self._deepspeed.init_distributed(dist_backend=dist.get_backend())
        self._engine, *_ = self._deepspeed.initialize(
            model=model, optimizer=optimizer, config=_config(settings), dist_init_required=False
        )
        self._stage, self._clip = settings.zero_stage, settings.clip

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
            group["lr"] = lr * group.get("lr_scale", 1.0)
            group["weight_decay"] = weight_decay if group["decayed"] else 0.0
        losses = []
        grad_norm = 0.0
        for micro_batch in micro_batches:
            value = loss(self._engine, micro_batch)
            self._engine.backward(value)
            if self._stage == 0 and self._engine.is_gradient_accumulation_boundary():
                grad_norm = float(torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._clip))
            self._engine.step()
            losses.append(value.detach())
        if self._stage > 0:
            grad_norm = float(self._engine.get_global_grad_norm() or 0.0)
        return StepResult(torch.stack(losses).mean(), grad_norm)

    def gathered(self) -> AbstractContextManager[None]:
        """Within this, :attr:`module` holds whole parameters on every rank."""
        parameters = list(self.module.parameters())
        return self._deepspeed.zero.GatheredParameters(parameters, enabled=self._stage == 3)

    def full_state_dict(self) -> dict[str, torch.Tensor]:
        """A copy of all weights, whole, on every rank."""
        with self.gathered():
            return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write this rank's part of the state: weights, moments, step counts, buffers."""
        folder.mkdir(parents=True, exist_ok=True)
        save_part(self._engine, self._stage, folder / f"rank_{dist.get_rank():05d}.safetensors")

    def load(self, folder: Path) -> None:
        """Restore what any number of ranks wrote there with :meth:`save`, at any stage.

        Raises:
            ValueError: the parts are of another model, or not complete.
        """
        load_parts(self._engine, self._stage, sorted(folder.glob(PARTS)))


def _config(settings: EngineSettings) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": settings.split.micro_batch,
        "gradient_accumulation_steps": settings.split.accumulation,
        # At stage 0 DeepSpeed clips and keeps the norm to itself: step() does both there.
        "gradient_clipping": settings.clip if settings.zero_stage else 0.0,
        # Stage 1 copies every gradient into one buffer first, to no end while nothing is sharded (3 % of a step).
        "zero_optimization": {"stage": settings.zero_stage, "contiguous_gradients": settings.zero_stage > 1},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": settings.precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }
