"""A study as its user writes it: every section, every field, what is allowed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from varscale.spec.marks import AXIS, CONTENT, READING, WHERE, Later
from varscale.spec.sections import Checkpoints, Data, PerDepth, Section, StepEngine, Tracking


class PretrainedTokenizer(Section):
    """A tokenizer that exists."""

    kind: Annotated[Literal["pretrained"], CONTENT]
    """Says that the weights exist."""
    path: Annotated[str, CONTENT]
    """Weights file: ours (.safetensors) or a released one (.pth)."""


class TrainedTokenizer(Section):
    """A tokenizer trained in the study, on the study's data."""

    kind: Annotated[Literal["train"], CONTENT]
    """Says that the study trains it."""
    spec: Annotated[str, CONTENT] = "studies/tokenizer-emoji32.yaml"
    """A tokenizer specification, as for ``varscale tokenizer train``; by default the small one for 32 px."""


class Sizes(Section):
    """The grid: one model per depth. Of a VAR, width = aspect × depth, heads = depth, drop-path = 0.1·depth/24."""

    family: Annotated[str, Later("var")] = "var"
    """Family of models, by its name in ``varscale.families.catalogue``."""
    depths: Annotated[tuple[Annotated[int, Field(gt=0)], ...], AXIS] = Field(min_length=1)
    """Depth of each size; each may stand once."""
    aspect: int = Field(64, gt=0)
    """Width per layer; also the width of a head. The paper's is 64."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.depths)) < len(self.depths):
            raise ValueError(f"depths repeat in {list(self.depths)}; each may stand once")
        return self


class Budget(Section):
    """How long each size trains."""

    images: int = Field(gt=0)
    """Training images seen, repeats counted."""


class Optimizer(PerDepth):
    """AdamW and its schedule (docs/MODEL.md 3)."""

    batch: int = Field(gt=0)
    """Global batch in images."""
    peak_lr: float = Field(gt=0)
    """Peak learning rate at reference_batch and reference_width."""
    reference_batch: int = Field(256, gt=0)
    """lr scales with batch / reference_batch."""
    reference_width: int | None = Field(None, gt=0)
    """If given, lr scales with reference_width / width: short runs need it, the paper's long ones did not."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decays of AdamW's two moments."""
    weight_decay: float = Field(0.05, ge=0)
    """Weight decay at the first step, of matrices and class embeddings."""
    final_weight_decay: float | None = Field(None, ge=0)
    """Weight decay moves to this along a cosine; null keeps it constant."""
    clip: float = Field(2.0, gt=0)
    """Largest global gradient norm."""
    schedule: str = Field("lin0", pattern=r"^(lin|lin0|lin00|cos|exp|lin0\.\d+)$")
    """Learning rate after warm-up: lin0 is 5 % flat, then a line; the others stand in ``varscale.plan.schedule``."""
    warmup_fraction: float = Field(0.02, ge=0, lt=1)
    """Share of the steps in which the learning rate rises in a line."""
    final_lr_fraction: float = Field(0.01, gt=0, le=1)
    """Learning rate at the end, as a share of the peak."""
    label_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of labels replaced by "no class"."""
    adaln_gamma: float = Field(1e-3, gt=0)
    """Factor on the γ rows at initialisation; runs of a few thousand steps need it near 0.5."""


class Engine(StepEngine, PerDepth):
    """How a step is computed."""

    zero_stage: Annotated[Literal["auto", 1, 2, 3], WHERE] = "auto"
    """auto: the lowest that fits resources.memory_gib."""
    activation_checkpointing: Annotated[bool, WHERE] = False
    """Keep only each block's input for the backward pass and compute the rest again: less memory, more time."""


class Resources(PerDepth):
    """What each size runs on."""

    workers: int = Field(1, ge=1)
    """Ray Train workers per size; they must divide optimizer.batch."""
    cpus_per_worker: int = Field(1, ge=1)
    """CPUs, and threads, of each worker."""
    gpus_per_worker: int = Field(0, ge=0)
    """GPUs of each worker."""
    memory_gib: float = Field(8.0, gt=0)
    """Memory a worker may fill with model state and activations."""


class Evaluation(Section):
    """What is measured, when."""

    points: int = Field(12, ge=3)
    """Validations per run, log-spaced from the end of warm-up to the last step; a frontier needs two after the first
    tenth, which takes more points the shorter the warm-up is."""
    batch: int = Field(128, gt=0)
    """Images per forward pass of a validation."""
    cfg: float = Field(1.5, ge=0)
    """Guidance of the samples at the last scale."""
    top_k: int = Field(0, ge=0)
    """Samples are drawn from the k likeliest tokens; 0 keeps all."""
    top_p: float = Field(0.0, ge=0, le=1)
    """Samples are drawn from this probability mass; 0 keeps all."""
    images: int = Field(1024, ge=2)
    """Samples for the Fréchet distance; classes as frequent as in validation."""


class Analysis(Section):
    """The fit, declared before its data exist."""

    form: Literal["auto", "power", "power_floor"] = "auto"
    """auto: a floor is fitted where the data show one."""
    bootstrap: int = Field(1000, ge=100)
    """Replicates of each bootstrap."""


class Study(Section):
    """A study: data, tokenizer, sizes, how each trains, what is measured, what is fitted."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of the study, and of its MLflow experiment."""
    seed: int = Field(0, ge=0)
    """Seeds initialisation, order, noise, views and bootstraps."""
    store: Annotated[str, WHERE] = ".varscale"
    """Folder for tokens, checkpoints, records and reports; every worker must see it."""
    data: Data
    tokenizer: Annotated[PretrainedTokenizer | TrainedTokenizer, Field(discriminator="kind")]
    sizes: Sizes
    budget: Budget
    optimizer: Optimizer
    engine: Engine = Engine()
    resources: Annotated[Resources, WHERE] = Resources()
    evaluation: Evaluation = Evaluation()
    checkpoints: Annotated[Checkpoints, WHERE] = Checkpoints()
    tracking: Annotated[Tracking, WHERE] = Tracking()
    analysis: Annotated[Analysis, READING] = Analysis()

    @model_validator(mode="after")
    def _depths_are_planned(self) -> Self:
        for name in ("optimizer", "engine", "resources"):
            unknown = sorted(set(getattr(self, name).by_depth) - set(self.sizes.depths))
            if unknown:
                raise ValueError(
                    f"{name}.by_depth: depth {unknown[0]} is not in sizes.depths {list(self.sizes.depths)}"
                )
        return self
