"""What a tokenizer's weights file says of itself, read once for all who need no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from varscale.locations import AnyPath, Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import load_model
from varscale.models.vqvae import VQVAE


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer's file that was loaded whole once, and without its weights since. Picklable."""

    path: Location
    cfg: VQVAEConfig
    fingerprint: str
    """SHA-256 of the file."""
    facts: dict[str, Any]
    """How the weights came to be."""

    @staticmethod
    def read(path: AnyPath, patch_nums: Sequence[int] | None = None) -> TokenizerFile:
        """Load the file and keep all but its weights; arguments and errors as for :func:`load_model`."""
        loaded = load_model(path, VQVAE, patch_nums)
        return TokenizerFile(Location.of(path), loaded.model.cfg, loaded.fingerprint, loaded.facts)
