"""Errors that a user can act on: the command line prints them as one line and no traceback."""

from __future__ import annotations


class UserError(Exception):
    """The user's mistake: bad input, named with file, field or row, and what is allowed. Exit code 2."""

    exit_code = 2


class EnvironmentalError(Exception):
    """The surroundings fail: disk, network, missing package, dead worker. Exit code 1."""

    exit_code = 1
