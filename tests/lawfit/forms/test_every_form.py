"""What holds for every form: derivatives, coordinates, scans of starts, roles of parameters."""

import numpy as np
import pytest

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.forms.base import Centre, Form, nonnegative
from lawfit.forms.catalogue import FORMS
from lawfit.forms.power_sums import PowerSum
from lawfit.intervals.profile import profile

GENERATOR = np.random.default_rng(0)
COLUMNS = {
    "x": np.geomspace(3e3, 2e6, 9),
    "N": np.geomspace(1e7, 1e10, 9),
    "D": 1e9 * 10.0 ** GENERATOR.uniform(0, 3, 9),
    "U": np.full(9, 3e9),
}
PARAMETERS = {
    "kaplan": [6.4e13, 1.8e13, 0.076, 0.103],
    "data_constrained": [1.87, 521.0, 1488.0, 0.353, 0.36, 15.4, 5.3],
    "m4": [0.3, 2.5, 90.0, 0.6, 0.5],
    "bnsl": [0.2, 30.0, 0.25, 0.3, 1e5, 0.4],
    "bnsl2": [0.2, 30.0, 0.25, 0.3, 3e4, 0.4, -0.2, 4e5, 0.3],
}


def _published(form: Form) -> list[float]:
    """Parameters of a law of the form; of a sum of powers, whose terms are then 1 in the middle of the data."""
    if not isinstance(form, PowerSum):
        return PARAMETERS[form.name]
    values = {name: 0.3 + 0.05 * i for i, name in enumerate(form.exponents)}
    for term in form.terms:
        middle = (np.log(COLUMNS[variable]).mean() * values[e] for variable, e in term.exponents.items())
        values[term.amplitude] = float(np.exp(sum(middle)))
    return [values.get(name, 1.2) for name in form.parameters]


