"""Fits: published optima, recovery, robust losses, certificate, choice of form, refusals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.forms.catalogue import FORMS

X = 4608.0 * np.arange(1, 7) ** 3
ORACLES = [
    f"{points}/{loss}"
    for points in (240, 245)
    for loss in ("linear-MSE(VPNLS)", "Huber1e-3 log", "log-MSE", "Huber0.01 log", "Huber0.0001 log", "Huber1e-06 log")
]
SURFACE = ("A", "B", "E", "alpha", "beta")


def _noise(sd: float, seed: int = 0, n: int = 6) -> np.ndarray:
    return np.exp(sd * np.random.default_rng(seed).standard_normal(n))


@pytest.fixture(scope="session")
def chinchilla(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "data" / "laws" / "chinchilla_svg.csv")


def _columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    return {"N": rows["n_params"].to_numpy(), "D": rows["tokens"].to_numpy()}


@pytest.mark.parametrize("name", ORACLES)
def test_a_default_call_reaches_the_best_known_optimum(name: str, chinchilla: pd.DataFrame, shared: Path) -> None:
    best = json.loads((shared / "data" / "laws" / "chinchilla_oracles.json").read_text())[name]
    points, loss = name.split("/")
    rows = chinchilla if points == "245" else chinchilla[chinchilla["keep240"] == 1]
    options: dict[str, object] = {"space": "linear"} if loss.startswith("linear") else {}
    if loss.startswith("Huber"):
        options |= {"loss": "huber", "delta": float(loss.split()[0].removeprefix("Huber"))}
    fitted = fit(_columns(rows), rows["loss"], "chinchilla", **options)  # type: ignore[arg-type]
    assert fitted.objective <= best["obj"] * (1 + 1e-10)
    assert [fitted.params[p] for p in SURFACE] == pytest.approx([best[p] for p in SURFACE], rel=1e-6)
    assert fitted.certificate.status == "certified"


def test_least_absolute_deviations_give_the_printed_values_of_the_replication(chinchilla: pd.DataFrame) -> None:
    rows = chinchilla[chinchilla["keep240"] == 1]
    fitted = fit(_columns(rows), rows["loss"], "chinchilla", loss="lad")
    assert [fitted.params[p] for p in SURFACE] == pytest.approx([482.01, 2085.43, 1.8168, 0.3478, 0.3658], rel=3e-4)
    assert fitted.certificate.holds


def test_dense_language_models_give_their_exponent(shared: Path) -> None:
    """Clark et al. 2022: alpha 0.0788 and N_c 3.42e13 in (N_c/N)^alpha, from the plain dense runs' end."""
    runs = pd.read_csv(shared / "data" / "laws" / "clark_routing_final.csv")
    dense = runs[(runs["router_type"] == "Dense") & (runs["flop_increase"] == 1)]
    fitted = fit(dense["dense_parameter_count"], dense["loss_validation"], "power")
    alpha = fitted.params["alpha"]
    assert alpha == pytest.approx(0.0788, abs=5e-5)
    assert fitted.params["A"] ** (1 / alpha) == pytest.approx(3.42e13, rel=1e-3)


@pytest.mark.parametrize("alpha", [0.049, 0.2, -0.3])
def test_a_power_law_without_noise_is_recovered_exactly(alpha: float) -> None:
    fitted = fit(X, 1.8 * X**-alpha, "power")
    assert fitted.params["alpha"] == pytest.approx(alpha, abs=1e-12)
    assert fitted.params["A"] == pytest.approx(1.8, rel=1e-10)
    assert fitted.reference.amplitudes["A"] == pytest.approx(1.8 * fitted.reference.x0["x"] ** -alpha, rel=1e-12)
    assert fitted.r2_log == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("floor", "amplitude", "alpha"), [(1.3, 0.3, 0.3), (0.2, 4.0, 0.05), (5.0, 1.05, 0.2)])
@pytest.mark.parametrize("loss", ["squared", "huber", "lad"])
def test_a_law_with_floor_without_noise_is_recovered(floor: float, amplitude: float, alpha: float, loss: str) -> None:
    fitted = fit(X, floor + amplitude * (X / 5e4) ** -alpha, "power_floor", loss=loss)  # type: ignore[arg-type]
    assert fitted.params["E"] == pytest.approx(floor, rel=1e-6)
    assert fitted.params["alpha"] == pytest.approx(alpha, rel=1e-6)
    assert fitted.reference.amplitudes["A"] == pytest.approx(
        amplitude * (fitted.reference.x0["x"] / 5e4) ** -alpha, rel=1e-6
    )


