"""Frontiers of hand-made curves by each definition."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from lawfit.approaches.frontier import Frontier, Method, frontier
from lawfit.errors import RecordError

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
CROSSING: Curves = {"small": ([1, 10, 100], [4.0, 2.0, 2.0]), "large": ([10, 100, 1000], [8.0, 2.0, 0.5])}


def _table(curves: Curves) -> pd.DataFrame:
    rows = [(run, x, y) for run, (xs, ys) in curves.items() for x, y in zip(xs, ys, strict=True)]
    return pd.DataFrame(rows, columns=["run", "flops", "loss"])


def _binned(curves: Curves, points: int, skip: float = 0.0) -> Frontier:
    return frontier(_table(curves), method="binned", grid_points=points, skip_fraction=skip)


def test_each_binned_point_is_the_lowest_run_at_that_compute() -> None:
    found = _binned(CROSSING, 7)
    np.testing.assert_allclose(found.x, np.geomspace(1, 1000, 7), rtol=1e-12)
    half = np.sqrt(8.0)  # between 4 and 2, and between 8 and 2 squared, in log-log
    np.testing.assert_allclose(found.y, [4, half, 2, 2, 2, 1, 0.5], rtol=1e-12)
    assert found.run == ("small",) * 5 + ("large",) * 2


def test_a_run_speaks_within_its_own_range_only() -> None:
    found = _binned({"low": ([1, 2], [1.0, 0.9]), "high": ([8, 16], [0.5, 0.4])}, 5)
    np.testing.assert_allclose(found.x, [1, 2, 8, 16], rtol=1e-12)


def test_a_rise_never_enters_and_keeps_the_earlier_owner() -> None:
    found = _binned({"first": ([1, 10], [1.0, 1.0]), "second": ([10.5, 100, 1000], [3.0, 2.0, 0.8])}, 4)
    np.testing.assert_allclose(found.y, [1, 1, 1, 0.8], rtol=1e-12)
    assert found.run == ("first", "first", "first", "second")


def test_the_declared_window_leaves_out_each_runs_start() -> None:
    found = _binned({"run": ([1, 5, 10, 100], [9.0, 9.0, 3.0, 2.0])}, 3, skip=0.1)
    assert found.x[0] == pytest.approx(10, rel=1e-12)
    assert found.y.max() == pytest.approx(3.0)


def test_a_hull_keeps_the_recorded_points_below_every_chord_down_to_the_lowest() -> None:
    curves: Curves = {"a": ([1, 2, 4, 8], [8.0, 5.0, 3.0, 2.5]), "b": ([3, 16, 32], [6.0, 1.0, 1.5])}
    found = frontier(_table(curves), method="hull")
    # (2, 5), (4, 3) and (8, 2.5) lie above the line from (1, 8) to (16, 1) in log-log; (32, 1.5) rises.
    np.testing.assert_allclose(found.x, [1, 16])
    assert found.run == ("a", "b")


def test_pareto_keeps_every_point_that_no_cheaper_one_beats() -> None:
    found = frontier(_table(CROSSING), method="pareto")
    np.testing.assert_allclose(found.x, [1, 10, 1000])
    np.testing.assert_allclose(found.y, [4, 2, 0.5])


@pytest.mark.parametrize("method", ["hull", "binned", "pareto"])
def test_on_one_power_law_all_definitions_are_the_law(method: Method) -> None:
    x = np.geomspace(1, 1e6, 20)
    table = pd.DataFrame({"run": "one", "flops": x, "loss": 3 * x**-0.1, "n_params": x**0.5, "tokens": x**0.5 / 6})
    found = frontier(table, method=method, others={"n": "n_params", "d": "tokens"}, skip_fraction=0)
    np.testing.assert_allclose(found.y, 3 * found.x**-0.1, rtol=1e-12)
    np.testing.assert_allclose(found.columns["n"], found.x**0.5, rtol=1e-12)
    np.testing.assert_allclose(found.columns["d"], found.x**0.5 / 6, rtol=1e-12)


@pytest.mark.parametrize("method", ["hull", "binned", "pareto"])
def test_the_order_of_the_rows_does_not_matter(method: Method) -> None:
    table = _table(CROSSING)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(frontier(table, method=method).frame(), frontier(shuffled, method=method).frame())


def test_points_of_unfinished_schedules_are_counted() -> None:
    table = _table(CROSSING).assign(schedule_complete=[False, False, True] * 2)
    assert frontier(table, method="pareto").unfinished == 2
    assert frontier(_table(CROSSING)).unfinished is None


def test_columns_may_be_computed() -> None:
    table = _table(CROSSING).assign(n=[1.0] * 3 + [2.0] * 3)
    assert frontier(table, x="6*n*flops", method="pareto").x[0] == 6


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({"a": ([1, 2, 3], [1.0, float("nan"), 1.0])}, "row 1, column 'loss': nan is not"),
        ({"a": ([1, 2, 3], [1.0, -1.0, 1.0])}, "row 1, column 'loss': -1.0 is not"),
        ({"a": ([0, 2, 3], [1.0, 1.0, 1.0])}, "row 0, column 'flops': 0"),
        ({"a": ([5], [1.0])}, "fewer than two points"),
    ],
)
def test_curves_that_cannot_be_used_are_refused(curves: Curves, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        _binned(curves, 5)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(RecordError, match="skip_fraction is 1"):
        _binned(CROSSING, 5, skip=1)
    with pytest.raises(RecordError, match="method 'best' is unknown: expected one of hull, binned, pareto"):
        frontier(_table(CROSSING), method="best")  # type: ignore[arg-type]
    with pytest.raises(RecordError, match="column 'los' is missing, did you mean 'loss'"):
        frontier(_table(CROSSING), y="los")
