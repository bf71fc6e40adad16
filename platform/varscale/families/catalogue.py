"""The families there are. A new one is a module beside this file and its line in ``FAMILIES``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from varscale.errors import UserError
from varscale.families.family import AnyFamily
from varscale.families.var import VARFamily
from varscale.locations import AnyPath

if TYPE_CHECKING:
    from varscale.models.store import Loaded, StoredModel

FAMILIES: list[AnyFamily] = [
    VARFamily(),
]


def family_named(name: str) -> AnyFamily:
    """The family that studies call by this name; UserError names those there are."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UserError(f"sizes.family: '{name}'; allowed: {', '.join(family.name for family in FAMILIES)}")


def family_of(model: StoredModel) -> AnyFamily:
    """The family that a model is of."""
    return family_named(model.kind)


def load_any(path: AnyPath) -> Loaded[StoredModel]:
    """The model of a file, whichever family's it is.

    Raises:
        UserError: it holds no family's model, or as ``load_model``.
    """
    from varscale.models.store import kind_of, load_model

    kind, names = kind_of(path), [family.name for family in FAMILIES]
    if kind not in names:
        raise UserError(f"{path}: holds '{kind}'; wanted a varscale {' or '.join(names)}")
    return load_model(path, family_named(kind).model_class())
