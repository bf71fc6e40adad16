"""One style for all pictures: sizes, colours, ticks, labels, files.

A panel is as wide as a column of a paper, with type of 7 to 8 points. Object API only (no pyplot), so nothing global
changes; categories have Okabe and Ito's colours and ordered sizes viridis, which are told apart without colour
vision; the same input gives the same file.
"""

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.records.schema import COLUMNS

BLUE, VERMILION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
POINT, FIT, KNOWN, REFUSED = BLUE, VERMILION, "#000000", "#888888"
SIZES = "viridis"
"""Colour map of what is ordered: sizes, budgets."""

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E2E2E2",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "figure.dpi": 150,
    "svg.hashsalt": "lawfit",
}
styled = partial(mpl.rc_context, STYLE)
"""Decorator of the functions that draw."""

COLUMN_WIDTH = 3.4
"""Inches."""

HEIGHTS = (2.3, 0.75)
"""Inches of a panel and of the residuals below it."""

LINE = 32
"""Characters of a vertical label's line."""

PLACES = ((1, 1), (-1, -1), (1, -1), (-1, 1), (0, 1), (0, -1))
"""Where a label may stand, right and up of its point."""

LETTER, HANDLE = 0.058, 0.4
"""Inches that a letter of a legend and a line's sample take."""

PRINT_DPI = 300
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
"""What a kind of file would otherwise say of the day it was made."""

LABELS = {
    "loss": "Loss (nats per token)",
    "n_params": "Model size N (parameters)",
    "tokens": "Training data D (tokens)",
}
SYMBOLS = {"loss": "L"}


@dataclass(frozen=True)
class Panel:
    """A picture and the residuals below it."""

    main: Axes
    residuals: Axes


def axis_label(name: str) -> str:
    """What stands on an axis: the quantity with its unit, or an unknown column's own name."""
    return LABELS.get(name) or (COLUMNS[name].axis if name in COLUMNS else name)


def wrapped(name: str) -> str:
    """The same for a vertical axis, in lines that fit its height."""
    return textwrap.fill(axis_label(name), LINE)


def symbol(name: str) -> str:
    """The letter of a quantity in a formula."""
    return SYMBOLS.get(name) or (COLUMNS[name].symbol if name in COLUMNS else "x")


def with_residuals(count: int, columns: int = 2) -> tuple[Figure, list[Panel]]:
    """Panels side by side, each above its residuals."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = empty(columns, rows * sum(HEIGHTS) + 0.35)
    grid = figure.add_gridspec(rows, columns)
    found = []
    for place in range(count):
        both = grid[divmod(place, columns)].subgridspec(2, 1, height_ratios=HEIGHTS, hspace=0.06)
        main = figure.add_subplot(both[0])
        main.tick_params(labelbottom=False)
        found.append(Panel(main, figure.add_subplot(both[1], sharex=main)))
    return figure, found


def empty(columns: int, height: float) -> Figure:
    """A figure some columns wide, height in inches, that can be saved without pyplot."""
    figure = Figure(figsize=(COLUMN_WIDTH * columns, height))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.04, wspace=0.04)
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Figure, axes: Axes) -> None:
    """Add the legend of one panel for all, never over data, and fix the layout."""
    handles, labels = axes.get_legend_handles_labels()
    width = sum(len(label) * LETTER + HANDLE for label in labels)
    rows = -(-width // figure.get_figwidth())
    columns = -(-len(labels) // int(rows)) if labels else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)
    settle(figure)


def settle(figure: Figure) -> None:
    """Fix the layout as it is: it would be found anew for every file."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def draw_residuals(axes: Axes, x: Array, residuals: Array, colours: Any = POINT) -> None:
    """Residuals [n] of log y at x [n] as percent of the law, as stems."""
    percent = 100 * np.expm1(residuals)
    axes.axhline(0, color=REFUSED, lw=0.8, zorder=1)
    axes.vlines(x, 0, percent, colors=colours, lw=0.9)
    axes.scatter(x, percent, s=9, c=colours, zorder=3)
    reach = 1.3 * max(float(np.abs(percent).max()), 1e-3)
    axes.set_ylim(-reach, reach)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=3, symmetric=True))
    axes.set_ylabel("residual (%)")


