"""The arithmetic of `--x` and `--filter`: what it computes, and that nothing else runs."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lawfit.errors import RecordError
from lawfit.records.expressions import evaluate, matching

TABLE = pd.DataFrame(
    {
        "n": [2_000_000_000, 3], "d": [100_000_000_000, 5], "val/loss": [2.0, 4.0], "split": ["a", "b"],
        "keep": [1, 0], "ok": [True, False],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6*n*d", [1.2e21, 90.0]),
        ("n/d**2", [2e-13, 3 / 25]),
        ("-(n - d) + 1", [98e9 + 1, 3.0]),
        ("log(exp(d/1e11))", [1.0, np.log(np.exp(5e-11))]),
        ("sqrt(d*d)", [1e11, 5.0]),
        ("log10(n)", [np.log10(2e9), np.log10(3)]),
        ("val/loss", [2.0, 4.0]),
        ("`val/loss` * log(2)", [2 * np.log(2), 4 * np.log(2)]),
        ("2.5", [2.5, 2.5]),
    ],
)
def test_arithmetic_over_columns_does_not_overflow_integers(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(evaluate(TABLE, text), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("keep == 1", [0]), ("not keep == 1", [1]), ("split != 'a'", [1]), ("1 < n < 10", [1]),
        ("n > 1 and split == 'b'", [1]), ("keep == 1 or split == 'b'", [0, 1]), ("ok", [0]), ("not ok", [1]),
        ("6*n*d >= 1e21", [0]), ("`val/loss` <= 2", [0]),
    ],
)  # fmt: skip
def test_filters_keep_the_rows_that_meet_them(text: str, kept: list[int]) -> None:
    assert list(matching(TABLE, text).index) == kept


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "n.values", "(lambda: 1)()", "[n for n in d]", "n[0]", "open('x')",
        "n if d else n", "f'{n}'", "log(n, d)", "exec('1')", "n := 3", "n; d", "", "n +", "`n", "n @ d", "{n}",
    ],
)  # fmt: skip
def test_anything_but_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="expression"):
        evaluate(TABLE, text)


@given(st.text("nd(.)[]_'+-*/,:=lambdog 019", min_size=1, max_size=30))
def test_any_text_gives_a_column_or_a_refusal(text: str) -> None:
    with contextlib.suppress(RecordError):
        assert len(evaluate(TABLE, text)) == len(TABLE)


def test_huge_powers_and_deep_nesting_end_at_once() -> None:
    for text in ("9**9**9**9", "(" * 300 + "n" + ")" * 300):
        with pytest.raises(RecordError):
            evaluate(TABLE, text)


def test_an_unknown_column_is_named_with_the_nearest() -> None:
    with pytest.raises(RecordError, match="column 'n_parms' is missing, did you mean 'n_params'"):
        evaluate(pd.DataFrame({"n_params": [1]}), "6*n_parms")
    with pytest.raises(RecordError, match="column 'x' is missing: the table has n, d"):
        evaluate(TABLE, "x")


def test_filters_that_are_none_or_leave_nothing_are_refused() -> None:
    with pytest.raises(RecordError, match="gives numbers, not yes or no"):
        matching(TABLE, "keep + 1")
    with pytest.raises(RecordError, match="leaves none of the 2 rows"):
        matching(TABLE, "keep == 7")
    with pytest.raises(RecordError, match="cannot be computed"):
        matching(TABLE, "split > 3")
