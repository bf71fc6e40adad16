"""isoFLOP slices (approach 2): at each budget, the model size with the lowest loss.

From runs at a few fixed budgets to the points that N*(C) is fitted to. A minimum counts only when larger and smaller
models were tried: otherwise its slice is `Unbracketed`, never an edge taken for an optimum. Three estimators of a
slice's minimum:

- `akima`: Akima interpolation of log loss over log N, 25 points per interval (Porian et al. 2024);
- `parabola`: least-squares parabola of log loss over log N (Hoffmann et al. 2022); on wide or off-centre grids
  its minimum is off by up to a quarter, because valleys are not symmetric;
- `surface`: all slices together as E + A N^-alpha + B D^-beta, whose minimum has a closed form.

Akima and parabola are repeated under draws of the seed noise; the median counts and the spread is its error. D along a
slice is the table's where it has tokens, else C/(6 N).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.fitting.result import Fit
from lawfit.forms.catalogue import CHINCHILLA
from lawfit.records.table import points
from lawfit.text import span

Estimator = Literal["akima", "parabola", "surface"]

POINTS_PER_INTERVAL = 25
FEWEST_SIZES = 3
"""Sizes a slice needs; two cannot bracket a minimum."""

SEED_SD = 0.002
"""Nats. Porian et al. describe a noise that grows with the loss, but their code compares log loss with thresholds
meant for the loss, so in effect it is constant: .002 on RefinedWeb, .01 on OpenWebText2. These two give their
15 exponents to .005; the description gives them to .02."""

DRAWS = 1000
LEAST_SPREAD = 0.33
"""Smallest error of a minimum, as a share of the mean spacing of the sizes in log N (Porian et al.)."""

EXACT_SURFACE = 1e-3
"""Largest residual in log loss at which a surface passes through all slices, noise and form being negligible."""

ONE_RATIO = 0.05
"""Spread of log(N D/C) up to which C counts as a constant times N D: tokens are rounded to steps."""

FINE = 4000
"""Places along a slice at which a surface is looked at where N D/C varies."""

SMALLEST = 1e-12
"""Keeps the logarithm of a noisy loss finite."""

DISAGREEMENT = 0.05
"""Difference in log N* between estimators, relative to neither's error, that is worth a warning."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Runs of one budget C: sizes n [k] increasing, tokens d [k], loss [k]. Of several runs at a size, the best."""

    budget: float
    n: Array
    d: Array
    loss: Array


@dataclass(frozen=True)
class Valley:
    """A bracketed minimum. log_sd: error of log n_opt. bracketed: share of the noise draws with a minimum inside."""

    budget: float
    n_opt: float
    d_opt: float
    loss_opt: float
    log_sd: float
    bracketed: float
    sizes: int


@dataclass(frozen=True)
class Unbracketed:
    """A slice without a usable minimum, and why."""

    budget: float
    sizes: int
    reason: str


@dataclass(frozen=True, eq=False)
class IsoFlop:
    """The valleys of a table by one estimator, and the slices that have none.

    symbol: what the sizes are, N or D, for words. d: column of the other of the two, None where it is C/(6 size).
    other: log N* [valleys] by each further estimator minus this one's, nan where it has no minimum. surface: the
    fit of all slices together, None with too few points. warnings: what limits the result, one sentence each.
    """

    estimator: Estimator
    slices: tuple[Slice, ...]
    valleys: tuple[Valley, ...]
    unbracketed: tuple[Unbracketed, ...]
    other: dict[str, Array]
    surface: Fit | None
    warnings: tuple[str, ...]
    symbol: str = "N"
    d: str | None = None

    @property
    def one_ratio(self) -> bool:
        """Whether C is a constant times N D along each slice."""
        return all(_has_one_ratio(part) for part in self.slices)


