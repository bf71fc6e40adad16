"""Agreement with the authors' implementation, tensor by tensor: ``python -m varscale.parity DIR``.

DIR holds weights, inputs and outputs of the reference (``config.json``, ``state_vae.npz``, ``state_var.npz``,
``io.npz``, ``train_trace.json``). Prints a row a tensor and exits 1 on a miss, 2 where the folder is not whole. Tokens
must be equal; other tolerances are about ten times the drift that another order of summation causes.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, ValidationError, model_validator

from varscale.errors import UserError
from varscale.models.sampling import SamplingConfig, generate
from varscale.models.shapes import VARConfig, VQVAEConfig
from varscale.models.store import config_of, rebuilt
from varscale.models.var import VAR, is_decayed
from varscale.models.vqvae import VQVAE
from varscale.plan.schedule import lr_factor, weight_decay_at
from varscale.spec.field_errors import plain_problem

FIXED_SETTINGS = (
    ("vae", "in_channels", 3), ("vae", "gn_eps", 1e-6), ("var", "norm_eps", 1e-6),
    ("sampling", "top_k", 1), ("sampling", "more_smooth", False),
)  # fmt: skip
"""What a folder cannot choose: generation is compared where it is greedy."""
NUMBER = r"\d*\.?\d+(?:e-?\d+)?"
SETUP = re.compile(
    rf"clip (?P<clip>{NUMBER}); schedule (?P<schedule>lin0?|lin00|cos|exp|lin0\.\d+) peak (?P<peak>{NUMBER})"
    rf" wd (?P<from>{NUMBER})->(?P<to>{NUMBER}) wp_it (?P<warmup>\d+) max_it (?P<steps>\d+) wp0 0?\.005"
    rf" wpe (?P<final>{NUMBER})"
)
"""How a training trace says what its steps were taken with."""
USUAL_SETUP = "clip 2.0; schedule lin0 peak 1e-3 wd 0.05->0.05 wp_it 2 max_it 10 wp0 .005 wpe .01"
"""What a trace that does not say it in these words is taken for; its learning rates tell whether that is right."""
TRACE_STEPS_TIGHT = 3
"""Steps of the training trace held to 1e-4 relative; later ones amplify rounding."""


@dataclass(frozen=True)
class Row:
    """One compared quantity."""

    name: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within tolerance (NaN is not)."""
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "MISS"
        return f"{self.name:<28} {self.difference:>12.3e} {self.tolerance:>12.1e}  {verdict}"


class Trace(BaseModel):
    """Training steps of the reference."""

    setup: str = ""
    loss: list[float] = Field(min_length=1)
    grad_norm: list[float]
    lr: list[float]
    wd: list[float]
    no_decay: list[str]
    grad_l2_per_param_step0_before_clip: dict[str, float]
    param_l2_after_5_steps: dict[str, float]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len({len(values) for values in (self.loss, self.grad_norm, self.lr, self.wd)}) != 1:
            raise ValueError("loss, grad_norm, lr and wd are not of as many steps each")
        return self


@dataclass(frozen=True)
class Fixture:
    """A folder of reference weights, inputs and outputs."""

    beta: float
    """Weight of the commitment in the quantizer's loss."""
    sampling: SamplingConfig
    io: dict[str, torch.Tensor]
    trace: Trace
    vqvae: VQVAE
    var: VAR

    @staticmethod
    def load(folder: Path) -> Fixture:
        """Read a folder and build both models with its weights, key for key.

        Raises:
            UserError: a file that is missing, unreadable, lacks something or does not fit the others, by name.
        """
        path = folder / "config.json"
        config = _json(path)
        try:
            _check_settings(path, config)
            vqvae_config = config_of(path, VQVAE, _vqvae_fields(config["vae"]))
            var_config = config_of(path, VAR, _var_fields(config))
            beta, guidance = float(config["vae"]["beta"]), float(config["sampling"]["cfg"])
        except KeyError as error:
            raise UserError(f"{path}: has no {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{path}: a field is not as it should be: {error}") from error
        vqvae_state, var_state = folder / "state_vae.npz", folder / "state_var.npz"
        vqvae = rebuilt(vqvae_state, VQVAE, vqvae_config, _arrays(vqvae_state))
        var = rebuilt(var_state, VAR, var_config, _arrays(var_state))
        io = _arrays(folder / "io.npz")
        _check_io(folder / "io.npz", io, vqvae_config, var_config)
        sampling = SamplingConfig(guidance, config["sampling"]["top_k"])
        return Fixture(beta, sampling, io, _trace(folder / "train_trace.json"), vqvae, var)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: wanted a JSON object")
    return content


