"""Training curves with their envelope, and the split of compute along it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lawfit.approaches.allocation import Allocation, PowerOfCompute
from lawfit.approaches.frontier import Frontier
from lawfit.arrays import Array
from lawfit.fitting.result import Fit
from lawfit.intervals.bootstrap import Bootstrap
from lawfit.pictures import style
from lawfit.pictures.laws import BAND_POINTS, formula, log_residuals
from lawfit.pictures.style import FIT, KNOWN, Panel, styled
from lawfit.records.table import points

ROOM = 0.15
"""Above and below the curves, as a share of their logarithmic range."""


@styled()
def training_curves(
    table: pd.DataFrame, found: Frontier, law: Fit, *, x: str = "flops", y: str = "loss", run: str = "run",
    n: str | None = None, split: Allocation | None = None,
) -> Figure:  # fmt: skip
    """The curves of a table (one row per recorded point), their frontier and its law, residuals below.

    n: the column of model sizes, which colours the curves. split: adds N*(C) along the frontier. Raises RecordError
    for columns that cannot be used.
    """
    columns = points(table, x=x, y=y, run=run, **({"n": n} if n else {}))
    figure, panels = style.with_residuals(2 if split else 1)
    draw_curves(figure, panels[0], columns, x, y, style.axis_label(n) if n else None)
    draw_frontier(panels[0], found.x, found.y, law, x, y, f"frontier ({found.method})")
    if split:
        draw_split(panels[1], split.n, found.x, found.columns["n"], x, n or "n_params")
    style.finish(figure, panels[0].main)
    return figure


def draw_curves(
    figure: Figure, panel: Panel, columns: pd.DataFrame, x: str, y: str, size: str | None
) -> None:  # fmt: skip
    """Curves of columns x, y, run and, for their colour, n; size: the label of n."""
    scale = style.size_scale(columns["n"].to_numpy()) if size else None
    for _, curve in columns.sort_values("x").groupby("run", sort=False):
        colour = scale.to_rgba(curve["n"].iloc[0]) if scale else style.REFUSED
        panel.main.plot(curve["x"], curve["y"], color=colour, lw=0.9, alpha=0.9, zorder=2)
    if scale and size:
        both = [panel.main, panel.residuals]
        style.colour_bar(figure, scale, both, size, columns["n"].to_numpy())


def draw_frontier(
    panel: Panel, x: Array, y: Array, law: Fit, x_name: str, y_name: str, label: str, band: Bootstrap | None = None
) -> None:  # fmt: skip
    """The points x, y [m] of a frontier, its law with band, residuals below."""
    axes, far = panel.main, np.geomspace(x.min(), x.max(), BAND_POINTS)
    if band:
        low, high = band.band(far)
        axes.fill_between(
            far, low, high, color=FIT, alpha=0.2, lw=0, label=f"{100 * band.level:g} % band of the law", zorder=1
        )
    axes.plot(far, law.predict(far), "--", color=FIT, label="fit of the frontier", zorder=5)
    axes.plot(x, y, "o", ms=2.4, color=KNOWN, label=label, zorder=4)
    style.draw_residuals(panel.residuals, x, log_residuals(law), KNOWN)
    style.log_axes(axes)
    _limit(axes, np.concatenate([line.get_ydata() for line in axes.lines]))
    axes.set_ylabel(style.wrapped(y_name))
    axes.set_title(formula(law, x_name, y_name))
    panel.residuals.set_xlabel(style.axis_label(x_name))


def _limit(axes: Axes, values: Array) -> None:
    """Limits for the curves: the band of a frontier of few runs may reach far beyond them."""
    room = ROOM * np.log(values.max() / values.min())
    axes.set_ylim(values.min() * np.exp(-room), values.max() * np.exp(room))
    style.log_ticks(axes.yaxis)


def draw_split(panel: Panel, power: PowerOfCompute, budgets: Array, sizes: Array, x: str, n: str) -> None:
    """N*(C): sizes [m] by which a frontier was reached at budgets [m], the law, its band, residuals below."""
    _power(panel.main, power, budgets)
    panel.main.plot(budgets, sizes, "o", color=KNOWN, ms=2.4, zorder=4)
    said = np.array([power.at(float(budget)) for budget in budgets])
    style.draw_residuals(panel.residuals, budgets, np.log(sizes / said), KNOWN)
    style.log_axes(panel.main)
    panel.main.set_ylabel(f"Best size\n{style.axis_label(n)}")
    panel.main.set_title(f"$N^* \\propto C^{{{power.exponent:.3f}}}$")
    panel.residuals.set_xlabel(style.axis_label(x))


def _power(axes: Axes, power: PowerOfCompute, budgets: Array) -> None:
    far = np.geomspace(budgets.min(), budgets.max(), BAND_POINTS)
    ends = np.array([power.interval(float(budget)) for budget in far])
    axes.fill_between(far, ends[:, 0], ends[:, 1], color=FIT, alpha=0.2, lw=0)
    axes.plot(far, [power.at(float(budget)) for budget in far], "--", color=FIT, zorder=3)