@pytest.mark.parametrize("loss", ["squared", "lad"])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_a_global_search(seed: int, loss: str) -> None:
    y = (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.005, seed)
    fitted = fit(X, y, "power_floor", loss=loss)  # type: ignore[arg-type]

    def cost(params: np.ndarray) -> float:
        residual = np.log(y) - np.log(params[0] + params[1] * (X / 5e4) ** -params[2])
        return float((residual**2).sum() if loss == "squared" else np.abs(residual).sum())

    found = optimize.differential_evolution(cost, [(0, 1.6), (1e-3, 2), (1e-3, 3)], tol=1e-12, seed=seed)
    assert fitted.objective <= found.fun * (1 + 1e-8)


def test_the_objective_is_the_sum_of_the_stated_losses() -> None:
    y = (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.01)
    squared, huber, lad = (fit(X, y, "power", loss=loss, delta=d) for loss, d in
                           (("squared", None), ("huber", 0.004), ("lad", None)))  # type: ignore[arg-type]  # fmt: skip
    assert squared.objective == pytest.approx((squared.residuals**2).sum(), rel=1e-12)
    size = np.abs(huber.residuals)
    assert huber.objective == pytest.approx(
        np.where(size < 0.004, size**2 / 2, 0.004 * (size - 0.002)).sum(), rel=1e-12
    )
    assert lad.objective == pytest.approx(np.abs(lad.residuals).sum(), rel=1e-12)


def test_least_absolute_deviations_pass_through_as_many_points_as_parameters() -> None:
    y = (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.01)
    fitted = fit(X, y, "power", loss="lad")
    assert (np.abs(fitted.residuals) < 1e-8).sum() == 2


def test_huber_takes_its_delta_from_the_noise() -> None:
    x = np.geomspace(1e5, 1e9, 400)
    fitted = fit(x, 3 * x**-0.1 * _noise(0.02, n=400), "power", loss="huber")
    assert fitted.delta == pytest.approx(1.345 * 0.02, rel=0.15)


def test_linear_space_judges_residuals_in_the_unit_of_y() -> None:
    y = 100 * (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.01)
    fitted = fit(X, y, "power_floor", space="linear")
    assert fitted.objective == pytest.approx(((y - fitted.predict(X)) ** 2).sum(), rel=1e-10)
    scaled = fit(X, y / 100, "power_floor", space="linear")
    assert scaled.params["alpha"] == pytest.approx(fitted.params["alpha"], rel=1e-8)


def test_known_noise_weights_the_points() -> None:
    y = 2 * X**-0.1 * _noise(0.05)
    sd = y * np.array([0.01, 0.01, 0.01, 0.01, 0.01, 1e3])
    assert fit(X, y, "power", sd=sd).params["alpha"] == pytest.approx(
        fit(X[:5], y[:5], "power").params["alpha"], rel=1e-6
    )


def test_the_unit_of_the_variables_changes_nothing_but_the_unit() -> None:
    y = (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.005)
    in_ones, in_millions = fit(X, y, "power_floor"), fit(X / 1e6, y, "power_floor")
    assert in_millions.params["E"] == pytest.approx(in_ones.params["E"], rel=1e-9)
    assert in_millions.objective == pytest.approx(in_ones.objective, rel=1e-10)


def test_the_certificate_holds_at_the_optimum() -> None:
    certificate = fit(X, (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.005), "power_floor").certificate
    assert certificate.holds
    assert certificate.gradient_norm < 1e-9
    assert 1e-6 < certificate.smallest_eigenvalue < 1
    assert certificate.condition_number > 1
    assert certificate.reached_best > 0.5
    assert certificate.at_bound == ()


def test_parameters_that_the_data_do_not_tell_make_the_optimum_flat() -> None:
    """Every D is a multiple of its N: the two terms are one."""
    n = np.geomspace(1e7, 1e10, 12)
    y = 1.7 + 400 * n**-0.35
    fitted = fit({"N": n, "D": 20 * n}, y, "chinchilla_tied")
    assert fitted.certificate.status == "flat"
    assert "not identified" in fitted.certificate.message


def test_a_floor_that_does_not_help_is_exactly_zero() -> None:
    concave = np.exp(-0.05 * np.log(X / X[0]) - 0.01 * np.log(X / X[0]) ** 2)
    fitted = fit(X, concave, "power_floor")
    assert fitted.params["E"] == 0.0
    assert fitted.certificate.at_bound == ("E",)
    assert fitted.params["alpha"] == pytest.approx(fit(X, concave, "power").params["alpha"], rel=1e-9)
    chosen = fit(X, concave, ("power", "power_floor"))
    assert chosen.form.name == "power"
    assert "power_floor has E at a bound" in chosen.reason


