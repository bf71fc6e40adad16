"""Pictures: what they show, in one style, written whole and the same every time."""

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lawfit.approaches.allocation import by_isoflop
from lawfit.approaches.frontier import frontier
from lawfit.approaches.isoflop import isoflop
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.intervals.bootstrap import bootstrap
from lawfit.pictures import style
from lawfit.pictures.corner import corner_plot
from lawfit.pictures.curves import training_curves
from lawfit.pictures.isoflop import isoflop_valleys
from lawfit.pictures.laws import forecast_figure, law_figure, surface_figure
from lawfit.pictures.study import curves_and_frontier, distance_by_compute, error_by_size, loss_by_size
from lawfit.pictures.style import save
from lawfit.questions.forecast import forecast
from lawfit.questions.study_laws import LawResult, fit_study
from lawfit.records.study import Study

X = np.geomspace(1e6, 1e9, 8)
NOISE = np.exp(0.01 * np.random.default_rng(0).standard_normal(8))


@pytest.fixture(scope="module")
def results(quick: Study) -> list[LawResult]:
    return fit_study(quick, bootstrap=50)


@pytest.fixture(scope="module")
def drawn_law() -> Figure:
    found = bootstrap(fit(X, 3 * X**-0.1 * NOISE, "power"), replicates=50)
    return law_figure(found, "n_params", "loss", labels=[f"d{i}" for i in range(8)])


def surface_table() -> pd.DataFrame:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    return pd.DataFrame({"n_params": n, "tokens": d, "loss": 1.8 + 480 * n**-0.35 + 2100 * d**-0.37})


def slices_table() -> pd.DataFrame:
    """Four budgets; the sizes of the largest are all too small."""
    rows = []
    for budget, sizes in ((1e18, 5), (4e18, 5), (1.6e19, 5), (6.4e19, 2)):
        best = 0.1 * budget**0.5
        n = best * np.geomspace(0.1, 10 if sizes == 5 else 0.5, 5)
        loss = 2 + 0.05 * np.log(n / best) ** 2 + 1e3 * budget**-0.2
        rows.append(pd.DataFrame({"n_params": n, "flops": budget, "loss": loss}))
    return pd.concat(rows, ignore_index=True)


def test_axes_carry_their_unit(drawn_law: Figure) -> None:
    main, below = drawn_law.axes
    assert main.get_ylabel() == "Loss (nats per token)"
    assert below.get_xlabel() == "Model size N (parameters)"
    assert below.get_ylabel() == "residual (%)"
    assert main.get_title().startswith("$L \\propto N^{-0.")


def test_ticks_are_few_and_distinct(drawn_law: Figure) -> None:
    for axes in drawn_law.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [t for t in axis.get_majorticklocs() if low <= t <= high]
            texts = [axis.get_major_formatter()(t) for t in shown]
            assert 2 <= len(shown) <= 8
            assert len(set(texts)) == len(texts)


def test_residuals_are_percent_of_the_law(drawn_law: Figure) -> None:
    found = fit(X, 3 * X**-0.1 * NOISE, "power")
    (points,) = drawn_law.axes[1].collections[1:]
    assert np.asarray(points.get_offsets())[:, 1] == pytest.approx(100 * (found.points.y / found.predict(X) - 1))


def test_labels_keep_clear_of_each_other(drawn_law: Figure) -> None:
    main = drawn_law.axes[0]
    renderer = drawn_law.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in main.texts]
    assert len(boxes) == 8
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_labels_without_room_are_left_out() -> None:
    x = np.array([1.0, 1e3, 1e3 * (1 + 1e-4), 1e3 * (1 + 2e-4), 1e3 * (1 + 3e-4), 1e3 * (1 + 4e-4), 1e3 * (1 + 5e-4)])
    found = bootstrap(fit(x, 2 * x**-0.2, "power"), replicates=50)
    drawn = law_figure(found, labels=[f"size {i}" for i in range(7)]).axes[0].texts
    assert 2 <= len(drawn) < 7


def test_a_surface_is_drawn_over_size_and_over_compute() -> None:
    table = surface_table()
    law = fit({"N": table["n_params"], "D": table["tokens"]}, table["loss"], "chinchilla")
    drawn = surface_figure(bootstrap(law, replicates=50))
    labels = {axes.get_xlabel() for axes in drawn.axes} | {axes.get_ylabel() for axes in drawn.axes}
    assert {"Model size N (parameters)", "Training compute C = 6ND (FLOPs)", "Training data D (tokens)"} <= labels
    best = next(line for line in drawn.axes[2].lines if line.get_label() == "compute-optimal loss")
    flops, loss = np.asarray(best.get_xdata(), float), np.asarray(best.get_ydata(), float)
    for budget, value in ((flops[0], loss[0]), (flops[-1], loss[-1])):
        n = np.geomspace(1e6, 1e11, 20_000)
        assert value == pytest.approx(law.predict({"N": n, "D": budget / 6 / n}).min(), rel=1e-6)


