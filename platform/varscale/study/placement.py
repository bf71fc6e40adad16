"""Where cells go: what the cluster offers, whether a study fits, which cells train side by side."""

from __future__ import annotations

from dataclasses import dataclass

from varscale.errors import UserError
from varscale.plan.cells import Cell

KINDS = ("CPU", "GPU")


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