def test_the_choice_takes_a_floor_when_it_is_plain_and_keeps_all_scores() -> None:
    fitted = fit(X, (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(2e-4), ("power", "power_floor"))
    assert fitted.form.name == "power_floor"
    assert fitted.aicc_by_form["power_floor"] < fitted.aicc_by_form["power"]
    assert set(fitted.bic_by_form) == {"power", "power_floor"}
    assert fitted.reason.startswith("lowest AICc")


def test_auto_keeps_the_power_law_when_noise_hides_the_floor() -> None:
    assert fit(X, (1.3 + 0.3 * (X / 5e4) ** -0.3) * _noise(0.01)).form.name == "power"


def test_auto_prefers_fewer_parameters_on_exact_data() -> None:
    assert fit(X, 1.8 * (X / X[0]) ** -0.05).form.name == "power"


def test_auto_tells_one_exponent_from_two_on_a_surface() -> None:
    generator = np.random.default_rng(0)
    n, d = (10.0 ** generator.uniform(low, low + 3, 60) for low in (7, 9))
    noise = _noise(0.003, 1, 60)
    tied = fit({"N": n, "D": d}, (1.8 + 400 * n**-0.34 + 900 * d**-0.34) * noise)
    apart = fit({"N": n, "D": d}, (1.8 + 30 * n**-0.2 + 90000 * d**-0.6) * noise)
    assert tied.form.name == "chinchilla_tied"
    assert apart.form.name == "chinchilla"


def test_too_few_points_for_a_floor_are_said_so() -> None:
    fitted = fit(X[:5], 1.3 + 0.3 * (X[:5] / 5e4) ** -0.3, ("power", "power_floor"))
    assert fitted.form.name == "power"
    assert "5 independent points cannot tell power_floor" in fitted.reason


def test_aicc_counts_independent_runs_not_points() -> None:
    x = np.geomspace(1e10, 1e13, 32)
    y = (1.3 + 0.3 * (x / 5e11) ** -0.15) * _noise(0.01, n=32)
    both = ("power", "power_floor")
    assert fit(x, y, both).form.name == "power_floor"
    assert fit(x, y, both, independent=6).form.name == "power"


def test_aicc_and_bic_are_the_published_formulas() -> None:
    fitted = fit(X, 1.8 * (X / X[0]) ** -0.05 * _noise(0.01), "power")
    deviance = 6 * np.log((fitted.residuals**2).mean())
    assert fitted.aicc == pytest.approx(deviance + 2 * 3 + 2 * 3 * 4 / (6 - 3 - 1), rel=1e-12)
    assert fitted.bic == pytest.approx(deviance + 3 * np.log(6), rel=1e-12)


def test_summary_is_one_line_and_json_is_plain() -> None:
    fitted = fit(X, 1.8 * (X / X[0]) ** -0.05, "power")
    summary = fitted.summary()
    assert "\n" not in summary
    assert "alpha = 0.05" in summary
    assert "n = 6" in summary
    plain = json.loads(json.dumps(fitted.to_json()))
    assert plain["params"] == fitted.params
    assert plain["certificate"]["status"] == "certified"


def test_predict_and_residuals_are_in_the_unit_of_y() -> None:
    y = 1.8 * (X / X[0]) ** -0.05 * _noise(0.01)
    fitted = fit(X, y, "power")
    np.testing.assert_allclose(fitted.predict(X) * np.exp(fitted.residuals), y, rtol=1e-13)
    assert fitted.max_relative_residual == pytest.approx(np.abs(y / fitted.predict(X) - 1).max(), rel=1e-12)
    np.testing.assert_allclose(FORMS["power"].predict(list(fitted.params.values()), X), fitted.predict(X), rtol=1e-10)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 2], [1, 1, 1], "2 distinct x"),
        ([1, 2, 3], [1, 0, 1], r"y\[1\] is 0"),
        ([1, np.inf, 3], [1, 1, 1], r"x\[1\] is inf"),
        ([1, 2, 3], [1, 1], "equal length"),
        ({"N": [1, 2, 3], "D": [1, 2, 3]}, [1, 1, 1], "3 points for the 4 parameters"),
        ({"N": [5, 5, 5], "D": [1, 2, 3]}, [1, 1, 1], "1 distinct N"),
        ({"N": [1, 2, 3], "Q": [1, 2, 3]}, [1, 1, 1], "no form has the variables N, Q"),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(x: object, y: list[float], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        fit(x, y)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "cubic"}, "'cubic' is unknown: expected one of power"),
        ({"loss": "l4"}, "'l4' is unknown: expected one of squared, huber, lad"),
        ({"space": "sqrt"}, "'sqrt' is unknown: expected one of log, linear"),
        ({"delta": 0.1}, "only huber takes one"),
        ({"sd": [1, 2]}, "sd has shape"),
    ],
)
def test_unknown_options_are_refused_with_the_known_ones(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        fit(X, X, **options)  # type: ignore[arg-type]
