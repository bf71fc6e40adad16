"""The corner plot of a bootstrap: how its parameters are spread and trade places.

Amplitudes are shown by their logarithm at the reference, in the middle of the data: at x = 1, where they are
published, they are collinear with the exponents and their clouds are mere lines.
"""

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lawfit.arrays import Array
from lawfit.intervals.bootstrap import Bootstrap
from lawfit.pictures import style
from lawfit.pictures.style import FIT, POINT, styled

GREEK = ("alpha", "beta", "gamma", "delta", "kappa", "lambda", "mu", "nu")
BINS = 30
SIDE = 1.35
"""Inches per cell."""

TAIL = 0.3
"""Percent of the draws beyond each end of an axis, which would squeeze the rest."""


@styled()
def corner_plot(found: Bootstrap) -> Figure:
    """Histograms of the parameters on the diagonal with interval, draws of each pair below it; the fit in red."""
    values, at, names = _shown(found)
    size = len(names)
    side = SIDE * size + 0.4
    figure = style.empty(1, side)
    figure.set_size_inches(max(side, style.COLUMN_WIDTH), side)
    axes = figure.subplots(size, size, squeeze=False)
    limits = [_limits(column) for column in values.T]
    for row in range(size):
        for column in range(size):
            cell = axes[row][column]
            if column > row:
                cell.set_axis_off()
                continue
            if column == row:
                _histogram(cell, values[:, row], float(at[row]), limits[row], found.level)
            else:
                _cloud(cell, values[:, [column, row]], at[[column, row]], limits[row])
            cell.set_xlim(limits[column])
            _ticks(cell, names, row, column)
    figure.suptitle(_title(found), fontsize=style.STYLE["axes.titlesize"])
    style.settle(figure)
    return figure


def _shown(found: Bootstrap) -> tuple[Array, Array, list[str]]:
    """Draws [B, p], the fit [p] and their labels, amplitudes as logarithms at the reference."""
    fit = found.fit
    at = fit.form.published(fit.theta, fit.centre.amplitudes)
    values, names = found.reference_samples.copy(), []
    for index, name in enumerate(fit.form.parameters):
        letter = f"\\{name}" if name.split("_")[0] in GREEK else name
        if name in fit.form.amplitudes:
            values[:, index], at[index] = np.log(values[:, index]), np.log(at[index])
            letter = rf"\ln {letter}_0"
        names.append(f"${letter}$")
    return values[np.isfinite(values).all(axis=1)], at, names


def _title(found: Bootstrap) -> str:
    origin = ", ".join(f"${name}_0$ = {style.number(float(f'{value:.3g}'))}" for name, value in
                       found.fit.reference.x0.items())  # fmt: skip
    first = f"{found.fit.form.name}: {found.replicates} resamples by {found.unit} of {found.units} {found.unit}s"
    return f"{first}\namplitudes at {origin}" if found.fit.form.amplitudes else first


def _limits(values: Array) -> tuple[float, float]:
    low, high = np.percentile(values, [TAIL, 100 - TAIL])
    # Points without noise leave no spread, but an axis needs some.
    margin = max(0.08 * (high - low), 1e-6 * abs(high), 1e-12)
    return float(low - margin), float(high + margin)


def _histogram(axes: Axes, values: Array, at: float, limits: tuple[float, float], level: float) -> None:
    axes.hist(values, bins=BINS, range=limits, color=POINT, alpha=0.55, lw=0)
    axes.axvline(at, color=FIT)
    for end in np.quantile(values, [(1 - level) / 2, (1 + level) / 2]):
        axes.axvline(end, color=FIT, lw=0.9, ls=":")
    axes.set_yticks([])


def _cloud(axes: Axes, pair: Array, at: Array, vertical: tuple[float, float]) -> None:
    axes.scatter(pair[:, 0], pair[:, 1], s=2, color=POINT, alpha=0.25, lw=0, rasterized=True)
    axes.axvline(at[0], color=FIT, lw=0.9)
    axes.axhline(at[1], color=FIT, lw=0.9)
    axes.set_ylim(vertical)


def _ticks(axes: Axes, names: list[str], row: int, column: int) -> None:
    axes.grid(False)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=3))
    if column != row:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=3))
    if row == len(names) - 1:
        axes.set_xlabel(names[column])
        axes.tick_params(axis="x", rotation=45)
    else:
        axes.tick_params(labelbottom=False)
    if column == 0 and row > 0:
        axes.set_ylabel(names[row])
    else:
        axes.tick_params(labelleft=False)
