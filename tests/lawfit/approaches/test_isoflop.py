"""isoFLOP slices: estimators against known valleys, refusals, warnings."""

from typing import Literal

import numpy as np
import pandas as pd
import pytest

from lawfit.approaches.isoflop import isoflop, minimum, surface_optimum
from lawfit.errors import RecordError

BUDGETS = np.array([1e18, 1e19, 1e20, 1e21])
A, B, ALPHA, BETA = 400.0, 8.0, 0.45, 0.15  # alpha/beta = 3


def _true_n(budget: float) -> float:
    return float((ALPHA * A / (BETA * B) * (budget / 6) ** BETA) ** (1 / (ALPHA + BETA)))


def surface_table(off: float = 1.0, sizes: int = 7, spread: float = 16.0) -> pd.DataFrame:
    """Noise-free runs of a surface, on grids whose centre is `off` times the optimum."""
    rows = []
    for budget in BUDGETS:
        for n in _true_n(budget) * off * np.geomspace(1 / spread, spread, sizes):
            d = budget / (6 * n)
            rows.append((budget, n, d, 1.7 + A * n**-ALPHA + B * d**-BETA))
    return pd.DataFrame(rows, columns=["flops", "n_params", "tokens", "loss"])


def parabolas() -> pd.DataFrame:
    """Slices whose log loss is a parabola of log N about N* = 10 C^0.5."""
    rows = [
        (budget, n, np.exp(1.0 + 0.02 * np.log(n / (10 * budget**0.5)) ** 2))
        for budget in BUDGETS
        for n in 10 * budget**0.5 * np.geomspace(0.2, 4, 8)
    ]
    return pd.DataFrame(rows, columns=["flops", "n_params", "loss"])


@pytest.mark.parametrize("off", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("sizes", [5, 7, 9])
def test_wide_off_centre_grids_give_the_optimum_within_a_percent_by_default(off: float, sizes: int) -> None:
    found = isoflop(surface_table(off, sizes))
    assert found.estimator == "surface"
    assert len(found.valleys) == len(BUDGETS)
    for valley in found.valleys:
        assert valley.n_opt == pytest.approx(_true_n(valley.budget), rel=1e-6)
        assert valley.d_opt == pytest.approx(valley.budget / (6 * _true_n(valley.budget)), rel=1e-6)


def test_a_parabola_on_such_a_grid_is_far_off_and_a_warning_says_so() -> None:
    table = surface_table(2.0)
    parabola = isoflop(table, estimator="parabola")
    errors = [valley.n_opt / _true_n(valley.budget) - 1 for valley in parabola.valleys]
    assert min(errors) > 0.2
    assert max(errors) < 0.35
    assert any("parabola and surface disagree on N* at 4 of 4 budgets" in line for line in isoflop(table).warnings)


@pytest.mark.parametrize("estimator", ["akima", "parabola"])
def test_true_parabolas_are_found_by_both_interpolations(estimator: Literal["akima", "parabola"]) -> None:
    found = isoflop(parabolas(), estimator=estimator, seed_sd=1e-9)
    tolerance = 1e-6 if estimator == "parabola" else 0.02  # of the grid of 25 points an interval
    for valley in found.valleys:
        assert valley.n_opt == pytest.approx(10 * valley.budget**0.5, rel=tolerance)
        assert valley.loss_opt == pytest.approx(np.e, rel=1e-3)
        assert valley.d_opt == pytest.approx(valley.budget / (6 * valley.n_opt), rel=1e-9)
        assert valley.bracketed == 1.0


def test_a_slice_without_a_bracketed_minimum_is_refused_by_name() -> None:
    table = parabolas()
    falling = table[~((table["flops"] == 1e19) & (table["n_params"] > 10 * 1e19**0.5))]
    found = isoflop(falling, estimator="akima", seed_sd=1e-6)
    (refused,) = found.unbracketed
    assert refused.budget == 1e19
    assert "largest: add larger models" in refused.reason
    assert [valley.budget for valley in found.valleys] == [1e18, 1e20, 1e21]
    assert any(line.startswith("no minimum at C = 1e+19") for line in found.warnings)


def test_two_sizes_bracket_nothing() -> None:
    table = parabolas()
    few = table[(table["flops"] != 1e18) | (table.groupby("flops").cumcount() < 2)]
    assert isoflop(few).unbracketed[0].reason == "2 sizes, a slice needs 3"


def test_more_noise_means_less_certain_minima() -> None:
    quiet, loud = (isoflop(parabolas(), estimator="akima", seed_sd=sd).valleys[0].log_sd for sd in (1e-6, 0.05))
    spacing = np.log(20) / 7
    assert quiet == pytest.approx(0.33 * spacing, rel=1e-6)
    assert loud > 1.5 * quiet


def test_of_several_runs_at_a_size_the_best_counts() -> None:
    table = parabolas()
    worse = table.assign(loss=table["loss"] + 0.3)
    once, twice = isoflop(table).valleys, isoflop(pd.concat([table, worse])).valleys
    assert [v.n_opt for v in once] == [v.n_opt for v in twice]
    warnings = isoflop(pd.concat([table, worse])).warnings
    assert f"{len(table)} of {2 * len(table)} rows share budget and size" in warnings[0]
    assert not any("share budget" in warning for warning in isoflop(table).warnings)


def test_the_same_seed_gives_the_same_valleys() -> None:
    first, again, other = (isoflop(parabolas(), seed=seed, seed_sd=0.02).valleys for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_minimum_says_nan_where_nothing_is_bracketed() -> None:
    n = np.array([1e6, 2e6, 4e6, 8e6])
    loss = np.array([[3.0, 3.0], [2.5, 2.8], [2.6, 2.5], [2.9, 2.2]])
    for estimator in ("akima", "parabola"):
        log_n, _ = minimum(n, loss, estimator)  # type: ignore[arg-type]
        assert np.log(2e6) < log_n[0] < np.log(5e6)
        assert np.isnan(log_n[1])


def test_the_closed_form_is_the_minimum_along_the_slice() -> None:
    from lawfit.fitting.fitting import fit

    table = surface_table()
    surface = fit({"N": table["n_params"], "D": table["tokens"]}, table["loss"], "chinchilla")
    n = np.geomspace(1e6, 1e11, 200_001)
    along = surface.predict({"N": n, "D": 1e20 / (6 * n)})
    assert surface_optimum(surface, 1e20, 1 / 6) == pytest.approx(n[along.argmin()], rel=1e-4)


def test_what_are_no_slices_is_explained() -> None:
    table = parabolas().assign(flops=np.arange(32) * 1e17 + 1e18)
    with pytest.raises(RecordError, match="32 budgets with one size each: an isoFLOP slice holds runs of several"):
        isoflop(table)
    with pytest.raises(RecordError, match="estimator 'cubic' is unknown: expected one of akima, parabola, surface"):
        isoflop(parabolas(), estimator="cubic")  # type: ignore[arg-type]
