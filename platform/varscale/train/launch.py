"""A training as a Ray Train run: its workers, their resources, where checkpoints go, how often it restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from varscale.device import keep_freed_memory
from varscale.spec.study import Checkpoints
from varscale.train.peers import Place


@dataclass(frozen=True)
class Workers:
    """How many, and what each gets."""

    count: int
    cpus: int
    gpus: int


def enter_rank(cpus: int) -> Place:
    """On a worker: set its memory and threads up for ``cpus`` CPUs, and say where it stands among its peers."""
    keep_freed_memory()
    torch.set_num_threads(cpus)
    context = ray.train.get_context()
    return Place(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())


def launch(rank: Callable[[Any], None], job: Any, workers: Workers, checkpoints: Checkpoints, folder: Path) -> None:
    """Run ``rank(job)`` on every worker to its end; goes on from the latest checkpoint in ``folder``.

    Raises:
        ray.train.TrainingFailedError: the workers failed more often than ``checkpoints.max_failures``.
    """
    resources = {"CPU": workers.cpus, "GPU": workers.gpus} if workers.gpus else {"CPU": workers.cpus}
    TorchTrainer(
        rank,
        train_loop_config=job,
        torch_config=TorchConfig(backend=None if workers.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.count, use_gpu=workers.gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            checkpoint_config=CheckpointConfig(num_to_keep=checkpoints.keep),
            failure_config=FailureConfig(max_failures=checkpoints.max_failures),
        ),
    ).fit()
