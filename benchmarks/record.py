"""What a benchmark prints, and where it is kept: with ``--write`` its output becomes its section of docs/NUMBERS.md.

Nobody types figures there. A section stands between two marker lines and says by which command, at which commit, when
and on which machine it was measured.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = ROOT / "docs" / "NUMBERS.md"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print :func:`markdown`."""
    print(markdown(head, rows), flush=True)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that can be read as it is: the first column to the left, the others to the right."""
    widths = [max(3, *(len(row[i]) for row in (head, *rows))) for i in range(len(head))]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in (head, rule, *rows)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@contextlib.contextmanager
def recorded(script: str, page: Path | None = None) -> Iterator[bool]:
    """Run the block; with ``--write`` on the command line, which it is told, what it prints replaces the section.

    Args:
        script: the benchmark's ``__file__``; its stem names the section.
        page: where that is; docs/NUMBERS.md unless said.
    """
    write = "--write" in sys.argv
    sys.argv[:] = [argument for argument in sys.argv if argument != "--write"]
    command = " ".join(["python", f"benchmarks/{Path(script).name}", *sys.argv[1:]])
    printed = io.StringIO()
    with contextlib.redirect_stdout(_Both(sys.stdout, printed)):
        yield write
    if write:
        replace_section(page or NUMBERS, Path(script).stem, f"{provenance(command)}\n\n{printed.getvalue().strip()}")


def replace_section(page: Path, name: str, content: str) -> None:
    """Put ``content`` between the markers of ``name``.

    Raises:
        ValueError: the page has no such section, or has it twice.
    """
    text = page.read_text()
    begin, end = f"<!-- begin {name} -->\n", f"\n<!-- end {name} -->"
    section = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(section.findall(text)) != 1:
        raise ValueError(f"{page}: wanted one section between {begin.strip()} and {end.strip()}")
    page.write_text(section.sub(lambda _: begin + content + end, text))


def provenance(command: str) -> str:
    """One line: command, commit, date, machine."""
    commit = _printed("git", "-C", str(ROOT), "rev-parse", "--short=7", "HEAD")
    changed = _printed("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    state = f"{commit}, with changes" if changed else commit
    return f"`{command}`, commit {state}, {datetime.date.today().isoformat()}; {machine()}."


def machine() -> str:
    """Processor, cores, memory, GPUs."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"^model name\s*: (.+)$", facts, re.MULTILINE)
    name = model[1].strip() if model else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = _printed("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {', '.join(gpus) or 'no GPU'}"


def _printed(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


class _Both(io.TextIOBase):
    """Writes to two streams."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()
