"""Names of the records stand in one file: neither a writer nor a reader of them spells one by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lawfit.records import schema

FAMILIES = "data|engine|fd|git|model|optimizer|perf|resources|samples|tokenizer|train|val"
NAME = re.compile(rf"^({FAMILIES})[./](?!safetensors)[a-z][a-z0-9_]*$")
"""What a name of the records looks like, in the schema or forgotten there."""
HOLDERS = {"metrics", "params", "tags"}
CALLS = {"set_tag", "delete_tag", "tag", "attempt"}
FIELDS = {"study/stages.py", "identity.py", "plan/cells.py"}
"""Files in which such a word is a field of a study file."""


def constants() -> dict[str, str]:
    return {name: value for name, value in vars(schema).items() if name.isupper() and isinstance(value, str)}


def by_hand(source: str, of_records: bool = True) -> Iterator[tuple[int, str]]:
    """Line and text of each name that a program spells by hand; also of short ones, where params are those of runs."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.match(node.value):
            yield node.lineno, node.value
        if not of_records:
            continue
        if isinstance(node, ast.Subscript) and getattr(node.value, "attr", getattr(node.value, "id", "")) in HOLDERS:
            yield from literals(node.slice)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in CALLS:
                yield from (found for argument in node.args[1:2] for found in literals(argument))
            if node.func.attr == "get" and getattr(node.func.value, "attr", "") in HOLDERS:
                yield from (found for argument in node.args[:1] for found in literals(argument))


def literals(node: ast.expr) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value


def program_files(root: Path) -> list[Path]:
    files = sorted([*(root / "platform").rglob("*.py"), *(root / "analysis" / "lawfit").rglob("*.py")])
    return [path for path in files if path.name != "schema.py" and not str(path).endswith(tuple(FIELDS))]


def test_no_program_spells_a_name_of_the_records_by_hand(root: Path) -> None:
    files = program_files(root)
    assert len(files) > 150
    found = [
        f"{path.relative_to(root)}:{line}: {text}"
        for path in files
        for line, text in by_hand(path.read_text(), "varscale" in path.parts or path.parent.name == "records")
    ]
    assert found == []


def test_every_name_stands_once() -> None:
    assert len(constants()) > 50
    names = [
        value for name, value in constants().items() if not name.startswith(("KIND_", "STATE_", "MODEL_F", "GRID_"))
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize(
    "line",
    [
        'x = {"engine.micro_batch": 1}',
        'run.data.tags["state"]',
        'metrics.get("x")',
        'client.set_tag(run, "reason", "")',
    ],
)
def test_a_name_by_hand_is_found(line: str) -> None:
    assert len(list(by_hand(line.replace("metrics.get", "run.metrics.get")))) == 1
