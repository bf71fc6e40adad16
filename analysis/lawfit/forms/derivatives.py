"""Exact first and second derivatives of a formula, by forward differentiation with numpy arrays.

A form that is written with numpy's functions alone gets its derivatives here, so that a new form is one formula. The
sums of powers have theirs in closed form, which is several times faster.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lawfit.arrays import Array


class Jet(np.lib.mixins.NDArrayOperatorsMixin):
    """A value [...] with its gradient [p, ...] and Hessian [p, p, ...] in p parameters."""

    def __init__(self, value: Array, gradient: Array, hessian: Array) -> None:
        self.value = value
        self.gradient = gradient
        self.hessian = hessian

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> "Jet":
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc in _UNARY:
            return _unary(self, *_UNARY[ufunc](self.value))
        if ufunc in _BINARY:
            return _BINARY[ufunc](*inputs)
        return NotImplemented


def value_of(number: Any) -> Array:
    """The value [...] of a jet or of plain numbers [...]."""
    return np.asarray(number.value if isinstance(number, Jet) else number, float)


def variables(values: Sequence[Array]) -> list[Jet]:
    """The p parameters [...] themselves, each with a unit gradient."""
    count = len(values)
    jets = []
    for i, value in enumerate(values):
        gradient = np.zeros((count, *np.shape(value)))
        gradient[i] = 1.0
        jets.append(Jet(np.asarray(value, float), gradient, np.zeros((count, count, *np.shape(value)))))
    return jets


def _unary(jet: Jet, value: Array, first: Array, second: Array) -> Jet:
    outer = jet.gradient[:, None] * jet.gradient[None]
    return Jet(value, first * jet.gradient, second * outer + first * jet.hessian)


def _exp(v: Array) -> tuple[Array, Array, Array]:
    value = np.exp(v)
    return value, value, value


def _log(v: Array) -> tuple[Array, Array, Array]:
    return np.log(v), 1 / v, -1 / v**2


def _negative(v: Array) -> tuple[Array, Array, Array]:
    return -v, np.full_like(v, -1.0), np.zeros_like(v)


def _expm1(v: Array) -> tuple[Array, Array, Array]:
    value = np.expm1(v)
    return value, value + 1, value + 1


def _add(a: Any, b: Any) -> Jet:
    if not isinstance(a, Jet):
        return _add(b, a)
    if not isinstance(b, Jet):
        # Adding a constant may broadcast the value; derivatives broadcast when they are next used.
        return Jet(np.asarray(a.value + b), a.gradient, a.hessian)
    return Jet(a.value + b.value, a.gradient + b.gradient, a.hessian + b.hessian)


def _multiply(a: Any, b: Any) -> Jet:
    if not isinstance(a, Jet):
        return _multiply(b, a)
    if not isinstance(b, Jet):
        return Jet(a.value * b, a.gradient * b, a.hessian * b)
    cross = a.gradient[:, None] * b.gradient[None]
    return Jet(
        a.value * b.value,
        a.value * b.gradient + b.value * a.gradient,
        a.value * b.hessian + b.value * a.hessian + cross + cross.swapaxes(0, 1),
    )


def _reciprocal(b: Any) -> Any:
    if not isinstance(b, Jet):
        return 1 / np.asarray(b, float)
    return _unary(b, 1 / b.value, -1 / b.value**2, 2 / b.value**3)


def _logaddexp(a: Any, b: Any) -> Jet:
    """log(exp a + exp b): the larger of the two plus a softplus of their difference."""
    difference = _add(a, -b)
    share = 0.5 * (1 + np.tanh(0.5 * difference.value))
    value = np.logaddexp(0.0, difference.value)
    return _add(b, _unary(difference, value, share, share * (1 - share)))


def _minimum(a: Any, b: Any) -> Jet:
    first, second = _as_jet(a, b), _as_jet(b, a)
    lower = first.value <= second.value
    return Jet(
        np.where(lower, first.value, second.value),
        np.where(lower, first.gradient, second.gradient),
        np.where(lower, first.hessian, second.hessian),
    )


def _as_jet(a: Any, like: Any) -> Jet:
    return a if isinstance(a, Jet) else Jet(np.asarray(a, float), 0 * like.gradient, 0 * like.hessian)


_UNARY: dict[Any, Callable[[Array], tuple[Array, Array, Array]]] = {
    np.exp: _exp, np.log: _log, np.negative: _negative, np.expm1: _expm1,
}  # fmt: skip
_BINARY: dict[Any, Callable[[Any, Any], Jet]] = {
    np.add: _add, np.subtract: lambda a, b: _add(a, -b), np.multiply: _multiply,
    np.divide: lambda a, b: _multiply(a, _reciprocal(b)), np.logaddexp: _logaddexp, np.minimum: _minimum,
}  # fmt: skip
