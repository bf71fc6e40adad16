"""``varscale status``: what the records hold, without images, tokenizer or torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lawfit.records import schema
from varscale.cli import app, main
from varscale.errors import UserError
from varscale.spec.files import load_study
from varscale.study.paths import StudyPaths
from varscale.study.recorded import note_key, recorded_parent
from varscale.study.status import status_table
from varscale.tracking import Recorder

GONE = ("data.source=/gone/images", "tokenizer={kind: pretrained, path: /gone/tokenizer.safetensors}")


@pytest.fixture
def overrides(root: Path, tmp_path: Path) -> list[str]:
    """A quickstart that was run in a store, its images and tokenizer gone since: one size finished, one failed."""
    chosen = [f"store={tmp_path}", *GONE]
    study = load_study(root / "studies" / "quickstart.yaml", chosen)
    paths = StudyPaths.of(study)
    note_key(study, paths, "key")
    recorder = Recorder(paths.tracking_uri, study.name, paths.artifact_root)
    parent = recorder.open_study("key", "study", {}, {schema.TAG_STATE: schema.STATE_RUNNING})
    params = {param.name: 1 for param in schema.PARAMS}
    for name, state in (("d1-s0", schema.STATE_FINISHED), ("d2-s0", schema.STATE_FAILED)):
        run = recorder.open_cell(parent, name, name, params, {})
        recorder.log(run, 1, dict.fromkeys((*schema.REQUIRED_METRICS, schema.FD_TOKENIZER), 2.5))
        recorder.close(run, state)
    return chosen


def test_status_needs_neither_images_nor_torch(root: Path, overrides: list[str]) -> None:
    arguments = ["status", str(root / "studies" / "quickstart.yaml"), *(p for o in overrides for p in ("--set", o))]
    heavy = "print(*sorted({'torch', 'ray', 'deepspeed', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    code = f"import sys; from varscale.cli import app; app({arguments!r}, standalone_mode=False); {heavy}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    header, first, second = done.stdout.splitlines()
    assert header.split() == ["run_name", "state", "n_paper", "val/loss", "val/loss_last", "fd/tokenizer"]
    assert first.split() == ["d1-s0", "finished", "1", "2.5", "2.5", "2.5"]
    assert second.split()[:2] == ["d2-s0", "failed"]
    assert done.stderr == "\n"


def test_status_leaves_the_records_as_they_are(root: Path, tmp_path: Path, overrides: list[str]) -> None:
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.rglob("*") if file.is_file()}
    study = load_study(root / "studies" / "quickstart.yaml", overrides)
    assert "d1-s0" in status_table(study, StudyPaths.of(study, make_store=False))
    after = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before


def test_a_study_is_known_by_what_decides_its_records(root: Path, overrides: list[str]) -> None:
    def parent(*more: str) -> str:
        study = load_study(root / "studies" / "quickstart.yaml", [*overrides, *more])
        return recorded_parent(study, StudyPaths.of(study, make_store=False))

    found = parent()
    assert parent("resources.workers=2", "sizes.depths=[1, 2, 3, 4]", "data.cache_gib=1", "checkpoints.keep=3") == found
    for change in ("seed=1", "budget.images=64", "data.views=1", "data.source=/other", "evaluation.cfg=2"):
        with pytest.raises(UserError, match=r"no records of it as it stands: .+ notes no run"):
            parent(change)


def test_a_store_without_the_study_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(root / "studies" / "quickstart.yaml")
    monkeypatch.setattr("sys.argv", ["varscale", "status", file, "--set", f"store={tmp_path / 'none'}"])
    with pytest.raises(SystemExit) as ended:
        main(app)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("varscale: study emoji-quick: no records of it as it stands")
    assert not (tmp_path / "none").exists()


def test_wordings_of_one_study_are_noted_side_by_side(root: Path, tmp_path: Path) -> None:
    studies = [
        load_study(root / "studies" / "quickstart.yaml", [f"store={tmp_path}", f"data.source={name}"]) for name in "ab"
    ]
    for study in studies:
        note_key(study, StudyPaths.of(study), "same")
        note_key(study, StudyPaths.of(study), "same")
    with pytest.raises(UserError, match=r"no records of it as it stands in sqlite:"):
        status_table(studies[0], StudyPaths.of(studies[0]))
