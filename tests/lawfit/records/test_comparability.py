"""What the points of one law must share."""

import pandas as pd
import pytest

from lawfit.errors import RecordError
from lawfit.records.comparability import check_sampling, is_of_samples, schedule_flags


def test_equal_settings_raise_no_flag() -> None:
    assert schedule_flags(pd.DataFrame({"warmup": [10, 10], "schedule": ["cos", "cos"], "lr": [0.1, 0.2]})) == []


def test_each_difference_of_schedule_is_flagged() -> None:
    frame = pd.DataFrame({
        "warmup": [10, 20], "decay": ["cos", None], "base_lr": [1e-3, 2e-3], "schedule_complete": [True, False],
    })  # fmt: skip
    warm_up, tuning, unfinished = schedule_flags(frame)
    assert warm_up.startswith("the runs differ in warm-up (warmup: 10, 20)")
    assert tuning.startswith("the runs differ in learning-rate tuning (base_lr: 0.001, 0.002)")
    assert unfinished == "1 of 2 points are from before the end of their learning-rate schedule"


def test_mixed_sampling_is_refused_with_the_filter_that_mends_it() -> None:
    frame = pd.DataFrame({"fid": [3.0, 2.0, None], "guidance": ["cfg", "none", "other"]})
    with pytest.raises(RecordError, match=r"'fid' mixes guidance \(cfg, none\).*filter guidance == 'cfg'"):
        check_sampling(frame, "fid")
    check_sampling(frame[frame["guidance"] == "cfg"], "fid")


@pytest.mark.parametrize(("metric", "expected"), [
    ("fid", True), ("fid50k_noguidance", True), ("fd/tokenizer", True), ("best_FID", True), ("loss", False),
    ("val/loss", False), ("train/loss", False), ("confidence", False),
])  # fmt: skip
def test_metrics_of_samples_are_known_by_registry_or_name(metric: str, expected: bool) -> None:
    assert is_of_samples(metric) is expected
