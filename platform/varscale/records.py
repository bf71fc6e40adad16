"""The records as driver, trials and workers reach them: a typed client of the one Recorder, which is a named actor."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from varscale.errors import EnvironmentalError
from varscale.interruption import on_interrupt
from varscale.logs import LOGGER
from varscale.tracking import Recorder, check_writable

NAMESPACE = "varscale"
"""Ray namespace of the actors, whatever namespace a driver is in."""
NO_ANSWER = ray.exceptions.RayError
"""What a call raises when the Recorder is gone, or could not do what it was asked for."""

P = ParamSpec("P")
T = TypeVar("T")


def _asks(method: Callable[Concatenate[Recorder, P], T]) -> Callable[Concatenate[Records, P], T]:
    """A method of the client that calls the Recorder's and waits for its answer."""

    @functools.wraps(method)
    def ask(self: Records, *args: P.args, **kwargs: P.kwargs) -> T:
        return ray.get(getattr(self.actor, method.__name__).remote(*args, **kwargs))

    return ask


def _sends(method: Callable[Concatenate[Recorder, P], None]) -> Callable[Concatenate[Records, P], None]:
    """A method of the client that calls the Recorder's and goes on; calls of one process arrive in their order."""

    @functools.wraps(method)
    def send(self: Records, *args: P.args, **kwargs: P.kwargs) -> None:
        getattr(self.actor, method.__name__).remote(*args, **kwargs)

    return send


@dataclass(frozen=True)
class Records:
    """Client of a Recorder, for any process of the cluster; its methods are those of :class:`tracking.Recorder`.

    It may be sent to tasks, actors and workers. Another process finds it by name:
    ``Records(ray.get_actor(name, namespace=NAMESPACE))``. Calls raise :data:`NO_ANSWER`.
    """

    actor: Any
    """Ray's handle, which knows no types: nobody else calls it."""

    open_study = _asks(Recorder.open_study)
    open_cell = _asks(Recorder.open_cell)
    open_tokenizer = _asks(Recorder.open_tokenizer)
    attempt = _asks(Recorder.attempt)
    finished_cell = _asks(Recorder.finished_cell)
    last_step = _asks(Recorder.last_step)
    read = _asks(Recorder.read)
    flush = _asks(Recorder.flush)
    log_files = _asks(Recorder.log_files)
    close = _asks(Recorder.close)
    fail = _asks(Recorder.fail)
    interrupt = _asks(Recorder.interrupt)
    finished = _asks(Recorder.finished)
    failures = _asks(Recorder.failures)
    progress = _asks(Recorder.progress)
    notices = _asks(Recorder.notices)
    log = _sends(Recorder.log)
    tag = _sends(Recorder.tag)
    notice = _sends(Recorder.notice)


class _ToUser(logging.Handler):
    """Hands lines to the records as notices of a run."""

    def __init__(self, records: Records, run_id: str) -> None:
        super().__init__(logging.WARNING)
        self._records, self._run_id = records, run_id

    def emit(self, record: logging.LogRecord) -> None:
        self._records.notice(self._run_id, self.format(record))


def report_warnings(records: Records, run_id: str) -> None:
    """From now on the warnings of this process reach the user, as notices of the run that it works for."""
    LOGGER.handlers = [*(each for each in LOGGER.handlers if not isinstance(each, _ToUser)), _ToUser(records, run_id)]


@contextmanager
def recording(name: str, uri: str, experiment: str, artifact_root: str | None) -> Iterator[Records]:
    """A Recorder for the length of the block, an actor beside this process, which reads what it writes.

    If the block is interrupted, runs that are open then end as interrupted.

    Args:
        name: under which other processes of the cluster find the actor.
        uri, experiment, artifact_root: as :class:`tracking.Recorder` takes them.

    Raises:
        EnvironmentalError: another process of this cluster records under the name; as :func:`tracking.check_writable`.
        UserError: as :func:`tracking.check_writable`.
    """
    check_writable(uri, experiment)  # an actor's error would come with its traceback
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0, "scheduling_strategy": here}
    try:
        actor = ray.remote(Recorder).options(**options).remote(uri, experiment, artifact_root)
    except ValueError as error:
        raise EnvironmentalError(f"{name}: another run on this cluster writes these records; wait for it") from error
    records = Records(actor)
    with on_interrupt(records.interrupt):
        try:
            yield records
        finally:
            records.flush()
            ray.kill(actor)
