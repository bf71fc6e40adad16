"""The training of one tokenizer, step by step. Knows torch, images and engines; nothing of Ray or MLflow.

Step t trains on images t·batch … (t+1)·batch - 1 of the seeded order, and all that is drawn at random is a function
of (seed, t): a run that resumes takes the same steps as one that never stopped, and workers may be as many as divide
the batch. Two engines: the tokenizer's, and the discriminator's where training is adversarial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from lawfit.records import schema
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards
from varscale.data.views import TrainingViews, validation_batches
from varscale.evaluate.reconstruction import measure, psnr
from varscale.metrics.features import own_features
from varscale.metrics.pictures import to_tensor
from varscale.models.decay import groups_by_decay
from varscale.models.discriminator import PatchDiscriminator
from varscale.models.lpips import LPIPS
from varscale.models.vqvae import VQVAE
from varscale.plan.batch_split import BatchSplit
from varscale.plan.schedule import lr_factor
from varscale.plan.tokenizer import TokenizerRun
from varscale.spec.tokenizer import TokenizerEvaluation
from varscale.train.engine import EngineSettings, ZeroEngine
from varscale.train.peers import Observer, Rank
from varscale.train.tokenizer.average import AveragedModel
from varscale.train.tokenizer.codebook import FOUNDING_IMAGES, CodeUsage, found_codebook, revive
from varscale.train.tokenizer.objective import Judged, TokenizerObjective, hinge_discriminator_loss
from varscale.train.tokenizer.optimizer import tokenizer_optimizer
from varscale.train.window import Window

CRITIC = "discriminator"
STATE_FILE = "state.safetensors"
ZERO_STAGE = 0
"""Codes are moved between steps, which a sharded optimizer would overwrite, and Muon wants whole matrices."""
HITS, CPU = "hits", "cpu_seconds"


@dataclass(frozen=True)
class TokenizerData:
    """The images, and what of them is validated."""

    train: ImageShards
    val: ImageShards
    rule: ViewRule
    evaluation: TokenizerEvaluation


class TokenizerTraining:
    """Everything that changes while a tokenizer trains. All ranks of the process group build it together.

    Args:
        perceptual: the frozen distance on the worker's device, if it takes part.
        discriminator: any module from images to logits; the patch discriminator of the recipe if none is given.
    """

    def __init__(
        self, run: TokenizerRun, rank: Rank, perceptual: LPIPS | None, discriminator: nn.Module | None = None
    ) -> None:
        self.run, self.rank, self._perceptual = run, rank, perceptual
        torch.manual_seed(run.seed)
        self.model = VQVAE(run.vqvae).to(rank.device)
        self.usage = CodeUsage(self.model, rank)
        self.cpu_seconds = 0.0
        """CPU seconds of all workers' steps up to the last record, earlier attempts included."""
        self.unrecorded_cpu_seconds = 0.0
        """CPU seconds of the steps between the last record and a checkpoint."""
        recipe = run.recipe
        self.average = AveragedModel(self.model, recipe.ema_decay)
        objective = TokenizerObjective(self.model, recipe)
        self._engine = self._new_engine(objective, tokenizer_optimizer(objective, recipe))
        self._critic: ZeroEngine | None = None
        if adversarial := recipe.adversarial:
            critic = discriminator or PatchDiscriminator(adversarial.channels, adversarial.layers)
            groups = groups_by_decay(critic.to(rank.device))
            optimizer = torch.optim.AdamW(groups, lr=self._critic_lr, betas=adversarial.betas, fused=True)
            self._critic = self._new_engine(critic, optimizer)

    def _new_engine(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> ZeroEngine:
        run, rank = self.run, self.rank
        settings = EngineSettings(run.recipe.clip, run.split(rank.world_size), ZERO_STAGE, run.precision)
        engine = ZeroEngine(module, optimizer, settings, rank.device)
        # Only now: DeepSpeed broadcasts weights as flat bytes, and would refuse this layout.
        engine.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return engine

    @property
    def _critic_lr(self) -> float:
        adversarial = self.run.recipe.adversarial
        return (adversarial.lr if adversarial else None) or self.run.recipe.lr

    def step(self, step: int, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take ``step`` on this rank's micro-batches; return the figures of it, scalars by name."""
        recipe, adversarial = self.run.recipe, self.run.recipe.adversarial
        critic = self._critic if adversarial and step >= adversarial.start_step else None
        quantize = step >= self.run.quantize_from
        judged: list[Judged] = []

        def loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
            judged.append(model(images, self._perceptual, critic.module if critic else None, quantize))
            return judged[-1].total

        factor = self.lr_factor(step)
        result = self._engine.step(batches, loss, recipe.lr * factor, recipe.weight_decay)
        figures = {schema.TRAIN_LOSS: result.loss, schema.GRAD_NORM: torch.tensor(result.grad_norm)}
        if critic:
            pairs = zip(batches, (each.output for each in judged), strict=True)
            verdict = critic.step(pairs, _critic_loss, self._critic_lr * factor, recipe.weight_decay)
            figures[schema.TRAIN + CRITIC] = verdict.loss
        self.average.update(self.model, step)
        if quantize:
            tokens = torch.cat([each.tokens for each in judged if each.tokens is not None])
            self.usage.add(tokens, step - self.run.quantize_from)
        for term in judged[0].terms:
            figures[schema.TRAIN + term] = torch.stack([each.terms[term] for each in judged]).mean()
        return figures

    def found_codebook(self, steps: list[list[torch.Tensor]]) -> None:
        """Make the first codebook from the images of the coming steps."""
        found_codebook(self.model, steps, self.run.seed, self.rank)
        self._renew_average(slice(None))

    def tend_codebook(self, step: int, batches: list[torch.Tensor]) -> dict[str, float]:
        """At the end of a count, before ``step``: what was used in it; codes that were not are moved."""
        recipe, age = self.run.recipe, step - self.run.quantize_from
        if age <= 0 or age % recipe.revive_every:
            return {}
        used = {schema.by_scale(schema.CODES_USED, k): value for k, value in enumerate(self.usage.used_percent())}
        moved = 0
        if step < recipe.revive_until * recipe.steps:
            dead = self.usage.dead()
            moved = revive(self.model, batches, dead, self.run.seed, step, self.rank)
            self._renew_average(dead)
        self.usage.reset()
        figures = {**used, schema.CODES_REVIVED: float(moved)}
        return {schema.TRAIN + name: value for name, value in figures.items()}

    @torch.no_grad()
    def _renew_average(self, codes: torch.Tensor | slice) -> None:
        """Codes that were moved have no past to average."""
        self.average.model.quantize.embedding.weight[codes] = self.model.quantize.embedding.weight[codes]

    def lr_factor(self, step: int) -> float:
        """Learning rate at ``step`` as a share of the peak."""
        recipe = self.run.recipe
        final = 1.0 if recipe.schedule == "constant" else recipe.final_lr_fraction
        return lr_factor(step, recipe.steps, self.run.warmup_steps, "cos", final)

    def save(self, folder: Path) -> None:
        """Write this rank's part of the resumable state."""
        self._engine.save(folder)
        if self._critic:
            self._critic.save(folder / CRITIC)
        if self.rank.index == 0:
            spent = self.cpu_seconds + self.unrecorded_cpu_seconds
            state = self.average.model.state_dict() | {HITS: self.usage.hits, CPU: torch.tensor(spent)}
            safetensors.torch.save_file({k: v.cpu().contiguous() for k, v in state.items()}, folder / STATE_FILE)

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote."""
        self._engine.load(folder)
        if self._critic:
            self._critic.load(folder / CRITIC)
        state = safetensors.torch.load_file(folder / STATE_FILE)
        self.usage.hits.copy_(state.pop(HITS))
        self.cpu_seconds = state.pop(CPU).item()
        self.average.model.load_state_dict(state)


def train(training: TokenizerTraining, data: TokenizerData, observer: Observer, start: int) -> dict[str, float]:
    """Train from step ``start`` to the end, validating and checkpointing on the way; return the last validation.

    A run whose loss is not finite ends there, without a validation.
    """
    run, rank, cadence = training.run, training.rank, training.run.cadence
    split = run.split(rank.world_size)
    window = Window(rank, run.recipe.batch)
    quality: dict[str, float] = {}
    with TrainingViews(
        data.train, data.rule, run.seed, run.recipe.batch, split.share, rank.index, run.cpus_per_worker
    ) as views:
        for step in range(start, run.steps):
            if step == run.quantize_from:
                coming = range(step, step + -(-FOUNDING_IMAGES // run.recipe.batch))
                training.found_codebook([_micro_batches(views.take(s), split, rank) for s in coming])
            batches = _micro_batches(views.take(step), split, rank)
            tended = training.tend_codebook(step, batches)
            if tended:
                observer.on_metrics(step, tended)
            window.add(training.step(step, batches))
            done = step + 1
            if cadence.records(done):
                figures = _figures(training, window.close(), step)
                observer.on_metrics(done, figures)
                if not math.isfinite(figures[schema.TRAIN_LOSS]):
                    return {}
            if cadence.validates(done):
                with window.paused():
                    quality = _validate(training, data, whole=done == run.steps)
                observer.on_metrics(done, {schema.VAL + name: value for name, value in quality.items()})
            if cadence.saves(done):
                with window.paused():
                    training.unrecorded_cpu_seconds = window.cpu_seconds()
                    observer.on_checkpoint(done)
    return quality


def _figures(training: TokenizerTraining, means: dict[str, float], step: int) -> dict[str, float]:
    """A window's means with what follows from them and from the steps before."""
    training.cpu_seconds += means[schema.CPU_SECONDS]
    return {
        **means,
        schema.TRAIN + schema.PSNR: psnr(means[schema.TRAIN + "l2"]),
        schema.CPU_SECONDS: training.cpu_seconds,
        schema.LR: training.run.recipe.lr * training.lr_factor(step),
    }


def _micro_batches(views: np.ndarray, split: BatchSplit, rank: Rank) -> list[torch.Tensor]:
    parts = to_tensor(views).split(split.micro_batch)
    return [part.to(rank.device, memory_format=torch.channels_last) for part in parts]


def _critic_loss(model: nn.Module, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    real, fake = model(torch.cat(pair)).float().chunk(2)
    return hinge_discriminator_loss(real, fake)


def _validate(training: TokenizerTraining, data: TokenizerData, whole: bool) -> dict[str, float]:
    """Quality of the averaged weights; the last one, on ``whole`` validation images, with the Fréchet distance."""
    rank, model, evaluation = training.rank, training.average.model, data.evaluation
    count = len(data.val) if whole else min(evaluation.images or len(data.val), len(data.val))
    batches = validation_batches(data.val, data.rule, count, evaluation.batch, rank.index, rank.world_size)
    space = own_features(model) if whole else None
    return measure(model, batches, rank.device, space, rank.world_size).facts()