def _trace(path: Path) -> Trace:
    try:
        return Trace.model_validate(_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {field}{': ' if field else ''}{plain_problem(first)}") from error


def _arrays(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: torch.from_numpy(stored[name]) for name in stored.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not an npz file of numbers") from error


def _check_settings(path: Path, config: dict[str, Any]) -> None:
    """Refuse what the models cannot be told."""
    for section, name, wanted in FIXED_SETTINGS:
        found = config[section].get(name, wanted)
        if found != wanted:
            raise UserError(f"{path}: {section}.{name} is {found!r}; only {wanted!r} is known")
    if config["vae"]["v_patch_nums"] != config["var"]["patch_nums"]:
        raise UserError(f"{path}: vae.v_patch_nums and var.patch_nums differ")


def _check_io(path: Path, io: dict[str, torch.Tensor], vae: VQVAEConfig, var: VARConfig) -> None:
    """Refuse inputs and outputs of other shapes than the models', and labels and tokens that do not exist."""
    if "labels" not in io:
        raise UserError(f"{path}: has no 'labels'")
    batch, side = io["labels"].numel(), vae.patch_nums[-1]
    tokens = (batch, var.seq_len)
    image, latent = (batch, 3, vae.image_size, vae.image_size), (batch, vae.z_channels, side, side)
    logits = (*tokens, vae.vocab_size)
    wanted = dict.fromkeys(("vq_loss", "L_mean", "L_tail", "Acc_mean", "Acc_tail"), ()) | {
        "image": image, "labels": (batch,), "f": latent, "idx": tokens, "rec": image, "f_hat": latent, "ce": tokens,
        "f_hat_per_scale": (len(vae.patch_nums), *latent), "logits": logits, "logits_uncond": logits,
        "x_BLCv_wo_first_l": (batch, var.seq_len - var.patch_nums[0] ** 2, vae.z_channels),
        "ar_idx": tokens, "ar_logits_cfg": logits, "ar_image": image,
    }  # fmt: skip
    for name, shape in wanted.items():
        if name not in io:
            raise UserError(f"{path}: has no '{name}'")
        if tuple(io[name].shape) != shape:
            raise UserError(f"{path}: '{name}' is {list(io[name].shape)}; config.json wants {list(shape)}")
    for name, end in (("labels", var.num_classes), ("idx", vae.vocab_size)):
        if io[name].dtype != torch.int64 or not ((io[name] >= 0) & (io[name] < end)).all():
            raise UserError(f"{path}: '{name}' holds something else than int64 from 0 to {end - 1}")


def _vqvae_fields(vae: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": vae["vocab_size"],
        "z_channels": vae["z_channels"],
        "ch": vae["ch"],
        "ch_mult": vae["ch_mult"],
        "num_res_blocks": vae["num_res_blocks"],
        "patch_nums": vae["v_patch_nums"],
        "norm_groups": vae["gn_groups"],
        "level_attention": vae["using_sa"],
        "mid_attention": vae["using_mid_sa"],
        "quant_conv_ks": vae["quant_conv_ks"],
        "quant_resi": vae["quant_resi"],
        "share_quant_resi": vae["share_quant_resi"],
        "default_qresi_counts": vae["default_qresi_counts"],
        "using_znorm": vae["using_znorm"],
    }


def _var_fields(config: dict[str, Any]) -> dict[str, Any]:
    var = config["var"]
    return {
        "depth": var["depth"],
        "width": var["embed_dim"],
        "heads": var["num_heads"],
        "num_classes": var["num_classes"],
        "vocab_size": config["vae"]["vocab_size"],
        "z_channels": config["vae"]["z_channels"],
        "patch_nums": var["patch_nums"],
        "mlp_ratio": var["mlp_ratio"],
        "attn_l2_norm": var["attn_l2_norm"],
        "shared_adaln": var["shared_aln"],
        "drop_path": var["drop_path_rate"],
        "label_dropout": var["cond_drop_rate"],
    }


def compare(fixture: Fixture) -> Iterator[Row]:
    """All comparisons of a fixture."""
    logit_tolerance = 1e-4 if fixture.var.cfg.depth > 2 else 5e-5
    with torch.no_grad():
        yield from _tokenizer_rows(fixture)
        yield from _transformer_rows(fixture, logit_tolerance)
        yield from _generation_rows(fixture, 4 * logit_tolerance if fixture.var.cfg.depth > 2 else 1e-4)
    yield from _training_rows(fixture)


def _row(name: str, ours: torch.Tensor, reference: torch.Tensor, tolerance: float) -> Row:
    return Row(name, (ours.double() - reference.double()).abs().max().item(), tolerance)


def _tokenizer_rows(fixture: Fixture) -> Iterator[Row]:
    vqvae, io, beta = fixture.vqvae, fixture.io, fixture.beta
    f = vqvae.encode(io["image"])
    quantized = vqvae.quantize(f)
    partial = list(vqvae.quantize.partial_latents(io["idx"]))
    yield _row("f", f, io["f"], 3e-5)
    yield _row("idx", vqvae.quantize.tokens(f), io["idx"], 0)
    yield _row("f_hat_per_scale", torch.stack(partial), io["f_hat_per_scale"], 1e-5)
    yield _row("f_hat", partial[-1], io["f_hat"], 1e-5)
    yield _row("rec", vqvae.decode(io["idx"]), io["rec"], 1e-4)
    yield _row("vq_loss", quantized.codebook_loss + beta * quantized.commitment_loss, io["vq_loss"], 1e-5)
    yield _row("x_BLCv_wo_first_l", vqvae.quantize.var_input(io["idx"]), io["x_BLCv_wo_first_l"], 1e-5)


def _transformer_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    var, io = fixture.var, fixture.io
    x, target = io["x_BLCv_wo_first_l"], io["idx"]
    logits = var(io["labels"], x)
    ce = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    hit = (logits.argmax(dim=-1) == target).double()
    tail = fixture.vqvae.quantize.slices[-1]
    yield _row("logits", logits, io["logits"], tolerance)
    no_class = torch.full_like(io["labels"], var.cfg.num_classes)
    yield _row("logits_uncond", var(no_class, x), io["logits_uncond"], tolerance)
    yield _row("ce", ce, io["ce"], 1e-4)
    yield _row("L_mean", ce.mean(), io["L_mean"], 1e-5)
    yield _row("L_tail", ce[:, tail].mean(), io["L_tail"], 1e-5)
    yield _row("Acc_mean", 100 * hit.mean(), io["Acc_mean"], 1e-4)
    yield _row("Acc_tail", 100 * hit[:, tail].mean(), io["Acc_tail"], 1e-4)


def _generation_rows(fixture: Fixture, tolerance: float) -> Iterator[Row]:
    io = fixture.io
    indices = range(len(io["labels"]))
    draws = list(generate(fixture.var, fixture.vqvae.quantize, io["labels"], indices, fixture.sampling))
    image = (fixture.vqvae.decode_latent(draws[-1].f_hat) + 1) / 2
    yield _row("ar_idx", torch.cat([d.tokens for d in draws], dim=1), io["ar_idx"], 0)
    yield _row("ar_logits_cfg", torch.cat([d.logits for d in draws], dim=1), io["ar_logits_cfg"], tolerance)
    yield _row("ar_image", image, io["ar_image"], 1e-4)


def _training_rows(fixture: Fixture) -> Iterator[Row]:
    """AdamW steps on the stored batch, with the clip and schedules that the trace's setup names."""
    var, io, trace = fixture.var, fixture.io, fixture.trace
    setup = SETUP.search(trace.setup) or SETUP.search(USUAL_SETUP)
    assert setup is not None
    clip, peak, decay_from, decay_to, final = map(float, setup.group("clip", "peak", "from", "to", "final"))
    warmup, steps = int(setup["warmup"]), int(setup["steps"])
    named = list(var.named_parameters())
    exempt = {name for name, parameter in named if not is_decayed(name, parameter)}
    yield Row("no_decay names", len(exempt ^ set(trace.no_decay)), 0)
    groups = [{"params": [p for n, p in named if (n in exempt) == flag], "exempt": flag} for flag in (False, True)]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
    for step, (loss_wanted, norm_wanted) in enumerate(zip(trace.loss, trace.grad_norm, strict=True)):
        lr = peak * lr_factor(step, steps, warmup, setup["schedule"], final)
        decay = weight_decay_at(step, steps, decay_from, decay_to)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = lr, 0.0 if group["exempt"] else decay
        logits = var(io["labels"], io["x_BLCv_wo_first_l"])
        loss = F.cross_entropy(logits.flatten(0, 1), io["idx"].flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            norms = {name: parameter.grad.norm().item() for name, parameter in named if parameter.grad is not None}
            yield _norms_row("train gradients, step 0", norms, trace.grad_l2_per_param_step0_before_clip, 1e-4)
        norm = torch.nn.utils.clip_grad_norm_(var.parameters(), clip)
        optimizer.step()
        tolerance = 1e-4 if step < TRACE_STEPS_TIGHT else 1e-2
        yield Row(f"train loss, step {step}", abs(loss.item() / loss_wanted - 1), tolerance)
        yield Row(f"train grad norm, step {step}", abs(norm.item() / norm_wanted - 1), tolerance)
        yield Row(f"train lr, step {step}", abs(lr - trace.lr[step]), 1e-12)
        yield Row(f"train weight decay, step {step}", abs(decay - trace.wd[step]), 1e-12)
    norms = {name: parameter.detach().norm().item() for name, parameter in named}
    yield _norms_row("train weights, at the end", norms, trace.param_l2_after_5_steps, 1e-5)


def _norms_row(name: str, ours: dict[str, float], reference: dict[str, float], tolerance: float) -> Row:
    """The largest relative difference between the lengths of the parameters' vectors; of another set, infinite."""
    if ours.keys() != reference.keys():
        return Row(name, float("inf"), tolerance)
    lengths, wanted = np.array([ours[key] for key in reference]), np.array(list(reference.values()))
    relative = np.abs(lengths - wanted) / np.maximum(wanted, 1e-3 * wanted.max())
    return Row(name, float(relative.max()), tolerance)  # of NumPy, whose maximum is NaN where one is


def main(arguments: list[str]) -> int:
    """Compare the folder named on the command line; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m varscale.parity DIR", file=sys.stderr)
        return UserError.exit_code
    try:
        fixture = Fixture.load(Path(arguments[0]))
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    rows = list(compare(fixture))
    print(f"{'tensor':<28} {'difference':>12} {'tolerance':>12}  verdict", *rows, sep="\n")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
