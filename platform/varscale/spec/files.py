"""Study files: YAML read and checked whole before anything runs.

A wrong field is reported with file, line, path, what was wrong and what is allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from varscale.errors import UserError
from varscale.spec.field_errors import problem
from varscale.spec.sections import Section
from varscale.spec.study import Study
from varscale.spec.tokenizer import TokenizerStudy

S = TypeVar("S", bound=Section)


def load_study(path: Path, overrides: list[str] | None = None) -> Study:
    """Read and check a study; ``overrides`` are ``section.field=value`` strings, values in YAML.

    Raises:
        UserError: file missing, not YAML, or a field unknown or wrong; one line naming file, line, field.
    """
    return _load(path, Study, overrides or [])


def load_tokenizer_study(path: Path, overrides: list[str] | None = None) -> TokenizerStudy:
    """Read and check a tokenizer specification; as :func:`load_study`."""
    return _load(path, TokenizerStudy, overrides or [])


def _load(path: Path, kind: type[S], overrides: list[str]) -> S:
    raw, lines = _read_yaml(path)
    for override in overrides:
        _apply(raw, override, lines)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        # A misspelt field is also a missing one: speak of the misspelling.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        loc = _without_tags(first["loc"], raw)
        place = lines.get(loc) or next((lines[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in lines), "1")
        where = place if place.startswith("--set") else f"{path}:{place}"
        field = ".".join(str(part) for part in loc)
        raise UserError(f"{where}: {field + ': ' if field else ''}{problem(first, kind)}") from None


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple, str]]:
    """The document, and the line on which each path of it stands."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; wanted a YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; wanted a YAML file") from error
    try:
        raw = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise UserError(f"{path}:{line}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}:1: the document is not a mapping; wanted fields such as 'name:' and 'data:'")
    lines: dict[tuple, str] = {}
    assert tree is not None  # a mapping was loaded from it
    _number(tree, (), lines)
    return raw, lines


def _number(node: yaml.Node, loc: tuple, lines: dict[tuple, str]) -> None:
    lines.setdefault(loc, str(node.start_mark.line + 1))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = yaml.safe_load(key.value) if isinstance(key, yaml.ScalarNode) else str(key.value)
            lines[(*loc, name)] = str(key.start_mark.line + 1)
            _number(value, (*loc, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _number(value, (*loc, i), lines)


def _apply(raw: dict[str, Any], override: str, lines: dict[tuple, str]) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise UserError(f"--set {override}: wanted section.field=value")
    *sections, field = (int(part) if part.isdigit() else part for part in name.split("."))
    target: dict[Any, Any] = raw
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise UserError(f"--set {override}: '{section}' is no section")
    try:
        target[field] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: '{text}' is not a YAML value") from error
    lines[(*sections, field)] = f"--set {override}"


def _without_tags(loc: tuple, raw: Any) -> tuple:
    """Drop the union tags pydantic puts into a location ('tokenizer', 'train', 'spec')."""
    kept: list[Any] = []
    for i, part in enumerate(loc):
        if isinstance(raw, dict) and raw.get("kind") == part and i + 1 <= len(loc):
            continue
        kept.append(part)
        if isinstance(raw, dict):
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
    return tuple(kept)
