"""From our files to the authors' and back, for the two models that they released."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from varscale.errors import UserError
from varscale.locations import AnyPath, Location
from varscale.models import released
from varscale.models.store import SUFFIX, kind_of, load_model, save_model
from varscale.models.var import VAR
from varscale.models.vqvae import VQVAE


def convert(source: AnyPath, out: AnyPath, patch_nums: Sequence[int] | None = None) -> str:
    """Write a model in the other format, ours (.safetensors) or the released one (.pth), by ``out``'s name.

    Args:
        patch_nums: the scales of a released tokenizer, which ours then remembers; None is 256 px.

    Returns:
        The model's kind.

    Raises:
        UserError: as :func:`load_model`; two names of one format; a tokenizer that the released format cannot say;
            scales for a transformer.
    """
    source, out = Location.of(source), Location.of(out)
    if {source.suffix, out.suffix} != {SUFFIX, released.SUFFIX}:
        raise UserError(f"{source} to {out}: one must be named {SUFFIX} and the other {released.SUFFIX}")
    cls: type[VQVAE | VAR] = VQVAE if kind_of(source) == VQVAE.kind else VAR
    if patch_nums and cls is VAR:
        raise UserError(
            f"--patch-nums: only for a released tokenizer; {source} is a transformer, which tells its scales"
        )
    out.check_writable()
    loaded = load_model(source, cls, patch_nums)
    model, state = loaded.model, loaded.model.state_dict()
    if out.suffix == SUFFIX:
        save_model(out, model, state, loaded.facts)
        return cls.kind
    if isinstance(model, VQVAE):
        meant = released.vqvae_config(out, state, model.cfg.patch_nums)
        if meant != dataclasses.replace(model.cfg, default_qresi_counts=meant.default_qresi_counts):
            raise UserError(
                f"{source}: the released format cannot say this tokenizer's shape; it means 32 norm groups, φ mixed by"
                " half, codes chosen by distance"
            )
    released.write_state(out, state)
    return cls.kind
