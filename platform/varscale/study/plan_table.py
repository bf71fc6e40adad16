"""``varscale plan``: the grid of a study with its price, before anything is trained.

The time of a step is its FLOPs at a share of this machine's measured matrix-product rate, plus what every layer costs
however small it is. The constants were fitted to the cells of the quickstart, two side by side on two CPU cores
(README, "Numbers"); on another kind of machine take the time for an order of magnitude.
"""

from __future__ import annotations

import heapq
import os
import time

import torch

from varscale.plan.cells import Cell, check_frontier, make_plan
from varscale.progress import clock
from varscale.spec.study import Study
from varscale.study import stages
from varscale.study.paths import StudyPaths
from varscale.study.placement import waves
from varscale.study.tokenizer_plan_table import encoding_flops

UTILISATION = 0.475
"""Share of the matrix-product rate of one otherwise idle core that layers reach while all cores are busy."""
SECONDS_PER_LAYER = 0.0085
"""What a layer adds to each step, forward and backward."""
SECONDS_PER_CELL = 15.0
"""Start-up, sampling and tear-down of a run."""


def plan_table(study: Study, paths: StudyPaths) -> str:
    """The grid as text: N both ways, tokens, FLOPs (attention dense, and as executed), learning rate, workers, ZeRO
    stage, memory and predicted time.

    Raises:
        UserError: as for a run: the plan is the same.
    """
    found = stages.find(study, paths.store)
    cells = make_plan(study, found.expected_inputs)
    check_frontier(cells)
    rate = matrix_product_rate()
    encoding = encoding_flops(found.shape) if study.data.encoding == "every_step" else 0
    head = (
        f"{'cell':<8}{'N paper':>13}{'N exact':>13}{'width':>7}{'steps':>8}{'batch':>7}{'lr':>10}"
        f"{'tokens':>10}{'FLOPs':>10}{'executed':>10}{'workers':>9}{'ZeRO':>6}{'MiB':>8}{'time':>9}"
    )
    lines = [head, *(_line(cell, rate, encoding) for cell in cells)]
    total_flops = sum(cell.flops for cell in cells)
    span = cells[-1].costs.n_paper / cells[0].costs.n_paper
    expected = clock(makespan(cells, rate, encoding))
    lines.append(
        f"{len(cells)} sizes spanning {span:,.0f}× in N; {total_flops:.2e} FLOPs; about"
        f" {expected} on this machine ({os.cpu_count()} CPUs, {rate / 1e9:.0f} GFLOP/s each)"
    )
    if encoding:
        share = encoding * sum(cell.images for cell in cells) / total_flops
        lines.append(
            f"every step encodes its crops anew: {encoding / 1e9:.3g} GFLOP an image, {share:.0%} on top of these"
            " FLOPs; the times have it"
        )
    lines.append(f"store: {paths.store}    records: {paths.records}")
    return "\n".join(lines)


def _line(cell: Cell, rate: float, encoding: int) -> str:
    executed = cell.costs.executed_flops_per_image * cell.images
    return (
        f"{cell.name:<8}{cell.costs.n_paper:>13,}{cell.costs.n_params:>13,}{cell.shape.width:>7}{cell.steps:>8}{cell.batch:>7}"
        f"{cell.lr:>10.2e}{cell.tokens:>10.2e}{cell.flops:>10.2e}{executed:>10.2e}{cell.resources.workers:>9}{cell.zero_stage:>6}"
        f"{cell.memory_bytes / 2**20:>8.0f}{clock(cell_seconds(cell, rate, encoding)):>9}"
    )


def cell_seconds(cell: Cell, rate: float, encoding: int = 0) -> float:
    """Predicted seconds of a cell's training and what stands around it.

    Args:
        rate: FLOP/s of one CPU.
        encoding: FLOPs of the tokenizer an image, where training encodes as it goes.
    """
    flops_per_step = (cell.costs.flops_per_image + encoding) * cell.batch
    cpus = cell.resources.workers * cell.resources.cpus_per_worker
    step = SECONDS_PER_LAYER * cell.depth + flops_per_step / (UTILISATION * rate * cpus)
    return SECONDS_PER_CELL + cell.steps * step


def makespan(cells: tuple[Cell, ...], rate: float, encoding: int = 0) -> float:
    """Seconds until the last cell ends, on this machine, in the waves that a run would train; as cell_seconds."""
    offered = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.accelerator.device_count())}
    total = 0.0
    for wave in waves(sorted(cells, key=lambda cell: -cell.flops), offered):
        free_at = [0.0] * wave.at_once
        for cell in wave.cells:
            heapq.heapreplace(free_at, free_at[0] + cell_seconds(cell, rate, encoding))
        total += max(free_at)
    return total


def matrix_product_rate(side: int = 1024, seconds: float = 0.3) -> float:
    """FLOP/s of float32 matrix products on one thread of this machine: the best of several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, best = torch.randn(side, side), float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(threads)
    return 2 * side**3 / best
