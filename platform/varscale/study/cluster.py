"""Connecting to Ray: the cluster this job runs on, or a private one on this machine; and what it offers."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varscale.errors import EnvironmentalError, UserError
from varscale.plan import Cell
from varscale.tracking import Recorder

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # workers would run niced, behind everything else on the machine
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report waits for the next check: 2 s by default
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow is the record
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a job's PYTHONPATH is relative to its working folder
}
KINDS = ("CPU", "GPU")
LOCAL_SETTINGS = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}  # one machine is not taken away; saves a process a cell


@contextmanager
def connected(debug: bool = False) -> Iterator[None]:
    """Ray for the length of the block: at ``RAY_ADDRESS`` if set, as in a submitted job, else on this machine alone.

    Raises:
        EnvironmentalError: no connection, or Ray does not start.
    """
    address = os.environ.get("RAY_ADDRESS")
    settings = SETTINGS if address else SETTINGS | LOCAL_SETTINGS
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    import ray

    logging.getLogger("ray").setLevel(logging.INFO if debug else logging.ERROR)
    common = {"log_to_driver": debug, "logging_level": logging.INFO if debug else logging.ERROR}
    scratch = None if address else _scratch_folder()
    try:
        if scratch is None:
            ray.init(address=address, runtime_env={"env_vars": settings}, **common)
        else:
            port = _free_port()
            # Trainers ask the state API about their controller; without this address they search for a cluster, and
            # every tear-down waits 12 s for it.
            env = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}", **settings, **_package_path()}
            ray.init(
                address="local",
                _temp_dir=str(scratch),
                dashboard_host="127.0.0.1",
                dashboard_port=port,
                runtime_env={"env_vars": env},
                **common,
            )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise EnvironmentalError(f"Ray at {address or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _scratch_folder() -> Path:
    """A folder for this process's Ray session; those of processes that died are removed. Short: sockets' paths are."""
    for stale in Path("/tmp").glob("vs-*-*"):
        owner = stale.name.split("-")[1]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"vs-{os.getpid()}-", dir="/tmp"))


def _package_path() -> dict[str, str]:
    """Workers import the packages from where this process does."""
    roots = {str(Path(sys.modules[name].__file__ or "").parents[1]) for name in ("varscale", "lawfit")}
    return {"PYTHONPATH": os.pathsep.join([*sorted(roots), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_recorder(uri: str, experiment: str, artifact_root: str | None) -> Any:
    """Handle of a Recorder actor beside this process, which reads what it writes."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    recorder = ray.remote(num_cpus=0)(Recorder).options(scheduling_strategy=here)
    return recorder.remote(uri, experiment, artifact_root)


def largest_node_cpus() -> int:
    """CPUs of the largest node that is up."""
    import ray

    return int(max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"]))


def cluster_resources() -> dict[str, float]:
    """What the nodes that are up offer: CPUs and GPUs."""
    import ray

    offered = ray.cluster_resources()
    return {kind: offered.get(kind, 0.0) for kind in KINDS}


def demand(cell: Cell) -> dict[str, int]:
    """CPUs and GPUs of a cell's workers together."""
    resources = cell.resources
    return {"CPU": resources.workers * resources.cpus_per_worker, "GPU": resources.workers * resources.gpus_per_worker}


def check_fit(cells: tuple[Cell, ...], offered: dict[str, float]) -> None:
    """Refuse a study whose sizes this cluster could never place, instead of waiting for ever.

    Raises:
        UserError: naming the size and what is missing.
    """
    for cell in cells:
        for kind, wanted in demand(cell).items():
            if wanted > offered[kind]:
                raise UserError(
                    f"resources: {cell.name} needs {wanted} {kind} for {cell.resources.workers} workers; the cluster"
                    f" has {offered[kind]:g}. Fewer: --set resources.by_depth={{{cell.depth}: {{workers: 1}}}}"
                )


def check_workers(name: str, workers: int, cpus: int, gpus: int, offered: dict[str, float]) -> None:
    """Refuse workers, each with ``cpus`` and ``gpus``, that this cluster could never place.

    Raises:
        UserError: naming what is missing.
    """
    for kind, each in (("CPU", cpus), ("GPU", gpus)):
        if workers * each > offered[kind]:
            raise UserError(
                f"resources: {name} needs {workers * each} {kind} for {workers} workers; the cluster has"
                f" {offered[kind]:g}. Fewer: --set resources.workers=1"
            )


@dataclass(frozen=True)
class Wave:
    """Cells that train side by side."""

    cells: tuple[Cell, ...]
    at_once: int


def waves(cells: list[Cell], offered: dict[str, float]) -> list[Wave]:
    """Cells that need more than half of the cluster one by one, then the others as many at once as fit.

    Trials race for resources: a large cell among small ones could wait until all of them are done, while what they
    leave free stands idle.
    """
    large = [cell for cell in cells if _at_once(cell, offered) == 1]
    small = tuple(cell for cell in cells if cell not in large)
    alone = [Wave((cell,), 1) for cell in large]
    return [*alone, Wave(small, max(_at_once(cell, offered) for cell in small))] if small else alone


def _at_once(cell: Cell, offered: dict[str, float]) -> int:
    """How many cells like this one fit at the same time, at least 1."""
    return max(1, min(int(offered[kind] // wanted) for kind, wanted in demand(cell).items() if wanted))