def log_axes(axes: Axes) -> None:
    """Both axes in log with readable ticks, once everything is drawn."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(0.07)
    log_ticks(axes.xaxis)
    log_ticks(axes.yaxis)


def log_ticks(axis: Axis) -> None:
    """Readable ticks on a log axis: round numbers within two decades, powers of ten beyond."""
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    axis.set_minor_formatter(ticker.NullFormatter())
    if decades < 1:
        count = 4 if isinstance(axis, XAxis) else 7  # numbers need more room side by side than above each other
        axis.set_major_locator(ticker.MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(ticker.NullLocator())
    elif decades < 2.3:
        plain = low >= 1e-3 and high < 1e4
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if plain else (1, 3)))
    else:
        axis.set_major_locator(ticker.LogLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))


def number(value: float) -> str:
    """A plain number where it is short, else its power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    power = int(np.floor(np.log10(abs(value)) + 1e-9))
    mantissa = f"{value / 10**power:.3g}"
    return f"$10^{{{power}}}$" if mantissa == "1" else f"${mantissa}{{\\times}}10^{{{power}}}$"


def size_scale(values: Array) -> ScalarMappable:
    """Colours of sizes [n] by their logarithm; the light end of the map, hard to see on white, is left out."""
    low, high = float(np.min(values)), float(np.max(values))
    high = high if high > low else 2 * low
    return ScalarMappable(LogNorm(low, high * (high / low) ** 0.12), mpl.colormaps[SIZES])


def colour_bar(figure: Figure, scale: ScalarMappable, axes: Any, label: str, sizes: Array) -> None:
    """The key of a size scale, from the smallest of the sizes [n] to the largest."""
    bar = figure.colorbar(scale, ax=axes, pad=0.02, aspect=28)
    low, high = float(np.min(sizes)), float(np.max(sizes))
    if high > low:
        bar.ax.set_ylim(low, high)
    log_ticks(bar.ax.yaxis)
    bar.set_label(label)
    bar.outline.set_visible(False)


def label_points(
    figure: Figure, axes: Axes, x: Array, y: Array, labels: Sequence[str], size: float = 7
) -> None:  # fmt: skip
    """Label the points x, y [n] from right to left; a label that would touch another or a point is left out.

    Both axes are logarithmic, and the figure is finished.
    """
    box, (width, height) = axes.get_position(), figure.get_size_inches()
    reach = np.array([box.width * width, box.height * height])
    points = np.stack([_inches(x, axes.get_xlim(), reach[0]), _inches(y, axes.get_ylim(), reach[1])], axis=1)
    taken = [(point - 0.03, point + 0.03) for point in points]
    for i in np.argsort(-points[:, 0]):
        extent = np.array([0.62 * len(labels[i]), 1.1]) * size / 72
        for right, up in PLACES:
            low = points[i] + np.array([right, up]) * 0.04 + (np.array([right, up]) - 1) / 2 * extent
            high = low + extent
            free = all((high < lower).any() or (low > upper).any() for lower, upper in taken)
            if free and (low >= 0).all() and (high <= reach).all():
                taken.append((low, high))
                axes.annotate(
                    labels[i], (x[i], y[i]), xytext=(3 * right, 3 * up), textcoords="offset points", fontsize=size,
                    ha={1: "left", 0: "center", -1: "right"}[right], va="bottom" if up > 0 else "top",
                    path_effects=[withStroke(linewidth=1.6, foreground="white")], zorder=6,
                )  # fmt: skip
                break


def _inches(values: Array, limits: tuple[float, float], extent: float) -> Array:
    low, high = np.log(limits)
    return np.asarray((np.log(values) - low) / (high - low) * extent)


def picture_kind(path: Path) -> str:
    """The suffix of a picture to write. RecordError for one that is not .png, .svg or .pdf."""
    kind = path.suffix.lower()
    if kind not in METADATA:
        raise RecordError(f"{path}: pictures are written as one of {', '.join(METADATA)}")
    return kind


def save(figure: Figure, path: str | Path) -> Path:
    """Write a .png (300 dpi), .svg or .pdf, whole or not at all. RecordError for another suffix."""
    path = Path(path)
    kind = picture_kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with styled():
        figure.savefig(temporary, format=kind[1:], dpi=PRINT_DPI, metadata=METADATA[kind])
    os.replace(temporary, path)
    return path
