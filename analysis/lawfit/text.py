"""Numbers, intervals and tables as text, and values as JSON's own types."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def interval(ends: tuple[float, float]) -> str:
    """[low, high] in four digits; a dash for one that the data do not give."""
    if math.isnan(ends[0]) and math.isnan(ends[1]):
        return "\N{EN DASH}"
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def span(values: Sequence[float] | NDArray[np.float64]) -> str:
    """The smallest and the largest of the values in three digits, one where they are alike."""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.3g} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    return ["  " + "  ".join(row).rstrip() for row in padded]


def plain(value: Any) -> Any:
    """JSON's own types; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
