"""The laws of a study: answers, verdicts, warnings, JSON."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.questions.study_laws import LawResult, fit_study, not_fitted
from lawfit.records import schema
from lawfit.records.study import Study, load_study


@pytest.fixture(scope="module")
def answers(quick: Study) -> dict[str, LawResult]:
    return {result.law.key: result for result in fit_study(quick, bootstrap=200)}


def _with_losses(study: Study, values: np.ndarray) -> Study:
    """The study with other final losses in its finished runs."""
    runs = study.runs.copy()
    runs.loc[runs["state"] == schema.STATE_FINISHED, schema.VAL_LOSS] = values
    return replace(study, runs=runs)


def test_the_exponent_of_a_study_is_recovered(answers: dict[str, LawResult]) -> None:
    result = answers["loss_by_n"]
    assert result.alpha == pytest.approx(0.049, abs=1e-10)
    assert result.n == 6
    assert result.hold_out == pytest.approx(0, abs=1e-10)
    assert result.verdict == "falls as N^-0.0490 (95 % t interval 0.0490 to 0.0490)"


def test_every_law_whose_metric_is_recorded_is_fitted(answers: dict[str, LawResult]) -> None:
    assert list(answers) == [
        "loss_by_n", "loss_last_by_n", "loss_frontier", "loss_last_frontier", "fd_tokenizer_by_flops",
        "error_by_n", "error_last_by_n", "error_frontier", "error_last_frontier",
        "loss_by_params", "loss_last_by_params", "loss_by_flops", "loss_last_by_flops",
    ]  # fmt: skip
    assert [key for key, result in answers.items() if not result.law.primary] == list(answers)[-8:]


def test_frontier_points_name_the_run_that_attains_them(answers: dict[str, LawResult]) -> None:
    result = answers["loss_frontier"]
    assert result.runs[0] == "d1-s0"
    assert result.runs[-1] == "d6-s0"
    assert (np.diff(result.y) <= 0).all()
    assert result.t_interval is None


def test_a_frontier_counts_as_many_points_as_it_has_runs(answers: dict[str, LawResult]) -> None:
    result = answers["loss_frontier"]
    assert result.n == 32
    assert result.fit.aicc == fit(result.x, result.y, independent=6).aicc


def test_frontier_points_of_unfinished_schedules_are_counted(quick: Study, answers: dict[str, LawResult]) -> None:
    result = answers["loss_frontier"]
    total = quick.finished.set_index("run_name")[schema.FLOPS]
    early = sum(x < total[run] * (1 - 1e-9) for x, run in zip(result.x, result.runs, strict=True))
    assert 0 < early < 32
    assert result.warnings == (f"{early} of 32 frontier points are from unfinished learning-rate schedules",)
    assert answers["loss_by_n"].warnings == ()


def test_unfinished_runs_take_no_part(answers: dict[str, LawResult]) -> None:
    assert all("d7-s0" not in result.runs for result in answers.values())


def test_a_constant_with_noise_shows_no_scaling(quick: Study) -> None:
    noise = np.random.default_rng(0).standard_normal(6)
    result = fit_study(_with_losses(quick, 1.5 * np.exp(0.01 * noise)), bootstrap=200)[0]
    assert result.verdict.startswith("no scaling shown: the interval includes 0")
    assert any("R² of log y" in warning for warning in result.warnings)


def test_a_rising_loss_is_said_to_rise(quick: Study) -> None:
    n = quick.finished["n_paper"].to_numpy(float)
    result = fit_study(_with_losses(quick, 1.5 * (n / n[0]) ** 0.05), bootstrap=50)[0]
    assert result.verdict == "rises as N^0.0500 (95 % t interval 0.0500 to 0.0500)"


def test_a_plain_floor_enters_the_verdict(quick: Study) -> None:
    n = quick.finished["n_paper"].to_numpy(float)
    result = fit_study(_with_losses(quick, 1.3 + 0.5 * (n / n[0]) ** -0.3), bootstrap=100)[0]
    assert result.fit.form.name == "power_floor"
    assert result.verdict.startswith("falls as N^-0.300 towards 1.3 (95 % bootstrap interval")
    assert result.t_interval is None


def test_an_indistinguishable_floor_is_the_reason_given(quick: Study) -> None:
    n, noise = quick.finished["n_paper"].to_numpy(float), np.random.default_rng(1).standard_normal(6)
    losses = 1.8 * (n / n[0]) ** -0.05 * np.exp(0.002 * noise)
    result = fit_study(_with_losses(quick, losses), bootstrap=50)[0]
    assert result.fit.form.name == "power"
    assert result.fit.reason.startswith("lowest AICc: power -")
    assert result.fit.aicc_by_form["power"] < result.fit.aicc_by_form["power_floor"]


def test_runs_without_a_distance_are_named(quick: Study) -> None:
    runs = quick.runs.copy()
    runs.loc[runs["run_name"] == "d4-s0", schema.FD_TOKENIZER] = np.nan
    results = {r.law.key: r for r in fit_study(replace(quick, runs=runs), bootstrap=50)}
    assert results["fd_tokenizer_by_flops"].n == 5
    assert "without d4-s0, which have no fd/tokenizer" in results["fd_tokenizer_by_flops"].warnings


def test_a_metric_of_too_few_sizes_is_said_not_to_be_fitted(quick: Study) -> None:
    runs = quick.runs.copy()
    runs.loc[runs["depth"] > 2, schema.FD_TOKENIZER] = np.nan
    sparse = replace(quick, runs=runs)
    (sentence,) = not_fitted(sparse)
    assert sentence.endswith("tokenizer features, by training compute: recorded by 2 sizes, a law needs 3")
    assert not_fitted(quick) == []


def test_distances_under_different_guidance_are_never_mixed(quick: Study) -> None:
    mixed = quick.runs.assign(cfg=[1.5, 1.5, 1.5, 4.0, 1.5, 1.5, np.nan])
    with pytest.raises(RecordError, match=r"'fd/tokenizer' mixes cfg \(1.5, 4.0\): a law needs one sampler"):
        fit_study(replace(quick, runs=mixed), bootstrap=50)


def test_runs_that_differ_in_warm_up_are_flagged(quick: Study) -> None:
    mixed = replace(quick, runs=quick.runs.assign(warmup_fraction=[0.05, 0.05, 0.05, 0.1, 0.05, 0.05, np.nan]))
    for result in fit_study(mixed, bootstrap=50):
        assert any("differ in warm-up (warmup_fraction: 0.05, 0.1)" in warning for warning in result.warnings)


def test_fid_is_fitted_when_it_is_recorded(quick: Study) -> None:
    runs = quick.runs.copy()
    runs[schema.FID], runs[schema.FD_TOKENIZER] = runs[schema.FD_TOKENIZER], np.nan
    keys = [result.law.key for result in fit_study(replace(quick, runs=runs), bootstrap=50)]
    assert "fid_by_flops" in keys
    assert "fd_tokenizer_by_flops" not in keys


def test_two_sizes_are_no_law(writer: Any) -> None:
    writer.study("two sizes", [writer.cell(1), writer.cell(1, seed=1), writer.cell(2)])
    with pytest.raises(RecordError, match="2 sizes among 3 finished runs, a law needs 3"):
        fit_study(load_study(writer.uri, "two sizes"))


def test_three_sizes_have_no_hold_out_error(writer: Any) -> None:
    writer.study("three sizes", [writer.cell(depth, noise=0.01 * depth) for depth in (1, 2, 3)])
    results = fit_study(load_study(writer.uri, "three sizes"), bootstrap=50)
    assert all(result.hold_out is None for result in results)


def test_json_is_strict_and_complete(answers: dict[str, LawResult]) -> None:
    text = json.dumps([result.to_json() for result in answers.values()], allow_nan=False)
    first = json.loads(text)[0]
    assert first["key"] == "loss_by_n"
    assert first["form"] == "power"
    assert first["params"]["alpha"] == pytest.approx(0.049)
    assert first["certificate"]["status"] == "certified"
    assert first["params"]["A"] == pytest.approx(1.8 * 4608**0.049)
    assert [point["run"] for point in first["points"]] == [f"d{depth}-s0" for depth in range(1, 7)]
    assert first["t_interval"] == pytest.approx([0.049, 0.049])


def test_the_same_seed_gives_the_same_answers(quick: Study) -> None:
    once, again = ([result.to_json() for result in fit_study(quick, bootstrap=50, seed=4)] for _ in range(2))
    assert once == again
