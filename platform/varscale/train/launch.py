"""A cell as a Ray Train run: its workers, their resources, where checkpoints go, how often it restarts."""

from __future__ import annotations

from pathlib import Path

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from varscale.spec import Checkpoints
from varscale.train.worker import CellJob, run_rank


def launch(job: CellJob, checkpoints: Checkpoints, folder: Path) -> None:
    """Train a cell to its end, inside a Tune trial; goes on from the latest checkpoint in ``folder``.

    Raises:
        ray.train.TrainingFailedError: the workers failed more often than ``checkpoints.max_failures``.
    """
    resources = job.cell.resources
    TorchTrainer(
        run_rank,
        train_loop_config=job,
        torch_config=TorchConfig(backend=None if resources.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=_per_worker(resources.cpus_per_worker, resources.gpus_per_worker),
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            checkpoint_config=CheckpointConfig(num_to_keep=checkpoints.keep),
            failure_config=FailureConfig(max_failures=checkpoints.max_failures),
        ),
    ).fit()


def _per_worker(cpus: int, gpus: int) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
