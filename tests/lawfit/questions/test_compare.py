"""Comparison of two studies: known differences, pairing, calibration of p."""

import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.questions.compare import compare

X = np.geomspace(1e4, 1e7, 10)
RUNS = [f"r{i}" for i in range(10)]


def _y(alpha: float, noise: np.ndarray) -> np.ndarray:
    return 3 * (X / 1e5) ** -alpha * np.exp(noise)


def test_a_real_difference_is_found_with_its_sign() -> None:
    generator = np.random.default_rng(0)
    first, second = (fit(X, _y(a, 0.004 * generator.standard_normal(10)), "power") for a in (0.05, 0.06))
    found = compare(first, second)
    assert found.difference == pytest.approx(second.params["alpha"] - first.params["alpha"])
    assert found.interval[0] < 0.01 < found.interval[1]
    assert found.interval[0] > 0
    assert found.p < 0.01
    assert found.verdict.endswith("differs")


def test_a_study_against_itself_shows_nothing() -> None:
    law = fit(X, _y(0.05, 0.01 * np.random.default_rng(0).standard_normal(10)), "power")
    found = compare(law, law, runs=(RUNS, RUNS), replicates=500)
    assert found.paired
    assert found.interval == (0.0, 0.0)
    assert found.p == 1.0


def test_pairing_cancels_what_both_studies_share() -> None:
    generator = np.random.default_rng(1)
    shared = 0.02 * generator.standard_normal(10)
    first, second = (fit(X, _y(a, shared + 0.001 * generator.standard_normal(10)), "power") for a in (0.05, 0.053))
    paired = compare(first, second, runs=(RUNS, RUNS))
    apart = compare(first, second, runs=(RUNS, [f"s{i}" for i in range(10)]))
    assert paired.paired
    assert not apart.paired
    width = [found.interval[1] - found.interval[0] for found in (paired, apart)]
    assert width[0] < width[1] / 4
    assert paired.p < 0.05 < apart.p


def test_without_labels_equal_designs_are_paired() -> None:
    generator = np.random.default_rng(1)
    first, second = (fit(X, _y(0.05, 0.01 * generator.standard_normal(10)), "power") for _ in range(2))
    other = fit(X * 2, _y(0.05, 0.01 * generator.standard_normal(10)), "power")
    assert compare(first, second, replicates=100).paired
    assert not compare(first, other, replicates=100).paired


def test_p_is_small_as_often_as_it_says() -> None:
    generator, rejected = np.random.default_rng(2), 0
    for seed in range(200):
        first, second = (fit(X, _y(0.05, 0.01 * generator.standard_normal(10)), "power") for _ in range(2))
        rejected += compare(first, second, replicates=400, seed=seed).p < 0.05
    assert 0.01 <= rejected / 200 <= 0.09


def test_different_forms_and_unknown_parameters_are_refused() -> None:
    law = fit(X, _y(0.05, 0.01 * np.random.default_rng(0).standard_normal(10)), "power")
    floor = fit(X, 1 + _y(0.3, np.zeros(10)), "power_floor")
    with pytest.raises(RecordError, match="forms 'power' and 'power_floor' have no common parameters"):
        compare(law, floor)
    with pytest.raises(RecordError, match="parameter 'beta' is unknown to 'power': there are A, alpha"):
        compare(law, law, parameter="beta")
