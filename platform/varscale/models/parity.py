"""Agreement with the authors' implementation, tensor by tensor: ``python -m varscale.models.parity DIR``.

DIR holds weights, inputs and outputs of the reference (``config.json``, ``state_vae.npz``, ``state_var.npz``,
``io.npz``, ``train_trace.json``). Prints a row a tensor and exits 1 on a miss. Tokens must be equal; other tolerances
are about ten times the drift that another order of summation causes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from varscale.models.sampling import SamplingConfig, generate
from varscale.models.var import VAR, is_decayed
from varscale.models.vqvae import VQVAE
from varscale.schedule import lr_factor, weight_decay_at
from varscale.shapes import VARConfig, VQVAEConfig

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


@dataclass(frozen=True)
class Fixture:
    """A folder of reference weights, inputs and outputs."""

    config: dict[str, Any]
    io: dict[str, torch.Tensor]
    trace: dict[str, Any]
    vqvae: VQVAE
    var: VAR

    @staticmethod
    def load(folder: Path) -> Fixture:
        """Read a folder and build both models with its weights, key for key."""
        config = json.loads((folder / "config.json").read_text())
        vqvae, var = VQVAE(_vqvae_config(config["vae"])), VAR(_var_config(config))
        vqvae.load_state_dict(_arrays(folder / "state_vae.npz"), strict=True)
        var.load_state_dict(_arrays(folder / "state_var.npz"), strict=True)
        trace = json.loads((folder / "train_trace.json").read_text())
        return Fixture(config, _arrays(folder / "io.npz"), trace, vqvae.eval(), var.eval())


def _arrays(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def _vqvae_config(vae: dict[str, Any]) -> VQVAEConfig:
    return VQVAEConfig(
        vocab_size=vae["vocab_size"],
        z_channels=vae["z_channels"],
        ch=vae["ch"],
        ch_mult=tuple(vae["ch_mult"]),
        num_res_blocks=vae["num_res_blocks"],
        patch_nums=tuple(vae["v_patch_nums"]),
        norm_groups=vae["gn_groups"],
        level_attention=vae["using_sa"],
        mid_attention=vae["using_mid_sa"],
        quant_conv_ks=vae["quant_conv_ks"],
        quant_resi=vae["quant_resi"],
        share_quant_resi=vae["share_quant_resi"],
        default_qresi_counts=vae["default_qresi_counts"],
        using_znorm=vae["using_znorm"],
    )


def _var_config(config: dict[str, Any]) -> VARConfig:
    var = config["var"]
    return VARConfig(
        depth=var["depth"],
        width=var["embed_dim"],
        heads=var["num_heads"],
        num_classes=var["num_classes"],
        vocab_size=config["vae"]["vocab_size"],
        z_channels=config["vae"]["z_channels"],
        patch_nums=tuple(var["patch_nums"]),
        mlp_ratio=var["mlp_ratio"],
        attn_l2_norm=var["attn_l2_norm"],
        shared_adaln=var["shared_aln"],
        drop_path=var["drop_path_rate"],
        label_dropout=var["cond_drop_rate"],
    )


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
    vqvae, io, beta = fixture.vqvae, fixture.io, fixture.config["vae"]["beta"]
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
    io, chosen = fixture.io, fixture.config["sampling"]
    sampling = SamplingConfig(chosen["cfg"], chosen["top_k"], chosen["top_p"])
    draws = list(generate(fixture.var, fixture.vqvae.quantize, io["labels"], range(len(io["labels"])), sampling))
    image = (fixture.vqvae.decode_latent(draws[-1].f_hat) + 1) / 2
    yield _row("ar_idx", torch.cat([d.tokens for d in draws], dim=1), io["ar_idx"], 0)
    yield _row("ar_logits_cfg", torch.cat([d.logits for d in draws], dim=1), io["ar_logits_cfg"], tolerance)
    yield _row("ar_image", image, io["ar_image"], 1e-4)


def _training_rows(fixture: Fixture) -> Iterator[Row]:
    """AdamW steps on the stored batch: lin0 schedule, peak 1e-3, warm-up 2 of 10, weight decay .05, clip 2."""
    var, io, trace = fixture.var, fixture.io, fixture.trace
    named = list(var.named_parameters())
    exempt = {name for name, parameter in named if not is_decayed(name, parameter)}
    yield Row("no_decay names", len(exempt ^ set(trace["no_decay"])), 0)
    groups = [{"params": [p for n, p in named if (n in exempt) == flag], "exempt": flag} for flag in (False, True)]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
    for step, (loss_wanted, norm_wanted) in enumerate(zip(trace["loss"], trace["grad_norm"], strict=True)):
        lr, decay = 1e-3 * lr_factor(step, 10, 2, "lin0", 0.01), weight_decay_at(step, 10, 0.05, 0.05)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = lr, 0.0 if group["exempt"] else decay
        logits = var(io["labels"], io["x_BLCv_wo_first_l"])
        loss = F.cross_entropy(logits.flatten(0, 1), io["idx"].flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            norms = {name: parameter.grad.norm().item() for name, parameter in named if parameter.grad is not None}
            yield _norms_row("train gradients, step 0", norms, trace["grad_l2_per_param_step0_before_clip"], 1e-4)
        norm = torch.nn.utils.clip_grad_norm_(var.parameters(), 2.0)
        optimizer.step()
        tolerance = 1e-4 if step < TRACE_STEPS_TIGHT else 1e-2
        yield Row(f"train loss, step {step}", abs(loss.item() / loss_wanted - 1), tolerance)
        yield Row(f"train grad norm, step {step}", abs(norm.item() / norm_wanted - 1), tolerance)
        yield Row(f"train lr, step {step}", abs(lr - trace["lr"][step]), 1e-12)
    norms = {name: parameter.detach().norm().item() for name, parameter in named}
    yield _norms_row("train weights, at the end", norms, trace["param_l2_after_5_steps"], 1e-5)


def _norms_row(name: str, ours: dict[str, float], reference: dict[str, float], tolerance: float) -> Row:
    """The largest relative difference between the lengths of the parameters' vectors; of another set, infinite."""
    if ours.keys() != reference.keys():
        return Row(name, float("inf"), tolerance)
    largest = max(reference.values())
    return Row(
        name, max(abs(ours[key] - reference[key]) / max(reference[key], 1e-3 * largest) for key in ours), tolerance
    )


def main(arguments: list[str]) -> int:
    """Compare the folder named on the command line; return the exit code."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "config.json").is_file():
        print(
            "usage: python -m varscale.models.parity DIR   (a folder with config.json and npz files)", file=sys.stderr
        )
        return 2
    try:
        fixture = Fixture.load(Path(arguments[0]))
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        print(f"{arguments[0]}: not a whole reference folder: {' '.join(repr(error).split())}", file=sys.stderr)
        return 2
    rows = list(compare(fixture))
    print(f"{'tensor':<28} {'difference':>12} {'tolerance':>12}  verdict", *rows, sep="\n")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
