"""From a tokenizer's specification to its run: every number resolved, and the key that says what decides its result."""

from __future__ import annotations

from dataclasses import dataclass

from varscale.errors import UserError
from varscale.identity import Facts, digest, tokenizer_settings
from varscale.models.shapes import VQVAEConfig
from varscale.plan.batch_split import BatchSplit, batch_split
from varscale.plan.cadence import Cadence, evaluation_steps
from varscale.spec.tokenizer import TokenizerRecipe, TokenizerShape, TokenizerStudy


@dataclass(frozen=True)
class TokenizerRun:
    """One training of a tokenizer."""

    name: str
    seed: int
    vqvae: VQVAEConfig
    recipe: TokenizerRecipe
    precision: str
    warmup_steps: int
    quantize_from: int
    """The step at which the codebook is made; before it the decoder sees the encoder's own latents."""
    largest_micro_batch: int | None
    """Most images per forward pass on one worker; None is a worker's share of the batch."""
    workers: int
    cpus_per_worker: int
    gpus_per_worker: int
    cadence: Cadence
    settings: Facts
    """All that decides the result but how batches are split."""

    @property
    def run_key(self) -> str:
        """Digest of the settings."""
        return digest(self.settings)

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.recipe.steps

    def split(self, workers: int) -> BatchSplit:
        """What each of so many workers does of a step; UserError where the batch does not divide among them."""
        return batch_split(self.recipe.batch, workers, self.largest_micro_batch, "recipe.batch")

    @property
    def perceptual_is_off(self) -> bool:
        """LPIPS is wanted, and its weights are not named."""
        return self.recipe.perceptual is not None and self.recipe.perceptual.vgg16 is None


def tokenizer_config(shape: TokenizerShape) -> VQVAEConfig:
    """The architecture a specification asks for."""
    return VQVAEConfig(**shape.model_dump())


def make_run(study: TokenizerStudy, data_fingerprint: str, node_cpus: int = 1) -> TokenizerRun:
    """The run of a specification.

    Args:
        data_fingerprint: of the images it trains on.
        node_cpus: CPUs of the largest node, which the workers share unless the specification says otherwise.

    Raises:
        UserError: a batch that does not divide, or no step left for the quantizer.
    """
    recipe, resources = study.recipe, study.resources
    warmup, quantize_from = (round(share * recipe.steps) for share in (recipe.warmup_fraction, recipe.quantize_from))
    if quantize_from >= recipe.steps:
        raise UserError(f"recipe.quantize_from: {recipe.quantize_from} leaves none of {recipe.steps} steps a quantizer")
    shared_cpus = 1 if resources.gpus_per_worker else max(1, node_cpus // resources.workers)
    run = TokenizerRun(
        name=study.name,
        seed=study.seed,
        vqvae=tokenizer_config(study.model),
        recipe=recipe,
        precision=study.engine.precision,
        warmup_steps=warmup,
        quantize_from=quantize_from,
        largest_micro_batch=study.engine.micro_batch,
        workers=resources.workers,
        cpus_per_worker=resources.cpus_per_worker or shared_cpus,
        gpus_per_worker=resources.gpus_per_worker,
        cadence=Cadence(
            recipe.steps,
            evaluation_steps(recipe.steps, max(warmup, quantize_from + 1), study.evaluation.points),
            study.checkpoints.every_steps,
        ),
        settings=tokenizer_settings(study, data_fingerprint),
    )
    run.split(run.workers)  # refused before anything starts, not by a worker
    return run
