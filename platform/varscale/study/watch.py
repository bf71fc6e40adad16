"""RunProgress of work that others do, one line per ten seconds; and the grid's line: cells, step, loss, time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from lawfit.records import schema
from varscale.locations import Location
from varscale.plan.cells import Cell
from varscale.progress import clock, say
from varscale.records import NO_ANSWER, Records
from varscale.tracking import RunProgress
from varscale.train import checkpoint

INTERVAL_S = 10.0


class Ticker:
    """Tells of a training while the block runs, from its own thread: every ten seconds, and notices also at its end.

    Args:
        records: hold what workers want the user to hear.
        tick: tells where the training stands.
    """

    def __init__(self, records: Records, tick: Callable[[], None]) -> None:
        self._records, self._tick = records, tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._tell(lambda: None)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._tell(self._tick)

    def _tell(self, tick: Callable[[], None]) -> None:
        try:
            for notice in self._records.notices():
                say(notice)
            tick()
        except NO_ANSWER as error:  # the run itself may be well: go on watching
            say(f"no word from the recorder ({type(error).__name__})")


def run_stands(name: str, steps: int, progress: RunProgress | None, checkpoints: Location) -> str:
    """Where an open run of ``steps`` steps is, and from which step it will go on."""
    at = f"at step {progress.step:,} of {steps:,}" if progress else "starting"
    saved = checkpoint.latest_step(checkpoints)
    return f"{name} {at} ({f'saved at {saved:,}' if saved else 'nothing saved yet'})"


class GridState:
    """What to tell of a grid while it trains.

    Args:
        cells: those that will be trained.
        records: say where each open cell stands.
    """

    def __init__(self, cells: list[Cell], records: Records) -> None:
        self._cells = {cell.name: cell for cell in cells}
        self._records = records
        self._flops: dict[str, float] = {}
        self._start = time.monotonic()
        self._first: tuple[float, float] | None = None
        """When the first FLOPs were seen, and how many: start-up says nothing of the rate."""

    def print(self) -> None:
        """Print a line of where it stands."""
        say(self.line(self._records.progress()))

    def line(self, progress: dict[str, RunProgress | None]) -> str:
        """One line of the grid's state."""
        states = [self._cell_state(self._cells[name], state) for name, state in progress.items()]
        self._flops |= {name: state.metrics.get(schema.FLOPS, 0.0) for name, state in progress.items() if state}
        now, total = time.monotonic(), sum(cell.flops for cell in self._cells.values())
        done = sum(self._flops.values())
        if done and self._first is None:
            self._first = (now, done)
        left = ""
        if self._first and done > self._first[1]:
            left = f", about {clock((total - done) * (now - self._first[0]) / (done - self._first[1]))} left"
        return f"grid {100 * done / total:.0f} %, {clock(now - self._start)}{left} | " + " | ".join(states)

    @staticmethod
    def _cell_state(cell: Cell, state: RunProgress | None) -> str:
        if state is None:
            return f"{cell.name} starting"
        if state.step >= cell.steps:
            return f"{cell.name} sampling"
        loss = state.metrics.get(schema.VAL_LOSS, state.metrics.get(schema.TRAIN_LOSS, float("nan")))
        return f"{cell.name} step {state.step}/{cell.steps} loss {loss:.3f}"
