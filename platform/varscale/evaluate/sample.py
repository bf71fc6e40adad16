"""Images drawn from a trained model of any family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from varscale.errors import UserError
from varscale.families.catalogue import family_of, load_any
from varscale.locations import AnyPath, Location
from varscale.metrics.pictures import png_grid, to_uint8
from varscale.models.sampling import SamplingConfig
from varscale.models.store import StoredModel, load_model
from varscale.models.vqvae import VQVAE

GRID_COLUMNS = 8
GRID_CLASSES = 10
GRID_SEED_OFFSET = 1
"""Grids draw from another seed than the scored samples."""


def draw_images(
    model: StoredModel,
    tokenizer: VQVAE,
    labels: Sequence[int],
    indices: Sequence[int],
    sampling: SamplingConfig,
    half: bool = False,
) -> torch.Tensor:
    """Images in [-1, 1], float32 [B, 3, S, S]; image ``indices[i]`` of class ``labels[i]``.

    ``half``: the decoder in bf16 autocast, for pictures to be looked at (45 dB from float32 at the released size);
    tokens are drawn in float32 either way.
    """
    device = next(model.parameters()).device
    classes = torch.tensor(labels, device=device)
    tokens = family_of(model).sample_tokens(model, tokenizer.quantize, classes, indices, sampling)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        return tokenizer.decode(tokens).float()


def class_grid(model: StoredModel, tokenizer: VQVAE, sampling: SamplingConfig) -> np.ndarray:
    """uint8 [rows × GRID_COLUMNS, 3, S, S]: a row for each of the first GRID_CLASSES classes."""
    classes = range(min(model.cfg.num_classes, GRID_CLASSES))
    labels = [label for label in classes for _ in range(GRID_COLUMNS)]
    sampling = replace(sampling, seed=sampling.seed + GRID_SEED_OFFSET)
    return to_uint8(draw_images(model, tokenizer, labels, range(len(labels)), sampling))


def check_pair(model: StoredModel, vqvae: VQVAE, checkpoint: AnyPath, tokenizer: AnyPath) -> None:
    """Refuse a model and a tokenizer that cannot belong together, with a UserError naming both files."""
    wanted, found = model.cfg, vqvae.cfg
    if (wanted.patch_nums, wanted.vocab_size, wanted.z_channels) != (
        found.patch_nums,
        found.vocab_size,
        found.z_channels,
    ):
        raise UserError(
            f"{tokenizer}: its scales, vocabulary or code width are not those {checkpoint} was trained with"
        )


def write_samples(
    checkpoint: AnyPath,
    tokenizer: AnyPath,
    out: AnyPath,
    classes: list[int],
    per_class: int,
    sampling: SamplingConfig,
    half: bool = False,
) -> int:
    """Draw ``per_class`` images of each class (all if empty) into one PNG, one row per class; return how many.

    Raises:
        UserError: a file that is no such model, models that do not belong together, a class that does not exist.
    """
    model = load_any(checkpoint).model
    vqvae = load_model(tokenizer, VQVAE, model.cfg.patch_nums).model
    check_pair(model, vqvae, checkpoint, tokenizer)
    chosen = classes or list(range(model.cfg.num_classes))
    for label in chosen:
        if not 0 <= label < model.cfg.num_classes:
            raise UserError(f"class {label}: {checkpoint} knows classes 0 to {model.cfg.num_classes - 1}")
    Location.of(out).check_writable()
    labels = [label for label in chosen for _ in range(per_class)]
    images = draw_images(model, vqvae, labels, range(len(labels)), sampling, half)
    Location.of(out).write_bytes(png_grid(to_uint8(images), per_class))
    return len(labels)
