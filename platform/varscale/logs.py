"""The logger of each process, called "varscale" and set up once.

A driver's lines go to the user, without ornament. Those of Ray's workers and actors go to their log files, with time
and place; their warnings reach the user too where a run is recorded, see :func:`varscale.records.report_warnings`.
"""

from __future__ import annotations

import logging

from varscale.progress import say

LOGGER = logging.getLogger("varscale")
WORKER_SETUP = {"worker_process_setup_hook": f"{__name__}.log_to_files"}
"""Part of a Ray runtime environment: every worker begins with :func:`log_to_files`."""


class _ToUser(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def log_to_user() -> None:
    """Set up a driver: lines of INFO and more are told as they are."""
    _set_up(_ToUser())


def log_to_files() -> None:
    """Set up a worker or an actor: lines of INFO and more go to stderr, which Ray keeps in a file per process."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _set_up(handler)


def _set_up(handler: logging.Handler) -> None:
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
