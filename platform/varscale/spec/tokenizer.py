"""A tokenizer's specification as its user writes it: images, shape, how it trains, what is measured.

Every hyper-parameter of the training stands here. Two files show it whole: ``studies/tokenizer-emoji32.yaml``, small
and trained in minutes, and ``studies/tokenizer-imagenet256.yaml`` at the paper's size.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from varscale.spec.marks import CONTENT, NAME, READING, WHERE
from varscale.spec.sections import Checkpoints, Data, Section, StepEngine, Tracking

PERCEPTUAL_MIN_SIDE = 16
"""Pixels: VGG16 halves four times before its last features."""


class TokenizerShape(Section):
    """Architecture of a multi-scale VQVAE; the published one is ch 160, V 4096, z 32 (docs/MODEL.md 1)."""

    vocab_size: int = Field(gt=1, le=65536)
    """V, number of codes."""
    z_channels: int = Field(gt=0)
    """Width of a code."""
    ch: int = Field(gt=0)
    """Channels at full resolution; level i has ch × ch_mult[i]."""
    ch_mult: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    """One factor per level; the image side is 2^(levels - 1) × the last of patch_nums."""
    num_res_blocks: int = Field(2, ge=1)
    """Residual blocks per level of the encoder; the decoder has one more."""
    patch_nums: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=2)
    """Sides of the token maps, ascending."""
    norm_groups: int = Field(32, gt=0)
    """Groups of the group norms; they divide the channels of every level."""
    level_attention: bool = True
    """Attention after each block of the lowest level."""
    quant_resi: float = 0.5
    """r in φ(x) = (1 - r)·x + r·conv(x)."""
    share_quant_resi: int = Field(4, ge=0)
    """Number of φ that the scales share; 0 gives each its own."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.patch_nums) != sorted(set(self.patch_nums)):
            raise ValueError(f"patch_nums {list(self.patch_nums)} must ascend")
        for factor in (1, *self.ch_mult):
            if self.ch * factor % self.norm_groups:
                raise ValueError(f"{self.ch * factor} channels are not a multiple of norm_groups {self.norm_groups}")
        return self


class Perceptual(Section):
    """LPIPS (Zhang et al. 2018): distance in VGG16 features, weighed by learned heads.

    Its weights are not ours to ship: torchvision publishes the first file, the ``lpips`` package the second. While
    neither is named the loss is off, and training says so.
    """

    weight: float = Field(1.0, gt=0)
    """Weight of the loss."""
    vgg16: Annotated[str | None, CONTENT] = None
    """Weights of torchvision's VGG16 (keys ``features.*``), .pth or .safetensors."""
    heads: Annotated[str | None, CONTENT] = None
    """The published heads ``vgg.pth`` (keys ``lin0.model.1.weight`` … ``lin4.model.1.weight``)."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.vgg16 is None) != (self.heads is None):
            raise ValueError("vgg16 and heads: name both files or neither")
        return self


class Muon(Section):
    """Muon for the convolutions' weights; RGB layers, φ, codes, norms and biases stay with AdamW."""

    lr: float = Field(gt=0)
    """Peak learning rate; updates are scaled to the size of AdamW's."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Decay of the momentum."""


class Adversarial(Section):
    """A patch discriminator trained against the tokenizer (Esser et al. 2021, eq. 5 to 7)."""

    weight: float = Field(0.5, gt=0)
    """Weight of the generator's loss."""
    start_step: int = Field(0, ge=0)
    """First step in which the two sides play; before it neither runs."""
    adaptive: bool = True
    """Times the ratio of both losses' gradients at the decoder's last layer."""
    channels: int = Field(64, gt=0, multiple_of=4)
    """Channels of the discriminator's first layer."""
    layers: int = Field(3, ge=1)
    """Strided convolutions after which each logit judges a patch."""
    lr: float | None = Field(None, gt=0)
    """Peak of the discriminator's learning rate; null takes the tokenizer's."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decays of the moments of the discriminator's AdamW."""


