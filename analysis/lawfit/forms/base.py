"""What a form is: a formula in coordinates that are easy to search, and the way back to published parameters.

Data enter centred: log(x/x0) with x0 the geometric mean of each variable, and y/y0. An amplitude at x0 and its
exponent are nearly independent; at x = 1 they are collinear (correlation 0.999).

Shapes: theta [B, p]; logs, one array per variable, [n] or [B, n]; values [B, n].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.errors import RecordError
from lawfit.forms import derivatives

Logs = Sequence[Array]
X = ArrayLike | Mapping[str, ArrayLike]
"""x of a form of one variable, or the columns by variable."""

SPAN = 60.0
"""Bound on |exponent · log(x/x0)|: a factor of e^60 over the data is no law."""

SMALLEST_LOG, LARGEST_LOG = -35.0, 60.0
"""Bounds on the log of an amplitude over y0. Below the lower one the term vanishes in the rounding of y."""

STEEP = 30.0
"""|exponent · log(x/x0)|, at the end where the term is largest, of the steepest exponent in a scan."""


@dataclass(frozen=True)
class Centre:
    """Where the search coordinates have their origin: log x0 by variable, and log y0."""

    log_x: tuple[float, ...]
    log_y: float = 0.0

    @property
    def amplitudes(self) -> "Centre":
        """The origin that keeps y's unit but leaves x at x0: parameters decoded with it are those at x0."""
        return replace(self, log_x=(0.0,) * len(self.log_x))


class Power(NamedTuple):
    """The parameters of a term amplitude · variable^-exponent."""

    amplitude: str
    exponent: str


class Expansion(NamedTuple):
    """A form near theta: value [B, n], jacobian [B, p, n], and curvature(s [B, n]) = sum_n s d²f, [B, p, p]."""

    value: Array
    jacobian: Array
    curvature: Callable[[Array], Array]


@dataclass(frozen=True)
class Form:
    """What every form declares; a subclass gives `value`, `encode`, `decode`, `bounds` and `grid`.

    parameters: as published, in order. variables: the columns of x. origins: for each variable the one whose
    geometric mean is its origin, its own by default. noise_floor: the noise of y is proportional to
    (y² + noise_floor²)^(1/2), in the unit of y. auto: whether `auto` tries the form for its variables. margin: by how
    much its AICc must be below another form's to be chosen.

    Roles of parameters: `exponents`, positive where y falls as its variable grows, the one to quote first;
    `amplitudes`, whose value depends on where x has its origin; `floor`, at least 0, which y falls towards.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    variables: tuple[str, ...] = ("x",)
    exponents: tuple[str, ...] = ()
    amplitudes: tuple[str, ...] = ()
    floor: str | None = None
    origins: tuple[str, ...] = ()
    noise_floor: float = 0.0
    auto: bool = False
    margin: float = 0.0

    @property
    def powers(self) -> Mapping[str, Power]:
        """The term of each variable, where y is one power of each and perhaps a floor; empty for any other form.

        Such a law is solved for x, and one in N and D for the best split of compute, in closed form.
        """
        return {}

    @property
    def scanned(self) -> tuple[str, ...]:
        """Parameters that the grid steps through, solving for the others; none where there is no such grid."""
        return ()

    @property
    def positive(self) -> tuple[str, ...]:
        """Parameters whose logarithm, not the value, is close to linear in theta."""
        return self.amplitudes

    def value(self, theta: Sequence[Any], logs: Logs) -> Any:
        """y/y0 [B, n] of p coordinates [B, 1] against logs [n]. Numpy functions only, for `derivatives`."""
        raise NotImplementedError

    def encode(self, params: Array, centre: Centre) -> Array:
        """theta [..., p] of published parameters [..., p]."""
        raise NotImplementedError

    def decode(self, theta: Sequence[Any], centre: Centre) -> list[Any]:
        """The p published parameters of p coordinates. Numpy functions only, for `derivatives`."""
        raise NotImplementedError

    def bounds(self, logs: Logs) -> tuple[Array, Array]:
        """Lowest and highest theta [p], wider than any real law."""
        raise NotImplementedError

    def grid(self, logs: Logs, y: Array, relative: bool) -> Array:
        """Candidates theta [g, p] for starts, y being y/y0 [n]; relative: errors count in log y."""
        raise NotImplementedError

    def evaluate(self, theta: Array, logs: Logs) -> Array:
        """y/y0 [B, n] at theta [B, p]."""
        return np.asarray(self.value(list(theta.T[:, :, None]), logs))

    def expand(self, theta: Array, logs: Logs) -> Expansion:
        """Value and derivatives at theta [B, p]."""
        jet = self.value(derivatives.variables(list(theta.T[:, :, None])), logs)
        shape, p = jet.value.shape, len(self.parameters)
        hessian = np.broadcast_to(jet.hessian, (p, p, *shape))
        jacobian = np.moveaxis(np.broadcast_to(jet.gradient, (p, *shape)), 0, 1)
        return Expansion(jet.value, jacobian, lambda s: np.einsum("bn,pqbn->bpq", s, hessian))

    def published(self, theta: Array, centre: Centre) -> Array:
        """Published parameters [..., p] at theta [..., p]; inf where an amplitude overflows."""
        with np.errstate(over="ignore"):
            return np.stack(self.decode(list(np.moveaxis(theta, -1, 0)), centre), axis=-1)

    def published_jacobian(self, theta: Array, centre: Centre) -> Array:
        """d published / d theta [p, p] at theta [p]."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.stack([jet.gradient for jet in self.decode(derivatives.variables(list(theta)), centre)])

    def predict(self, params: ArrayLike, x: X) -> Array:
        """y [..., n] of published parameters [..., p] at x."""
        params = np.asarray(params, float)
        origin = Centre((0.0,) * len(self.variables))
        theta = self.encode(params.reshape(-1, params.shape[-1]), origin)
        logs = [np.log(column) for column in self.columns(x)]
        return self.evaluate(theta, logs).reshape(*params.shape[:-1], -1)

    def columns(self, x: X) -> list[Array]:
        """The variables' columns [n] in order, as floats. RecordError names a missing one, or one not positive."""
        given = as_columns(x)
        for name, column in given.items():
            check_positive(name, column)
        if len(self.variables) == len(given) == 1:
            return list(given.values())
        missing = [name for name in self.variables if name not in given]
        if missing:
            raise RecordError(f"form {self.name!r} needs {', '.join(missing)}: x has {', '.join(given)}")
        return [given[name] for name in self.variables]


