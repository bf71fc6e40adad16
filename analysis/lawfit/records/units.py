"""Do the numbers of a column look like its unit? Judged by its name, its range and by C = 6·N·D.

Each rule has room for toys: a model of 1,000 parameters passes, as does any loss that a model with 262,144 tokens
could have.
"""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lawfit.errors import RecordError
from lawfit.records.expressions import quoted

FEWEST_PARAMETERS = 1000
FEWEST_TOKENS = 1000
LARGEST_LOSS = float(np.log(2**18))
"""Nats per token of a uniform guess among 262,144 tokens, the largest vocabulary in use."""

COUNT_SCALES = {1e3: "thousands", 1e6: "millions", 1e9: "billions", 1e12: "trillions"}
SCALED_NAME = re.compile(r"^(?:n_)?(params|parameters|tokens)_?(k|m|b|thousands?|millions?|billions?)$", re.IGNORECASE)
SCALES = {"k": "1e3", "t": "1e3", "m": "1e6", "b": "1e9"}
BITS_NAME = re.compile(r"(^|[\W_])(bits?|bpt|bpb|bpc)($|[\W_])", re.IGNORECASE)

SLACK = 12.0
"""How far C may be from 6·N·D: 6 for one forward pass in MACs, as much for head and attention of small models."""


def check_units(frame: pd.DataFrame, names: Iterable[str]) -> None:
    """RecordError when a canonical column among `names` cannot be in its unit, with the expression that mends it.

    Canonical: n_params, tokens (counts), loss (nats per token), flops. Others are not judged.
    """
    judged = {name: _numbers(frame[name]) for name in names if name in ("n_params", "tokens", "loss", "flops")}
    if "n_params" in judged:
        _check_count("n_params", judged["n_params"], FEWEST_PARAMETERS)
    if "tokens" in judged:
        _check_tokens("tokens", judged["tokens"])
    if "loss" in judged:
        _check_loss("loss", judged["loss"])
    if {"n_params", "tokens", "flops"} <= set(judged):
        _check_compute(judged["n_params"], judged["tokens"], judged["flops"])


def check_role(role: str, text: str, values: pd.Series) -> None:
    """RecordError when the column `text`, used as N, D or loss, has a name or numbers of another unit.

    role: "n", "d" or "y"; y is judged when its name says loss. Not for a computed column, which is taken as meant.
    """
    scaled = SCALED_NAME.match(text)
    if role in ("n", "d") and scaled:
        factor = SCALES[scaled[2][0].lower()]
        raise RecordError(f"column {text!r} is not in single {scaled[1].lower()}: use '{factor}*{quoted(text)}'")
    if role == "n":
        _check_count(text, _numbers(values), FEWEST_PARAMETERS)
    if role == "d":
        _check_tokens(text, _numbers(values))
    if role == "y" and BITS_NAME.search(text):
        raise RecordError(f"column {text!r} is in bits: laws take nats, use '{quoted(text)}*log(2)'")
    if role == "y" and "loss" in text.lower():
        _check_loss(text, _numbers(values))


def _numbers(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce").astype(float)


def _check_count(name: str, values: pd.Series, lowest: float) -> None:
    low = values[(values > 0) & (values < lowest)]
    if len(low):
        raise RecordError(
            f"row {low.index[0]}, column {name!r}: {low.iloc[0]:g} is below {lowest:,.0f}; {name} are counted one by "
            f"one: for millions use '1e6*{quoted(name)}', if it is meant so '1*{quoted(name)}'"
        )


def _check_tokens(name: str, values: pd.Series) -> None:
    """The first points of a curve may have few tokens; its last ones may not."""
    if values.max() < FEWEST_TOKENS:
        _check_count(name, values, FEWEST_TOKENS)


def _check_loss(name: str, values: pd.Series) -> None:
    high = values[(values > LARGEST_LOSS) & np.isfinite(values)]
    if len(high):
        written = quoted(name)
        raise RecordError(
            f"row {high.index[0]}, column {name!r}: {high.iloc[0]:g} nats is above {LARGEST_LOSS:.3g}, that of a "
            f"guess among 262,144 tokens; for bits use '{written}*log(2)', for a perplexity 'log({written})', "
            f"else '1*{written}'"
        )


def _check_compute(n: pd.Series, d: pd.Series, flops: pd.Series) -> None:
    ratio = float(np.nanmedian(flops / (6 * n * d)))
    for scale, name in COUNT_SCALES.items():
        for off, sense in ((ratio / scale, "n_params or tokens seems to be"), (ratio * scale, "flops seems to be")):
            if 1 / SLACK < off < SLACK:
                raise RecordError(
                    f"flops is {ratio:.2g} times 6·n_params·tokens: {sense} in {name}; "
                    f"compute it, such as '{scale:g}*COLUMN'".replace("e+0", "e").replace("e+", "e")
                )