class TokenizerRecipe(Section):
    """How a tokenizer trains. Its loss is l2 + l1 + perceptual + adversarial on images, and codebook + commitment on
    latents (docs/MODEL.md 1.5), each times its weight."""

    steps: int = Field(gt=0)
    """Optimizer steps."""
    batch: int = Field(gt=0)
    """Global batch in images."""
    lr: float = Field(gt=0)
    """Peak learning rate of AdamW."""
    muon: Muon | None = None
    """Takes part of the weights over from AdamW."""
    codebook_lr_scale: float = Field(1.0, gt=0)
    """Learning rate of the codes, as a multiple of ``lr``."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decays of AdamW's two moments."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of matrices and convolutions, constant."""
    clip: float = Field(1.0, gt=0)
    """Largest global gradient norm."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after a linear warm-up."""
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises in a line."""
    final_lr_fraction: float = Field(0.0, ge=0, le=1)
    """End of the cosine, as a share of the peak."""
    l2_weight: float = Field(1.0, ge=0)
    """Weight of the mean squared error of images."""
    l1_weight: float = Field(0.2, ge=0)
    """Weight of the mean absolute error of images."""
    codebook_weight: float = Field(1.0, ge=0)
    """Weight of the quantizer's loss that moves codes and φ."""
    commitment: float = Field(0.25, ge=0)
    """β of the quantizer's loss."""
    perceptual: Perceptual | None = None
    adversarial: Adversarial | None = None
    ema_decay: float = Field(0.998, ge=0, lt=1)
    """Decay per step of the averaged weights, which are the ones kept."""
    quantize_from: float = Field(0.0, ge=0, lt=1)
    """Share of the steps that go without the quantizer; then the codebook begins as k-means of the residuals."""
    revive_every: int = Field(50, gt=0)
    """Every so many steps, codes not used since the last time move onto residuals of the current batch."""
    revive_until: float = Field(0.8, ge=0, le=1)
    """Share of the steps after which codes are left alone, so that the codebook settles."""

    @model_validator(mode="after")
    def _has_a_reconstruction_loss(self) -> Self:
        if self.l1_weight == 0 and self.l2_weight == 0:
            raise ValueError("l1_weight and l2_weight are both 0; reconstruction needs one of them")
        return self

    @model_validator(mode="after")
    def _has_steps_for_the_critic(self) -> Self:
        if self.adversarial and self.adversarial.start_step >= self.steps:
            raise ValueError(
                f"adversarial.start_step: {self.adversarial.start_step} leaves none of {self.steps} steps; wanted less"
            )
        return self


class TokenizerResources(Section):
    """What the training runs on."""

    workers: int = Field(1, ge=1)
    """Ray Train workers; they must divide recipe.batch."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """null divides the CPUs of the largest node among the workers, or gives 1 to each where they have GPUs."""
    gpus_per_worker: int = Field(0, ge=0)
    """GPUs of each worker."""


class TokenizerEvaluation(Section):
    """What is measured while it trains: PSNR, SSIM and use of codes on validation images, with averaged weights."""

    points: int = Field(8, ge=2)
    """Validations, log-spaced from the end of warm-up (and the codebook's first step) to the last step."""
    images: int | None = Field(None, ge=1)
    """Only the first so many images until the last step, which takes all."""
    batch: int = Field(64, gt=0)
    """Images per forward pass of a validation."""


class TokenizerStudy(Section):
    """A tokenizer to be trained."""

    name: Annotated[str, NAME] = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of the training, and of its MLflow experiment."""
    seed: int = Field(0, ge=0)
    """Seeds initialisation, order, crops and the codebook."""
    store: Annotated[str, WHERE] = ".varscale"
    """Folder for shards, checkpoints and records; every worker must see it."""
    data: Data
    model: TokenizerShape
    recipe: TokenizerRecipe
    output: Annotated[str, WHERE] = Field(pattern=r"\.safetensors$")
    """The weights file (.safetensors)."""
    engine: StepEngine = StepEngine()
    resources: Annotated[TokenizerResources, WHERE] = TokenizerResources()
    evaluation: Annotated[TokenizerEvaluation, READING] = TokenizerEvaluation()
    checkpoints: Annotated[Checkpoints, WHERE] = Checkpoints()
    tracking: Annotated[Tracking, WHERE] = Tracking()

    @model_validator(mode="after")
    def _image_size_fits(self) -> Self:
        side = self.model.patch_nums[-1] * 2 ** (len(self.model.ch_mult) - 1)
        if side != self.data.image_size:
            raise ValueError(
                f"data.image_size: {self.data.image_size}, but patch_nums ending in {self.model.patch_nums[-1]} and"
                f" {len(self.model.ch_mult)} levels make {side}"
            )
        return self

    @model_validator(mode="after")
    def _losses_fit_the_side(self) -> Self:
        side, adversarial = self.data.image_size, self.recipe.adversarial
        if self.recipe.perceptual and side < PERCEPTUAL_MIN_SIDE:
            raise ValueError(f"recipe.perceptual: needs images of {PERCEPTUAL_MIN_SIDE} px or more, not {side}")
        if adversarial and side // 2**adversarial.layers < 3:
            raise ValueError(f"recipe.adversarial.layers: {adversarial.layers} leave no patch of {side} px images")
        return self
