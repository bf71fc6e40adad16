"""Surfaces of N and D that are not sums of powers: Kaplan's, and Chinchilla's for repeated data.

Each is one formula; `derivatives` differentiates it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lawfit.arrays import Array
from lawfit.forms.base import LARGEST_LOG, SMALLEST_LOG, Centre, Form, Logs, nonnegative, steepest
from lawfit.forms.power_sums import PowerSum

FLATTEST = 1e-3
"""Smallest exponent of a surface whose formula divides by it."""

REPETITION = (np.log(0.05), np.log(2000.0))
"""Bounds on log R*: 1/20 of an epoch to 2,000."""

MOST_REPEATS = 50.0
"""Log of the repetitions that count; the worth of any more is spent."""


@dataclass(frozen=True)
class Kaplan(Form):
    """L = ((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D, Kaplan et al. 2020 (2001.08361), equation 1.5.

    theta: log of L/y0 at N0 with endless data, the same at D0 with an endless model, alpha_N, alpha_D.
    """

    @property
    def scanned(self) -> tuple[str, ...]:
        """The exponents."""
        return self.exponents

    @property
    def positive(self) -> tuple[str, ...]:
        """Nc and Dc."""
        return ("Nc", "Dc")

    def value(self, theta: Sequence[Any], logs: Logs) -> Any:
        """L/y0 [B, n]."""
        by_n, by_d, alpha_n, alpha_d = theta
        return np.exp(alpha_d * np.logaddexp((by_n - alpha_n * logs[0]) / alpha_d, by_d / alpha_d - logs[1]))

    def encode(self, params: Array, centre: Centre) -> Array:
        """theta [..., p] of published parameters [..., p]."""
        n_c, d_c, alpha_n, alpha_d = np.moveaxis(np.asarray(params, float), -1, 0)
        by_n = alpha_n * (np.log(n_c) - centre.log_x[0]) - centre.log_y
        by_d = alpha_d * (np.log(d_c) - centre.log_x[1]) - centre.log_y
        return np.stack([by_n, by_d, alpha_n, alpha_d], axis=-1)

    def decode(self, theta: Sequence[Any], centre: Centre) -> list[Any]:
        """Nc, Dc, alpha_N, alpha_D."""
        by_n, by_d, alpha_n, alpha_d = theta
        n_c = np.exp((by_n + centre.log_y) / alpha_n + centre.log_x[0])
        return [n_c, np.exp((by_d + centre.log_y) / alpha_d + centre.log_x[1]), alpha_n, alpha_d]

    def bounds(self, logs: Logs) -> tuple[Array, Array]:
        """Ends of theta [p]: exponents above `FLATTEST`."""
        low = np.array([SMALLEST_LOG, SMALLEST_LOG, FLATTEST, FLATTEST])
        return low, np.array([LARGEST_LOG, LARGEST_LOG, steepest(logs[0]), steepest(logs[1])])

    def grid(self, logs: Logs, y: Array, relative: bool) -> Array:
        """theta [g, p] for each pair of exponents: the best amplitudes, which are linear in L^(1/alpha_D)."""
        alpha_n, alpha_d = (np.geomspace(0.1, 10, 16) / np.ptp(log) for log in logs)
        chosen = np.array(list(itertools.product(alpha_n, alpha_d)))
        log_target = np.log(y) / chosen[:, 1:]
        basis = [-(chosen[:, :1] / chosen[:, 1:]) * logs[0] - log_target, -logs[1] - log_target]
        limited = np.exp(np.clip(np.stack(basis, axis=1), -300, 300))
        solution = nonnegative(limited, np.ones_like(y))
        solution = np.maximum(solution, 1e-6 * solution.max(axis=1, keepdims=True) + 1e-200)
        return np.concatenate([chosen[:, 1:] * np.log(solution), chosen], axis=1)


@dataclass(frozen=True)
class DataConstrained(Form):
    """L = E + A/N'^alpha + B/D'^beta, Muennighoff et al. 2023 (2305.16264): D tokens seen, U of them unique.

    D' = U (1 + R_D (1 - exp(-(D/U - 1)/R_D))): repeating a token is worth less and less. N' likewise, from the
    N that is optimal for U tokens, beyond which parameters are worth less. theta: as Chinchilla's, with
    log R_D and log R_N. The origin of U is that of D.
    """

    single: PowerSum | None = None

    @property
    def positive(self) -> tuple[str, ...]:
        """Amplitudes and R."""
        return ("A", "B", "R_D", "R_N")

    @property
    def _single(self) -> PowerSum:
        """The law without repetition."""
        assert self.single is not None
        return self.single

    def value(self, theta: Sequence[Any], logs: Logs) -> Any:
        """L/y0 [B, n]."""
        _, log_a, log_b, alpha, beta, log_r_d, log_r_n = theta
        unique = np.minimum(logs[1], logs[2])
        optimal = (log_a - log_b + np.log(alpha / beta) + beta * unique) / alpha
        n = _effective(logs[0], np.minimum(optimal, logs[0]), log_r_n)
        return self._single.value(theta[:5], [n, _effective(logs[1], unique, log_r_d)])

    def encode(self, params: Array, centre: Centre) -> Array:
        """theta [..., p] of published parameters [..., p]."""
        params = np.asarray(params, float)
        return np.concatenate([self._single.encode(params[..., :5], centre), np.log(params[..., 5:])], axis=-1)

    def decode(self, theta: Sequence[Any], centre: Centre) -> list[Any]:
        """E, A, B, alpha, beta, R_D, R_N."""
        return [*self._single.decode(theta[:5], centre), np.exp(theta[5]), np.exp(theta[6])]

    def bounds(self, logs: Logs) -> tuple[Array, Array]:
        """Ends of theta [p]: Chinchilla's, with exponents above `FLATTEST`."""
        low, high = self._single.bounds(logs[:2])
        low[3:] = FLATTEST
        return np.append(low, [REPETITION[0]] * 2), np.append(high, [REPETITION[1]] * 2)

    def grid(self, logs: Logs, y: Array, relative: bool) -> Array:
        """theta [g, p]: Chinchilla's scan on the effective data of several R."""
        unique, candidates = np.minimum(logs[1], logs[2]), []
        for r_d, r_n in itertools.product(np.log([2.0, 15.0, 100.0]), np.log([2.0, 15.0])):
            theta = self._single.grid([logs[0], _effective(logs[1], unique, r_d)], y, relative)
            theta = theta[(theta[:, 3:] > 0).all(axis=1)]
            candidates.append(np.column_stack([theta, np.full(len(theta), r_d), np.full(len(theta), r_n)]))
        return np.concatenate(candidates)


def _effective(log: Any, unique: Any, log_r: Any) -> Any:
    """log of the effective amount: what is unique, and what its repetitions are worth."""
    scale = np.exp(log_r)
    repeats = np.exp(np.minimum(log - unique, MOST_REPEATS)) - 1.0
    return unique + np.log(1.0 - scale * np.expm1(-repeats / scale))
