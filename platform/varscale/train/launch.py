"""A training as a Ray Train run: its workers, their resources, where checkpoints go, how often it restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ray.train
import ray.train.torch
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from varscale.device import keep_freed_memory
from varscale.locations import Location
from varscale.records import report_warnings
from varscale.spec.sections import Checkpoints
from varscale.train.job import Job
from varscale.train.peers import Rank

J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Workers:
    """How many, and what each gets."""

    count: int
    cpus: int
    gpus: int


def enter_rank(job: Job, cpus: int) -> Rank:
    """On a worker: set its memory, threads (``cpus``) and warnings up, and say which rank it is."""
    report_warnings(job.records, job.run_id)
    keep_freed_memory()
    torch.set_num_threads(cpus)
    context = ray.train.get_context()
    return Rank(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())


def launch(rank: Callable[[J], None], job: J, workers: Workers, checkpoints: Checkpoints) -> str | None:
    """Run ``rank(job)`` on every worker to its end; goes on from the latest checkpoint that counts.

    Returns:
        The reason, if the workers failed more often than ``checkpoints.max_failures``; the run is then closed as
        failed.
    """
    trainer = _trainer(rank, job, workers, checkpoints)
    try:
        trainer.fit()
    except TrainingFailedError as error:
        reason = str(error).strip().splitlines()[-1]
        job.records.fail(job.run_id, reason)
        return reason
    return None


def ray_storage(folder: Location) -> dict[str, Any]:
    """What Ray's ``RunConfig`` takes for a folder it keeps things in."""
    return {"storage_path": folder.path, "storage_filesystem": None if folder.local else folder.filesystem}


def _trainer(rank: Callable[[J], None], job: J, workers: Workers, checkpoints: Checkpoints) -> TorchTrainer:
    resources = {"CPU": workers.cpus, "GPU": workers.gpus} if workers.gpus else {"CPU": workers.cpus}
    return TorchTrainer(
        rank,
        train_loop_config=job,
        torch_config=TorchConfig(backend=None if workers.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.count, use_gpu=workers.gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=job.checkpoints.name,
            **ray_storage(job.checkpoints.parent),
            checkpoint_config=CheckpointConfig(num_to_keep=checkpoints.keep),
            failure_config=FailureConfig(max_failures=checkpoints.max_failures),
        ),
    )
