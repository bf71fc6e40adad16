"""Pictures of fitted laws: one variable, a surface in N and D, a forecast."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lawfit.approaches.allocation import TOKENS_PER_FLOP, Allocation, by_surface
from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.result import Fit
from lawfit.intervals.bootstrap import Bootstrap
from lawfit.pictures import style
from lawfit.pictures.style import FIT, KNOWN, POINT, Panel, styled
from lawfit.questions.forecast import Forecast

BAND_POINTS = 64
LEVELS = 5
"""Values of D at which a surface is drawn over N."""

OPEN = 1e6
"""How far an interval without an end is drawn, beyond what any axis shows."""

DODGE = 0.012
"""Distance of a back-test from its run, as a share of the axis."""


@styled()
def law_figure(found: Bootstrap, x: str = "x", y: str = "y", labels: Sequence[str] | None = None) -> Figure:
    """A law of one variable: points, fit, band of the law, residuals.

    x, y: names of columns, which give the axes their labels and units. labels: names of the points, drawn where
    there is room. Raises RecordError for a form of several variables.
    """
    if len(found.fit.form.variables) > 1:
        raise RecordError(f"form {found.fit.form.name!r} is of {', '.join(found.fit.form.variables)}: draw a surface")
    figure, (panel,) = style.with_residuals(1)
    draw_law(panel, found, x, y)
    style.finish(figure, panel.main)
    if labels is not None:
        style.label_points(figure, panel.main, found.fit.points.x["x"], found.fit.points.y, labels)
    return figure


def draw_law(panel: Panel, found: Bootstrap, x: str, y: str, what: str = "run") -> None:
    """One law of one variable and its residuals in one panel."""
    fit, axes = found.fit, panel.main
    known = fit.points.x["x"]
    draw_fit(axes, found)
    axes.plot(known, fit.points.y, "o", color=POINT, label=what, zorder=4)
    style.draw_residuals(panel.residuals, known, log_residuals(fit))
    style.log_axes(axes)
    axes.set_ylabel(style.wrapped(y))
    axes.set_title(formula(fit, x, y))
    panel.residuals.set_xlabel(style.axis_label(x))


def draw_fit(axes: Axes, found: Bootstrap) -> None:
    """The curve of a law and the interval of the law."""
    known = found.fit.points.x["x"]
    x = np.geomspace(known.min(), known.max(), BAND_POINTS)
    low, high = found.band(x)
    axes.fill_between(x, low, high, color=FIT, alpha=0.2, lw=0, label=_band_label(found, "band of the law"))
    axes.plot(x, found.fit.predict(x), color=FIT, label="fit", zorder=3)


def _band_label(found: Bootstrap, what: str) -> str | None:
    """In the legend; None for a law without intervals."""
    return f"{100 * found.level:g} % {what}" if found.replicates else None


def log_residuals(fit: Fit) -> Array:
    """log y - log fit [n], whatever space the law was fitted in."""
    return np.asarray(np.log(fit.points.y / fit.predict(fit.points.x)))


def formula(fit: Fit, x: str, y: str) -> str:
    """A law as a title: its exponent and floor where it has them, and how well it fits."""
    quality = f"$R^2$ {fit.r2_log:.3f}, n = {fit.n}"
    if len(fit.form.powers) != 1:
        return f"{fit.form.name}, {quality}"
    power, letter = f"{style.symbol(x)}^{{{-fit.exponent:#.3g}}}", style.symbol(y)
    if not fit.floor:
        return f"${letter} \\propto {power}$, {quality}"
    return f"${letter} = {fit.floor:.3g} + {fit.form.amplitudes[0]}\\,{power}$, {quality}"


@styled()
def surface_figure(found: Bootstrap, y: str = "loss") -> Figure:
    """A law in N and D: over N in the colours of D with the law at a few D, and over C = 6ND in the colours of N
    with the compute-optimal loss and its band; residuals below. RecordError for a form without N and D.
    """
    fit = found.fit
    if not {"N", "D"} <= set(fit.form.variables):
        raise RecordError(f"form {fit.form.name!r} is not of N and D: draw a law")
    figure, (over_n, over_c) = style.with_residuals(2)
    figure.set_size_inches(2.25 * style.COLUMN_WIDTH, figure.get_figheight())
    n, d = fit.points.x["N"], fit.points.x["D"]
    flops = n * d / TOKENS_PER_FLOP
    _coloured(figure, over_n, fit, n, d, style.axis_label("tokens"))
    _coloured(figure, over_c, fit, flops, n, style.axis_label("n_params"))
    _levels(over_n.main, fit)
    _optimal(over_c.main, found, flops)
    for panel, label in ((over_n, style.axis_label("n_params")), (over_c, "Training compute C = 6ND (FLOPs)")):
        style.log_axes(panel.main)
        panel.main.set_ylabel(style.wrapped(y))
        panel.residuals.set_xlabel(label)
    over_n.main.set_title("points and law by D")
    over_c.main.set_title(f"$R^2$ of log {style.symbol(y)} {fit.r2_log:.4f}, n = {fit.n}")
    style.finish(figure, over_c.main)
    return figure


def _coloured(figure: Figure, panel: Panel, fit: Fit, x: Array, by: Array, label: str) -> None:
    scale = style.size_scale(by)
    colours = scale.to_rgba(by)
    panel.main.scatter(x, fit.points.y, s=9, c=colours, zorder=3)
    style.draw_residuals(panel.residuals, x, log_residuals(fit), colours)
    style.colour_bar(figure, scale, [panel.main, panel.residuals], label, by)


def _levels(axes: Axes, fit: Fit) -> None:
    """The law over N at quantiles of D, in the colours of the points."""
    n, d = fit.points.x["N"], fit.points.x["D"]
    scale = style.size_scale(d)
    for level in np.geomspace(d.min(), d.max(), LEVELS):
        x = np.geomspace(n.min(), n.max(), BAND_POINTS)
        axes.plot(x, fit.predict({"N": x, "D": np.full_like(x, level)}), color=scale.to_rgba(level), lw=0.9, zorder=2)
    axes.set_ylim(0.97 * fit.points.y.min(), 1.04 * fit.points.y.max())


def _optimal(axes: Axes, found: Bootstrap, flops: Array) -> None:
    split = _split(found.fit)
    if split is None:
        return
    budgets = np.geomspace(flops.min(), flops.max(), BAND_POINTS)
    n = np.array([split.n.at(float(budget)) for budget in budgets])
    best = {"N": n, "D": TOKENS_PER_FLOP * budgets / n}
    low, high = found.band(best)
    axes.plot(budgets, found.fit.predict(best), color=FIT, label="compute-optimal loss", zorder=4)
    axes.fill_between(budgets, low, high, color=FIT, alpha=0.3, lw=0, label=_band_label(found, "band of it"))


def _split(fit: Fit) -> Allocation | None:
    """The best split of compute; None for a law that has none, whose points can be drawn all the same."""
    try:
        return by_surface(fit, tokens_per_flop=TOKENS_PER_FLOP)
    except RecordError:
        return None


@styled()
def forecast_figure(said: Forecast, x: str = "x", y: str = "y") -> Figure:
    """A forecast in one variable: known runs, the law to the forecast's place, the forecast with the interval of a
    new run, and what the method said about the known runs. RecordError for a forecast in several variables.
    """
    if len(said.at) > 1:
        raise RecordError(f"a forecast in {', '.join(said.at)} has no single axis: draw its surface")
    figure, (panel,) = style.with_residuals(1)
    (place,) = said.at.values()
    known, axes = said.fit.points.x["x"], panel.main
    far = np.geomspace(known.min(), max(place, known.max()), BAND_POINTS)
    axes.plot(far, said.fit.predict(far), color=FIT, label="fit", zorder=2)
    axes.plot(known, said.fit.points.y, "o", color=POINT, label="known run", zorder=4)
    shift = float(np.exp(DODGE * np.log(far.max() / far.min())))
    for number, test in enumerate(said.back_tests):
        name = "said from smaller runs" if number == 0 else None
        _bar(axes, test.at * shift, test.predicted, test.low, test.high, style.PURPLE, "_", name)
    _bar(axes, place, said.y, said.low, said.high, KNOWN, "D", f"forecast, {100 * said.level:g} % interval")
    style.draw_residuals(panel.residuals, known, log_residuals(said.fit))
    style.log_axes(axes)
    _clip(axes, said)
    axes.set_ylabel(style.wrapped(y))
    panel.residuals.set_xlabel(style.axis_label(x))
    ends = "" if np.isnan(said.low) else f" [{said.low:.3g}, {said.high:.3g}]"
    axes.set_title(f"at {style.number(float(f'{place:.3g}'))}: {said.y:.3g}{ends}")
    style.finish(figure, axes)
    return figure


def _bar(
    axes: Axes, x: float, y: float, low: float, high: float, colour: str, marker: str, label: str | None
) -> None:  # fmt: skip
    low, high = max(low, y / OPEN), min(high, y * OPEN)
    axes.errorbar(
        [x], [y], yerr=[[y - low], [high - y]], fmt=marker, color=colour, ms=4, lw=1, capsize=2, label=label, zorder=5
    )  # fmt: skip


def _clip(axes: Axes, said: Forecast) -> None:
    """Limits that show the runs and the forecast; a back-test from too few runs may reach far beyond."""
    values = np.array([*said.fit.points.y, said.y, said.low, said.high, *(test.predicted for test in said.back_tests)])
    values = values[np.isfinite(values) & (values > 0)]
    reach = float(np.log(values.max() / values.min()))
    axes.set_ylim(values.min() * np.exp(-0.08 * reach), values.max() * np.exp(0.08 * reach))
    style.log_ticks(axes.yaxis)
