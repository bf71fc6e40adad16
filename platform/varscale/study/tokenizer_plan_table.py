"""``varscale tokenizer plan``: what a tokenizer's training will do and cost, before anything is made."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from varscale.models.discriminator import PatchDiscriminator
from varscale.models.shapes import VQVAEConfig
from varscale.models.vqvae import VQVAE
from varscale.plan.tokenizer import TokenizerRun, make_run
from varscale.spec.tokenizer import TokenizerStudy


def tokenizer_table(study: TokenizerStudy) -> str:
    """Shape, parameters, losses, steps, batch split and FLOPs of a specification as text.

    Raises:
        UserError: as for training: the plan is the same.
    """
    run = make_run(study, data_fingerprint="", node_cpus=os.cpu_count() or 1)
    cfg, recipe, split = run.vqvae, run.recipe, run.split(run.workers)
    flops = forward_flops(cfg)
    total = 3 * flops * recipe.steps * recipe.batch
    return "\n".join(
        (
            f"tokenizer {run.name}: {cfg.image_size} px to {sum(p * p for p in cfg.patch_nums)} tokens in"
            f" {len(cfg.patch_nums)} scales, V {cfg.vocab_size:,}, code width {cfg.z_channels}",
            f"parameters  {_parameters(run)}",
            f"loss        {_losses(run)}",
            f"steps       {recipe.steps:,} of {recipe.batch} images, warm-up {run.warmup_steps:,},"
            f" {recipe.schedule} from {recipe.lr:g}",
            f"workers     {run.workers} × {split.accumulation} × {split.micro_batch} images, {run.precision},"
            f" {run.cpus_per_worker} CPUs and {run.gpus_per_worker} GPUs each",
            f"compute     {flops / 1e9:,.1f} GFLOP an image forward (convolutions), {total:.2e} FLOPs in all,"
            " critics not counted",
            f"store: {study.store}    output: {study.output}",
        )
    )


def forward_flops(cfg: VQVAEConfig) -> int:
    """FLOPs of encoding and decoding one image, 2 per multiply-add, by torch's counter; nothing is computed."""
    return _counted(cfg, lambda model, image: model.decode_latent(model.encode(image)))


def encoding_flops(cfg: VQVAEConfig) -> int:
    """FLOPs of encoding one image, counted likewise."""
    return _counted(cfg, lambda model, image: model.encode(image))


def _counted(cfg: VQVAEConfig, work: Callable[[VQVAE, torch.Tensor], torch.Tensor]) -> int:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        work(VQVAE(cfg), torch.empty(1, 3, cfg.image_size, cfg.image_size))
    return counter.get_total_flops()


def _parameters(run: TokenizerRun) -> str:
    adversarial = run.recipe.adversarial
    with torch.device("meta"):
        parts = {"tokenizer": VQVAE(run.vqvae)} | (
            {"discriminator": PatchDiscriminator(adversarial.channels, adversarial.layers)} if adversarial else {}
        )
    return ", ".join(f"{name} {sum(p.numel() for p in model.parameters()):,}" for name, model in parts.items())


def _losses(run: TokenizerRun) -> str:
    recipe = run.recipe
    weights = {
        "L2": recipe.l2_weight,
        "L1": recipe.l1_weight,
        "codebook": recipe.codebook_weight,
        "commitment": recipe.commitment,
    }
    terms = [f"{weight:g} {name}" for name, weight in weights.items() if weight]
    if recipe.perceptual:
        off = " (off: no weights named)" if run.perceptual_is_off else ""
        terms.append(f"{recipe.perceptual.weight:g} LPIPS{off}")
    if recipe.adversarial:
        adaptive = "adaptive " if recipe.adversarial.adaptive else ""
        terms.append(f"{recipe.adversarial.weight:g} {adaptive}adversarial from step {recipe.adversarial.start_step:,}")
    return " + ".join(terms)
