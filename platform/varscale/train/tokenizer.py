"""The training of one tokenizer, step by step. Knows torch, images and engines; nothing of Ray or MLflow.

Step t trains on images t·batch … (t+1)·batch - 1 of the seeded order, and all that is drawn at random is a function
of (seed, t): a run that resumes takes the same steps as one that never stopped, and workers may be as many as divide
the batch. Two engines: the tokenizer's, and the discriminator's where training is adversarial.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn

from lawfit import schema
from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards
from varscale.data.views import TrainingViews, validation_batches
from varscale.evaluate.features import own_features
from varscale.evaluate.pictures import to_tensor
from varscale.evaluate.reconstruction import measure, psnr
from varscale.models.discriminator import PatchDiscriminator
from varscale.models.lpips import LPIPS
from varscale.models.vqvae import VQVAE
from varscale.schedule import lr_factor
from varscale.tokenizer_plan import TokenizerRun
from varscale.tokenizer_spec import Muon, TokenizerEvaluation
from varscale.train.average import AveragedModel
from varscale.train.codebook import CodeUsage, revive
from varscale.train.engine import EngineSettings, ZeroEngine, parameter_groups
from varscale.train.loop import Observer, Place
from varscale.train.muon import MuonAdamW
from varscale.train.tokenizer_loss import Judged, TokenizerObjective, hinge_discriminator_loss

LOG_EVERY = 16
"""Steps between records of training figures, each the mean over those steps."""
RGB_LAYERS = ("encoder.conv_in.", "decoder.conv_out.")
CRITIC = "discriminator"
STATE_FILE = "state.safetensors"
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
        self, run: TokenizerRun, place: Place, perceptual: LPIPS | None, discriminator: nn.Module | None = None
    ) -> None:
        self.run, self.place, self._perceptual = run, place, perceptual
        torch.manual_seed(run.seed)
        self.model = VQVAE(run.vqvae).to(place.device)
        self.usage = CodeUsage(self.model, place)
        self.cpu_seconds = 0.0
        """Of all workers' steps so far, earlier attempts included."""
        recipe = run.recipe
        self.average = AveragedModel(self.model, recipe.ema_decay)
        objective = TokenizerObjective(self.model, recipe)
        optimizer = _muon_optimizer(objective, recipe.lr, recipe.betas, recipe.muon) if recipe.muon else None
        self._engine = self._new_engine(objective, recipe.lr, recipe.betas, optimizer)
        self._critic: ZeroEngine | None = None
        if adversarial := recipe.adversarial:
            critic = discriminator or PatchDiscriminator(adversarial.channels, adversarial.layers)
            self._critic = self._new_engine(critic, self._critic_lr, adversarial.betas)

    def _new_engine(
        self, module: nn.Module, lr: float, betas: tuple[float, float], optimizer: torch.optim.Optimizer | None = None
    ) -> ZeroEngine:
        run = self.run
        settings = EngineSettings(
            lr, betas, run.recipe.clip, run.micro_batch, run.accumulation, zero_stage=0, precision=run.precision
        )
        engine = ZeroEngine(module.to(self.place.device), settings, self.place.device, optimizer)
        engine.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not before: DeepSpeed
        return engine  # broadcasts weights as flat bytes

    @property
    def _critic_lr(self) -> float:
        adversarial = self.run.recipe.adversarial
        return (adversarial.lr if adversarial else None) or self.run.recipe.lr

    def step(self, step: int, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take ``step`` on this rank's micro-batches; return the figures of it, scalars by name."""
        recipe, adversarial = self.run.recipe, self.run.recipe.adversarial
        critic = self._critic if adversarial and step >= adversarial.start_step else None
        judged: list[Judged] = []

        def loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
            judged.append(model(images, self._perceptual, critic.module if critic else None))
            return judged[-1].total

        factor = self.lr_factor(step)
        result = self._engine.step(batches, loss, recipe.lr * factor, recipe.weight_decay)
        figures = {schema.TRAIN_LOSS: result.loss, schema.GRAD_NORM: torch.tensor(result.grad_norm)}
        if critic:
            pairs = zip(batches, (each.output for each in judged), strict=True)
            verdict = critic.step(pairs, _critic_loss, self._critic_lr * factor, recipe.weight_decay)
            figures[schema.TRAIN + CRITIC] = verdict.loss
        self.average.update(self.model, step)
        self.usage.add(torch.cat([each.tokens for each in judged]), step)
        for term in judged[0].terms:
            figures[schema.TRAIN + term] = torch.stack([each.terms[term] for each in judged]).mean()
        return figures

    def tend_codebook(self, step: int, batches: list[torch.Tensor]) -> dict[str, float]:
        """Before ``step``, at the end of a count: what was used in it; codes that were not are moved."""
        recipe = self.run.recipe
        if step % recipe.revive_every:
            return {}
        used = {schema.by_scale(schema.CODES_USED, k): value for k, value in enumerate(self.usage.used_percent())}
        moved = 0
        if step < recipe.revive_until * recipe.steps:
            moved = revive(self.model, batches, self.usage.dead(), self.run.seed, step, self.place)
        self.usage.reset()
        figures = {**used, schema.CODES_REVIVED: float(moved)}
        return {schema.TRAIN + name: value for name, value in figures.items()} if step else {}

    def lr_factor(self, step: int) -> float:
        """Learning rate at ``step`` as a share of the peak."""
        recipe = self.run.recipe
        final = 1.0 if recipe.schedule == "constant" else recipe.final_lr_fraction
        return lr_factor(step, recipe.steps, self.run.warmup_steps, "cos", final)

    def save(self, folder: Path, position: dict[str, int]) -> None:
        """Write this rank's part of the resumable state."""
        self._engine.save(folder, position)
        if self._critic:
            self._critic.save(folder / CRITIC, position)
        if self.place.rank == 0:
            state = self.average.model.state_dict() | {HITS: self.usage.hits, CPU: torch.tensor(self.cpu_seconds)}
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
    run, place = training.run, training.place
    window = _Window(training)
    quality: dict[str, float] = {}
    with TrainingViews(
        data.train, data.rule, run.seed, run.recipe.batch, run.share, place.rank, run.cpus_per_worker
    ) as views:
        for step in range(start, run.steps):
            batches = _micro_batches(to_tensor(views.take(step)), run, place)
            tended = training.tend_codebook(step, batches)
            if tended:
                observer.on_metrics(step, tended)
            window.add(training.step(step, batches))
            done = step + 1
            if done % LOG_EVERY == 0 or done == run.steps:
                figures = window.close() | {schema.LR: run.recipe.lr * training.lr_factor(step)}
                observer.on_metrics(done, figures)
                if not math.isfinite(figures[schema.TRAIN_LOSS]):
                    return {}
            if done in run.evaluate_at:
                with window.paused():
                    quality = _validate(training, data, whole=done == run.steps)
                observer.on_metrics(done, {schema.VAL + name: value for name, value in quality.items()})
            if done % run.checkpoint_every == 0 and done < run.steps:
                with window.paused():
                    observer.on_checkpoint(done)
    return quality


def _muon_optimizer(objective: TokenizerObjective, lr: float, betas: tuple[float, float], muon: Muon) -> MuonAdamW:
    """Muon on the convolutions between the RGB layers and outside the quantizer, AdamW on the rest."""
    chosen = {
        id(parameter)
        for name, parameter in objective.tokenizer.named_parameters()
        if parameter.dim() == 4 and not name.startswith(RGB_LAYERS) and not name.startswith("quantize.")
    }
    groups = parameter_groups(objective)
    matrices = {"params": [p for group in groups for p in group["params"] if id(p) in chosen], "decayed": True}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
    return MuonAdamW([*rest, matrices | {"lr_scale": muon.lr / lr, "momentum": muon.momentum}], lr=lr, betas=betas)


def _micro_batches(images: torch.Tensor, run: TokenizerRun, place: Place) -> list[torch.Tensor]:
    parts = images.split(run.micro_batch)
    return [part.to(place.device, memory_format=torch.channels_last) for part in parts]


def _critic_loss(model: nn.Module, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    real, fake = model(torch.cat(pair)).float().chunk(2)
    return hinge_discriminator_loss(real, fake)


def _validate(training: TokenizerTraining, data: TokenizerData, whole: bool) -> dict[str, float]:
    """Quality of the averaged weights; the last one, on ``whole`` validation images, with the Fréchet distance."""
    place, model, evaluation = training.place, training.average.model, data.evaluation
    count = len(data.val) if whole else min(evaluation.images or len(data.val), len(data.val))
    batches = validation_batches(data.val, data.rule, count, evaluation.batch, place.rank, place.world_size)
    space = own_features(model) if whole else None
    return measure(model, batches, place.device, space, place.world_size).facts()


class _Window:
    """Training figures since the last record, and the time that training took."""

    def __init__(self, training: TokenizerTraining) -> None:
        self._training = training
        self._figures: list[dict[str, torch.Tensor]] = []
        self._clock = _Clock()

    def add(self, figures: dict[str, torch.Tensor]) -> None:
        self._figures.append(figures)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time of the block is not training's."""
        stopped = self._clock.elapsed()
        yield
        self._clock = _Clock(before=stopped)

    def close(self) -> dict[str, float]:
        """Means over the window and all ranks; then a new window begins."""
        training, place = self._training, self._training.place
        names = sorted({name for figures in self._figures for name in figures})
        means = [torch.stack([f[name].double().cpu() for f in self._figures if name in f]).mean() for name in names]
        seconds, cpu_seconds = self._clock.elapsed()
        sums = torch.stack([*means, torch.tensor(cpu_seconds, dtype=torch.float64)]).to(place.device)
        if place.world_size > 1:
            dist.all_reduce(sums)
        *totals, cpu_seconds = sums.tolist()
        training.cpu_seconds += cpu_seconds
        metrics = {name: total / place.world_size for name, total in zip(names, totals, strict=True)}
        metrics[schema.TRAIN + schema.PSNR] = psnr(metrics[schema.TRAIN + "l2"])
        metrics[schema.IMAGES_PER_S] = len(self._figures) * training.run.recipe.batch / seconds
        metrics[schema.CPU_SECONDS] = training.cpu_seconds
        self._figures, self._clock = [], _Clock()
        return metrics


class _Clock:
    """Wall and CPU seconds of this process since it was made, and before."""

    def __init__(self, before: tuple[float, float] = (0.0, 0.0)) -> None:
        self._wall, self._cpu = time.monotonic() - before[0], time.process_time() - before[1]

    def elapsed(self) -> tuple[float, float]:
        return time.monotonic() - self._wall, time.process_time() - self._cpu
