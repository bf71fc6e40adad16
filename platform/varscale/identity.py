"""Which results are the same: the keys of studies, cells, tokenizers, tokens and image data sets, by one rule.

What decides a result is identity. Where it is made, and on how many workers, is not: how a batch is split moves a
result only within noise. A field of a specification is identity unless its mark (:mod:`varscale.spec.marks`) says
otherwise, so a new one cannot be forgotten: it enters every key that is made from its section. Taken out by name,
below, is only what a key holds in another form: resolved (a depth's shape for ``sizes.aspect``) or by another key
(the tokens' for how images are seen). The layouts are those of the first stores, and keep them valid.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

from varscale.spec.marks import Later, Outside
from varscale.spec.study import Engine, Optimizer, Study
from varscale.spec.tokenizer import TokenizerStudy

Facts = dict[str, Any]
"""Identity of a section or dataclass, by field and as JSON holds it; sections inside are facts themselves."""

IN_TOKENS = ("data.image_size", "data.resize_ratio", "data.flip", "data.views", "data.encoding")
"""Fields of a study that the key of its tokens holds."""


def digest(content: Any) -> str:
    """Hex SHA-256 of JSON-able content, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def facts(of: Any) -> Facts:
    """Identity of a specification's section, or of a dataclass: its fields without those that are marked otherwise."""
    marked = marks(type(of))
    values = {name: value for name, value in _values(of).items() if not _is_outside(marked[name])}
    if "by_depth" in values:
        inside = {name for name in marked if not _is_outside(marked[name])}
        changes = {depth: _only(inside, each) for depth, each in values["by_depth"].items()}
        values["by_depth"] = _filled(changes)  # a depth may go back to what a later field meant before: that stays
    return {name: value for name, value in values.items() if Later(value) not in marked[name]}


def study_key(study: Study, tokens_key: str) -> str:
    """Digest of how a study's cells train and are measured: another depth, or other machines, leave it the same."""
    by_depth = facts(study.engine)["by_depth"]
    precisions = {int(depth): changes["precision"] for depth, changes in by_depth.items() if "precision" in changes}
    return _study_key(study, tokens_key, precisions)


def former_study_key(study: Study, tokens_key: str) -> str:
    """The key of the first stores, in which also depths counted whose ``engine.by_depth`` is nothing but WHERE."""
    return _study_key(study, tokens_key, {depth: study.engine.at(depth).precision for depth in study.engine.by_depth})


def _study_key(study: Study, tokens_key: str, precisions: dict[int, str]) -> str:
    own = facts(study)
    aspect, precision = _take(own, "sizes.aspect"), _take(own, "engine.precision")
    changes = {depth: _only(each.keys() - {"precision"}, each) for depth, each in _take(own, "engine.by_depth").items()}
    own["engine"] |= _filled({"by_depth": _filled(changes)})
    for field in IN_TOKENS:
        _take(own, field)
    return digest([_filled(own), aspect, precision, precisions, tokens_key])


def cell_key(study: Study, tokens_key: str, shape: Any, optimizer: Optimizer, engine: Engine, steps: int) -> str:
    """Digest of what decides one cell's result.

    Args:
        shape: a family's dataclass; stands for ``sizes`` and what data and tokenizer give.
        optimizer, engine: as they hold for the cell's depth.
        steps: stands for ``budget.images``.
    """
    own = facts(study) | {"optimizer": facts(optimizer), "engine": facts(engine)}
    for field in ("name", "sizes.aspect", "budget.images", "optimizer.by_depth", "engine.by_depth", *IN_TOKENS):
        _take(own, field)
    seed, precision = _take(own, "seed"), _take(own, "engine.precision")
    known = [facts(shape), _take(own, "optimizer"), _take(own, "evaluation"), seed, steps, precision, tokens_key]
    rest = _filled(own)
    return digest([*known, rest] if rest else known)


def tokenizer_settings(study: TokenizerStudy, data_fingerprint: str) -> Facts:
    """All that decides a tokenizer's weights; their digest is the key of its run.

    Args:
        data_fingerprint: of the images it trains on.
    """
    own = facts(study)
    for field in ("data.views", "data.encoding"):  # how a study uses it
        _take(own, field)
    if study.recipe.perceptual:
        own["recipe"]["perceptual"]["on"] = study.recipe.perceptual.vgg16 is not None
    precision = _take(own, "engine.precision")
    return _filled(own) | {"data_fingerprint": data_fingerprint, "precision": precision}


def token_key(
    job: Any, layout: str, data_fingerprint: str, tokenizer_fingerprint: str, patch_nums: tuple[int, ...]
) -> str:
    """Digest of everything that tokens depend on.

    Args:
        job: how they are made, a ``data.encoder.TokeniseJob``.
        layout: name and version of the shards' format.
    """
    own = facts(job)
    view = [_take(own, field) for field in ("rule.size", "rule.resize_ratio", "rule.flip", "views", "seed")]
    rest = _filled(own)
    known = [layout, data_fingerprint, tokenizer_fingerprint, patch_nums, view]
    return digest([*known, rest] if rest else known)


def image_key(options: Facts, layout: str, listing: str) -> str:
    """Digest of what an ingest makes.

    Args:
        options: facts of its ``data.ingest.IngestOptions``.
        layout: name and version of the shards' format.
        listing: digest of what the source lists.
    """
    return digest([listing, options, layout])


def difference(ours: Facts, theirs: Facts, path: str = "") -> str | None:
    """The first field in which two settings differ, in words; None if none does."""
    for key in sorted(ours.keys() | theirs.keys()):
        here, there, name = ours.get(key), theirs.get(key), f"{path}{key}"
        if isinstance(here, dict) and isinstance(there, dict):
            inner = difference(here, there, f"{name}.")
            if inner:
                return inner
        elif here != there:
            return f"{name} is {here}, there {there}"
    return None


def marks(kind: Any) -> dict[str, tuple[Any, ...]]:
    """Marks of each field of a section or dataclass, by name."""
    if issubclass(kind, BaseModel):
        return {name: tuple(field.metadata) for name, field in kind.model_fields.items()}
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: getattr(hints[field.name], "__metadata__", ()) for field in dataclasses.fields(kind)}


def _values(of: Any) -> Facts:
    """Every field, sections and dataclasses inside as their facts."""
    plain = of.model_dump(mode="json") if isinstance(of, BaseModel) else dict(vars(of))
    inner = {name: getattr(of, name) for name in plain}
    return plain | {name: facts(value) for name, value in inner.items() if _has_fields(value)}


def _has_fields(value: Any) -> bool:
    return isinstance(value, BaseModel) or dataclasses.is_dataclass(value)


def _is_outside(marks_of_field: tuple[Any, ...]) -> bool:
    return any(isinstance(mark, Outside) for mark in marks_of_field)


def _take(own: Facts, path: str) -> Any:
    """Remove a field, named with its section, and return its value."""
    *sections, name = path.split(".")
    for section in sections:
        own = own[section]
    return own.pop(name)


def _only(names: Collection[str], own: Facts) -> Facts:
    return {name: value for name, value in own.items() if name in names}


def _filled(own: Facts) -> Facts:
    """Without the sections of which nothing is left."""
    return {name: value for name, value in own.items() if value != {}}
