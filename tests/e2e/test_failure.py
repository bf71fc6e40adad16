"""A size that fails is named and left out; the others still give a law."""

from __future__ import annotations

from pathlib import Path

from small_study import small_run

import lawfit


def test_a_diverged_size_is_named_and_the_others_give_a_law(tmp_path: Path, varscale) -> None:
    overrides = [
        "sizes.depths=[1, 2, 3, 4]",
        "resources.by_depth={}",
        "budget.images=256",
        "optimizer.by_depth={2: {peak_lr: 1.0e+30}}",
    ]
    done = varscale(*small_run(tmp_path, *overrides))
    assert done.returncode == 1, done.stderr[-3000:]
    assert "failed: d2-s0: " in done.stderr
    assert "diverged: val/loss is nan" in done.stderr
    assert "1 of the study's sizes failed; run again to retry" in done.stderr
    assert "Traceback" not in done.stderr
    records = lawfit.load_study(f"sqlite:///{tmp_path}/mlflow.db", "emoji-quick")
    assert records.left_out == (("d2-s0", "failed"),)
    assert sorted(records.finished["depth"]) == [1, 3, 4]
    report = (tmp_path / "reports" / "emoji-quick" / "report.html").read_text()
    assert "d2-s0 (failed)" in report