@pytest.fixture(params=sorted(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


def _data(form: Form) -> tuple[list[Array], Centre]:
    columns = [COLUMNS[name] for name in form.variables]
    origins = form.origins or form.variables
    centre = Centre(tuple(float(np.log(COLUMNS[name]).mean()) for name in origins), 0.7)
    return [np.log(c) - x for c, x in zip(columns, centre.log_x, strict=True)], centre


def test_the_published_parameters_survive_the_search_coordinates(form: Form) -> None:
    params = np.array([_published(form)])
    for centre in (Centre((0.0,) * len(form.variables)), _data(form)[1]):
        np.testing.assert_allclose(form.published(form.encode(params, centre), centre), params, rtol=1e-10)


def test_values_do_not_depend_on_the_centre(form: Form) -> None:
    logs, centre = _data(form)
    params = np.array([_published(form)])
    there = form.evaluate(form.encode(params, centre), logs)[0] * np.exp(centre.log_y)
    here = form.predict(params[0], {name: COLUMNS[name] for name in form.variables})
    np.testing.assert_allclose(there, here, rtol=1e-10)


def test_first_derivatives_are_those_of_the_value(form: Form) -> None:
    logs, centre = _data(form)
    theta = form.encode(np.array([_published(form)]), centre)
    value, jacobian, _ = form.expand(theta, logs)
    steps = 1e-6 * np.eye(theta.shape[1])
    numeric = [(form.evaluate(theta + s, logs) - form.evaluate(theta - s, logs))[0] / 2e-6 for s in steps]
    np.testing.assert_allclose(value, form.evaluate(theta, logs), rtol=1e-12)
    np.testing.assert_allclose(jacobian[0], numeric, rtol=1e-5, atol=1e-8)


def test_second_derivatives_are_those_of_the_first(form: Form) -> None:
    logs, centre = _data(form)
    theta = form.encode(np.array([_published(form)]), centre)
    weights = np.random.default_rng(1).standard_normal((1, 9))
    steps = 1e-6 * np.eye(theta.shape[1])
    numeric = [
        ((form.expand(theta + s, logs).jacobian - form.expand(theta - s, logs).jacobian) @ weights[0])[0] / 2e-6
        for s in steps
    ]
    curvature = form.expand(theta, logs).curvature(weights)[0]
    np.testing.assert_allclose(curvature, numeric, rtol=1e-4, atol=1e-6 * np.abs(curvature).max())


def test_the_published_jacobian_is_the_derivative(form: Form) -> None:
    _, centre = _data(form)
    theta = form.encode(np.array([_published(form)]), centre)[0]
    steps = 1e-6 * np.eye(len(theta))
    numeric = np.stack([(form.published(theta + s, centre) - form.published(theta - s, centre)) / 2e-6 for s in steps])
    found = form.published_jacobian(theta, centre)
    np.testing.assert_allclose(found, numeric.T, rtol=1e-5, atol=1e-6 * np.abs(found).max())


def test_the_scan_of_starts_comes_near_a_law_of_the_form(form: Form) -> None:
    logs, centre = _data(form)
    theta = form.encode(np.array([_published(form)]), centre)
    y = form.evaluate(theta, logs)[0]
    low, high = form.bounds(logs)
    starts = np.clip(form.grid(logs, y, True), low, high)
    errors = np.abs(np.log(form.evaluate(starts, logs) / y)).max(axis=1)
    assert np.isfinite(starts).all()
    assert errors.min() < 0.5 * np.ptp(np.log(y))


def test_every_parameter_with_a_role_is_one_of_the_form(form: Form) -> None:
    assert form.exponents
    assert {*form.exponents, *form.amplitudes} <= set(form.parameters)
    low, _ = form.bounds(_data(form)[0])
    assert form.floor is None or low[form.parameters.index(form.floor)] == 0


def test_y_falls_where_the_exponents_are_positive(form: Form) -> None:
    columns, params = {name: COLUMNS[name] for name in form.variables}, _published(form)
    positive = [abs(v) if name in form.exponents else v for name, v in zip(form.parameters, params, strict=True)]
    for name in form.variables:
        more = form.predict(positive, {**columns, name: 2 * columns[name]})
        assert (more <= form.predict(positive, columns)).all()


@pytest.mark.parametrize("name", [name for name in FORMS if name != "bnsl2"])  # as bnsl, and slow
def test_only_a_floor_is_one_sided(name: str) -> None:
    form = FORMS[name]
    generator = np.random.default_rng(0)
    columns = {name: np.tile(COLUMNS[name], 2) * generator.uniform(0.5, 2, 18) for name in form.variables}
    y = form.predict(_published(form), columns) * np.exp(0.1 * generator.standard_normal(18))
    law = fit(columns, y, form.name)
    found = {name: profile(law, name, level=0.5) for name in form.parameters[:4]}
    assert {name for name, of in found.items() if of.one_sided} <= {form.floor}
    assert all(of.low == 0 for of in found.values() if of.one_sided)


def test_a_law_may_rise() -> None:
    rising = FORMS["power_floor"].predict([1.0, 0.01, -0.4], COLUMNS["x"])
    assert (np.diff(rising) > 0).all()


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(RecordError, match=r"'chinchilla' needs D: x has N, tokens"):
        FORMS["chinchilla"].predict([1.8, 480.0, 2100.0, 0.35, 0.37], {"N": [1e8], "tokens": [1e9]})


def test_nonnegative_least_squares_meets_the_conditions_of_optimality() -> None:
    generator = np.random.default_rng(3)
    basis, target = generator.standard_normal((200, 3, 12)), generator.standard_normal(12)
    found = nonnegative(basis, target)
    gradient = (basis @ (target - (found[:, None] @ basis)[:, 0])[..., None])[..., 0]
    assert (found >= 0).all()
    assert (gradient[found == 0] < 1e-9).all()
    assert np.abs(gradient[found > 0]).max() < 1e-8
