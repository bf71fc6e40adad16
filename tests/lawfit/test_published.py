"""Published laws, redone from their published measurements by their own procedures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from asking import answer

from lawfit.approaches.allocation import by_frontier, by_isoflop, regress
from lawfit.approaches.frontier import frontier
from lawfit.approaches.isoflop import isoflop
from lawfit.fitting.fitting import fit
from lawfit.intervals.bootstrap import bootstrap
from lawfit.questions.forecast import forecast
from lawfit.records.flop_conventions import convert_flops, training_flops
from lawfit.records.table import load


@pytest.fixture(scope="session")
def laws(shared: Path) -> Path:
    return shared / "data" / "laws"


PORIAN_SEED_SD = {"rw": 0.002, "owt2": 0.01}
"""What the published code in effect adds, in nats, by data set; see `isoflop.SEED_SD`."""


def test_porian_exponents_of_all_configurations(laws: Path) -> None:
    published = pd.read_csv(laws / "porian_published_fits.csv").set_index("config")["n_exponent"]
    table = load(laws / "porian_isoflop.csv")
    assert len(published) == 15
    for config, exponent in published.items():
        runs = table[table["config"] == config]
        found = isoflop(runs, estimator="akima", seed_sd=PORIAN_SEED_SD[str(config).split("/")[0]])
        assert by_isoflop(found).n.exponent == pytest.approx(exponent, abs=0.005), config


def test_porian_optima_and_their_errors(laws: Path) -> None:
    pairs = pd.read_csv(laws / "porian_optimal_pairs.csv").dropna()
    table = load(laws / "porian_isoflop.csv")
    for config, expected in pairs.groupby("config"):
        found = isoflop(table[table["config"] == config], seed_sd=PORIAN_SEED_SD[str(config).split("/")[0]])
        assert found.estimator == "akima"
        assert len(found.valleys) == len(expected), config
        for valley, (_, row) in zip(found.valleys, expected.sort_values("flops").iterrows(), strict=True):
            assert np.log(valley.n_opt / row["n_opt"]) == pytest.approx(0, abs=0.035)
            assert valley.log_sd == pytest.approx(row["n_opt_logstd"], rel=0.1)


def test_porian_exponents_by_the_default_call(laws: Path) -> None:
    published = pd.read_csv(laws / "porian_published_fits.csv").set_index("config")["n_exponent"]
    table = load(laws / "porian_isoflop.csv")
    errors = {
        config: by_isoflop(isoflop(table[table["config"] == config])).n.exponent - exponent
        for config, exponent in published.items()
    }
    assert max(abs(error) for config, error in errors.items() if str(config).startswith("rw")) < 0.002
    assert max(map(abs, errors.values())) < 0.0072  # the published table's own bound without seed noise


def test_porian_regression_on_the_published_pairs(laws: Path) -> None:
    published = pd.read_csv(laws / "porian_published_fits.csv").set_index("config")
    for config, pairs in pd.read_csv(laws / "porian_optimal_pairs.csv").dropna().groupby("config"):
        c, n, sd = (pairs[name].to_numpy() for name in ("flops", "n_opt", "n_opt_logstd"))
        weighted = regress(c, n, sd, np.random.default_rng(0))
        assert weighted.exponent == pytest.approx(published.loc[config, "n_exponent"], abs=1e-10)
        plain = regress(c, n, np.ones_like(sd), np.random.default_rng(0))
        assert plain.exponent == pytest.approx(published.loc[config, "n_exponent_unweighted"], abs=1e-10)


def test_gemstones_frontier(laws: Path) -> None:
    table = load(laws / "gemstones_curves.csv")
    hull = frontier(table, others={"n": "n_params", "d": "tokens"})
    slope, level = np.polyfit(np.log(hull.x), np.log(hull.columns["n"]), 1)
    assert (slope, level) == (pytest.approx(0.499380, abs=1e-5), pytest.approx(-2.845108, abs=1e-5))
    slope, level = np.polyfit(np.log(hull.x), np.log(hull.columns["d"]), 1)
    assert (slope, level) == (pytest.approx(0.480989, abs=1e-5), pytest.approx(1.896321, abs=1e-5))
    split = by_frontier(table, replicates=40)
    assert split.method == "hull"
    assert split.n.exponent == pytest.approx(0.499380, abs=1e-5)


def test_other_definitions_of_the_gemstones_frontier_give_other_laws(laws: Path) -> None:
    table = load(laws / "gemstones_curves.csv")
    every = frontier(table, others={"n": "n_params"}, method="pareto")
    assert np.polyfit(np.log(every.x), np.log(every.columns["n"]), 1)[0] == pytest.approx(0.553, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("fit", "chinchilla_svg.csv", "--filter", "keep240 == 1", "--as", "besiroglu"),
            {"A": 482.01, "B": 2085.43, "E": 1.8168, "alpha": 0.3478, "beta": 0.3658},
        ),
        (
            ("fit", "chinchilla_svg.csv", "--filter", "keep240 == 1", "--as", "hoffmann3"),
            {"A": 477.8259, "B": 2143.417, "E": 1.817218, "alpha": 0.3473105, "beta": 0.3671724},
        ),
        (
            ("fit", "clark_routing_final.csv", "--x", "dense_parameter_count", "--y", "loss_validation", "--filter",
             "router_type == 'Dense' and (hyper_id < 114 or hyper_id > 118)", "--as", "clark"),
            {"alpha": 0.0788},
        ),
    ],
)  # fmt: skip
def test_fits_by_the_name_of_their_publication(
    laws: Path, arguments: tuple[str, ...], expected: dict[str, float]
) -> None:
    verb, file, *rest = arguments
    found = answer(verb, laws / file, *rest, "--replicates", "50")
    for name, value in expected.items():
        assert found["parameters"][name] == pytest.approx(value, rel=2e-4 if len(expected) > 1 else 1e-3)


def test_gemstones_by_name(laws: Path) -> None:
    found = answer("frontier", laws / "gemstones_curves.csv", "--as", "gemstones", "--replicates", "50")
    assert found["n"]["exponent"] == pytest.approx(0.499380, abs=1e-5)
    assert found["d"]["exponent"] == pytest.approx(0.480989, abs=1e-5)


def test_porian_by_name(laws: Path) -> None:
    published = pd.read_csv(laws / "porian_published_fits.csv").set_index("config")["n_exponent"]
    for config in [name for name in published.index if name.startswith("rw")][:3]:
        found = answer("isoflop", laws / "porian_isoflop.csv", "--filter", f"config == '{config}'", "--as", "porian")
        assert found["n"]["exponent"] == pytest.approx(published[config], abs=0.002), config


def test_clark_dense_exponent(laws: Path) -> None:
    table = load(
        laws / "clark_routing_final.csv",
        # 114 to 118 are other shapes of the same sizes.
        where="router_type == 'Dense' and (hyper_id < 114 or hyper_id > 118)",
    )
    law = fit(table["dense_parameter_count"], table["loss_validation"], "power")
    assert law.params["alpha"] == pytest.approx(0.0788, abs=0.001)
    size_constant = law.params["A"] ** (1 / law.params["alpha"])
    assert size_constant == pytest.approx(3.42e13, rel=0.01)


def test_dit_correlation(laws: Path) -> None:
    table = load(laws / "dit_fid.csv").head(12)
    correlation = np.corrcoef(np.log(table["gflops"]), table["fid50k_noguidance"])[0, 1]
    assert correlation == pytest.approx(-0.9298, abs=5e-5)


def test_dit_xl_2_from_the_smaller_models_is_off_but_within_its_interval(laws: Path) -> None:
    grid = load(laws / "dit_fid.csv").head(12)
    largest = grid[grid["model"] == "DiT-XL/2"].iloc[0]
    smaller = grid[grid["gflops"] < largest["gflops"]]
    said = forecast(smaller["gflops"], smaller["fid50k_noguidance"], largest["gflops"], form="power")
    assert len(smaller) == 11
    assert said.y == pytest.approx(26.5, abs=0.1)
    assert largest["fid50k_noguidance"] == pytest.approx(19.5, abs=0.05)
    assert said.low < largest["fid50k_noguidance"] < said.high
    assert any("differ in more than x" in warning for warning in said.warnings)
    assert max(abs(test.error) for test in said.back_tests) > 0.3


def test_chinchilla_surface_and_its_objective(laws: Path) -> None:
    oracles = json.loads((laws / "chinchilla_oracles.json").read_text())
    assert oracles
    table = load(laws / "chinchilla_svg.csv", where="keep240 == 1")
    law = fit({"N": table["n_params"], "D": table["tokens"]}, table["loss"], "chinchilla", loss="huber", delta=1e-3)
    expected = {"E": 1.817218, "A": 477.8259, "B": 2143.417, "alpha": 0.3473105, "beta": 0.3671724}
    for name, value in expected.items():
        assert law.params[name] == pytest.approx(value, rel=1e-4)
    assert law.objective <= 1.0182740178e-3 * (1 + 1e-8)


def test_var_laws_from_points_on_them(laws: Path) -> None:
    """(beta x)^alpha has A = beta^alpha, and the irreducible entropy is a floor that a joint fit must find."""
    table = pd.read_csv(laws / "var_published_laws.csv")
    sizes = np.geomspace(0.0185, 2.0, 12)  # billions of parameters, depth 6 to 30
    for row in table[table["x"] == "N"].itertuples():
        reducible = (row.beta * sizes) ** row.alpha
        alone = fit(sizes, reducible, "power")
        assert alone.params["alpha"] == pytest.approx(-row.alpha, rel=1e-6)
        assert alone.params["A"] == pytest.approx(row.beta**row.alpha, rel=1e-6)
        if row.irreducible_nats > 0:
            whole = fit(sizes, reducible + row.irreducible_nats, "power_floor")
            assert whole.params["E"] == pytest.approx(row.irreducible_nats, rel=1e-5)
            assert whole.params["alpha"] == pytest.approx(-row.alpha, rel=1e-4)


def test_the_floor_of_a_var_law_is_uncertain_at_a_percent_of_noise(laws: Path) -> None:
    row = pd.read_csv(laws / "var_published_laws.csv").iloc[1]
    sizes = np.geomspace(0.0185, 2.0, 12)
    noisy = (row["beta"] * sizes) ** row["alpha"] + 5.0
    noisy = noisy * np.exp(0.003 * np.random.default_rng(0).standard_normal(12))
    low, high = bootstrap(fit(sizes, noisy, "power_floor"), replicates=400).intervals["E"]
    assert low < 5.0 < high
    assert high - low > 0.3


def test_the_figures_labels_of_the_var_frontiers_imply_one_compute_and_the_texts_do_not(laws: Path) -> None:
    """Last and average are swapped in the paper's text: only the figure's labels agree on C at a given size."""
    table = pd.read_csv(laws / "var_published_laws.csv").set_index(["quantity", "x"])
    sizes = np.array([0.31, 0.6, 1.0, 2.0])

    def implied_compute(quantity: str, frontier_of: str) -> np.ndarray:
        by_size, by_compute = table.loc[(quantity, "N")], table.loc[(frontier_of, "C")]
        value = (by_size["beta"] * sizes) ** by_size["alpha"]
        return value ** (1 / by_compute["alpha"]) / by_compute["beta"]

    figure = [implied_compute(q, q) for q in ("L_last", "L_avg")]
    text = [implied_compute("L_last", "L_avg"), implied_compute("L_avg", "L_last")]
    assert np.abs(figure[0] / figure[1] - 1).max() < 0.15
    assert np.abs(text[0] / text[1] - 1).max() > 0.5


def test_the_compute_of_var_is_one_forward_pass_in_macs(laws: Path) -> None:
    """C of d16 by its two laws is some 10 times below 6 N D; taken as forward MACs it is within a factor of 2."""
    table = pd.read_csv(laws / "var_published_laws.csv").set_index(["quantity", "x"])
    by_size, by_compute = table.loc[("L_avg", "N")], table.loc[("L_avg", "C")]
    value = (by_size["beta"] * 0.31) ** by_size["alpha"]
    paper_flops = 1e15 * value ** (1 / by_compute["alpha"]) / by_compute["beta"]
    run = {"n_params": [0.31e9], "tokens": [200 * 1_281_167 * 680.0]}  # 200 epochs, 680 tokens a picture
    six_nd = training_flops(run, "6ND")[0]
    assert six_nd / paper_flops == pytest.approx(10, rel=0.1)
    assert six_nd / convert_flops(paper_flops, "forward-MACs", "exact") < 2
