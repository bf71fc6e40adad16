"""Work in parts: as Ray tasks over the whole cluster where Ray is up, else here, one part after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(work: Callable[[Any, Item], Result], shared: Any, parts: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """``work(shared, part)`` for every part, in the order in which they end; one CPU each.

    Args:
        shared: what all parts need; it is sent once per node, not once per part.
    """
    if not ray.is_initialized():
        for part in parts:
            yield part, work(shared, part)
        return
    task, held = ray.remote(work), ray.put(shared)
    pending = {task.remote(held, part): part for part in parts}
    while pending:
        (ready,), _ = ray.wait(list(pending))
        yield pending.pop(ready), ray.get(ready)
