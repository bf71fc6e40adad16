"""From a tokenizer's specification to its run: every number resolved, and the key that says what decides its result."""

from __future__ import annotations

from dataclasses import dataclass

from varscale.errors import UserError
from varscale.identity import Facts, digest, tokenizer_settings
from varscale.models.shapes import VQVAEConfig
from varscale.plan.cells import evaluation_steps
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
    micro_batch: int
    accumulation: int
    workers: int
    cpus_per_worker: int
    gpus_per_worker: int
    evaluate_at: tuple[int, ...]
    """Steps after which validation runs, the last one included."""
    checkpoint_every: int
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

    @property
    def share(self) -> int:
        """Images of each batch that a worker takes."""
        return self.micro_batch * self.accumulation

    @property
    def perceptual_is_off(self) -> bool:
        """LPIPS is wanted, and its weights are not named."""
        return self.recipe.perceptual is not None and self.recipe.perceptual.vgg16 is None


def vqvae_config(shape: TokenizerShape) -> VQVAEConfig:
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
    micro_batch, accumulation = _batch_split(study)
    shared_cpus = 1 if resources.gpus_per_worker else max(1, node_cpus // resources.workers)
    return TokenizerRun(
        name=study.name,
        seed=study.seed,
        vqvae=vqvae_config(study.model),
        recipe=recipe,
        precision=study.engine.precision,
        warmup_steps=warmup,
        quantize_from=quantize_from,
        micro_batch=micro_batch,
        accumulation=accumulation,
        workers=resources.workers,
        cpus_per_worker=resources.cpus_per_worker or shared_cpus,
        gpus_per_worker=resources.gpus_per_worker,
        evaluate_at=evaluation_steps(recipe.steps, max(warmup, quantize_from + 1), study.evaluation.points),
        checkpoint_every=study.checkpoints.every_steps,
        settings=tokenizer_settings(study, data_fingerprint),
    )


def _batch_split(study: TokenizerStudy) -> tuple[int, int]:
    """Micro-batch of a worker and number of accumulated ones, whose product times workers is the batch."""
    batch, workers = study.recipe.batch, study.resources.workers
    share, rest = divmod(batch, workers)
    if rest:
        raise UserError(f"recipe.batch: {batch} images do not divide among resources.workers {workers}")
    micro_batch = min(study.engine.micro_batch or share, share)
    if share % micro_batch:
        raise UserError(f"engine.micro_batch: {micro_batch} does not divide the {share} images a worker takes")
    return micro_batch, share // micro_batch
