"""Other images through the same commands: any folder of class folders, the tokenizer trained in the study."""

from __future__ import annotations

from pathlib import Path

import yaml
from small_study import ROOT, small_run

import lawfit
from varscale.data.loader import ImageShards


def small_tokenizer(tmp_path: Path) -> Path:
    raw = yaml.safe_load((ROOT / "studies" / "tokenizer-emoji32.yaml").read_text())
    raw["recipe"] = {"steps": 30, "batch": 8, "lr": 2.0e-3}
    raw["output"] = str(tmp_path / "tokenizer.safetensors")
    path = tmp_path / "tokenizer.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_a_folder_of_pictures_becomes_a_law(picture_folder: Path, tmp_path: Path, varscale) -> None:
    store, spec = tmp_path / "store", small_tokenizer(tmp_path)
    overrides = [
        f"data.source={picture_folder}",
        f"tokenizer={{kind: train, spec: {spec}}}",
        "budget.images=128",
        "resources.by_depth={}",
    ]
    done = varscale(*small_run(store, *overrides))
    assert done.returncode == 0, done.stderr[-3000:]
    records = lawfit.load_study(f"sqlite:///{store}/mlflow.db", "emoji-quick")
    assert len(records.finished) == 3
    assert set(records.finished["tokenizer_kind"]) == {"train"}
    (images,) = (store / "images").iterdir()
    assert ImageShards(images, "train").manifest.classes == ("blue", "red")


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, varscale) -> None:
    for arguments in (
        ["run", "studies/none.yaml"],
        ["plan", "studies/quickstart.yaml", "--set", "budget.images=0"],
        ["ingest", str(tmp_path / "none"), str(tmp_path / "out")],
        ["status", "studies/quickstart.yaml", "--set", f"store={tmp_path / 'empty'}"],
        ["run", "studies/quickstart.yaml", "--set", f"store={tmp_path}", "--set", "data.source=/none"],
    ):
        done = varscale(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("varscale: ")


def test_plan_prices_the_quickstart_without_training(varscale, tmp_path: Path) -> None:
    done = varscale("plan", "studies/quickstart.yaml", "--set", f"store={tmp_path / 'none'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("-s0 ") == 6
    assert "216× in N" in done.stdout
    assert not (tmp_path / "none").exists()
