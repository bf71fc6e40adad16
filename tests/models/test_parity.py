"""Our models against the authors' numbers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from varscale.models import parity

COPY = Path(__file__).parents[1] / "data" / "a_tiny"


def test_copied_fixture_agrees() -> None:
    rows = list(parity.compare(parity.Fixture.load(COPY)))
    assert len(rows) == 35
    assert [str(row) for row in rows if not row.passed] == []


@pytest.mark.parametrize("name", ["a_tiny", "b_medium", "e_variant"])
def test_shared_fixtures_agree(shared: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(shared / "fixtures" / name)]) == 0
    assert "MISS" not in capsys.readouterr().out


def test_a_changed_weight_is_a_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(COPY, folder)
    state = dict(np.load(COPY / "state_var.npz"))
    state["head.bias"] = state["head.bias"] + 1e-3 * np.arange(len(state["head.bias"]), dtype=np.float32)
    np.savez(folder / "state_var.npz", **state)
    assert parity.main([str(folder)]) == 1
    assert "MISS" in capsys.readouterr().out


def test_a_folder_without_fixture_is_a_usage_error(tmp_path: Path) -> None:
    assert parity.main([str(tmp_path)]) == 2


@pytest.mark.parametrize("name", ["a_tiny", "b_medium", "e_variant"])
def test_bf16_keeps_the_losses_of_the_fixtures(shared: Path, name: str) -> None:
    fixture = parity.Fixture.load(shared / "fixtures" / name)
    io, last = fixture.io, fixture.vqvae.quantize.slices[-1]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = fixture.var(io["labels"], io["x_BLCv_wo_first_l"]).float()
        whole = fixture.var(io["labels"], io["x_BLCv_wo_first_l"], io["idx"])
    ce = torch.nn.functional.cross_entropy(logits.flatten(0, 1), io["idx"].flatten(), reduction="none")
    assert whole.item() == pytest.approx(io["L_mean"].item(), rel=0.01)
    assert ce.view_as(io["idx"])[:, last].mean().item() == pytest.approx(io["L_tail"].item(), rel=0.01)
