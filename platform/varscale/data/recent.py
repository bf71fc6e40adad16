"""The last few things that were opened or decoded, shared by threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """At most ``limit`` values by key, the least recently used dropped first. A copy in another process starts empty.

    A value that one thread is making is waited for by the others, so none is made twice.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._held: OrderedDict[Key, Future[Value]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self._limit,)

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of ``key``, made now if it is not held; raises what ``make`` raises."""
        with self._lock:
            held = self._held.get(key)
            mine = held or Future()
            self._held[key] = mine
            self._held.move_to_end(key)
            if len(self._held) > self._limit:
                self._held.popitem(last=False)
        if held is None:
            self._fill(key, mine, make)
        return mine.result()

    def _fill(self, key: Key, future: Future[Value], make: Callable[[], Value]) -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            with self._lock:
                self._held.pop(key, None)  # the next one tries again
            future.set_exception(error)
