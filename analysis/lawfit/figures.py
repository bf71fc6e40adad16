"""The figures of a study, one style for all.

Floor 5 of the path: `LawResult`s -> matplotlib figures -> PNG and SVG files. Object API only (no pyplot), so
nothing global changes; colours are distinguishable without colour vision; the SVG is the same byte for byte
for the same input.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from lawfit import schema
from lawfit.formula import Array
from lawfit.laws import LawResult
from lawfit.schema import RecordError, column
from lawfit.study import Study

POINT, FIT, BAND, FRONTIER = "#0072B2", "#D55E00", "#D55E00", "#000000"
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "lawfit",
}
PANEL = (4.8, 4.1)
"""Inches, width and height."""

BAND_POINTS = 64

LABEL_WIDTH = 0.065
"""Room for a depth label, as a share of a panel's width."""


def loss_by_size(study: Study, results: Sequence[LawResult]) -> Figure:
    """Both losses of the finished runs over N, with fit and bootstrap band; points carry their depth."""
    laws = _of(results, "loss_by_n", "loss_last_by_n")
    figure, panels = _panels(len(laws))
    for axes, result in zip(panels, laws, strict=True):
        _law(axes, result)
        _depths(axes, study, result)
    return _finish(figure, panels)


def distance_by_compute(study: Study, results: Sequence[LawResult]) -> Figure:
    """Each Fréchet distance that was fitted, over training compute."""
    laws = _of(results, "fid_by_flops", "fd_tokenizer_by_flops")
    figure, panels = _panels(len(laws))
    for axes, result in zip(panels, laws, strict=True):
        _law(axes, result)
        _depths(axes, study, result)
    return _finish(figure, panels)


def curves_and_frontier(study: Study, results: Sequence[LawResult]) -> Figure:
    """Both losses during training over compute, a colour a size, with the frontier and its fit."""
    laws = _of(results, "loss_frontier", "loss_last_frontier")
    figure, panels = _panels(len(laws))
    colours = _colours(study.finished["depth"])
    for axes, result in zip(panels, laws, strict=True):
        _curves(axes, study, result.law.y, colours)
        axes.plot(result.x, result.y, "o", ms=2.6, color=FRONTIER, zorder=4, label="frontier")
        x = np.geomspace(result.x.min(), result.x.max(), BAND_POINTS)
        axes.plot(x, result.fit.predict(x), "--", color=FIT, lw=1.8, zorder=5, label="fit of the frontier")
        _axes_of(axes, result)
    return _finish(figure, panels)


def residuals(results: Sequence[LawResult]) -> Figure:
    """How far each point lies from its law, in percent of the law."""
    if not results:
        raise RecordError("no law was fitted: there are no residuals to draw")
    figure, panels = _panels(len(results), size=(4.2, 2.9), columns=3)
    for axes, result in zip(panels, results, strict=True):
        percent = 100 * (np.exp(result.fit.residuals) - 1)
        axes.axhline(0, color="#888888", lw=0.8)
        axes.vlines(result.x, 0, percent, color=POINT, lw=1)
        axes.plot(result.x, percent, "o", ms=4, color=POINT)
        reach = 1.25 * max(float(np.abs(percent).max()), 1e-3)
        axes.set_ylim(-reach, reach)
        axes.set_xscale("log")
        _log_ticks(axes.xaxis)
        axes.set_title(result.law.title, fontsize=8.5)
        axes.set_xlabel(column(result.law.x).axis, fontsize=8.5)
        axes.set_ylabel("residual (%)", fontsize=8.5)
    return figure


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write `<name>.png` (150 dpi) and `<name>.svg` to the folder, each whole or not at all; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with mpl.rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}):
        for path, metadata in ((png, {"Software": None}), (svg, {"Date": None})):
            temporary = path.with_name(f".{path.name}.part")
            figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=metadata)
            os.replace(temporary, path)
    return png, svg


def _of(results: Sequence[LawResult], *keys: str) -> list[LawResult]:
    found = [result for result in results if result.law.key in keys]
    if not found:
        raise RecordError(f"none of the laws {', '.join(keys)} was fitted")
    return found