def test_slices_without_a_minimum_are_marked_as_refused() -> None:
    found = isoflop(slices_table())
    assert len(found.unbracketed) == 1
    drawn = isoflop_valleys(found, [by_isoflop(found)])
    main = drawn.axes[0]
    refused = next(line for line in main.lines if line.get_label() == "refused: no bracketed minimum")
    assert len(np.asarray(refused.get_xdata())) == 1
    assert len(main.containers) == len(found.valleys) == 3
    assert "3 of 4 budgets" in main.get_title()


def test_training_curves_show_every_run_and_the_frontier() -> None:
    rows = []
    for i, n in enumerate((1e6, 1e7, 1e8)):
        flops = 6 * n * np.geomspace(1e6, 1e9, 12)
        loss = 2 + 40 * n**-0.3 + 50 * (flops / n) ** -0.3
        rows.append(pd.DataFrame({"run": f"r{i}", "n_params": n, "flops": flops, "loss": loss}))
    table = pd.concat(rows, ignore_index=True)
    found = frontier(table)
    drawn = training_curves(table, found, fit(found.x, found.y, "power"), n="n_params")
    main = drawn.axes[0]
    assert len(main.lines) == 3 + 2
    assert "frontier (hull)" in main.get_legend_handles_labels()[1]


def test_a_forecast_shows_its_interval_and_what_was_said_before() -> None:
    said = forecast(X, 3 * X**-0.1 * NOISE, 1e11, form="power")
    main = forecast_figure(said, "n_params", "loss").axes[0]
    assert len(main.containers) == len(said.back_tests) + 1
    low, high = main.get_ylim()
    assert low < said.low < said.high < high


def test_a_forecast_without_an_upper_end_is_drawn_all_the_same() -> None:
    said = forecast(X, 3 * X**-0.1 * NOISE, 1e11, form="power")
    main = forecast_figure(replace(said, low=0.0, high=np.inf), "n_params", "loss").axes[0]
    low, high = main.get_ylim()
    assert low < said.y < high < 10


def test_a_corner_plot_has_a_cell_for_each_pair_and_amplitudes_at_the_reference() -> None:
    found = bootstrap(fit(X, 1 + 300 * X**-0.4 * NOISE, "power_floor"), replicates=100)
    drawn = corner_plot(found)
    assert len([axes for axes in drawn.axes if axes.axison]) == 6
    assert [axes.get_xlabel() for axes in drawn.axes[-3:]] == ["$E$", r"$\ln A_0$", r"$\alpha$"]
    (mark,) = [line.get_xdata() for line in drawn.axes[-2].lines[:1]]
    assert mark == pytest.approx([np.log(found.fit.reference.amplitudes["A"])] * 2)


def test_a_corner_plot_of_points_without_noise_is_drawn(results: list[LawResult]) -> None:
    assert len(corner_plot(results[0].bootstrap).axes) == 4


def test_the_figures_of_a_study_label_its_depths(quick: Study, results: list[LawResult]) -> None:
    drawn = loss_by_size(quick, results)
    for axes in drawn.axes[::2]:
        assert sorted(text.get_text() for text in axes.texts) == ["d1", "d2", "d3", "d4", "d5", "d6"]
    assert drawn.axes[0].get_ylabel() == "Validation loss, all scales\n(nats per token)"
    assert len(error_by_size(quick, results).axes) == 4
    assert sum(len(axes.lines) > 6 for axes in curves_and_frontier(quick, results).axes) == 4


def test_a_distance_figure_needs_a_distance(quick: Study, results: list[LawResult]) -> None:
    losses = [result for result in results if result.law.key == "loss_by_n"]
    with pytest.raises(RecordError, match="fid_by_flops, fd_tokenizer_by_flops"):
        distance_by_compute(quick, losses)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_is_the_same_byte_for_byte(drawn_law: Figure, tmp_path: Path, kind: str) -> None:
    paths = [save(drawn_law, tmp_path / name / f"law.{kind}") for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [f"law.{kind}"]


def test_another_kind_of_file_is_refused(drawn_law: Figure, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"law\.gif: pictures are written as one of \.png, \.svg, \.pdf"):
        save(drawn_law, tmp_path / "law.gif")
    assert not list(tmp_path.iterdir())


def test_drawing_leaves_the_settings_of_matplotlib_alone(drawn_law: Figure) -> None:
    assert mpl.rcParams["font.size"] == mpl.rcParamsDefault["font.size"]
    assert drawn_law.get_figwidth() == style.COLUMN_WIDTH
