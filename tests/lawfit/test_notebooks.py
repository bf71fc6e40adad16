"""The notebooks run on the records of real studies, and show what they promise."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from lawfit.records.study import Study

FOLDER = Path(__file__).resolve().parents[2] / "analysis" / "notebooks"

Run = Callable[[str], NotebookNode]


@pytest.fixture(scope="module")
def second(writer: Any) -> str:
    """A study of the same sizes with other losses."""
    writer.study("steeper", [writer.cell(depth, noise=-0.02 * depth) for depth in range(1, 7)])
    return "steeper"


@pytest.fixture
def run(writer: Any, quick: Study, second: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("VARSCALE_TRACKING_URI", writer.uri)
    monkeypatch.setenv("VARSCALE_STUDY", quick.name)
    monkeypatch.setenv("VARSCALE_SECOND_STUDY", second)

    def execute(name: str) -> NotebookNode:
        notebook = jupytext.read(FOLDER / name)
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return notebook

    return execute


def shown(notebook: NotebookNode) -> tuple[int, str]:
    """How many pictures, and all text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    texts = [output.get("text", "") + "".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    return pictures, re.sub(r"<[^>]+>", " ", " ".join(texts))


def test_figures_5_and_6_are_made_from_a_study(run: Run) -> None:
    pictures, text = shown(run("laws.py"))
    assert pictures == 5
    assert "falls as N^-0.0490" in text
    assert "form power_floor" in text


def test_two_studies_are_compared(run: Run) -> None:
    pictures, text = shown(run("compare.py"))
    assert pictures == 2
    assert re.search(
        r"Loss, all scales, by model size: alpha: 0\.049 and 0\.06.*\(paired bootstrap by run\): differs", text
    )


def test_the_next_runs_are_planned(run: Run) -> None:
    pictures, text = shown(run("next.py"))
    assert pictures == 1
    assert re.search(r"loss 1\.\d+ is reachable: \d\.\d+e\+\d+ FLOPs", text)
    assert "gain per FLOP" in text
