"""The lower envelope of hand-made curves."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from lawfit.frontier import frontier
from lawfit.schema import RecordError

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def _tidy(curves: Curves, metric: str = "val/loss") -> pd.DataFrame:
    rows = [(run, x, metric, y) for run, (xs, ys) in curves.items() for x, y in zip(xs, ys, strict=True)]
    return pd.DataFrame(rows, columns=["run_id", "flops", "metric", "value"])


CROSSING: Curves = {"small": ([1, 10, 100], [4.0, 2.0, 2.0]), "large": ([10, 100, 1000], [8.0, 2.0, 0.5])}


def test_each_point_is_the_lowest_run_at_that_compute() -> None:
    found = frontier(_tidy(CROSSING), "val/loss", points=7, skip_fraction=0)
    np.testing.assert_allclose(found["flops"], np.geomspace(1, 1000, 7), rtol=1e-12)
    half = np.sqrt(8.0)  # between 4 and 2, and between 8 and 2 squared, in log-log
    np.testing.assert_allclose(found["val/loss"], [4, half, 2, 2, 2, 1, 0.5], rtol=1e-12)
    assert list(found["run_id"]) == ["small"] * 5 + ["large"] * 2


def test_a_run_speaks_within_its_own_range_only() -> None:
    curves: Curves = {"low": ([1, 2], [1.0, 0.9]), "high": ([8, 16], [0.5, 0.4])}
    found = frontier(_tidy(curves), "val/loss", points=5, skip_fraction=0)
    np.testing.assert_allclose(found["flops"], [1, 2, 8, 16], rtol=1e-12)


def test_a_rise_never_enters_and_keeps_the_earlier_owner() -> None:
    curves: Curves = {"first": ([1, 10], [1.0, 1.0]), "second": ([10.5, 100, 1000], [3.0, 2.0, 0.8])}
    found = frontier(_tidy(curves), "val/loss", points=4, skip_fraction=0)
    np.testing.assert_allclose(found["val/loss"], [1, 1, 1, 0.8], rtol=1e-12)
    assert list(found["run_id"]) == ["first", "first", "first", "second"]


def test_the_declared_window_leaves_out_each_runs_start() -> None:
    curves: Curves = {"run": ([1, 5, 10, 100], [9.0, 9.0, 3.0, 2.0])}
    found = frontier(_tidy(curves), "val/loss", points=3)
    np.testing.assert_allclose(found["flops"].iloc[0], 10, rtol=1e-12)
    assert found["val/loss"].max() == pytest.approx(3.0)


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = _tidy(CROSSING)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(frontier(table, "val/loss"), frontier(shuffled, "val/loss"))


def test_only_the_wanted_metric_takes_part() -> None:
    other = _tidy({"small": ([1, 1000], [0.1, 0.1])}, metric="val/error")
    both = pd.concat([_tidy(CROSSING), other])
    pd.testing.assert_frame_equal(frontier(both, "val/loss"), frontier(_tidy(CROSSING), "val/loss"))


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({"a": ([1, 2, 3], [1.0, float("nan"), 1.0])}, r"run a: 'val/loss' is nan"),
        ({"a": ([1, 2, 3], [1.0, -1.0, 1.0])}, r"run a: 'val/loss' is -1.0"),
        ({"a": ([0, 2, 3], [1.0, 1.0, 1.0])}, r"run a: 'flops' is 0.0"),
        ({"a": ([5], [1.0])}, "fewer than two points"),
    ],
)
def test_curves_that_cannot_be_used_are_refused(curves: Curves, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        frontier(_tidy(curves), "val/loss", skip_fraction=0)


def test_a_missing_metric_is_refused_with_the_recorded_ones() -> None:
    with pytest.raises(RecordError, match="no curve of 'loss': recorded are val/loss"):
        frontier(_tidy(CROSSING), "loss")


def test_a_window_outside_the_run_is_refused() -> None:
    with pytest.raises(RecordError, match="skip_fraction is 1"):
        frontier(_tidy(CROSSING), "val/loss", skip_fraction=1)
