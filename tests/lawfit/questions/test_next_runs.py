"""What to run next, and what a target takes, against brute force."""

import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.intervals.covariance import linearise
from lawfit.questions.next_runs import next_runs, what_if

X = np.geomspace(1e15, 1e18, 8)


def _law(noise: float = 0.01, form: str = "power") -> object:
    floor = 1.5 if form == "power_floor" else 0.0
    clean = floor + 2 * (X / 1e16) ** -0.1
    return fit(X, clean * np.exp(noise * np.random.default_rng(0).standard_normal(8)), form)


def test_the_gain_of_a_run_is_that_of_the_design_with_it() -> None:
    law = _law()
    (best,) = next_runs(law, [1e20], budget=1e19, candidates=[3e18], count=1)
    slope = np.log(1e20) - np.log(X).mean()

    def variance(x: np.ndarray) -> float:
        design = np.stack([np.ones_like(x), np.log(x) - np.log(X).mean()], axis=1)
        at = np.array([1.0, slope])
        return float(at @ np.linalg.inv(design.T @ design) @ at)

    ratio = np.sqrt(variance(np.append(X, 3e18)) / variance(X))
    assert best.half_width_after / best.half_width_before == pytest.approx(ratio, rel=1e-8)
    assert best.half_width_before == pytest.approx(2.4469 * np.sqrt(linearise(law).noise * variance(X)), rel=1e-4)


def test_runs_are_affordable_and_ranked_by_gain_per_flop() -> None:
    found = next_runs(_law(), [1e20], budget=1e18, count=10)
    assert len(found) == 10
    assert all(candidate.cost <= 1e18 for candidate in found)
    gains = [candidate.gain for candidate in found]
    assert gains == sorted(gains, reverse=True)
    assert all(candidate.half_width_after < candidate.half_width_before for candidate in found)


def test_a_surface_is_priced_at_six_n_d_and_any_price_may_be_given() -> None:
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 5)))
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(25))
    law = fit({"N": n, "D": d}, (1.7 + 400 * n**-0.34 + 2000 * d**-0.37) * noise, "chinchilla")
    at = {"N": 1e9, "D": 1e11}
    for candidate in next_runs(law, at, budget=1e18):
        assert candidate.cost == pytest.approx(6 * candidate.x["N"] * candidate.x["D"])
    dear = next_runs(law, at, budget=1e18, cost=lambda x: 60 * x["N"] * x["D"])
    assert all(candidate.cost == pytest.approx(60 * candidate.x["N"] * candidate.x["D"]) for candidate in dear)


def test_nothing_affordable_is_said_so() -> None:
    with pytest.raises(RecordError, match=r"no candidate costs at most 1 FLOPs: the cheapest costs 1e\+15"):
        next_runs(_law(), [1e20], budget=1.0)


def test_a_target_is_reached_where_the_law_says() -> None:
    law = _law()
    needed = what_if(law, 1.2)
    assert law.predict([needed.x])[0] == pytest.approx(1.2, rel=1e-9)
    assert needed.status == "reachable"
    assert needed.interval[0] < needed.x < needed.interval[1]
    assert needed.extrapolation == pytest.approx(needed.x / 1e18)


def test_a_surface_is_solved_along_its_best_split() -> None:
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 5)))
    law = fit({"N": n, "D": d}, 1.7 + 400 * n**-0.34 + 2000 * d**-0.37, "chinchilla")
    needed = what_if(law, 2.2, replicates=60)
    sizes = np.geomspace(1e5, 1e11, 100_001)
    best = law.predict({"N": sizes, "D": needed.x / (6 * sizes)}).min()
    assert best == pytest.approx(2.2, rel=1e-6)


def test_a_target_below_the_floors_interval_is_not_reachable() -> None:
    law = _law(0.001, "power_floor")
    low, high = what_if(law, 1.6).floor_interval
    below, within = what_if(law, 0.99 * low), what_if(law, (low + high) / 2)
    assert below.status == "not reachable"
    assert np.isinf(below.x)
    assert within.status == "uncertain"
    assert np.isinf(within.interval[1])
    assert what_if(law, 1.05 * high).status == "reachable"


def test_a_law_that_rises_and_a_form_without_solution_are_refused() -> None:
    with pytest.raises(RecordError, match="the law does not fall"):
        what_if(fit(X, 2 * (X / 1e16) ** 0.1, "power"), 1.0)
