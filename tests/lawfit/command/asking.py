"""The command line asked in this process: what it prints, and its exit code."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lawfit.command.cli import main


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def lawfit(*arguments: str | Path) -> Done:
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["lawfit", *map(str, arguments)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leaving:
        code = leaving.code or 0
    finally:
        sys.argv = before
    return Done(code, out.getvalue(), err.getvalue())


def answer(*arguments: str | Path) -> dict[str, Any]:
    done = lawfit(*arguments, "--json")
    assert done.returncode == 0, done.stderr

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no strict JSON")

    return dict(json.loads(done.stdout, parse_constant=refuse))
