"""How training compute is counted, and conversion from one convention to another.

A law in C means nothing without its convention: the same data give an exponent of N*(C) of .835 under one count and
.497 under another (Porian et al. 2024). lawfit's own is `exact`: FLOPs of the whole training, forward and backward,
two per multiply-add, every matrix product of the model counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lawfit.arrays import Array
from lawfit.errors import RecordError

BACKWARD_OVER_FORWARD = 2.0
"""The backward pass computes two products for each one of the forward pass."""

FLOPS_PER_MAC = 2.0


@dataclass(frozen=True)
class Convention:
    """One way to count. needs: the columns that enter; formula: in those columns."""

    name: str
    formula: str
    needs: tuple[str, ...]
    meaning: str


CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention("exact", "F·(1 + 2)·tokens", ("forward_flops", "tokens"),
                   "F = FLOPs of one token's forward pass: every matrix product, head and attention too; backward 2 F"),
        Convention("6ND", "6·n_params·tokens", ("n_params", "tokens"),
                   "2 N per token forward and 4 N backward; no attention over the context, so too low for long ones"),
        Convention("6ND-nonembedding", "6·n_nonembedding·tokens", ("n_nonembedding", "tokens"),
                   "as 6ND without embedding and head (Kaplan et al. 2020): far too low for small models"),
        Convention("18dw2", "6·(18·depth·width²)·tokens", ("depth", "width", "tokens"),
                   "as 6ND with the VAR paper's count of the weights of its blocks"),
        Convention("forward", "F·tokens", ("forward_flops", "tokens"), "the forward pass only"),
        Convention("forward-MACs", "F/2·tokens", ("forward_flops", "tokens"),
                   "multiply-adds of the forward pass, as the VAR paper's C seems to be: a sixth of exact"),
    )
}  # fmt: skip


def training_flops(frame: Mapping[str, ArrayLike] | pd.DataFrame, convention: str) -> Array:
    """Compute of each row [n] by `convention`, from the columns in its `needs`.

    Columns: n_params, n_nonembedding (parameters), tokens (seen in training, repeats included), depth, width,
    forward_flops (FLOPs of one token's forward pass). Raises RecordError for an unknown convention or a
    missing column.
    """
    needs = _known(convention).needs
    missing = [name for name in needs if name not in frame]
    if missing:
        raise RecordError(f"convention {convention!r} needs column {missing[0]!r}: {CONVENTIONS[convention].formula}")
    columns = {name: np.asarray(frame[name], float) for name in needs}
    match convention:
        case "6ND":
            per_token = 6 * columns["n_params"]
        case "6ND-nonembedding":
            per_token = 6 * columns["n_nonembedding"]
        case "18dw2":
            per_token = 6 * 18 * columns["depth"] * columns["width"] ** 2
        case _:
            per_token = columns["forward_flops"] * _forward_multiple(convention)
    return np.asarray(per_token * columns["tokens"])


def convert_flops(
    flops: ArrayLike, source: str, target: str, frame: Mapping[str, ArrayLike] | pd.DataFrame | None = None
) -> Array:
    """`flops` [n] counted by `source`, as `target` counts them.

    exact, forward and forward-MACs differ by constants: exact = 3 forward = 6 forward-MACs. The others count
    other products, so the ratio differs from model to model and `frame` must hold what both need (see
    `training_flops`). Raises RecordError as that does.
    """
    flops = np.asarray(flops, float)
    first, second = _forward_multiple(source), _forward_multiple(target)
    if first and second:
        return np.asarray(flops * (second / first))
    if source == target:
        return flops
    if frame is None:
        raise RecordError(
            f"{source} to {target} differs from model to model: give the frame with {_columns(source, target)}"
        )
    return np.asarray(flops * training_flops(frame, target) / training_flops(frame, source))


def _forward_multiple(convention: str) -> float:
    """FLOPs by the convention for each FLOP of the forward pass; 0 where it counts other products."""
    _known(convention)
    multiples = {"exact": 1 + BACKWARD_OVER_FORWARD, "forward": 1.0, "forward-MACs": 1 / FLOPS_PER_MAC}
    return multiples.get(convention, 0.0)


def _known(convention: str) -> Convention:
    if convention not in CONVENTIONS:
        raise RecordError(f"FLOP convention {convention!r} is unknown: expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention]


def _columns(*conventions: str) -> str:
    return ", ".join(dict.fromkeys(name for convention in conventions for name in CONVENTIONS[convention].needs))
