"""Ray for the length of a block: the cluster this job runs on, or a private one on this machine."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from varscale.errors import EnvironmentalError
from varscale.interruption import end_children, on_interrupt
from varscale.logs import WORKER_SETUP

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # workers would run niced, behind everything else on the machine
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report waits for the next check: 2 s by default
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow is the record
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a job's PYTHONPATH is relative to its working folder
}
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
    where: AbstractContextManager[dict[str, Any]]
    where = nullcontext({"address": address, "runtime_env": _runtime(settings)}) if address else _private(settings)
    with where as options:
        try:
            ray.init(**options, **common)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise EnvironmentalError(f"Ray at {address or 'this machine'}: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _private(settings: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Options of ``ray.init`` for a Ray of this process's own, and a scratch folder while the block runs.

    Its processes are in groups of their own: what a terminal or ``timeout`` sends to this process's group reaches this
    one alone, which ends them when its records are closed.
    """
    from ray._private import services

    services.ConsolePopen = partial(subprocess.Popen, process_group=0)
    scratch, port = _scratch_folder(), _free_port()
    # Trainers ask the state API about their controller; without this address they search for a cluster, and every
    # tear-down waits 12 s for it.
    env = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}", **settings, **_package_path()}
    env["TMPDIR"] = os.environ.get("TMPDIR", str(scratch))  # so that half a checkpoint goes with the session
    try:
        with on_interrupt(partial(_end_session, scratch)):
            dashboard = {"dashboard_host": "127.0.0.1", "dashboard_port": port}
            yield {"address": "local", "runtime_env": _runtime(env), "_temp_dir": str(scratch), **dashboard}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _end_session(scratch: Path) -> None:
    """Nothing of an interrupted private Ray is worth an orderly end: its workers may wait for each other."""
    end_children()
    shutil.rmtree(scratch, ignore_errors=True)


def _runtime(env: dict[str, str]) -> dict[str, Any]:
    return {"env_vars": env, **WORKER_SETUP}


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
