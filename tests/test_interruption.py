"""What a signal does to a command, in a process of its own, without Ray."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from varscale.interruption import interruptible

WAITS = """
import subprocess, sys, threading, time
from varscale import interruption
from varscale.interruption import interruptible, on_interrupt, stage

def work():
    with on_interrupt(close), stage("waiting", lambda: "7 of 9 rows"):
        child = subprocess.Popen(["sleep", "60"])
        print(child.pid, flush=True)
        while True:
            time.sleep(1)

def close():
    {close}

interruption.CLOSING_S = 2
interruptible(work)
"""
INT, TERM = signal.SIGINT, signal.SIGTERM
STANDS = "interrupted in waiting: 7 of 9 rows; run the same command again to go on"


def interrupted(close: str, *pauses: float, number: signal.Signals = INT) -> tuple[int, str, float]:
    """Exit code, stderr and seconds of a command that gets a signal and, after each pause, another."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS.format(close=close)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())  # type: ignore[union-attr]
    since = time.monotonic()
    process.send_signal(number)
    for pause in pauses:
        time.sleep(pause)
        process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert not _runs(child)
    return process.returncode, said, time.monotonic() - since


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("number", [INT, TERM])
def test_it_closes_tells_where_it_stands_and_ends_its_children(number: signal.Signals) -> None:
    assert interrupted("print('nobody hears this')", number=number)[:2] == (128 + number, f"{STANDS}\n")


def test_what_cannot_be_closed_is_said() -> None:
    code, said, _ = interrupted("raise OSError('no way')")
    assert (code, said) == (130, f"{STANDS} (not closed, so the records may say running: OSError: no way)\n")


def test_what_does_not_answer_holds_nobody_up() -> None:
    code, said, seconds = interrupted("time.sleep(60)")
    assert (code, said) == (130, f"{STANDS} (not closed, so the records may say running: no answer within 2 s)\n")
    assert seconds < 6


def test_signals_close_together_are_one_and_a_later_one_ends_it_at_once() -> None:
    assert interrupted("time.sleep(1)", 0, 0.1)[:2] == (130, f"{STANDS}\n")
    code, said, seconds = interrupted("time.sleep(60)", 0.8)
    assert (code, said) == (130, "")
    assert seconds < 2


def test_uninterrupted_work_gives_its_result_or_its_error_and_the_handlers_back() -> None:
    before = signal.getsignal(INT), signal.getsignal(TERM)
    assert interruptible(lambda: 7) == 7
    with pytest.raises(KeyError, match="gone"):
        interruptible(lambda: {}["gone"])
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == before
