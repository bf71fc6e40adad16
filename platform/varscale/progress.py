"""Progress of long work, one line at a time: what, how far, how fast, time left."""

from __future__ import annotations

import sys
import time

TERMINAL_INTERVAL_S = 0.5
LOG_INTERVAL_S = 10.0


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def say(line: str) -> None:
    """Tell the user where things stand."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """Counts units of work and prints rate and time left: in place on a terminal, every ten seconds in a log."""

    def __init__(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._first = done
        self._start = self._printed = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def advance(self, count: int, note: str = "") -> None:
        """Count ``count`` units as done; ``note`` is shown behind the figures."""
        self.done += count
        now = time.monotonic()
        if now - self._printed >= (TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S):
            self._printed = now
            self._print(now, note)

    def standing(self) -> str:
        """How much is done, of how much."""
        return f"{self.done:,} of {self.total:,} {self.unit}"

    def close(self) -> None:
        """Print the final line."""
        self._print(time.monotonic(), "")
        if self._terminal:
            print(file=sys.stderr)

    def _print(self, now: float, note: str) -> None:
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._first) / elapsed
        left = f", {clock((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""
        line = f"{self.title}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.1f}/s, {clock(elapsed)}{left}"
        line = f"{line}  {note}".rstrip()
        print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()