def isoflop(
    table: pd.DataFrame,
    *,
    n: str = "n_params",
    loss: str = "loss",
    budget: str = "flops",
    d: str | None = None,
    estimator: Estimator | Literal["auto"] = "auto",
    seed_sd: float = SEED_SD,
    draws: int = DRAWS,
    seed: int = 0,
    symbol: str = "N",
) -> IsoFlop:
    """The compute-optimal size of each budget; n, loss, budget and d are columns or expressions of the table.

    d: tokens; the default is the column tokens (n_params where n is tokens), or budget/(6 n) in a table without.
    symbol: what n is, for words. estimator `auto`: `akima`, but `surface` where it passes through all
    slices to .1 % and is thus free of interpolation error; a warning says where estimators disagree. seed_sd:
    standard deviation of the loss between seeds, in its unit. Raises RecordError for unusable columns and for a
    table without two sizes at any budget.
    """
    if estimator not in (*get_args(Estimator), "auto"):
        raise RecordError(f"estimator {estimator!r} is unknown: expected one of {', '.join(get_args(Estimator))}, auto")
    if not 0 <= seed_sd < np.inf:
        raise RecordError(f"seed_sd is {seed_sd}: expected a finite number, at least 0")
    d, notes = _counted(table, n, budget, d, symbol)
    slices = read_slices(table, n, loss, budget, d)
    surface = fit_surface(slices)
    chosen = _automatic(surface) if estimator == "auto" else estimator
    if chosen == "surface" and surface is None:
        raise RecordError("estimator 'surface' needs at least six runs at three sizes")
    generator = np.random.default_rng(seed)
    noise = [seed_sd * generator.standard_normal((len(part.n), draws)) for part in slices]
    results = [_valley(part, chosen, surface, noisy, symbol) for part, noisy in zip(slices, noise, strict=True)]
    valleys = tuple(result for result in results if isinstance(result, Valley))
    unbracketed = tuple(result for result in results if isinstance(result, Unbracketed))
    other = {name: _differences(slices, valleys, name, surface) for name in get_args(Estimator) if name != chosen}
    disagreements = _disagreements(chosen, valleys, other, symbol)
    warnings = (*notes, *_merged(table, slices), *_refusals(unbracketed), *disagreements)
    return IsoFlop(chosen, slices, valleys, unbracketed, other, surface, warnings, symbol, d)


def _counted(table: pd.DataFrame, n: str, budget: str, d: str | None, symbol: str) -> tuple[str | None, list[str]]:
    """The column of D (of N where n is D) and remarks: it has gaps, or C is not 6 N D by it."""
    column = d or ("n_params" if symbol == "D" or n == "tokens" else "tokens")
    if d is None:
        if column not in table:
            return None, []
        known = pd.to_numeric(table[column], errors="coerce") > 0
        if not known.all():
            return None, [f"column {column!r} has no number in {int((~known).sum())} of {len(table)} rows: not used"]
    chosen = points(table, n=n, budget=budget, d=column)
    ratio = (chosen["budget"] / (6 * chosen["n"] * chosen["d"])).to_numpy()
    if symbol not in ("N", "D") or np.abs(np.log(ratio)).max() <= ONE_RATIO:
        return column, []
    return column, [f"C is {span(ratio)} times 6·N·D: {column} are those of the table, not C/(6·{n})"]


def read_slices(table: pd.DataFrame, n: str, loss: str, budget: str, d: str | None) -> tuple[Slice, ...]:
    """The slices of a table, by budget. RecordError for unusable columns and where no budget has two sizes."""
    columns = points(table, n=n, loss=loss, budget=budget, **({"d": d} if d else {}))
    columns["d"] = columns["d"] if d else columns["budget"] / (6 * columns["n"])
    best = columns.loc[columns.groupby(["budget", "n"])["loss"].idxmin()]
    slices = tuple(
        Slice(float(value), *(group.sort_values("n")[name].to_numpy(float) for name in ("n", "d", "loss")))
        for value, group in best.groupby("budget")
    )
    if max(len(part.n) for part in slices) < 2:
        raise RecordError(
            f"{len(slices)} budgets with one size each: an isoFLOP slice holds runs of several sizes at the same "
            f"budget, so {budget!r} may be each run's own compute; round it to the planned budget, such as "
            "'10**(round(4*log10(flops))/4)'"
        )
    return slices


def _merged(table: pd.DataFrame, slices: Sequence[Slice]) -> tuple[str, ...]:
    left_out = len(table) - sum(len(part.n) for part in slices)
    if not left_out:
        return ()
    return (
        f"{left_out} of {len(table)} rows share budget and size with a better one and were left out: runs of several "
        "settings belong in an isoFLOP each, so filter",
    )


