"""Arithmetic over the columns of a table, as a command line writes it: `6*n_params*tokens`, `loss < 4`.

Used wherever a column is named or rows are filtered. The text is parsed to a syntax tree of which only arithmetic,
comparisons, logic, numbers, strings and column names are evaluated; nothing else is ever run.
"""

import ast
import difflib
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lawfit.errors import RecordError

ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.invert,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "log": np.log, "log10": np.log10, "exp": np.exp, "sqrt": np.sqrt,
    "round": np.round,
}  # fmt: skip
GRAMMAR = "columns, numbers, + - * / **, parentheses, log, log10, exp, sqrt, round"


def evaluate(frame: pd.DataFrame, expression: str) -> pd.Series:
    """The column [rows] that `expression` names or computes; a column of any spelling goes by its plain name.

    A name that is no Python identifier can stand in an expression between backquotes: "`val/loss` * log(2)".
    Raises RecordError for an unknown column (with the nearest name) and for anything but arithmetic.
    """
    if expression in frame:
        return pd.Series(frame[expression])
    result = _Evaluator(frame, expression).run()
    return pd.Series(result, index=frame.index, name=expression)


def matching(frame: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows for which `condition` holds, such as "keep == 1 and split != 'test'".

    Raises RecordError as `evaluate` does, and for a condition that is no comparison or that no row meets.
    """
    kept = pd.Series(_Evaluator(frame, condition).run(), index=frame.index)
    if kept.dtype != bool:
        raise RecordError(f"filter {condition!r} gives numbers, not yes or no: write a comparison such as 'keep == 1'")
    if not kept.any():
        raise RecordError(f"filter {condition!r} leaves none of the {len(frame)} rows")
    return frame[kept]


class _Evaluator:
    """One expression over one table."""

    def __init__(self, frame: pd.DataFrame, text: str) -> None:
        self._frame = frame
        self._text = text
        self._quoted: list[str] = []

    def run(self) -> Any:
        """The value. RecordError for text that cannot be read or computed."""
        parts = self._text.split("`")
        if len(parts) % 2 == 0:
            raise RecordError(f"expression {self._text!r}: a backquote is not closed")
        self._quoted = parts[1::2]
        names = iter(range(len(self._quoted)))
        source = "".join(f" _{next(names)}_ " if i % 2 else part for i, part in enumerate(parts))
        try:
            tree = ast.parse(source.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise RecordError(f"expression {self._text!r} cannot be read: allowed are {GRAMMAR}") from error
        try:
            with np.errstate(all="ignore"):
                return self._value(tree.body)
        except (TypeError, OverflowError, ZeroDivisionError, RecursionError) as error:
            raise RecordError(f"expression {self._text!r} cannot be computed: {error}") from error

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                # A float, so that 9**9**9 overflows at once instead of computing for ever.
                return float(value) if isinstance(value, int) else value
            case ast.Name(id=name):
                return self._column(name)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                return ARITHMETIC[type(op)](self._value(left), self._value(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
                return UNARY[type(op)](self._value(operand))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](self._value(argument))
            case ast.Compare(left=left, ops=ops, comparators=rights) if all(type(op) in COMPARISONS for op in ops):
                return self._comparison([left, *rights], ops)
            case ast.BoolOp(op=op, values=nodes):
                return self._logic(op, nodes)
        raise RecordError(f"expression {self._text!r}: {ast.unparse(node)!r} is not allowed, only {GRAMMAR}")

    def _comparison(self, nodes: list[ast.expr], ops: list[ast.cmpop]) -> Any:
        values = [self._value(node) for node in nodes]
        results = [COMPARISONS[type(op)](a, b) for op, a, b in zip(ops, values, values[1:], strict=False)]
        return self._all(results)

    def _logic(self, op: ast.boolop, nodes: list[ast.expr]) -> Any:
        values = [self._value(node) for node in nodes]
        if isinstance(op, ast.And):
            return self._all(values)
        return ~self._all([~value for value in values])

    @staticmethod
    def _all(values: list[Any]) -> Any:
        result = values[0]
        for value in values[1:]:
            result = result & value
        return result

    def _column(self, name: str) -> Any:
        if name.startswith("_") and name.endswith("_") and name[1:-1].isdigit():
            name = self._quoted[int(name[1:-1])]
        if name not in self._frame:
            raise RecordError(unknown_column(name, self._frame))
        values = self._frame[name]
        # As floats: the product of integer columns such as 6*n_params*tokens passes 2^63.
        return values.astype(float) if pd.api.types.is_any_real_numeric_dtype(values) else values


def quoted(column: str) -> str:
    """A column's name as it stands in an expression."""
    return column if column.isidentifier() else f"`{column}`"


def unknown_column(name: str, frame: pd.DataFrame) -> str:
    """The line that names a missing column, the nearest one and all there are."""
    names = [str(column) for column in frame]
    near = difflib.get_close_matches(name, names, 1)
    hint = f", did you mean {near[0]!r}?" if near else ":"
    return f"column {name!r} is missing{hint} the table has {', '.join(names)}"
