"""Models on disk: one safetensors file with everything needed to rebuild them in its header.

The header holds the configuration, the kind, and what the weights were made from (seed, data fingerprint, …), all as
JSON text; nothing is unpickled. The authors' ``.pth`` files are read as well (:mod:`varscale.models.released`). This
file knows no architecture: a :class:`StoredModel` says what is its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from varscale.errors import UserError
from varscale.locations import AnyPath, Location
from varscale.models import released
from varscale.models.weights import read_weights
from varscale.spec.field_errors import plain_problem

FORMAT = "varscale-model/1"
SUFFIX = ".safetensors"
HEADER_KEY = "varscale"
"""One metadata entry: safetensors keeps several in no fixed order, and the file's digest is its identity."""


class StoredModel(nn.Module):
    """A model that a file can hold. Subclasses are built from their configuration, ``cls(cfg)``."""

    kind: ClassVar[str]
    """Name of the architecture in a file's header."""
    config: ClassVar[type]
    """Class of the configuration: a frozen dataclass whose fields JSON can hold."""
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format
    """Layout of its tensors in memory once it is loaded."""
    cfg: Any
    """The configuration that this model was built from."""

    @staticmethod
    def fixed_tensors(cfg: Any) -> dict[str, torch.Tensor]:
        """Tensors of the state that follow from the configuration, by name; they alone may hold infinities."""
        return {}


M = TypeVar("M", bound=StoredModel)


@dataclass(frozen=True)
class Loaded(Generic[M]):
    """A model from a file, in eval mode, with the facts of its header."""

    model: M
    facts: dict[str, Any]
    fingerprint: str
    """SHA-256 of the file."""


def save_model(path: AnyPath, model: StoredModel, state: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write ``state`` as the weights of ``model``'s configuration, atomically.

    Args:
        state: as ``model.state_dict()``; given apart because trained weights may be averaged or gathered.
        facts: JSON-able description of how the weights came to be.
    """
    header = {"format": FORMAT, "kind": model.kind, "config": dataclasses.asdict(model.cfg), "facts": facts}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with Location.of(path).written_path() as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(header)})


def load_model(path: AnyPath, cls: type[M], patch_nums: Sequence[int] | None = None) -> Loaded[M]:
    """Rebuild a model from its file, ours or a released ``.pth``.

    Args:
        patch_nums: the scales of a released tokenizer, whose file does not tell; None is 256 px.

    Raises:
        UserError: no such file, not one of ours, of another kind, or as :func:`rebuilt`.
    """
    if not (place := Location.of(path)).is_file():
        raise UserError(f"{place}: no such file; wanted a {cls.kind} (.safetensors, or a released .pth)")
    with place.here() as file:
        if file.suffix == released.SUFFIX:
            state, facts = read_weights(file), {"source": f"released checkpoint {file.name}"}
            config = released.config(cls.kind, file, state, patch_nums)
        else:
            config, state, facts = _read(file, cls)
        model = rebuilt(file, cls, config, state)
        model.to(memory_format=cls.memory_format)  # type: ignore[call-overload]
        return Loaded(model, facts, file.sha256())


def rebuilt(path: AnyPath, cls: type[M], config: Any, state: released.State) -> M:
    """The model of a configuration, in eval mode, with the weights that were read from ``path``.

    Raises:
        UserError: no such model can be, the weights are not its own key for key and shape for shape, or not finite.
    """
    try:
        with torch.device("meta"):
            model = cls(config)
    except (ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{path}: no such model can be built: {error}") from error
    _check(path, model, state)
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.to(dtypes[name]) for name, tensor in state.items()}, assign=True)
    return model.eval()


def config_of(path: AnyPath, cls: type[StoredModel], fields: dict[str, Any]) -> Any:
    """The configuration with these fields, which were read from ``path``; UserError names the first that is wrong."""
    allowed = {field.name for field in dataclasses.fields(cls.config)}
    if unknown := sorted(fields.keys() - allowed):
        raise UserError(f"{path}: a {cls.kind} has no field '{unknown[0]}'; allowed: {', '.join(sorted(allowed))}")
    try:
        return TypeAdapter(cls.config).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join([cls.kind, *(str(part) for part in first["loc"])])
        raise UserError(f"{path}: {field}: {plain_problem(first)}") from error


def kind_of(path: AnyPath) -> str:
    """Kind of the model that a file holds, ours or a released ``.pth``; UserError where it is neither."""
    with Location.of(path).here() as file:
        if file.suffix == released.SUFFIX:
            return released.kind(read_weights(file))
        return str(_header(file).get("kind", "something unnamed"))


def _header(path: Location) -> dict[str, Any]:
    """The header of one of our files."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path.as_path(), "pt") as stream:
            header = json.loads((stream.metadata() or {}).get(HEADER_KEY, "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from error
    return header if isinstance(header, dict) else {}


def _read(path: Location, cls: type[StoredModel]) -> tuple[Any, released.State, dict[str, Any]]:
    """Configuration, tensors and facts of one of our files."""
    header = _header(path)
    if header.get("format", FORMAT) != FORMAT:
        raise UserError(f"{path}: format '{header['format']}'; this version reads '{FORMAT}'")
    if kind_of(path) != cls.kind:
        raise UserError(f"{path}: holds '{kind_of(path)}'; wanted a varscale {cls.kind}")
    config, facts = header.get("config"), header.get("facts")
    if not isinstance(config, dict) or not isinstance(facts, dict):
        raise UserError(f"{path}: its header describes no {cls.kind}; wanted 'config' and 'facts' in it")
    return config_of(path, cls, config), read_weights(path), facts


def _check(path: AnyPath, model: StoredModel, state: released.State) -> None:
    """Refuse weights that are not the model's, naming the first tensor that is wrong."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            shapes = [f"{list(s[name])}" if name in s else "absent" for s in (found, wanted)]
            raise UserError(f"{path}: tensor '{name}' is {shapes[0]}; its configuration wants {shapes[1]}")
    fixed = model.fixed_tensors(model.cfg)
    for name, tensor in fixed.items():
        if not torch.equal(state[name].to(tensor.dtype), tensor):
            raise UserError(f"{path}: tensor '{name}' is not that of the scales {list(model.cfg.patch_nums)}")
    for name, tensor in state.items():
        if name not in fixed and tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: tensor '{name}' holds values that are not finite")