def _panels(count: int, size: tuple[float, float] = PANEL, columns: int = 2) -> tuple[Figure, list[Axes]]:
    columns = min(count, columns)
    rows = -(-count // columns)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(size[0] * columns, size[1] * rows))
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        FigureCanvasAgg(figure)
        panels = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    return figure, panels


def _finish(figure: Figure, panels: Sequence[Axes]) -> Figure:
    """One legend below all panels, never over data."""
    handles, labels = panels[0].get_legend_handles_labels()
    rows = -(-len(labels) // 6)
    columns = -(-len(labels) // rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _law(axes: Axes, result: LawResult) -> None:
    x = np.geomspace(result.x.min(), result.x.max(), BAND_POINTS)
    low, high = result.bootstrap.band(x)
    level = f"{100 * result.bootstrap.level:.0f} %"
    axes.fill_between(x, low, high, color=BAND, alpha=0.18, lw=0, label=f"{level} bootstrap band")
    axes.plot(x, result.fit.predict(x), color=FIT, lw=1.8, label="fit")
    axes.plot(result.x, result.y, "o", ms=6, color=POINT, label="finished run")
    _axes_of(axes, result)


def _axes_of(axes: Axes, result: LawResult) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(0.07)
    _log_ticks(axes.xaxis)
    _log_ticks(axes.yaxis)
    axes.set_xlabel(column(result.law.x).axis)
    axes.set_ylabel(column(result.law.y).axis)
    axes.set_title(_formula(result))


def _formula(result: LawResult) -> str:
    exponent = f"${column(result.law.x).symbol}^{{{-result.alpha:#.3g}}}$"
    floor = result.fit.params.get("E")
    quality = f"R² {result.fit.r2_log:.3f}, {result.n} points"
    return f"∝ {exponent}, {quality}" if not floor else f"{floor:.3g} + A·{exponent}, {quality}"


def _depths(axes: Axes, study: Study, result: LawResult) -> None:
    """Label the sizes, largest first; a label that would touch the previous one is left out."""
    depth = dict(zip(study.runs["run_name"], study.runs["depth"], strict=True))
    highest = {x: (y, run) for x, y, run in sorted(zip(result.x, result.y, result.runs, strict=True))}
    low, high = np.log(axes.get_xlim())
    place = np.inf
    for x in sorted(highest, reverse=True):
        if place - (np.log(x) - low) / (high - low) < LABEL_WIDTH:
            continue
        place = (np.log(x) - low) / (high - low)
        y, run = highest[x]
        axes.annotate(f"d{int(depth[run])}", (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8.5)


def _curves(axes: Axes, study: Study, metric: str, colours: dict[int, tuple[float, ...]]) -> None:
    curves = study.curves[study.curves["metric"] == metric]
    labelled: set[int] = set()
    for (depth, _), curve in curves.groupby(["depth", "run_id"]):
        label = None if depth in labelled else f"depth {int(depth)}"
        axes.plot(curve[schema.FLOPS], curve["value"], color=colours[int(depth)], lw=1.4, label=label)
        labelled.add(depth)


def _colours(depths: "pd.Series[int]") -> dict[int, tuple[float, ...]]:
    ordered = sorted({int(depth) for depth in depths})
    scale: Colormap = mpl.colormaps["viridis"]
    places: Array = np.linspace(0, 0.9, len(ordered))
    return {depth: scale(float(place)) for depth, place in zip(ordered, places, strict=True)}


def _log_ticks(axis: Axis) -> None:
    """Readable ticks on a log axis: round plain numbers within a decade or so, powers of ten beyond."""
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    axis.set_minor_formatter(ticker.NullFormatter())
    if decades < 1:
        axis.set_major_locator(ticker.MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(ticker.NullLocator())
    else:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _number(value)))


def _number(value: float) -> str:
    """A plain number where it is short, else its power of ten."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    power = int(np.floor(np.log10(value) + 1e-9))
    mantissa = f"{value / 10**power:.3g}"
    return f"$10^{{{power}}}$" if mantissa == "1" else f"${mantissa}{{\\times}}10^{{{power}}}$"
