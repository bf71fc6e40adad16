"""The small study that the end-to-end tests run, and the shell they run it in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "sizes.depths=[1, 2, 3]",
    "resources.by_depth={3: {workers: 2}}",
    "data.views=1",
    "budget.images=1024",
    "evaluation={points: 4, images: 64, cfg: 1.5}",
    "checkpoints={every_steps: 16}",
]
"""Overrides that turn the quickstart into three sizes of 64 steps, the largest on two workers."""


def small_run(store: Path, *overrides: str, verb: str = "run") -> list[str]:
    """Arguments of ``varscale run`` (or another verb) for a small study in ``store``."""
    chosen = [f"store={store}", *SMALL, *overrides]
    return [verb, "studies/quickstart.yaml", *(part for override in chosen for part in ("--set", override))]


def environment() -> dict[str, str]:
    """As a user's shell with the environment activated."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
    return {**inherited, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def wait_for_checkpoint(store: Path, study: str, process: subprocess.Popen) -> None:
    """Until a checkpoint of anything under ``study`` is complete."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for snapshot in store.glob(f"checkpoints/{study}/*/checkpoint_manager_snapshot.json"):
            if "step_" in snapshot.read_text():
                return
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.05)
    raise AssertionError("no checkpoint within 240 s")


def wait_until_ray_is_gone(pid: int) -> None:
    """Until the private Ray of a killed process has ended: until then its workers go on and write checkpoints."""
    (scratch,) = Path("/tmp").glob(f"vs-{pid}-*")
    deadline = time.monotonic() + 60
    while _ray_processes(scratch):
        assert time.monotonic() < deadline, "Ray outlived its driver"
        time.sleep(0.5)


def _ray_processes(scratch: Path) -> list[str]:
    """Command lines of running processes that name a session's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(scratch) in command:
            found.append(command)
    return found
