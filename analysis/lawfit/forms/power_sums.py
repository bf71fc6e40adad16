"""Sums of power laws: the power law, with and without a floor, and Chinchilla's surface.

Derivatives in closed form: bootstraps spend their time here.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lawfit.arrays import Array
from lawfit.forms.base import (
    LARGEST_LOG,
    SMALLEST_LOG,
    Centre,
    Expansion,
    Form,
    Logs,
    Power,
    exponent_grid,
    nonnegative,
    steepest,
)

GRID = {1: 60, 2: 20}
"""Magnitudes of each exponent in the scan, by the number of exponents; every magnitude has both signs."""


@dataclass(frozen=True)
class Term:
    """amplitude · product over variables v of v^-exponent. exponents: the parameter by variable."""

    amplitude: str
    exponents: Mapping[str, str]

    @property
    def formula(self) -> str:
        """A·x^-alpha."""
        return "·".join([self.amplitude, *(f"{variable}^-{exponent}" for variable, exponent in self.exponents.items())])


@dataclass(frozen=True)
class PowerSum(Form):
    """y = [floor +] a sum of terms; declare one by `sum_of_powers`.

    theta: floor/y0, the log of each amplitude at x0 over y0, and the exponents, in the order of `parameters`. A
    term T = exp(theta · Z) has gradient T Z and Hessian T Z Zᵀ; without floor, log y is convex in theta.
    """

    terms: tuple[Term, ...] = ()

    @property
    def scanned(self) -> tuple[str, ...]:
        """The exponents."""
        return self.exponents

    @property
    def powers(self) -> Mapping[str, Power]:
        """See `Form`."""
        found = {v: Power(term.amplitude, e) for term in self.terms for v, e in term.exponents.items()}
        alone = len(found) == len(self.terms) == sum(len(term.exponents) for term in self.terms)
        return found if alone else {}

    def value(self, theta: Sequence[Any], logs: Logs) -> Any:
        """y/y0 [B, n]."""
        total = theta[self._at(self.floor)] if self.floor else 0.0
        for term in self.terms:
            total = total + self._term(term, theta, logs)
        return total

    def expand(self, theta: Array, logs: Logs) -> Expansion:
        """Value and derivatives at theta [B, p]."""
        columns = list(theta.T[:, :, None])
        powers = [self._term(term, columns, logs) for term in self.terms]
        jacobian = np.zeros((len(theta), theta.shape[1], powers[0].shape[1]))
        if self.floor:
            jacobian[:, self._at(self.floor)] = 1.0
        for term, power in zip(self.terms, powers, strict=True):
            jacobian[:, self._at(term.amplitude)] = power
            for variable, exponent in term.exponents.items():
                jacobian[:, self._at(exponent)] -= power * logs[self.variables.index(variable)]
        value = sum(powers) + (columns[self._at(self.floor)] if self.floor else 0.0)

        def curvature(s: Array) -> Array:
            hessian = np.zeros((len(theta), theta.shape[1], theta.shape[1]))
            for term, power in zip(self.terms, powers, strict=True):
                features = [(self._at(term.amplitude), np.ones(logs[0].shape))]
                features += [(self._at(e), -logs[self.variables.index(v)]) for v, e in term.exponents.items()]
                weighted = s * power
                for (i, first), (j, second) in itertools.combinations_with_replacement(features, 2):
                    moment = _sum(weighted, first * second)
                    hessian[:, i, j] += moment
                    if i != j:
                        hessian[:, j, i] += moment
            return hessian

        return Expansion(value, jacobian, curvature)

    def encode(self, params: Array, centre: Centre) -> Array:
        """theta [..., p] of published parameters [..., p]."""
        theta = np.array(params, float)
        if self.floor:
            theta[..., self._at(self.floor)] /= np.exp(centre.log_y)
        for term in self.terms:
            at = self._at(term.amplitude)
            with np.errstate(divide="ignore"):
                log_amplitude = np.log(theta[..., at]) - centre.log_y
            theta[..., at] = log_amplitude - self._shift(term, list(np.moveaxis(theta, -1, 0)), centre)
        return theta

    def decode(self, theta: Sequence[Any], centre: Centre) -> list[Any]:
        """The floor, the amplitudes at x = 1 and the exponents."""
        params = list(theta)
        if self.floor:
            params[self._at(self.floor)] = theta[self._at(self.floor)] * np.exp(centre.log_y)
        for term in self.terms:
            at = self._at(term.amplitude)
            params[at] = np.exp(theta[at] + (self._shift(term, theta, centre) + centre.log_y))
        return params

    def bounds(self, logs: Logs) -> tuple[Array, Array]:
        """Ends of theta [p]: floor >= 0, amplitudes that can be seen, exponents within `SPAN`."""
        low, high = np.zeros(len(self.parameters)), np.full(len(self.parameters), np.inf)
        for term in self.terms:
            low[self._at(term.amplitude)], high[self._at(term.amplitude)] = SMALLEST_LOG, LARGEST_LOG
            for variable, exponent in term.exponents.items():
                largest = steepest(logs[self.variables.index(variable)])
                low[self._at(exponent)], high[self._at(exponent)] = -largest, largest
        return low, high

    def grid(self, logs: Logs, y: Array, relative: bool) -> Array:
        """theta [g, p] by variable projection: for each choice of the exponents, the best floor and amplitudes."""
        variables = {e: v for term in self.terms for v, e in term.exponents.items()}
        axes = [exponent_grid(logs[self.variables.index(variables[e])], GRID[len(variables)]) for e in self.exponents]
        chosen = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1)
        theta = np.zeros((len(chosen), len(self.parameters)))
        theta[:, [self._at(name) for name in self.exponents]] = chosen
        basis = [self._term(term, list(theta.T[:, :, None]), logs) for term in self.terms]
        if self.floor:
            basis.append(np.ones_like(basis[0]))
        weight = 1 / y if relative else np.ones_like(y)
        solution = nonnegative(np.stack(basis, axis=1) * weight, y * weight)
        if self.floor:
            # Without floor too: towards a flat exponent, a long valley leads from each floor to none.
            bare = nonnegative(np.stack(basis[:-1], axis=1) * weight, y * weight)
            solution = np.concatenate([solution, np.column_stack([bare, np.zeros(len(bare))])])
            theta = np.concatenate([theta, theta])
            theta[:, self._at(self.floor)] = solution[:, -1]
        # A term that the projection leaves out starts small, since at 0 it has no slope.
        small = 1e-3 * np.maximum(solution.max(axis=1), 1e-3)
        for k, term in enumerate(self.terms):
            theta[:, self._at(term.amplitude)] = np.log(np.maximum(solution[:, k], small))
        return theta

    def _term(self, term: Term, theta: Sequence[Any], logs: Logs) -> Any:
        exponent = theta[self._at(term.amplitude)]
        for variable, name in term.exponents.items():
            exponent = exponent - theta[self._at(name)] * logs[self.variables.index(variable)]
        return np.exp(exponent)

    def _shift(self, term: Term, theta: Sequence[Any], centre: Centre) -> Any:
        """log of the amplitude at x = 1 over that at x0."""
        shift: Any = 0.0
        for variable, name in term.exponents.items():
            shift = shift + theta[self._at(name)] * centre.log_x[self.variables.index(variable)]
        return shift

    def _at(self, name: str | None) -> int:
        return self.parameters.index(name or "")


def sum_of_powers(
    name: str, *terms: Term, floor: str | None = None, note: str = "", noise_floor: float = 0.0, auto: bool = False
) -> PowerSum:  # fmt: skip
    """Declare y = [floor +] the sum of the terms, with at most two exponents.

    The published parameters are the floor, the amplitudes and the exponents in the order of the terms; a name that
    stands in several terms is one parameter. note: is added to the formula. noise_floor, auto: see `Form`.
    """
    amplitudes = tuple(dict.fromkeys(term.amplitude for term in terms))
    exponents = tuple(dict.fromkeys(exponent for term in terms for exponent in term.exponents.values()))
    floors = (floor,) if floor else ()
    return PowerSum(
        name, " + ".join([*floors, *(term.formula for term in terms)]) + note,
        parameters=(*floors, *amplitudes, *exponents),
        variables=tuple(dict.fromkeys(variable for term in terms for variable in term.exponents)),
        exponents=exponents, amplitudes=amplitudes, floor=floor, noise_floor=noise_floor, auto=auto, terms=terms,
    )  # fmt: skip


def _sum(weights: Array, feature: Array) -> Array:
    """sum_n weights [B, n] · feature [n] or [B, n]."""
    return weights @ feature if feature.ndim == 1 else np.vecdot(weights, feature)
