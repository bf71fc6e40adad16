"""What the benchmarks share: the published geometry, the machine's matrix-product peak, a clean process."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from varscale.plan.cells import Cell, Inputs, make_plan
from varscale.spec.files import load_study

ROOT = Path(__file__).resolve().parents[1]
SCALES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
T = TypeVar("T")


def cell(depth: int, batch: int, **engine: Any) -> Cell:
    """One size at the published 256 px geometry (L = 680, V = 4096, 1000 classes); ``engine`` as in a study."""
    study = load_study(
        ROOT / "studies" / "quickstart.yaml",
        [
            f"sizes={{depths: [{depth}], aspect: 64}}",
            f"optimizer={{batch: {batch}, peak_lr: 1.0e-4, adaln_gamma: 0.5}}",
            f"engine={json.dumps(engine)}",
            "resources={workers: 1, memory_gib: 64}",
        ],
    )
    return make_plan(study, Inputs(1000, 4096, 32, SCALES_256, ""))[0]


def matrix_peak(dtype: torch.dtype = torch.float32, side: int = 2048, tries: int = 12) -> float:
    """FLOP/s of the best of several matrix products on all threads of this process."""
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b) for _ in range(tries))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], tries: int = 7) -> float:
    """Median wall time of several calls, after one that is not counted."""
    work()
    return statistics.median(seconds(work) for _ in range(tries))


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """The result of a module-level function in a new interpreter, so that peaks of memory are its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class Memory:
    """Growth of this process's resident memory since the object was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        self._before = _status("VmRSS")

    def peak(self) -> int:
        """Bytes above the beginning at the highest point so far."""
        return _status("VmHWM") - self._before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
