"""Numbers, intervals and tables as text, and values as JSON's own types."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def interval(ends: tuple[float, float]) -> str:
    """[low, high] in four digits."""
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"


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
