"""FLOP conventions: formulas by hand, and conversion back and forth."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from lawfit.errors import RecordError
from lawfit.records.flop_conventions import CONVENTIONS, convert_flops, training_flops

MODELS = pd.DataFrame(
    {
        "n_params": [1e6, 5e6], "n_nonembedding": [6e5, 4e6], "depth": [2, 4], "width": [128, 256],
        "tokens": [1e8, 2e8], "forward_flops": [2.5e6, 1.1e7],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("exact", 3 * 2.5e6 * 1e8), ("6ND", 6e14), ("6ND-nonembedding", 3.6e14), ("18dw2", 6 * 18 * 2 * 128**2 * 1e8),
        ("forward", 2.5e14), ("forward-MACs", 1.25e14),
    ],
)  # fmt: skip
def test_each_convention_is_its_formula(convention: str, expected: float) -> None:
    assert training_flops(MODELS, convention)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("source", "target"), product(CONVENTIONS, CONVENTIONS))
def test_conversion_agrees_with_counting_and_can_be_undone(source: str, target: str) -> None:
    there = convert_flops(training_flops(MODELS, source), source, target, MODELS)
    np.testing.assert_allclose(there, training_flops(MODELS, target), rtol=1e-12)
    np.testing.assert_allclose(convert_flops(there, target, source, MODELS), training_flops(MODELS, source), rtol=1e-12)


def test_constant_ratios_need_no_frame() -> None:
    assert convert_flops(6.0, "exact", "forward-MACs") == pytest.approx(1.0)
    with pytest.raises(RecordError, match="6ND to exact differs from model to model"):
        convert_flops([1.0], "6ND", "exact")


def test_missing_columns_and_unknown_conventions_are_named() -> None:
    with pytest.raises(RecordError, match="convention 'exact' needs column 'forward_flops'"):
        training_flops(MODELS.drop(columns="forward_flops"), "exact")
    with pytest.raises(RecordError, match="convention '7ND' is unknown: expected one of exact, 6ND"):
        convert_flops([1.0], "7ND", "exact")
