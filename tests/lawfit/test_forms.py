"""Forms: derivatives, coordinates, starts."""

import numpy as np
import pytest

from lawfit.forms import Array, Form, PowerLaw, PowerLawFloor

X = np.geomspace(3e3, 2e6, 9)
CASES = [
    (PowerLaw(8e4), np.array([1.7, 0.06])),
    (PowerLaw(8e4), np.array([0.4, -0.9])),
    (PowerLawFloor(8e4), np.array([1.2, 0.5, 0.3])),
    (PowerLawFloor(8e4), np.array([0.1, 3.0, -0.4])),
]


def _differences(function: object, at: Array) -> Array:
    """d function / d at by central differences, [..., p]."""
    steps = np.eye(len(at)) * 1e-6 * np.maximum(np.abs(at), 0.1)
    return np.stack([(function(at + s) - function(at - s)) / (2 * s.sum()) for s in steps], axis=-1)  # type: ignore[operator]


@pytest.mark.parametrize(("form", "params"), CASES)
def test_log_jacobian_is_the_derivative_of_log_y(form: Form, params: Array) -> None:
    numeric = _differences(lambda p: np.log(form.predict(p, X)), params)
    np.testing.assert_allclose(form.log_jacobian(params, X), numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("form", "params"), CASES)
def test_coordinates_round_trip_with_their_derivative(form: Form, params: Array) -> None:
    theta = form.encode(params)
    np.testing.assert_allclose(form.decode(theta), params, rtol=1e-13)
    numeric = _differences(form.decode, theta)
    np.testing.assert_allclose(form.decode_jacobian(theta), numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("form", "params"), CASES)
def test_many_parameter_sets_are_one_call(form: Form, params: Array) -> None:
    many = np.stack([params, 1.1 * params, 0.9 * params])
    for row, expected in enumerate(many):
        np.testing.assert_allclose(form.predict(many, X)[row], form.predict(expected, X), rtol=1e-15)
        np.testing.assert_allclose(form.log_jacobian(many, X)[row], form.log_jacobian(expected, X), rtol=1e-14)


def test_centre_is_the_geometric_mean() -> None:
    assert PowerLaw.centred([1.0, 10.0, 100.0]).x0 == pytest.approx(10.0, rel=1e-14)


def test_a_power_law_guess_is_the_solution() -> None:
    form = PowerLaw.centred(X)
    np.testing.assert_allclose(form.guess(X, form.predict([1.7, 0.06], X))[0], [1.7, 0.06], rtol=1e-12)


def test_closed_form_agrees_with_numpy_on_weighted_data() -> None:
    form, generator = PowerLaw.centred(X), np.random.default_rng(0)
    y = form.predict([1.7, 0.06], X) * np.exp(0.05 * generator.standard_normal(len(X)))
    weights = generator.integers(0, 4, len(X))
    slope, level = np.polyfit(np.log(X / form.x0), np.log(y), 1, w=np.sqrt(weights))
    np.testing.assert_allclose(form.closed_form(X, y, weights), [np.exp(level), -slope], rtol=1e-10)


def test_starts_with_a_floor_span_exponents_and_follow_the_direction() -> None:
    form = PowerLawFloor.centred(X)
    falling = form.guess(X, form.predict([1.2, 0.5, 0.3], X))
    rising = form.guess(X, form.predict([1.2, 0.5, -0.3], X))
    assert (falling > 0).all()
    assert (rising[:, :2] > 0).all()
    assert (rising[:, 2] < 0).all()
    assert falling[:, 2].max() / falling[:, 2].min() > 1000


def test_extreme_exponents_do_not_overflow() -> None:
    with np.errstate(all="raise"):
        assert np.isfinite(PowerLawFloor(8e4).predict([1.0, 1.0, 1e6], X)).all()