def fit_surface(slices: Sequence[Slice]) -> Fit | None:
    """E + A N^-alpha + B D^-beta through all slices; None with too few points to fit five parameters."""
    n, d, y = (np.concatenate([getattr(part, name) for part in slices]) for name in ("n", "d", "loss"))
    if len(y) < 6 or len(np.unique(n)) < FEWEST_SIZES:
        return None
    return fit({"N": n, "D": d}, y, CHINCHILLA.name)


def lowest_along(surface: Fit, part: Slice, params: Array) -> tuple[Array, Array]:
    """log N* [B] and log D* [B] of surfaces params [B, p] along a slice, whose D between sizes is interpolated.

    nan where the lowest loss is that of an end.
    """
    from scipy.interpolate import Akima1DInterpolator

    log_n = np.linspace(np.log(part.n[0]), np.log(part.n[-1]), FINE)
    log_d = Akima1DInterpolator(np.log(part.n), np.log(part.d * part.n))(log_n) - log_n
    columns = dict(zip(surface.form.parameters, params.T, strict=True))
    (a, alpha), (b, beta) = ([columns[name][:, None] for name in surface.form.powers[key]] for key in ("N", "D"))
    best = np.array([
        int((one * np.exp(-x * log_n) + other * np.exp(-y * log_d)).argmin())
        for one, x, other, y in zip(a, alpha, b, beta, strict=True)
    ])  # fmt: skip
    inside = (best > 0) & (best < FINE - 1)
    return np.where(inside, log_n[best], np.nan), np.where(inside, log_d[best], np.nan)


def surface_optimum(surface: Fit, budget: float, tokens_per_flop: float) -> float:
    """N* of a surface E + A N^-alpha + B D^-beta where D = k C/N with k = tokens_per_flop; nan if it does not fall.

    N* = (alpha A/(beta B) (k C)^beta)^(1/(alpha + beta))
    """
    (a, alpha), (b, beta) = ([surface.params[name] for name in surface.form.powers[key]] for key in ("N", "D"))
    if min(a, b, alpha, beta) <= 0:
        return np.nan
    log_n = np.log(alpha * a) - np.log(beta * b) + beta * np.log(tokens_per_flop * budget)
    return float(np.exp(log_n / (alpha + beta)))


def _automatic(surface: Fit | None) -> Estimator:
    if surface is not None and np.abs(surface.residuals).max() < EXACT_SURFACE:
        return "surface"
    return "akima"


def _valley(part: Slice, estimator: Estimator, surface: Fit | None, noise: Array, symbol: str) -> Valley | Unbracketed:
    """noise: [k, draws], added to the loss."""
    if len(part.n) < FEWEST_SIZES:
        return Unbracketed(part.budget, len(part.n), f"{len(part.n)} sizes, a slice needs {FEWEST_SIZES}")
    if estimator == "surface":
        assert surface is not None
        return _surface_valley(part, surface)
    log_n, log_loss = minimum(part.n, np.maximum(part.loss[:, None] + noise, SMALLEST), estimator)
    inside = np.isfinite(log_n)
    share = float(inside.mean())
    if share < 0.5:
        end = "smallest: add smaller" if part.loss[0] < part.loss[-1] else "largest: add larger"
        what = "models" if symbol == "N" else f"{symbol} than those"
        return Unbracketed(part.budget, len(part.n), f"the lowest loss is that of the {end} {what} at this budget")
    spread = max(float(log_n[inside].std()), LEAST_SPREAD * _spacing(part)) / share
    return _made(part, float(np.median(log_n[inside])), float(np.median(log_loss[inside])), spread, share)


