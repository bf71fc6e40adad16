"""Ctrl-C and SIGTERM as a normal end of a command: one line that says where it stands and how to go on, records that
say ``interrupted``, no process left behind, exit code 128 + the signal's number. The second one ends at once.

The command works in a thread of its own while the main thread waits for signals: Ray, Tune and Train take signals for
themselves where they are called on the main thread, each to another end, and none of them to this one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CLOSING_S = 10.0
"""What is to be closed has so long; then the process ends all the same."""
ONE_PRESS_S = 0.5
"""Signals so close together are one: ``timeout`` and others send theirs to a process and again to its group."""
TAKE_BACK_S = 0.2
"""How often the signals are taken back: Ray's core takes SIGTERM when it connects."""
KILLED_S = 2.0
"""Longest wait for killed processes to be gone."""

T = TypeVar("T")
_stages: list[tuple[str, Callable[[], str]]] = []
_closings: list[Callable[[], None]] = []


class Interrupted(BaseException):
    """The user, or whoever runs this machine, wants the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stage(name: str, standing: Callable[[], str]) -> Iterator[None]:
    """What the command is at while the block runs, and how far; running it again must go on from there."""
    with _listed(_stages, (name, standing)):
        yield


@contextmanager
def on_interrupt(close: Callable[[], None]) -> Iterator[None]:
    """If the command is interrupted while the block runs, ``close`` is called from another thread, innermost first.

    The block itself is not left: the process ends where it stands.
    """
    with _listed(_closings, close):
        yield


@contextmanager
def _listed(items: list[T], item: T) -> Iterator[None]:
    items.append(item)
    try:
        yield
    finally:
        items.remove(item)


def interruptible(work: Callable[[], T], hush: bool = True) -> T:
    """``work()``, in another thread; must be called from the main thread. Interrupted, it does not return.

    Args:
        hush: let nobody but this module be heard after an interruption.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    pressed = _Press()
    try:
        _listen(pressed)
        outcome = ThreadPoolExecutor(1).submit(work)
        while not outcome.done():
            _listen(pressed)
            wait([outcome], TAKE_BACK_S)
        return outcome.result()
    except Interrupted as interrupted:
        _end(interrupted.number, hush)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


class _Press:
    """Handler of the signals."""

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            raise Interrupted(number)
        if now - self._first > ONE_PRESS_S:
            end_children()
            os._exit(128 + number)


def _end(number: int, hush: bool) -> NoReturn:
    stderr = os.dup(2)
    if hush:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
    closing = _Closing()
    closing.start()
    closing.join(CLOSING_S)
    clear_line = "\r\033[K" if os.isatty(stderr) else ""  # over the progress and the ^C
    os.write(stderr, f"{clear_line}{closing.line()}\n".encode())
    end_children()
    os._exit(128 + number)


class _Closing(threading.Thread):
    """Asks where the command stands, then closes what is to be closed."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stage, self._standing = _stages[-1] if _stages else ("", str)
        self._stands = ""
        self._trouble = f"no answer within {CLOSING_S:g} s"

    def run(self) -> None:
        if self._stage:
            self._stands = f": {_answer(self._standing)}"
        self._trouble = "; ".join(filter(None, map(_answer, reversed(tuple(_closings)))))

    def line(self) -> str:
        """All that the user is told."""
        where = f" in {self._stage}{self._stands}" if self._stage else ""
        trouble = f" (not closed, so the records may say running: {self._trouble})" if self._trouble else ""
        return f"interrupted{where}; run the same command again to go on{trouble}"


def _answer(action: Callable[[], str | None]) -> str:
    """What ``action`` says, or what went wrong with it: the others must have their turn."""
    try:
        return action() or ""
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def end_children() -> None:
    """Kill all processes that this one started, and theirs, and wait until they are gone."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(children, timeout=KILLED_S)
