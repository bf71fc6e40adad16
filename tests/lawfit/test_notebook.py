"""The notebook runs on records and shows every figure."""

from pathlib import Path
from typing import Any

import jupytext
import pytest
from nbclient import NotebookClient

from lawfit.study import Study

NOTEBOOK = Path(__file__).resolve().parents[2] / "analysis" / "notebooks" / "laws.py"


def test_the_notebook_runs_from_top_to_bottom(
    writer: Any, quick: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VARSCALE_TRACKING_URI", writer.uri)
    monkeypatch.setenv("VARSCALE_STUDY", quick.name)
    notebook = jupytext.read(NOTEBOOK)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert any("falls as N^-0.0490" in output.get("data", {}).get("text/plain", "") for output in outputs)
