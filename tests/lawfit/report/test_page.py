"""Figures and report: written whole, deterministic, self-contained."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.questions.study_laws import LawResult, fit_study
from lawfit.records.study import Study
from lawfit.report.page import write_report


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
    expected = {f"{result.law.key}.{kind}" for result in results for kind in ("png", "svg")}
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


def test_the_page_needs_nothing_outside_itself(page: str, results: list[LawResult]) -> None:
    parser = _References()
    parser.feed(page)
    assert len(parser.found) == len(results) + 6 + 1
    assert all(source.startswith("data:image/") for source in parser.found)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_opens_with_the_answers(page: str, results: list[LawResult]) -> None:
    text = re.sub(r"<[^>]+>", "", page.split("<body>")[1].replace("<sup>", "^"))
    places = [text.index(result.verdict) for result in results if result.law.primary]
    assert places == sorted(places)
    assert places[-1] < text.index("hold-out")
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


def _tables(page: str, title: str) -> str:
    """The text of one law's section."""
    section = page.split(f'<h3 class="title">{title}</h3>')[1].split("<h3")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", section))


def test_a_law_is_shown_with_its_intervals_alternatives_and_back_tests(page: str) -> None:
    text = _tables(page, "Loss, all scales, by model size")
    assert "α 0.04900 0.0490 to 0.0490 0.0490 to 0.0490 0.0490 to 0.0490" in text
    for what in ("default: power", "huber, δ = 0.001, log y", "lad, log y", "squared, linear y", "form power_floor"):
        assert what in text
    assert "certified optimum" in text
    assert text.count("0.0490") >= 7
    assert "known up to N" in text


def test_a_frontier_says_what_limits_it(page: str) -> None:
    text = _tables(page, "Loss, all scales, on the compute frontier")
    assert "frontier points are from unfinished learning-rate schedules" in text
    assert "known up to" not in text


def test_metrics_not_fitted_are_named(quick: Study, tmp_path: Path) -> None:
    runs = quick.runs.copy()
    runs.loc[runs["depth"] > 2, "fd/tokenizer"] = np.nan
    sparse = replace(quick, runs=runs)
    page = write_report(sparse, fit_study(sparse, bootstrap=50)[:1], tmp_path, {}, {}, {}).read_text(encoding="utf-8")
    assert "recorded by 2 sizes, a law needs 3" in page
