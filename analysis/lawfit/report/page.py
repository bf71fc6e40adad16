"""The report of a study: one HTML file that opens with the answer.

`LawResult`s, figures and pictures -> `report.html`, which needs nothing outside itself.
"""

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from lawfit.errors import RecordError
from lawfit.pictures.study import law_of_study
from lawfit.pictures.style import save
from lawfit.questions.study_laws import LEVEL, LawResult, not_fitted
from lawfit.records import schema
from lawfit.records.study import Study
from lawfit.report.law_section import NOTHING, LawSection, law_section, overview

PICTURE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}

RUN_COLUMNS = {
    "run": "run_name", "state": "state", "depth": "depth", "width": "width", "N paper": "n_paper",
    "N exact": "n_params", "images": "images", "tokens": "tokens", "batch": "batch", "steps": "steps",
    "lr": "lr", "seed": "seed", "workers": "world_size", "ZeRO": "zero_stage", "FLOPs": schema.FLOPS,
    **{metric.heading: metric.name for metric in schema.METRICS if metric.heading}, "wall s": "wall_s",
}  # fmt: skip
"""Heading -> column of `Study.runs`."""


@dataclass(frozen=True)
class Picture:
    """An image that lies in the page: title, text below it, data URI."""

    title: str
    caption: str
    source: str


def write_report(
    study: Study,
    results: Sequence[LawResult],
    folder: Path,
    samples: Mapping[str, Path],
    extra: Mapping[str, str],
    pictures: Mapping[str, Path],
) -> Path:
    """Write `folder`/report.html and the figures to `folder`/figures; returns the report's path.

    samples: run name -> grid of samples; extra: facts by name, such as hardware or duration; pictures: title
    -> image, such as reconstructions. Images are PNG, JPEG or SVG. Raises RecordError without results, for
    samples of a run that the study does not have, and for an image that is missing or of another type.
    """
    if not results:
        raise RecordError(f"study {study.name!r}: a report needs at least one fitted law")
    # Before the figures, which take seconds: a wrong picture must fail at once.
    shown_samples = _samples(study, samples)
    shown_pictures = [Picture(title, "", _embed(path)) for title, path in pictures.items()]
    page = _template().render(
        study=study,
        level=f"{100 * LEVEL:.0f} %",
        answers=[result for result in results if result.law.primary],
        law_rows=[overview(result) for result in results],
        sections=_sections(study, results, folder / "figures"),
        not_fitted=not_fitted(study),
        samples=shown_samples,
        pictures=shown_pictures,
        facts=extra,
        runs=_runs(study),
        method=_method(study, results),
    )
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / "report.html", folder / ".report.html.part"
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lawfit.report", ""), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["powers"] = _powers
    return environment.get_template("report.html.j2")


def _powers(text: str) -> Markup:
    """Exponents raised: x^-0.1 as the reader writes it."""
    return Markup(re.sub(r"\^(-?[\w.]+)", r"<sup>\1</sup>", str(escape(text)).replace("alpha", "α")))


def _sections(study: Study, results: Sequence[LawResult], folder: Path) -> list[LawSection]:
    """Each law with its picture, which also goes to the folder."""
    sections = []
    for result in results:
        figure = law_of_study(study, result)
        save(figure, folder / f"{result.law.key}.png")
        sections.append(law_section(result, _embed(save(figure, folder / f"{result.law.key}.svg"))))
    return sections


def _samples(study: Study, samples: Mapping[str, Path]) -> list[Picture]:
    unknown = sorted(set(samples) - set(study.runs["run_name"]))
    if unknown:
        raise RecordError(f"samples of run {unknown[0]!r}: study {study.name!r} has no such run")
    found = study.runs[study.runs["run_name"].isin(list(samples))]
    return [
        Picture(run, f"depth {_cell(depth)}, loss {_cell(loss)}", _embed(samples[run]))
        for run, depth, loss in found[["run_name", "depth", schema.VAL_LOSS]].itertuples(index=False)
    ]


def _embed(path: Path) -> str:
    if path.suffix.lower() not in PICTURE_TYPES:
        raise RecordError(f"{path}: not a picture type, expected one of {', '.join(PICTURE_TYPES)}")
    if not path.exists():
        raise RecordError(f"{path}: no such picture")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{PICTURE_TYPES[path.suffix.lower()]};base64,{data}"


def _runs(study: Study) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of all runs; a column that no run has is left out."""
    shown = {head: name for head, name in RUN_COLUMNS.items() if study.runs[name].notna().any()}
    rows = [[_cell(row[name]) for name in shown.values()] for _, row in study.runs.iterrows()]
    return list(shown), rows


def _cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return NOTHING
    number = float(value)
    if number.is_integer() and abs(number) < 1e10:
        return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{number:.4g}".replace("e+", "e")


def _method(study: Study, results: Sequence[LawResult]) -> list[str]:
    """How the numbers came about, one sentence per item."""
    items = [
        "N is the VAR paper's count, 18·d·w² for depth d and width w; the exact count of parameters is "
        "fitted beside it.",
        "C counts the FLOPs of whole training steps, forward and backward, two per multiply-add. The paper "
        "seems to count one forward pass in multiply-adds, so its C is several times smaller.",
        "Losses are mean cross-entropies in nats per token, the tokens' own entropy included: over all "
        "tokens, and over those of the last scale.",
        "Laws are fitted by least squares in log y. Forms with and without a floor E are compared by AICc, "
        "which counts independent runs; where no floor is distinguishable, the exponent is that of the whole "
        "value, floor included.",
        "The frontier leaves out the first tenth of each run and includes, as the paper's does, losses from "
        "before the end of the learning-rate schedule; the laws of finished runs are given beside it.",
        f"Bootstrap intervals: {results[0].bootstrap.method}. Whole runs are drawn, and a frontier is rebuilt "
        "for each draw.",
        "Profile intervals hold every α with which the best fit is still credible; t intervals are those of a straight "
        "line in log-log. Residuals are percent of the law.",
        "The hold-out error is that of the prediction for the largest run from the smaller ones.",
        "Fréchet distances on tokenizer features are no FID and compare only within one tokenizer.",
    ]
    if study.left_out:
        left = ", ".join(f"{run} ({state})" for run, state in study.left_out)
        items.append(f"Not in any fit, because not finished: {left}.")
    return items
