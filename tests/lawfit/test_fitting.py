"""Fits: recovery, choice of form, certificate, refusals."""

import numpy as np
import pytest
from scipy import optimize

from lawfit.fitting import fit, refit
from lawfit.forms import PowerLawFloor
from lawfit.records import load_table
from lawfit.schema import RecordError

X = 4608.0 * np.arange(1, 7) ** 3


def _noise(sd: float, seed: int = 0, n: int = 6) -> np.ndarray:
    return np.exp(sd * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize("alpha", [0.049, 0.2, -0.3])
def test_a_power_law_without_noise_is_recovered_exactly(alpha: float) -> None:
    fitted = fit(X, 1.8 * (X / X[0]) ** -alpha, "power")
    assert fitted.params["alpha"] == pytest.approx(alpha, abs=1e-12)
    assert fitted.params["A"] == pytest.approx(1.8 * (fitted.form.x0 / X[0]) ** -alpha, rel=1e-12)
    assert fitted.r2_log == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("floor", "amplitude", "alpha"), [(1.3, 0.3, 0.3), (0.2, 4.0, 0.05), (5.0, 1.05, 0.2)])
def test_a_law_with_floor_without_noise_is_recovered(floor: float, amplitude: float, alpha: float) -> None:
    fitted = fit(X, floor + amplitude * (X / 5e4) ** -alpha, "power_floor")
    assert fitted.params["E"] == pytest.approx(floor, rel=1e-9)
    assert fitted.params["A"] == pytest.approx(amplitude * (fitted.form.x0 / 5e4) ** -alpha, rel=1e-9)
    assert fitted.params["alpha"] == pytest.approx(alpha, rel=1e-9)
    assert fitted.certificate.reached_best == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_is_that_of_a_global_search(seed: int) -> None:
    y = (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.005, seed)
    fitted = fit(X, y, "power_floor")

    def cost(params: np.ndarray) -> float:
        return float(((np.log(y) - np.log(PowerLawFloor(fitted.form.x0).predict(params, X))) ** 2).sum())

    found = optimize.differential_evolution(cost, [(0, 1.6), (1e-3, 2), (1e-3, 3)], tol=1e-12, seed=seed)
    assert fitted.certificate.objective <= found.fun * (1 + 1e-9)


def test_the_certificate_holds_at_the_optimum() -> None:
    fitted = fit(X, (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.005), "power_floor")
    assert fitted.certificate.holds
    assert fitted.certificate.gradient_norm < 1e-9
    assert fitted.certificate.smallest_eigenvalue > 1e-3
    assert fitted.certificate.starts == 25
    assert fitted.certificate.at_bound == ()
    assert fitted.certificate.objective == pytest.approx((fitted.residuals**2).sum(), rel=1e-12)


def test_the_curvature_of_a_power_law_is_twice_the_moment_matrix() -> None:
    fitted = fit(X, 1.8 * (X / X[0]) ** -0.05 * _noise(0.01), "power")
    spread = (np.log(X / fitted.form.x0) ** 2).sum()
    assert fitted.certificate.smallest_eigenvalue == pytest.approx(2 * min(len(X), spread), rel=1e-6)


def test_a_floor_that_does_not_help_is_exactly_zero() -> None:
    concave = np.exp(-0.05 * np.log(X / X[0]) - 0.01 * np.log(X / X[0]) ** 2)
    fitted = fit(X, concave, "power_floor")
    assert fitted.params["E"] == 0.0
    assert fitted.certificate.at_bound == ("E",)
    assert fitted.certificate.reached_best == 1.0
    assert fitted.params["alpha"] == pytest.approx(fit(X, concave, "power").params["alpha"], rel=1e-12)
    assert "best floor is 0" in fit(X, concave).reason


