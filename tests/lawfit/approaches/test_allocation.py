"""N*(C) and D*(C) by three approaches on surfaces whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from lawfit.approaches.allocation import Allocation, by_frontier, by_isoflop, by_surface, cross_check, regress
from lawfit.approaches.isoflop import isoflop
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit

E, A, B, ALPHA, BETA = 1.7, 400.0, 2000.0, 0.34, 0.37
EXPONENT = BETA / (ALPHA + BETA)


def _loss(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return E + A * n**-ALPHA + B * d**-BETA


def _optimum(budget: float) -> float:
    return float((ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (budget / 6) ** EXPONENT)


def _grid(noise: float, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    budgets = np.repeat(10.0 ** np.arange(18, 23), 9)
    n = np.concatenate([_optimum(c) * np.geomspace(0.2, 5, 9) for c in 10.0 ** np.arange(18, 23)])
    d = budgets / (6 * n)
    loss = _loss(n, d) * np.exp(noise * generator.standard_normal(len(n)))
    return pd.DataFrame({"flops": budgets, "n_params": n, "tokens": d, "loss": loss})


def _curves() -> pd.DataFrame:
    """40 sizes, each with the tokens that surround its own optimum."""
    n = np.repeat(np.geomspace(1e7, 1e11, 40), 40)
    d = 1e8 * (n / 1e7) ** ((1 - EXPONENT) / EXPONENT) * np.tile(np.geomspace(0.1, 30, 40), 40)
    runs = [f"r{i}" for i in np.repeat(np.arange(40), 40)]
    return pd.DataFrame({"run": runs, "n_params": n, "tokens": d, "flops": 6 * n * d, "loss": _loss(n, d)})


@pytest.fixture(scope="module")
def surface() -> Allocation:
    table = _grid(0.002)
    return by_surface(fit({"N": table["n_params"], "D": table["tokens"]}, table["loss"], "chinchilla"))


def test_the_surface_of_exact_runs_gives_the_exact_split() -> None:
    table = _grid(0.0)
    found = by_surface(fit({"N": table["n_params"], "D": table["tokens"]}, table["loss"], "chinchilla"), replicates=100)
    assert found.n.exponent == pytest.approx(EXPONENT, rel=1e-6)
    best = found.at(1e24)
    assert best.n == pytest.approx(_optimum(1e24), rel=1e-5)
    assert best.n * best.d * 6 == pytest.approx(1e24, rel=1e-9)
    assert best.loss == pytest.approx(_loss(np.array(best.n), np.array(best.d)), rel=1e-6)


def test_intervals_hold_the_truth_and_grow_with_extrapolation(surface: Allocation) -> None:
    near, far = surface.at(1e22), surface.at(1e25)
    for best in (near, far):
        assert best.n_interval[0] < _optimum(best.budget) < best.n_interval[1]
        assert best.d_interval[0] < best.budget / 6 / _optimum(best.budget) < best.d_interval[1]
        assert best.loss_interval[0] < best.loss < best.loss_interval[1]
    assert far.n_interval[1] / far.n_interval[0] > near.n_interval[1] / near.n_interval[0]
    low, high = surface.n.exponent_interval()
    assert low < EXPONENT < high


def test_all_approaches_agree_on_a_clean_study_without_a_warning(surface: Allocation) -> None:
    slices = by_isoflop(isoflop(_grid(0.002), estimator="akima"))
    assert slices.n.exponent == pytest.approx(EXPONENT, abs=0.03)
    assert slices.d.exponent == pytest.approx(1 - EXPONENT, abs=0.03)
    assert cross_check([surface, slices]) == []


def test_a_frontier_is_close_but_bent_at_its_ends_where_the_smallest_and_largest_run_stand_alone() -> None:
    curves = by_frontier(_curves(), method="hull", replicates=60)
    assert curves.n.exponent == pytest.approx(EXPONENT, abs=0.06)
    low, high = curves.n.exponent_interval()
    assert low < curves.n.exponent < high


def test_approaches_that_disagree_are_named_with_their_intervals(surface: Allocation) -> None:
    table = _grid(0.0)
    tilted = table.assign(loss=np.exp(1 + 0.02 * np.log(table["n_params"] / (2e-3 * table["flops"] ** 0.6)) ** 2))
    slices = by_isoflop(isoflop(tilted, estimator="parabola"))
    warnings = cross_check([surface, slices])
    assert any("disagree on the exponent of N*(C) by more than their intervals: 0.5" in line for line in warnings)
    assert any("disagree on N* at C = 1e+22" in line for line in warnings)
    assert all("parametric (chinchilla) and isoflop (parabola)" in line for line in warnings)


def test_the_regression_is_weighted_least_squares() -> None:
    generator = np.random.default_rng(0)
    budget, sd = np.geomspace(1e18, 1e22, 7), generator.uniform(0.05, 0.4, 7)
    values = np.exp(2 + 0.5 * np.log(budget) + sd * generator.standard_normal(7))
    found = regress(budget, values, sd, np.random.default_rng(1))
    slope, level = np.polyfit(np.log(budget), np.log(values), 1, w=1 / sd)
    assert found.exponent == pytest.approx(slope, rel=1e-10)
    assert found.log_coefficient == pytest.approx(level, rel=1e-9)
    low, high = found.exponent_interval()
    assert low < slope < high


def test_regression_intervals_cover_the_exponent() -> None:
    generator, budget, covered = np.random.default_rng(0), np.geomspace(1e18, 1e22, 8), 0
    for _ in range(300):
        values = np.exp(1 + 0.5 * np.log(budget) + 0.1 * generator.standard_normal(8))
        low, high = regress(budget, values, np.full(8, 0.3), generator).exponent_interval()
        covered += low < 0.5 < high
    assert 0.92 < covered / 300 < 0.98


def test_frontiers_of_unfinished_schedules_carry_a_warning() -> None:
    table = _curves()
    table["schedule_complete"] = table["tokens"] > 1e11
    (warning,) = by_frontier(table, replicates=20).warnings
    assert "from unfinished schedules" in warning


def test_what_has_no_split_is_refused() -> None:
    table = _grid(0.0)
    with pytest.raises(RecordError, match="form 'power' has no compute-optimal split"):
        by_surface(fit(table["n_params"], table["loss"], "power"))
    two = table[table["flops"] <= 1e19]
    with pytest.raises(RecordError, match=r"2 budgets with a minimum, N\*\(C\) needs 3"):
        by_isoflop(isoflop(two))


def test_a_frontier_of_one_size_has_no_law_of_sizes() -> None:
    tokens = np.tile(np.geomspace(1e8, 1e10, 6), 3)
    table = pd.DataFrame({
        "run": np.repeat(["a", "b", "c"], 6), "n_params": 1e8, "tokens": tokens, "flops": 6e8 * tokens,
        "loss": 2 + 20 * tokens**-0.2 + np.repeat([0.0, 0.01, 0.02], 6),
    })  # fmt: skip
    with pytest.raises(RecordError, match="the whole hull frontier is of one model size"):
        by_frontier(table)
