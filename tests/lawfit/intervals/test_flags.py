"""Flags of a fit: each is raised where it should be, and only there."""

from pathlib import Path

import numpy as np
import pandas as pd

from lawfit.fitting.fitting import fit
from lawfit.intervals.flags import flags

X = np.geomspace(1e4, 1e8, 12)


def _floor(sd: float, seed: int = 0) -> np.ndarray:
    return (0.3 + 0.5 * (X / 1e6) ** -0.1) * np.exp(sd * np.random.default_rng(seed).standard_normal(12))


def _kinds(found: object) -> list[str]:
    return [flag.kind for flag in found]  # type: ignore[attr-defined]


def test_a_sound_fit_has_no_flags() -> None:
    assert flags(fit(X, _floor(0.01), "power_floor")) == ()


def test_the_five_outliers_of_the_published_surface_are_named_and_kept(shared: Path) -> None:
    rows = pd.read_csv(shared / "data" / "laws" / "chinchilla_svg.csv")
    whole = fit({"N": rows["n_params"], "D": rows["tokens"]}, rows["loss"], "chinchilla", loss="huber", delta=1e-3)
    outliers = next(flag for flag in flags(whole) if flag.kind == "outlier")
    assert set(np.flatnonzero(rows["keep240"] == 0)) <= set(outliers.points)
    assert len(outliers.points) <= 8
    assert whole.n == 245


def test_outliers_are_called_by_the_names_of_their_runs() -> None:
    y = 2 * X**-0.1 * np.exp(0.01 * np.random.default_rng(0).standard_normal(12))
    y[4] *= 1.3
    found = flags(fit(X, y, "power", loss="huber"), names=[f"d{i}" for i in range(12)])
    assert found[0].message.startswith("1 outliers by residual, kept: d4 (+")


def test_a_span_too_short_for_a_floor_is_told() -> None:
    found = flags(fit(X, _floor(0.05, 3), "power_floor"))
    assert _kinds(found) == ["short_span", "poor_fit"]
    assert "interval 0 to" in found[0].message


def test_a_floor_of_zero_is_told() -> None:
    concave = np.exp(-0.05 * np.log(X) - 0.01 * np.log(X / X[0]) ** 2)
    assert "at_bound" in _kinds(flags(fit(X, concave, "power_floor")))


def test_parameters_that_are_not_identified_are_told() -> None:
    n = np.geomspace(1e7, 1e10, 12)
    y = (1.7 + 400 * n**-0.35) * np.exp(0.001 * np.random.default_rng(0).standard_normal(12))
    assert _kinds(flags(fit({"N": n, "D": 20 * n}, y, "chinchilla_tied"))) == ["not_identified", "collinear"]


def test_a_poor_fit_is_flagged_as_the_page_of_flags_says() -> None:
    rough = 3 * (X / 1e6) ** -0.02 * np.exp(0.2 * np.random.default_rng(1).standard_normal(12))
    (flag,) = [flag for flag in flags(fit(X, rough, "power")) if flag.kind == "poor_fit"]
    assert "below 0.95: the form fits poorly" in flag.message


def test_flags_of_too_few_runs_do_without_intervals() -> None:
    law = fit(X, _floor(0.01), "power_floor")
    assert "short_span" not in _kinds(flags(law, run=["a", "b"] * 6))
