"""What pydantic says of a wrong field, as one line: what was wrong and what is allowed."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel


def problem(error: Any, kind: type[BaseModel]) -> str:
    """One line: what was wrong and what is allowed.

    Args:
        error: an entry of ``ValidationError.errors()``.
        kind: the model that was validated.
    """
    if error["type"] == "extra_forbidden":
        allowed = sorted(_fields_at(kind, error["loc"][:-1]))
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"unknown field; {hint}allowed: {', '.join(allowed)}"
    return plain_problem(error)


def plain_problem(error: Any) -> str:
    """As :func:`problem`, of an entry that is not about an unknown field."""
    if error["type"] == "missing":
        return "missing; this field is required"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{message} (got {error['input']!r})"


def _fields_at(kind: type[BaseModel], loc: tuple) -> set[str]:
    """Names allowed in the section at ``loc``."""
    models: list[type[BaseModel]] = [kind]
    for part in loc:
        tagged = (
            [m for m in models if part in typing.get_args(m.model_fields["kind"].annotation)] if _tagged(models) else []
        )
        annotations = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = tagged or [model for annotation in annotations for model in models_in(annotation)]
    return {name for model in models for name in model.model_fields}


def _tagged(models: list[type[BaseModel]]) -> bool:
    return all("kind" in model.model_fields for model in models)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in (typing.Union, Annotated):
        return [model for part in typing.get_args(annotation) for model in models_in(part)]
    return []
