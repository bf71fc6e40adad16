"""``varscale doctor``: does this machine have what a study needs? One line per check, real components in each."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("torch", "ray", "deepspeed", "mlflow", "pyarrow")


def examine() -> bool:
    """Run all checks and print their outcome; True if all passed."""
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("packages", _packages),
        ("platform module", _platform_module),
        ("devices", _devices),
        ("disk", _disk),
        ("deepspeed", _deepspeed),
        ("mlflow", _mlflow),
        ("ray", _ray),
    )
    outcomes = [_report(name, check) for name, check in checks]  # all of them, also after a failure
    return all(outcomes)


def _report(name: str, check: Callable[[], str]) -> bool:
    try:
        print(f"ok    {name:<16} {check()}", flush=True)
    except Exception as error:  # a check may fail in any way, and the others are still wanted
        print(f"FAIL  {name:<16} {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return False
    return True


def _packages() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def _platform_module() -> str:
    """The folder platform/ must not shadow the standard library's module of that name."""
    import platform

    return f"standard library, {platform.platform()}"


def _devices() -> str:
    import os

    import torch

    if torch.accelerator.is_available():
        return f"{torch.accelerator.device_count()} × {torch.accelerator.current_accelerator()}"
    return f"{os.cpu_count()} CPUs, no accelerator"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < 1:
        raise OSError(f"{free:.1f} GiB free here; a study wants at least 1")
    with tempfile.NamedTemporaryFile(dir=Path.cwd()) as probe:
        probe.write(b"x")
    return f"{free:.0f} GiB free, writable"


def _deepspeed() -> str:
    import torch

    from varscale.train.engine import import_deepspeed

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    deepspeed = import_deepspeed(device or torch.device("cpu"))
    return f"accelerator {deepspeed.accelerator.get_accelerator().device_name()}, nothing compiled"


def _mlflow() -> str:
    from lawfit.records import schema
    from varscale.locations import Location
    from varscale.tracking import Recorder

    with tempfile.TemporaryDirectory() as folder:
        artifact = Location.of(folder) / "probe.txt"
        artifact.write_bytes(b"probe")
        recorder = Recorder(f"sqlite:///{folder}/probe.db", "probe", (Path(folder) / "artifacts").as_uri())
        run = recorder.open_run("probe", "probe", {}, {})
        recorder.log(run, 1, {"probe": 1.0})
        recorder.log_files(run, [artifact])
        recorder.close(run, schema.STATE_FINISHED)
    return "database, metrics and artifacts written"


def _ray() -> str:
    from varscale.ray_session import connected

    with connected():
        import ray

        offered = ray.cluster_resources()
        assert ray.get(ray.remote(num_cpus=1)(_twice).remote(21)) == 42
        return f"{offered.get('CPU', 0):g} CPUs, {offered.get('GPU', 0):g} GPUs, a task ran"


def _twice(x: int) -> int:
    return 2 * x
