"""isoFLOP slices with their minima, and N*(C) through them.

A slice without a bracketed minimum is drawn as refused, never with one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lawfit.approaches.allocation import Allocation
from lawfit.approaches.isoflop import IsoFlop, Slice
from lawfit.arrays import Array
from lawfit.fitting.result import Fit
from lawfit.pictures import style
from lawfit.pictures.laws import BAND_POINTS
from lawfit.pictures.style import FIT, KNOWN, REFUSED, styled

FINE = 25
"""Points drawn between two sizes."""

SD = 1.96
OTHERS = (style.GREEN, style.PURPLE)
"""Colours of the approaches beside the first."""


@styled()
def isoflop_valleys(
    found: IsoFlop, allocations: Sequence[Allocation] = (), *, n: str = "n_params", y: str = "loss"
) -> Figure:  # fmt: skip
    """Loss over N at each budget with the minima and their 95 % error; with `allocations`, also N*(C) by each."""
    figure = style.empty(2 if allocations else 1, sum(style.HEIGHTS))
    figure.set_size_inches(figure.get_figwidth() + 0.5, figure.get_figheight())
    axes = figure.subplots(1, 2 if allocations else 1, squeeze=False)[0]
    budgets = np.array([part.budget for part in found.slices])
    scale = style.size_scale(budgets)
    refused = {part.budget for part in found.unbracketed}
    for part in found.slices:
        _slice(axes[0], found, part, REFUSED if part.budget in refused else scale.to_rgba(np.array(part.budget)))
    _minima(axes[0], found)
    _refusals(axes[0], [part for part in found.slices if part.budget in refused])
    style.log_axes(axes[0])
    axes[0].set_xlabel(style.axis_label(n))
    axes[0].set_ylabel(style.wrapped(y))
    axes[0].set_title(f"minima by {found.estimator}: {len(found.valleys)} of {len(found.slices)} budgets")
    style.colour_bar(figure, scale, axes[0], style.axis_label("flops"), budgets)
    if allocations:
        _split(axes[1], found, allocations, n)
    style.finish(figure, axes[0])
    return figure


def _slice(axes: Axes, found: IsoFlop, part: Slice, colour: Any) -> None:
    axes.plot(part.n, part.loss, "o", ms=2.6, color=colour, zorder=3)
    if len(part.n) < 3:
        return
    x, y = _curve(found, part)
    axes.plot(x, y, "--" if colour == REFUSED else "-", lw=0.9, color=colour, zorder=2)


def _curve(found: IsoFlop, part: Slice) -> tuple[Array, Array]:
    """What the estimator sees between the sizes of a slice."""
    from scipy.interpolate import Akima1DInterpolator

    log_n = np.log(part.n)
    x = np.linspace(log_n[0], log_n[-1], FINE * len(part.n))
    if found.estimator == "parabola":
        centre = log_n.mean()
        return np.exp(x), np.exp(np.polyval(np.polyfit(log_n - centre, np.log(part.loss), 2), x - centre))
    if found.estimator == "surface" and found.surface:
        return np.exp(x), _along(found.surface, part, x)
    return np.exp(x), np.exp(Akima1DInterpolator(log_n, np.log(part.loss))(x))


def _along(surface: Fit, part: Slice, log_n: Array) -> Array:
    d = np.exp(np.interp(log_n, np.log(part.n), np.log(part.d * part.n)) - log_n)
    return surface.predict({"N": np.exp(log_n), "D": d})


def _minima(axes: Axes, found: IsoFlop) -> None:
    for number, valley in enumerate(found.valleys):
        label = f"minimum, 95 % error of {_best(found)}" if number == 0 else None
        reach = SD * valley.log_sd
        ends = [[valley.n_opt * -np.expm1(-reach)], [valley.n_opt * np.expm1(reach)]]
        axes.errorbar(
            [valley.n_opt], [valley.loss_opt], xerr=ends, fmt="D", ms=4, color=FIT, mec="white", mew=0.5, lw=1,
            zorder=5, label=label,
        )  # fmt: skip


def _best(found: IsoFlop) -> str:
    return f"{found.symbol}*" if found.symbol in ("N", "D") else "the minimum"


def _refusals(axes: Axes, parts: Sequence[Slice]) -> None:
    lowest = [(part.n[part.loss.argmin()], part.loss.min()) for part in parts]
    if lowest:
        x, y = zip(*lowest, strict=True)
        axes.plot(x, y, "X", ms=6, color=KNOWN, mec="white", mew=0.5, zorder=5, label="refused: no bracketed minimum")


def _split(axes: Axes, found: IsoFlop, allocations: Sequence[Allocation], n: str) -> None:
    budget = np.array([valley.budget for valley in found.valleys])
    best = np.array([valley.n_opt for valley in found.valleys])
    reach = SD * np.array([valley.log_sd for valley in found.valleys])
    ends = [best * -np.expm1(-reach), best * np.expm1(reach)]
    axes.errorbar(budget, best, yerr=ends, fmt="D", ms=4, color=FIT, mec="white", mew=0.5, lw=1, zorder=4)
    low, high = budget.min(), max(budget.max(), *(part.budget for part in found.slices))
    far = np.geomspace(low, high, BAND_POINTS)
    symbol = found.symbol if found.symbol in ("N", "D") else "x"
    for allocation, colour in zip(allocations, (FIT, *OTHERS), strict=False):
        power = allocation.n
        limits = np.array([power.interval(float(value)) for value in far])
        axes.fill_between(far, limits[:, 0], limits[:, 1], color=colour, alpha=0.15, lw=0)
        name = f"{allocation.approach} ({allocation.method}): ${symbol}^* \\propto C^{{{power.exponent:.3f}}}$"
        axes.plot(far, [power.at(float(value)) for value in far], color=colour, label=name, zorder=3)
    style.log_axes(axes)
    axes.legend(loc="best")
    axes.set_xlabel(style.axis_label("flops"))
    axes.set_ylabel(f"{'Best size' if found.symbol == 'N' else 'Best'}\n{style.axis_label(n)}")
    axes.yaxis.set_minor_locator(ticker.NullLocator())
