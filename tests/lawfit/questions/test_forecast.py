"""Forecasts: values, intervals that cover, back-tests, warnings."""

import re

import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.questions.forecast import forecast

X = np.geomspace(1e5, 1e8, 10)


def _y(noise: float, generator: np.random.Generator) -> np.ndarray:
    return 3 * (X / 1e5) ** -0.08 * np.exp(noise * generator.standard_normal(len(X)))


def test_an_exact_law_is_forecast_exactly_and_its_past_too() -> None:
    said = forecast(X, _y(0.0, np.random.default_rng(0)), 1e9)
    assert said.y == pytest.approx(3 * 1e4**-0.08, rel=1e-9)
    assert said.low == pytest.approx(said.high, rel=1e-6)
    assert all(test.error == pytest.approx(0, abs=1e-9) for test in said.back_tests)
    assert [test.at for test in said.back_tests] == pytest.approx(list(X[3:]))


def test_intervals_of_a_new_run_cover_it() -> None:
    generator, inside, count = np.random.default_rng(0), 0, 120
    for _ in range(count):
        said = forecast(X, _y(0.01, generator), 4e8, form="power")
        actual = 3 * (4e8 / 1e5) ** -0.08 * np.exp(0.01 * generator.standard_normal())
        inside += said.low < actual < said.high
    assert 0.92 <= inside / count <= 1.0


def test_a_form_that_failed_before_gets_a_wider_interval_and_says_so() -> None:
    y = _y(0.002, np.random.default_rng(0))
    y[-1] *= 1.1
    said = forecast(X, y, 1e9, form="power")
    assert not said.back_tests[-1].held
    assert said.widening > 5
    held = sum(test.held for test in said.back_tests)
    assert any(f"{held} of 7 known runs lay in their forecast's interval: widened" in line for line in said.warnings)
    assert said.high / said.y > 1.1


def test_a_back_test_is_the_fit_of_the_smaller_runs() -> None:
    y = _y(0.01, np.random.default_rng(1))
    said = forecast(X, y, 1e9, form="power")
    slope, level = np.polyfit(np.log(X[:9]), np.log(y[:9]), 1)
    last = said.back_tests[-1]
    assert last.predicted == pytest.approx(np.exp(level + slope * np.log(X[9])), rel=1e-9)
    assert last.actual == pytest.approx(y[9])
    assert last.ratio == pytest.approx(X[9] / X[8])


def test_the_plausible_forms_lie_within_the_interval() -> None:
    floor = 1.5 + 1.5 * (X / 1e5) ** -0.3
    said = forecast(X, floor * np.exp(0.004 * np.random.default_rng(3).standard_normal(10)), 1e10)
    assert set(said.alternatives) == {"power", "power_floor"}
    assert said.fit.form.name == "power_floor"
    assert said.low <= said.alternatives["power_floor"] <= said.high


def test_a_surface_is_forecast_at_n_and_d() -> None:
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e8, 1e10, 5)))
    y = 1.7 + 400 * n**-0.34 + 2000 * d**-0.37
    said = forecast({"N": n, "D": d}, y, {"N": 1e9, "D": 1e11}, form="chinchilla")
    assert said.y == pytest.approx(1.7 + 400 * 1e9**-0.34 + 2000 * 1e11**-0.37, rel=1e-6)
    assert len(said.back_tests) > 3
    assert any("times the largest known run" in line for line in said.warnings)


def test_too_few_runs_for_a_back_test_are_said_so() -> None:
    said = forecast(X[:3], _y(0.01, np.random.default_rng(0))[:3], 1e7, form="power")
    assert said.back_tests == ()
    assert any("too few sizes for a back-test" in line for line in said.warnings)


def test_far_and_scattered_forecasts_say_why_they_are_uncertain() -> None:
    warnings = forecast(X, _y(0.2, np.random.default_rng(0)), 1e12, form="power").warnings
    assert any("scatter by" in line and "differ in more than x" in line for line in warnings)
    assert any("1e+04 times the largest known run" in line for line in warnings)


def test_three_variables_need_a_form() -> None:
    with pytest.raises(RecordError, match="x has N, D, U: name the form"):
        forecast({"N": X, "D": X, "U": X}, X, {"N": 1.0, "D": 1.0, "U": 1.0})


@pytest.mark.parametrize(
    ("at", "said"), [(-1.0, "x[0] is -1.0: a law needs positive"), ({"N": 1e9}, "forecast at N: the law is of x")]
)
def test_a_place_that_is_none_is_refused(at: object, said: str) -> None:
    x = np.geomspace(1e6, 1e9, 8)
    with pytest.raises(RecordError, match=re.escape(said)):
        forecast(x, 3 * x**-0.1, at, form="power")  # type: ignore[arg-type]
