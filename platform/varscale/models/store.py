"""Models on disk: one safetensors file with everything needed to rebuild them in its header.

The header holds the configuration, the kind, and what the weights were made from (seed, data fingerprint, …), all as
JSON text; nothing is unpickled. The authors' ``.pth`` files are read as well (:mod:`varscale.models.released`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from varscale.errors import UserError
from varscale.models import released
from varscale.models.scales import attention_bias
from varscale.models.shapes import VARConfig, VQVAEConfig
from varscale.models.var import VAR
from varscale.models.vqvae import VQVAE
from varscale.models.weights import read_weights
from varscale.spec.field_errors import plain_problem
from varscale.storage import atomic_path, check_writable, sha256_file

FORMAT = "varscale-model/1"
MASK = "attn_bias_for_masking"
"""The one tensor of a model that holds infinities by design."""
SUFFIX = ".safetensors"
HEADER_KEY = "varscale"
"""One metadata entry: safetensors keeps several in no fixed order, and the file's digest is its identity."""

M = TypeVar("M", VQVAE, VAR)
KINDS: dict[type, tuple[str, type]] = {VQVAE: ("tokenizer", VQVAEConfig), VAR: ("var", VARConfig)}


@dataclass(frozen=True)
class Loaded(Generic[M]):
    """A model from a file, in eval mode, with the facts of its header."""

    model: M
    facts: dict[str, Any]
    fingerprint: str
    """SHA-256 of the file."""


def save_model(path: Path, model: VQVAE | VAR, state: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write ``state`` as the weights of ``model``'s configuration, atomically.

    Args:
        state: as ``model.state_dict()``; given apart because trained weights may be averaged or gathered.
        facts: JSON-able description of how the weights came to be.
    """
    kind, _ = KINDS[type(model)]
    header = {"format": FORMAT, "kind": kind, "config": dataclasses.asdict(model.cfg), "facts": facts}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={HEADER_KEY: json.dumps(header)})


def load_model(path: Path, cls: type[M], patch_nums: Sequence[int] | None = None) -> Loaded[M]:
    """Rebuild a model from its file, ours or a released ``.pth``.

    Args:
        patch_nums: the scales of a released tokenizer, whose file does not tell; None is 256 px.

    Raises:
        UserError: no such file, not one of ours, of another kind, or as :func:`rebuilt`.
    """
    kind, _ = KINDS[cls]
    if not path.is_file():
        raise UserError(f"{path}: no such file; wanted a {kind} (.safetensors, or a released .pth)")
    if path.suffix == released.SUFFIX:
        state, facts = read_weights(path), {"source": f"released checkpoint {path.name}"}
        config: Any = (
            released.var_config(path, state)
            if cls is VAR
            else released.vqvae_config(path, state, patch_nums or VQVAEConfig.patch_nums)
        )
    else:
        config, state, facts = _read(path, cls)
    model = rebuilt(path, cls, config, state)
    if cls is VQVAE:  # the layout in which convolutions are faster (benchmarks/encode.py)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Loaded(model, facts, sha256_file(path))


def rebuilt(path: Path, cls: type[M], config: Any, state: released.State) -> M:
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


def config_of(path: Path, cls: type[VQVAE | VAR], fields: dict[str, Any]) -> Any:
    """The configuration with these fields, which were read from ``path``; UserError names the first that is wrong."""
    kind, config_class = KINDS[cls]
    allowed = {field.name for field in dataclasses.fields(config_class)}
    if unknown := sorted(fields.keys() - allowed):
        raise UserError(f"{path}: a {kind} has no field '{unknown[0]}'; allowed: {', '.join(sorted(allowed))}")
    try:
        return TypeAdapter(config_class).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join([kind, *(str(part) for part in first["loc"])])
        raise UserError(f"{path}: {field}: {plain_problem(first)}") from error


def convert(source: Path, out: Path, patch_nums: Sequence[int] | None = None) -> str:
    """Write a model in the other format, ours (.safetensors) or the released one (.pth), by ``out``'s name.

    Args:
        patch_nums: the scales of a released tokenizer, which ours then remembers; None is 256 px.

    Returns:
        The model's kind.

    Raises:
        UserError: as :func:`load_model`; two names of one format; a tokenizer that the released format cannot say;
            scales for a transformer.
    """
    if {source.suffix, out.suffix} != {SUFFIX, released.SUFFIX}:
        raise UserError(f"{source} to {out}: one must be named {SUFFIX} and the other {released.SUFFIX}")
    cls: Any = _class_of(source)
    if patch_nums and cls is VAR:
        raise UserError(
            f"--patch-nums: only for a released tokenizer; {source} is a transformer, which tells its scales"
        )
    check_writable(out)
    loaded = load_model(source, cls, patch_nums)
    model, state = loaded.model, loaded.model.state_dict()
    if out.suffix == SUFFIX:
        save_model(out, model, state, loaded.facts)
        return KINDS[cls][0]
    if isinstance(model, VQVAE):
        meant = released.vqvae_config(out, state, model.cfg.patch_nums)
        if meant != dataclasses.replace(model.cfg, default_qresi_counts=meant.default_qresi_counts):
            raise UserError(
                f"{source}: the released format cannot say this tokenizer's shape; it means 32 norm groups, φ mixed by"
                " half, codes chosen by distance"
            )
    released.write_state(out, state)
    return KINDS[cls][0]


def _class_of(path: Path) -> type[VQVAE | VAR]:
    """Which of our models a file holds."""
    if path.suffix == released.SUFFIX:
        return VAR if "class_emb.weight" in read_weights(path) else VQVAE
    kind = _header(path).get("kind")
    return VQVAE if kind == KINDS[VQVAE][0] else VAR


def _header(path: Path) -> dict[str, Any]:
    """The header of one of our files."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as stream:
            header = json.loads((stream.metadata() or {}).get(HEADER_KEY, "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from error
    return header if isinstance(header, dict) else {}


def _read(path: Path, cls: type[VQVAE | VAR]) -> tuple[Any, released.State, dict[str, Any]]:
    """Configuration, tensors and facts of one of our files."""
    kind, _ = KINDS[cls]
    header = _header(path)
    if header.get("format", FORMAT) != FORMAT:
        raise UserError(f"{path}: format '{header['format']}'; this version reads '{FORMAT}'")
    if header.get("kind") != kind:
        raise UserError(f"{path}: holds '{header.get('kind', 'something unnamed')}'; wanted a varscale {kind}")
    config, facts = header.get("config"), header.get("facts")
    if not isinstance(config, dict) or not isinstance(facts, dict):
        raise UserError(f"{path}: its header describes no {kind}; wanted 'config' and 'facts' in it")
    return config_of(path, cls, config), read_weights(path), facts


def _check(path: Path, model: VQVAE | VAR, state: released.State) -> None:
    """Refuse weights that are not the model's, naming the first tensor that is wrong."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            shapes = [f"{list(s[name])}" if name in s else "absent" for s in (found, wanted)]
            raise UserError(f"{path}: tensor '{name}' is {shapes[0]}; its configuration wants {shapes[1]}")
    if isinstance(model, VAR) and not torch.equal(state[MASK].float(), attention_bias(model.cfg.patch_nums)):
        raise UserError(f"{path}: tensor '{MASK}' is not that of the scales {list(model.cfg.patch_nums)}")
    for name, tensor in state.items():
        if name != MASK and tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: tensor '{name}' holds values that are not finite")