def test_auto_takes_a_floor_when_it_is_plain_and_keeps_both_scores() -> None:
    fitted = fit(X, (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(2e-4))
    assert fitted.form.name == "power_floor"
    assert fitted.aicc_by_form["power_floor"] < fitted.aicc_by_form["power"]
    assert fitted.reason.startswith("a floor is distinguishable")


def test_auto_keeps_the_power_law_when_noise_hides_the_floor() -> None:
    fitted = fit(X, (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.01))
    assert fitted.form.name == "power"
    assert fitted.reason.startswith("a floor is not distinguishable")


def test_auto_prefers_fewer_parameters_on_exact_data() -> None:
    assert fit(X, 1.8 * (X / X[0]) ** -0.05).form.name == "power"


def test_too_few_points_for_a_floor_are_said_so() -> None:
    fitted = fit(X[:5], 1.3 + 0.3 * (X[:5] / 5e4) ** -0.3)
    assert fitted.form.name == "power"
    assert np.isnan(fitted.aicc_by_form["power_floor"])
    assert "cannot tell a floor" in fitted.reason


def test_aicc_counts_independent_runs_not_points() -> None:
    x = np.geomspace(1e10, 1e13, 32)
    y = (1.3 + 0.3 * (x / 5e11) ** -0.15) * _noise(0.01, n=32)
    assert fit(x, y).form.name == "power_floor"
    assert fit(x, y, independent=6).form.name == "power"


def test_aicc_is_the_published_formula() -> None:
    fitted = fit(X, 1.8 * (X / X[0]) ** -0.05 * _noise(0.01), "power")
    variance = (fitted.residuals**2).mean()
    assert fitted.aicc == pytest.approx(6 * np.log(variance) + 2 * 3 + 2 * 3 * 4 / (6 - 3 - 1), rel=1e-12)


def test_summary_is_one_line_with_the_parameters() -> None:
    summary = fit(X, 1.8 * (X / X[0]) ** -0.05, "power").summary()
    assert "\n" not in summary
    assert "alpha = 0.05" in summary
    assert "n = 6" in summary


def test_predict_and_residuals_are_in_the_unit_of_y() -> None:
    y = 1.8 * (X / X[0]) ** -0.05 * _noise(0.01)
    fitted = fit(X, y, "power")
    np.testing.assert_allclose(fitted.predict(X) * np.exp(fitted.residuals), y, rtol=1e-13)
    assert fitted.max_relative_residual == pytest.approx(np.abs(y / fitted.predict(X) - 1).max(), rel=1e-12)


def test_weighted_refits_equal_fits_of_the_repeated_points() -> None:
    y = (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.005)
    whole = fit(X, y, "power_floor")
    weights = np.random.default_rng(1).multinomial(6, np.full(6, 1 / 6), 40).astype(float)
    weights = weights[(weights > 0).sum(1) >= 4]
    near = np.array(list(whole.params.values()))
    refits = refit(whole.form, np.tile(X, (len(weights), 1)), np.tile(y, (len(weights), 1)), weights, near)
    for row, params in zip(weights, refits, strict=True):
        times = row.astype(int)
        alone = fit(np.repeat(X, times), np.repeat(y, times), "power_floor")
        error = (row * (np.log(y) - np.log(whole.form.predict(params, X))) ** 2).sum()
        assert error == pytest.approx(alone.certificate.objective, rel=1e-7)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 2], [1, 1, 1], "2 distinct x"),
        ([1, 2, 3], [1, 0, 1], r"y\[1\] is 0"),
        ([1, np.inf, 3], [1, 1, 1], r"x\[1\] is inf"),
        ([1, 2, 3], [1, 1], "equal length"),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        fit(x, y)


def test_an_unknown_form_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecordError, match=r"'cubic' is unknown: expected one of power, power_floor, auto"):
        fit(X, X, "cubic")  # type: ignore[arg-type]


def test_published_dense_language_models_give_their_exponent(laws_folder) -> None:  # type: ignore[no-untyped-def]
    """Clark et al. 2022: alpha 0.0788 and N_c 3.42e13 in (N_c/N)^alpha, from the plain dense runs' end."""
    runs = load_table(laws_folder("clark_routing_final.csv"), ["dense_parameter_count", "loss_validation"])
    dense = runs[(runs["router_type"] == "Dense") & (runs["flop_increase"] == 1)]
    fitted = fit(dense["dense_parameter_count"], dense["loss_validation"], "power")
    alpha, amplitude = fitted.params["alpha"], fitted.params["A"]
    assert alpha == pytest.approx(0.0788, abs=5e-5)
    assert fitted.form.x0 * amplitude ** (1 / alpha) == pytest.approx(3.42e13, rel=1e-3)
