"""Our models against the authors' numbers."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from varscale import parity

COPY = Path(__file__).parents[1] / "data" / "a_tiny"


def test_copied_fixture_agrees() -> None:
    rows = list(parity.compare(parity.Fixture.load(COPY)))
    assert len(rows) == 40
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


def changed_json(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    content = json.loads((COPY / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def changed_arrays(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    content = dict(np.load(COPY / name))
    change(content)
    np.savez(folder / name, **content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "config.json: no such file"),
        (lambda d: (d / "io.npz").write_bytes((COPY / "io.npz").read_bytes()[:5000]), "io.npz: not an npz file"),
        (lambda d: (d / "train_trace.json").write_text("{"), "train_trace.json: not readable as JSON"),
        (lambda d: changed_json(d, "config.json", lambda c: c["vae"].pop("beta")), "config.json: has no 'beta'"),
        (lambda d: changed_json(d, "config.json", lambda c: c.update(vae=[])), "config.json: a field is not as it"),
        (lambda d: changed_json(d, "config.json", lambda c: c["vae"].update(ch=None)), "ch: input should be a valid"),
        (
            lambda d: changed_json(d, "config.json", lambda c: c["sampling"].update(more_smooth=True)),
            "sampling.more_smooth is True; only False",
        ),
        (lambda d: changed_arrays(d, "io.npz", lambda a: a.pop("ar_idx")), "io.npz: has no 'ar_idx'"),
        (
            lambda d: changed_arrays(d, "io.npz", lambda a: a.update(logits=a["logits"][:1])),
            r"io.npz: 'logits' is \[1, 30, 64\]; config.json wants \[3, 30, 64\]",
        ),
        (
            lambda d: changed_arrays(d, "state_vae.npz", lambda a: a.update({"quant_conv.bias": np.full(8, np.nan)})),
            "state_vae.npz: tensor 'quant_conv.bias' holds values that are not finite",
        ),
        (lambda d: changed_json(d, "train_trace.json", lambda t: t["loss"].pop()), "not of as many steps each"),
    ],
)
def test_a_broken_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], object], message: str
) -> None:
    shutil.copytree(COPY, tmp_path / "broken")
    change(tmp_path / "broken")
    assert parity.main([str(tmp_path / "broken")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(message, told), told


def test_the_trace_says_its_own_schedule(tmp_path: Path) -> None:
    shutil.copytree(COPY, tmp_path / "other")
    changed_json(
        tmp_path / "other", "train_trace.json", lambda t: t.update(setup=t["setup"].replace("wd 0.05", "wd 0.08"))
    )
    missed = [row.name for row in parity.compare(parity.Fixture.load(tmp_path / "other")) if not row.passed]
    assert missed[0] == "train weight decay, step 0"
    changed_json(tmp_path / "other", "train_trace.json", lambda t: t.update(setup="as the paper"))
    assert all(row.passed for row in parity.compare(parity.Fixture.load(tmp_path / "other")))


def test_a_length_that_is_not_a_number_is_a_miss() -> None:
    assert not parity._norms_row("norms", {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": float("nan")}, 1.0).passed


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
