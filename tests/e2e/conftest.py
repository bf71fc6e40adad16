"""Running the real command line in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from small_study import ROOT, environment


@pytest.fixture(scope="session")
def varscale() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``varscale …`` from the repository's root to its end."""

    def run(*arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "varscale", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
        )

    return run