def check_positive(name: str, values: Array) -> None:
    """Raise RecordError that names the first of the values [n] that is not positive and finite."""
    bad = np.argwhere(~(np.isfinite(values) & (values > 0)))
    if bad.size:
        place = tuple(int(i) for i in bad[0])
        raise RecordError(f"{name}[{place[0]}] is {values[place]}: a law needs positive, finite numbers")


def as_columns(x: X) -> dict[str, Array]:
    """x by variable, as floats [n]; a plain column is called x."""
    given = x if isinstance(x, Mapping) else {"x": x}
    return {str(name): np.atleast_1d(np.asarray(column, float)) for name, column in given.items()}


def exponent_grid(log: Array, count: int) -> Array:
    """Exponents [2 · count] of either sign, from nearly flat to a term that only the outermost points feel.

    The steepest leaves an amplitude at x0 that is within `SMALLEST_LOG` when the term is of y's size there.
    """
    span = np.ptp(log)
    # A log that is not centred may have no end on one side.
    ends = (max(end, 0.1 * span) for end in (log.max(), -log.min()))
    rising, falling = (np.geomspace(0.02 / span, STEEP / end, count) for end in ends)
    return np.concatenate([-rising[::-1], falling])


def steepest(log: Array) -> float:
    """The largest exponent that stays within `SPAN` over the data, whose logs are [n]."""
    return float(SPAN / np.abs(log).max())


def nonnegative(basis: Array, target: Array) -> Array:
    """Coefficients [g, K] >= 0 of basis [g, K, n] nearest to target [n] in least squares, K <= 3.

    The linear half of variable projection. Each subset of the K functions is solved, and the best one whose
    coefficients are all positive is kept.
    """
    count = basis.shape[1]
    gram = basis @ basis.swapaxes(1, 2)
    moment = basis @ target
    best, lowest = np.zeros(moment.shape), np.zeros(len(basis))
    for mask in range(1, 2**count):
        chosen = [k for k in range(count) if mask >> k & 1]
        part = gram[:, chosen][:, :, chosen]
        ridge = 1e-12 * np.einsum("gkk->gk", part)[:, :, None] * np.eye(len(chosen))
        solution = np.linalg.solve(part + ridge + 1e-200 * np.eye(len(chosen)), moment[:, chosen, None])[..., 0]
        # Up to |target|², the sum of squares at the solution.
        cost = -(solution * moment[:, chosen]).sum(-1)
        better = (solution >= 0).all(-1) & (cost < lowest)
        full = np.zeros(moment.shape)
        full[:, chosen] = solution
        best = np.where(better[:, None], full, best)
        lowest = np.where(better, cost, lowest)
    return best
