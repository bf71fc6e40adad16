"""Weights that others published, read from a file: safetensors, or torch's format with nothing but tensors in it."""

from __future__ import annotations

import pickle

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from varscale.errors import UserError
from varscale.locations import AnyPath, Location


def read_weights(path: AnyPath) -> dict[str, torch.Tensor]:
    """All tensors of a file, on the CPU.

    Raises:
        UserError: no such file, no weights file, or one that would run code.
    """
    place = Location.of(path)
    if not place.is_file():
        raise UserError(f"{path}: no such file; wanted weights (.safetensors or .pth)")
    try:
        with place.here() as file:
            if file.suffix == ".safetensors":
                return safetensors.torch.load_file(file.as_path())
            state = torch.load(file.as_path(), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, LookupError) as error:
        kind = "safetensors" if place.suffix == ".safetensors" else "torch's format, tensors alone"
        raise UserError(f"{path}: not a readable weights file ({kind})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: wanted a flat state dict, key -> tensor")
    for name, tensor in state.items():
        if (
            not isinstance(name, str)
            or tensor.layout is not torch.strided
            or tensor.is_meta
            or tensor.is_quantized
            or tensor.is_complex()
        ):
            raise UserError(f"{path}: '{name}' is no plain tensor with a name")
    return state


def load_published(module: nn.Module, path: AnyPath, layout: str, keys: dict[str, str] | None = None) -> None:
    """Fill ``module`` with the weights of a file; what else the file holds is left out.

    Args:
        layout: the layout wanted, in words, for the error.
        keys: key in the module -> key in the file, where they differ.

    Raises:
        UserError: as :func:`read_weights`; or a key missing, of another shape, or not finite.
    """
    found = read_weights(path)
    state = {}
    for name, wanted in module.state_dict().items():
        key = (keys or {}).get(name, name)
        if key not in found:
            raise UserError(f"{path}: no key '{key}'; wanted {layout}")
        if found[key].shape != wanted.shape:
            raise UserError(f"{path}: '{key}' is {list(found[key].shape)}, wanted {list(wanted.shape)} ({layout})")
        if not found[key].isfinite().all():
            raise UserError(f"{path}: '{key}' holds values that are not finite")
        state[name] = found[key]
    module.load_state_dict(state)
