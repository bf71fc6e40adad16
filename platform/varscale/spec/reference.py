"""Every field that a study file or a tokenizer file may hold, as one page: ``varscale spec`` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from varscale.spec import marks
from varscale.spec.field_errors import models_in
from varscale.spec.sections import Section
from varscale.spec.study import Study
from varscale.spec.tokenizer import TokenizerStudy

FILES: dict[str, type[Section]] = {"study": Study, "tokenizer": TokenizerStudy}
HEAD = """# Fields of study files and tokenizer files

Written by `varscale spec > docs/STUDY.md`. A field is set in the YAML file or by `--set section.field=value`; without a
default it is required. A wrong or unknown field is refused before anything runs, with file and line.

Identity is what decides a result: another value is another run. Of the other fields the word says why they are not:
"""
OUTSIDE = {mark: name.lower() for name, mark in vars(marks).items() if isinstance(mark, marks.Outside)}
NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false", "null": "null"}
BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤", "multipleOf": "multiple of"}


def reference() -> str:
    """The page, as Markdown."""
    files = (line for name, kind in FILES.items() for line in _file(name, kind))
    reasons = (f"- *{name}*: {mark.why}." for mark, name in OUTSIDE.items())
    return "\n".join([HEAD, *reasons, "", *files])


def _file(name: str, kind: type[Section]) -> Iterator[str]:
    yield f"## {name.capitalize()} files"
    yield from _section(kind, "", "yes")


def _section(kind: type[BaseModel], path: str, identity: str) -> Iterator[str]:
    """A table of the section's own fields, then the sections inside it.

    Args:
        identity: what the section's mark says of all its fields.
    """
    yield f"{_words(kind.__doc__)}\n"
    yield "| field | allowed | default | identity | meaning |\n|---|---|---|---|---|"
    properties, inner = kind.model_json_schema()["properties"], []
    for name, field in kind.model_fields.items():
        sections = models_in(field.annotation)
        own = next((OUTSIDE[mark] for mark in field.metadata if mark in OUTSIDE), identity)
        inner += [(f"{path}{name}", section, field.default is None, own, len(sections) > 1) for section in sections]
        if not sections:
            cells = (f"`{path}{name}`", _allowed(properties[name]), _default(field), own, _words(field.description))
            yield f"| {' | '.join(cells)} |"
    yield ""
    for title, section, optional, own, tagged in inner:
        tag = f", kind: {section.model_json_schema()['properties']['kind']['const']}" if tagged else ""
        yield f"### {title}{tag}{' (optional)' if optional else ''}"
        yield from _section(section, f"{title}.", own)


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{json.dumps(field.get_default(call_default_factory=True))}`"


def _allowed(schema: dict[str, Any]) -> str:
    """What a field's JSON Schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(part) for part in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "object":
        return "depth → fields"
    if schema["type"] == "array":
        return (
            " and ".join(map(_allowed, schema["prefixItems"]))
            if "prefixItems" in schema
            else f"list of {_allowed(schema['items'])}"
        )
    bounds = [f" {sign} {schema[name]:g}" for name, sign in BOUNDS.items() if name in schema]
    pattern = f" like `{schema['pattern']}`".replace("|", r"\|") if "pattern" in schema else ""
    return NAMES[schema["type"]] + ",".join(bounds) + pattern


def _words(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", r"\|")
