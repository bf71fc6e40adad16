"""Laws of one variable that are not a single power: with breaks (BNSL) and with saturation at both ends (M4).

Each is one formula; `derivatives` differentiates it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lawfit.arrays import Array
from lawfit.forms.base import LARGEST_LOG, SMALLEST_LOG, Centre, Form, Logs, steepest
from lawfit.forms.derivatives import value_of

FLOOR_SHARES = (0.0, 0.5, 0.8, 0.9, 0.97, 0.99)
"""Floors tried in the scans, as shares of the smallest y."""


@dataclass(frozen=True)
class Broken(Form):
    """y = a + b x^-c0 · product over breaks i of (1 + (x/d_i)^(1/f_i))^(-c_i f_i), Caballero et al. 2022 (2210.14891).

    Every slope may have either sign; breaks lie within the data, since one beyond them cannot be seen.
    theta: a/y0, log of b at x0 over y0, c0, then for each break c_i, log(d_i/x0) and log f_i.
    """

    @property
    def breaks(self) -> int:
        """Number of breaks."""
        return (len(self.parameters) - 3) // 3

    @property
    def positive(self) -> tuple[str, ...]:
        """b, and place and width of each break."""
        return tuple(name for name in self.parameters if name[0] in "bdf")

    def value(self, theta: Sequence[Any], logs: Logs) -> Any:
        """y/y0 [B, n]."""
        exponent = theta[1] - theta[2] * logs[0]
        for i in range(self.breaks):
            slope, place, log_width = theta[3 + 3 * i : 6 + 3 * i]
            width = np.exp(log_width)
            exponent = exponent - slope * width * np.logaddexp(0.0, (logs[0] - place) / width)
        return theta[0] + np.exp(exponent)

    def encode(self, params: Array, centre: Centre) -> Array:
        """theta [..., p] of published parameters [..., p]."""
        theta = np.array(params, float)
        theta[..., 0] /= np.exp(centre.log_y)
        theta[..., 1] = np.log(theta[..., 1]) - theta[..., 2] * centre.log_x[0] - centre.log_y
        theta[..., 4::3] = np.log(theta[..., 4::3]) - centre.log_x[0]
        theta[..., 5::3] = np.log(theta[..., 5::3])
        return theta

    def decode(self, theta: Sequence[Any], centre: Centre) -> list[Any]:
        """a, b, c0, then c, d, f of each break."""
        params = [
            theta[0] * np.exp(centre.log_y),
            np.exp(theta[1] + theta[2] * centre.log_x[0] + centre.log_y),
            theta[2],
        ]
        for i in range(self.breaks):
            slope, place, log_width = theta[3 + 3 * i : 6 + 3 * i]
            params += [slope, np.exp(place + centre.log_x[0]), np.exp(log_width)]
        return params

    def bounds(self, logs: Logs) -> tuple[Array, Array]:
        """Ends of theta [p]: a >= 0; breaks within the data, from a hundredth to twice as wide as they."""
        largest, span = steepest(logs[0]), float(np.ptp(logs[0]))
        low = [0.0, SMALLEST_LOG, -largest] + [-largest, logs[0].min(), np.log(0.01 * span)] * self.breaks
        high = [np.inf, LARGEST_LOG, largest] + [largest, logs[0].max(), np.log(2 * span)] * self.breaks
        return np.array(low), np.array(high)

    def grid(self, logs: Logs, y: Array, relative: bool) -> Array:
        """theta [g, p] for floors, places and widths of breaks: the best level and slopes, linear in log(y - a)."""
        places = np.quantile(logs[0], np.linspace(0.1, 0.9, 12 if self.breaks == 1 else 7))
        widths = np.ptp(logs[0]) * np.array([0.02, 0.1, 0.3])
        candidates = []
        for share, width in itertools.product(FLOOR_SHARES, widths):
            for chosen in itertools.combinations(places, self.breaks):
                bends = [-width * np.logaddexp(0.0, (logs[0] - place) / width) for place in chosen]
                design = np.stack([np.ones_like(y), -logs[0], *bends], axis=1)
                level, *slopes = np.linalg.lstsq(design, np.log(y - share * y.min()), rcond=1e-10)[0]
                theta = [share * y.min(), level, slopes[0]]
                for place, slope in zip(chosen, slopes[1:], strict=True):
                    theta += [slope, place, np.log(width)]
                candidates.append(theta)
        return np.array(candidates)


@dataclass(frozen=True)
class Saturating(Form):
    """(y - E)/(L0 - y)^a = A x^-b, the estimator M4 of Alabdulmohsin et al. 2022 (2209.06640).

    y falls from L0, where nothing is learned yet, to E; a power law with floor is the limit of a large L0. With
    y = E + (L0 - E) s(t), s the logistic function, t solves log s(t) - a log(1 - s(t)) = k - b log(x/x0).
    theta: E/y0, log((L0 - E)/y0), k, a, b.
    """

    def value(self, theta: Sequence[Any], logs: Logs) -> Any:
        """y/y0 [B, n]."""
        floor, log_span, level, bend, slope = theta
        right = level - slope * logs[0]
        t: Any = _solve(value_of(right), value_of(bend))
        # At the root, each Newton step in exact arithmetic of derivatives makes one more order of them right.
        for _ in range(2):
            log_share = -np.logaddexp(0.0, -t)
            error = log_share + bend * np.logaddexp(0.0, t) - right
            t = t - error / (1.0 + (bend - 1.0) * np.exp(log_share))
        return floor + np.exp(log_span - np.logaddexp(0.0, -t))

    def encode(self, params: Array, centre: Centre) -> Array:
        """theta [..., p] of published parameters [..., p]."""
        floor, top, amplitude, bend, slope = np.moveaxis(np.asarray(params, float), -1, 0)
        log_span = np.log(top - floor) - centre.log_y
        shift = (1 - bend) * (log_span + centre.log_y) + slope * centre.log_x[0]
        level = np.log(amplitude) - shift
        return np.stack([floor / np.exp(centre.log_y), log_span, level, bend, slope], axis=-1)

    def decode(self, theta: Sequence[Any], centre: Centre) -> list[Any]:
        """E, L0, A, a, b."""
        floor, log_span, level, bend, slope = theta
        bottom = floor * np.exp(centre.log_y)
        log_unit = log_span + centre.log_y
        amplitude = np.exp(level + (1.0 - bend) * log_unit + slope * centre.log_x[0])
        return [bottom, bottom + np.exp(log_unit), amplitude, bend, slope]

    @property
    def positive(self) -> tuple[str, ...]:
        """The amplitude."""
        return ("A",)

    def bounds(self, logs: Logs) -> tuple[Array, Array]:
        """Ends of theta [p]: E >= 0, L0 above E, .01 <= a <= 20, b >= 0."""
        low = np.array([0.0, -10.0, -SPAN_OF_LEVEL, 0.01, 0.0])
        return low, np.array([np.inf, 20.0, SPAN_OF_LEVEL, 20.0, steepest(logs[0])])

    def grid(self, logs: Logs, y: Array, relative: bool) -> Array:
        """theta [g, p] for E and L0: the best A, a and b, which are linear in log(y - E)."""
        candidates = []
        for share, top in itertools.product(FLOOR_SHARES, (1.01, 1.05, 1.2, 2.0, 5.0, 30.0)):
            floor, ceiling = share * y.min(), top * y.max()
            design = np.stack([np.ones_like(y), np.log(ceiling - y), -logs[0]], axis=1)
            level, bend, slope = np.linalg.lstsq(design, np.log(y - floor), rcond=1e-10)[0]
            log_span = np.log(ceiling - floor)
            for a in (max(bend, 0.05), 0.3, 1.0):
                candidates.append([floor, log_span, level - (1 - bend) * log_span, a, max(slope, 0.0)])
        return np.array(candidates)


SPAN_OF_LEVEL = 60.0
"""Bound on the level k of M4."""


def _solve(right: Array, bend: Array) -> Array:
    """t with log s(t) - bend log(1 - s(t)) = right, by Newton's method; the left side is convex or concave."""
    right, bend = np.broadcast_arrays(right, bend)
    # Asymptotes: slope 1 far below, slope `bend` far above.
    t = np.where(right < 0, right, right / bend)
    for _ in range(60):
        log_share = -np.logaddexp(0.0, -t)
        move = (log_share + bend * np.logaddexp(0.0, t) - right) / (1.0 + (bend - 1.0) * np.exp(log_share))
        t = t - move
        if (np.abs(move) <= 1e-13 * (1 + np.abs(t))).all():
            break
    return np.asarray(t)
