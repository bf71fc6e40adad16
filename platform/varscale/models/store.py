"""Models on disk: one safetensors file with everything needed to rebuild them in its header.

The header holds the configuration, the kind, and what the weights were made from (seed, data fingerprint, …), all as
JSON text; nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from varscale.errors import UserError
from varscale.models.var import VAR
from varscale.models.vqvae import VQVAE
from varscale.shapes import VARConfig, VQVAEConfig
from varscale.storage import atomic_path, sha256_file

FORMAT = "varscale-model/1"
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


def load_model(path: Path, cls: type[M]) -> Loaded[M]:
    """Rebuild a model from its file.

    Raises:
        UserError: no such file, not one of ours, of another kind, or weights that do not match its configuration.
    """
    kind, config_class = KINDS[cls]
    if not path.is_file():
        raise UserError(f"{path}: no such file; wanted a {kind} (.safetensors)")
    try:
        with safe_open(path, "pt") as stream:
            header = json.loads((stream.metadata() or {}).get(HEADER_KEY, "{}"))
        state = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from error
    if header.get("format", FORMAT) != FORMAT:
        raise UserError(f"{path}: format '{header['format']}'; this version reads '{FORMAT}'")
    if header.get("kind") != kind:
        raise UserError(f"{path}: holds '{header.get('kind', 'something unnamed')}'; wanted a varscale {kind}")
    raw = {k: tuple(v) if isinstance(v, list) else v for k, v in header["config"].items()}
    model = cls(config_class(**raw))
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: weights do not fit their configuration: {' '.join(str(error).split())}") from error
    return Loaded(model.eval(), header["facts"], sha256_file(path))
