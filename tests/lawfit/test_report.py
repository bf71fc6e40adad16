"""Figures and report: written whole, deterministic, self-contained."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from lawfit import figures
from lawfit.laws import LawResult, fit_study
from lawfit.report import write_report
from lawfit.schema import RecordError
from lawfit.study import Study


@pytest.fixture(scope="module")
def results(quick: Study) -> list[LawResult]:
    return fit_study(quick, bootstrap=100)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "grid.png"
    matplotlib.image.imsave(path, np.random.default_rng(0).random((8, 8, 3)))
    return path


@pytest.fixture(scope="module")
def page(quick: Study, results: list[LawResult], picture: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    path = write_report(
        quick, results, folder,
        samples={f"d{depth}-s0": picture for depth in range(1, 7)},
        extra={"hardware": "2 cores <small>"},
        pictures={"Reconstructions": picture},
    )  # fmt: skip
    assert path == folder / "report.html"
    assert sorted(p.name for p in folder.iterdir()) == ["figures", "report.html"]
    names = {"loss_by_size", "curves_and_frontier", "distance_by_compute", "residuals"}
    expected = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {p.name for p in (folder / "figures").iterdir()} == expected
    return path.read_text(encoding="utf-8")


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_needs_nothing_outside_itself(page: str) -> None:
    parser = _References()
    parser.feed(page)
    assert len(parser.found) == 4 + 6 + 1
    assert all(source.startswith("data:image/") for source in parser.found)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_opens_with_the_answers(page: str, results: list[LawResult]) -> None:
    text = re.sub(r"<[^>]+>", "", page.split("<body>")[1].replace("<sup>", "^"))
    places = [text.index(result.verdict) for result in results if result.law.primary]
    assert places == sorted(places)
    assert places[-1] < text.index("Figures")
    assert "falls as N^-0.0490" in text


def test_the_page_lists_left_out_runs_and_escapes_facts(page: str) -> None:
    assert "d7-s0 (failed)" in page
    assert page.count('class="left-out"') == 1
    assert "2 cores &lt;small&gt;" in page


def test_the_page_says_how_it_was_computed(page: str) -> None:
    for phrase in ("18·d·w²", "whole training steps", "nats per token", "learning-rate schedule", "no FID"):
        assert phrase in page


def test_samples_of_an_unknown_run_are_refused(
    quick: Study, results: list[LawResult], picture: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="samples of run 'd9-s0'"):
        write_report(quick, results, tmp_path, {"d9-s0": picture}, {}, {})
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("name", "message"), [("none.png", "no such picture"), ("x.gif", "not a picture type")])
def test_pictures_that_cannot_be_embedded_are_refused(
    quick: Study, results: list[LawResult], tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        write_report(quick, results, tmp_path, {}, {}, {"title": tmp_path / name})


def test_a_report_without_laws_is_refused(quick: Study, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="at least one fitted law"):
        write_report(quick, [], tmp_path, {}, {}, {})


def test_figures_are_the_same_byte_for_byte(quick: Study, results: list[LawResult], tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        figures.save(figures.loss_by_size(quick, results), folder, "loss")
    for name in ("loss.svg", "loss.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["loss.png", "loss.svg"]


def test_axes_carry_labels_with_units_and_readable_ticks(quick: Study, results: list[LawResult]) -> None:
    for axes in figures.loss_by_size(quick, results).axes:
        assert axes.get_xlabel() == "Model size N = 18·d·w² (parameters)"
        assert axes.get_ylabel().endswith("(nats per token)")
        axes.figure.canvas.draw()
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [t for t in axis.get_majorticklocs() if low <= t <= high]
            assert 2 <= len(shown) <= 8
            assert all(not label.get_text() for label in axis.get_minorticklabels())
            texts = [axis.get_major_formatter()(t) for t in shown]
            assert len(set(texts)) == len(texts)


def test_a_distance_figure_needs_a_distance(quick: Study, results: list[LawResult]) -> None:
    losses = [result for result in results if result.law.key == "loss_by_n"]
    with pytest.raises(RecordError, match="fid_by_flops, fd_tokenizer_by_flops"):
        figures.distance_by_compute(quick, losses)


def test_depth_labels_never_crowd(quick: Study, results: list[LawResult]) -> None:
    for axes in figures.loss_by_size(quick, results).axes:
        assert [text.get_text() for text in axes.texts] == ["d6", "d5", "d4", "d3", "d2", "d1"]
    close = replace(results[0], x=results[0].x[-1] * np.array([0.5, 0.96, 0.97, 0.98, 0.99, 1.0]))
    (axes,) = figures.loss_by_size(quick, [close]).axes
    assert [text.get_text() for text in axes.texts] == ["d6", "d1"]