def minimum(n: Array, loss: Array, estimator: Estimator) -> tuple[Array, Array]:
    """log N* and log loss there, [draws] each, of loss [k, draws] over sizes n [k]; nan where not bracketed."""
    x, y = np.log(n), np.log(loss)
    if estimator == "parabola":
        centre = x.mean()
        curve, slope, level = np.polyfit(x - centre, y, 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            place = -slope / (2 * curve)
        inside = (curve > 0) & (place > x[0] - centre) & (place < x[-1] - centre)
        return np.where(inside, centre + place, np.nan), np.where(inside, level - slope**2 / (4 * curve), np.nan)
    from scipy.interpolate import Akima1DInterpolator  # 0.2 s to import, which `import lawfit` need not wait for

    grid = np.linspace(x[0], x[-1], (len(x) - 1) * POINTS_PER_INTERVAL)
    values = Akima1DInterpolator(x, y)(grid)
    at = values.argmin(axis=0)
    inside = (at > 0) & (at < len(grid) - 1)
    return np.where(inside, grid[at], np.nan), np.where(inside, values.min(axis=0), np.nan)


def _surface_valley(part: Slice, surface: Fit) -> Valley | Unbracketed:
    n_opt, d_opt = _surface_minimum(part, surface)
    if not part.n[0] < n_opt < part.n[-1]:
        return Unbracketed(
            part.budget, len(part.n), f"the surface has its minimum at {n_opt:.3g}, outside the sizes tried"
        )
    loss = float(surface.predict({"N": np.array([n_opt]), "D": np.array([d_opt])})[0])
    valley = _made(part, float(np.log(n_opt)), float(np.log(loss)), LEAST_SPREAD * _spacing(part), 1.0)
    return valley if _has_one_ratio(part) else replace(valley, d_opt=d_opt)


def _surface_minimum(part: Slice, surface: Fit) -> tuple[float, float]:
    """N* and D* of a surface along a slice, nan where it has none."""
    if _has_one_ratio(part):
        n_opt = surface_optimum(surface, part.budget, _tokens_per_flop(part))
        return n_opt, _tokens_per_flop(part) * part.budget / n_opt
    log_n, log_d = lowest_along(surface, part, np.array([list(surface.params.values())]))
    return float(np.exp(log_n[0])), float(np.exp(log_d[0]))


def _has_one_ratio(part: Slice) -> bool:
    return float(np.ptp(np.log(part.d * part.n))) <= ONE_RATIO


def _made(part: Slice, log_n: float, log_loss: float, spread: float, bracketed: float) -> Valley:
    # Tokens between two sizes, interpolated as the size is: D N is nearly constant along a slice.
    d_opt = float(np.exp(np.interp(log_n, np.log(part.n), np.log(part.d * part.n)) - log_n))
    return Valley(part.budget, float(np.exp(log_n)), d_opt, float(np.exp(log_loss)), spread, bracketed, len(part.n))


def _spacing(part: Slice) -> float:
    """Mean distance of neighbouring sizes in log N."""
    return float(np.ptp(np.log(part.n)) / (len(part.n) - 1))


def _tokens_per_flop(part: Slice) -> float:
    """k in D = k C/N: 1/6 where compute is 6 N D."""
    return float(np.exp(np.log(part.d * part.n / part.budget).mean()))


def _differences(slices: Sequence[Slice], valleys: Sequence[Valley], estimator: str, surface: Fit | None) -> Array:
    """log N* by another estimator, without noise, minus that of each valley."""
    by_budget = {part.budget: part for part in slices}
    places = []
    for valley in valleys:
        part = by_budget[valley.budget]
        if estimator != "surface":
            places.append(float(minimum(part.n, part.loss[:, None], estimator)[0][0]))  # type: ignore[arg-type]
        elif surface is None:
            places.append(np.nan)
        else:
            places.append(float(np.log(_surface_minimum(part, surface)[0])))
    return np.array(places) - np.log([valley.n_opt for valley in valleys])


def _refusals(unbracketed: Sequence[Unbracketed]) -> list[str]:
    return [f"no minimum at C = {part.budget:.3g}: {part.reason}" for part in unbracketed]


def _disagreements(estimator: str, valleys: Sequence[Valley], other: dict[str, Array], symbol: str) -> list[str]:
    warnings = []
    for name, difference in other.items():
        far = np.abs(difference) > DISAGREEMENT
        if far.any():
            worst = int(np.nanargmax(np.abs(difference)))
            percent = 100 * (np.exp(difference[worst]) - 1)
            warnings.append(
                f"{name} and {estimator} disagree on {symbol}* at {far.sum()} of {len(valleys)} budgets, most at "
                f"C = {valleys[worst].budget:.3g}: {percent:+.0f} %"
            )
    return warnings
