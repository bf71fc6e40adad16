"""The contract of the records: names, columns, units.

The writer of the records imports these names too, so a metric, a param or a tag is spelled in one place only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lawfit.arrays import Array
from lawfit.errors import RecordError

if TYPE_CHECKING:
    from mlflow.entities import Run

# Names of metrics, logged at step = optimizer step. `flops` is logged at every step where another metric is.
VAL_LOSS = "val/loss"
VAL_LOSS_LAST = "val/loss_last"
VAL_ERROR = "val/error"
VAL_ERROR_LAST = "val/error_last"
TRAIN_LOSS = "train/loss"
LR = "train/lr"
GRAD_NORM = "train/grad_norm"
IMAGES_PER_S = "perf/images_per_s"
FLOPS_PER_S = "perf/flop_per_s"
FLOPS = "flops"
FID = "fid"
FD_TOKENIZER = "fd/tokenizer"

# Of tokenizers: figures have one of these prefixes. A tokenizer's run has `train/<term>` and `val/<figure>`, the parent
# run of a study that uses it `tokenizer/<figure>`.
TRAIN = "train/"
VAL = "val/"
OF_TOKENIZER = "tokenizer/"
PSNR = "psnr_db"
SSIM = "ssim"
FD_RECONSTRUCTION = "fd_reconstruction"
CODES_USED = "codes_used_percent"
CODE_PERPLEXITY = "code_perplexity"
CODES_REVIVED = "codes_revived"
CPU_SECONDS = "perf/cpu_seconds"


def by_scale(name: str, k: int) -> str:
    """Name of a figure of one scale, counted from 0."""
    return f"{name}_scale_{k}"


# Params: flat, dotted, what a run is, whoever makes it. MLflow keeps them as strings and never changes them.
MODEL_DEPTH = "model.depth"
MODEL_WIDTH = "model.width"
MODEL_HEADS = "model.heads"
MODEL_DROP_PATH = "model.drop_path"
MODEL_N_PAPER = "model.n_paper"
MODEL_N_PARAMS = "model.n_params"
DATA_TOKENS = "data.tokens"
DATA_IMAGES = "data.images"
DATA_FINGERPRINT = "data.fingerprint"
DATA_VIEWS = "data.views"
DATA_ENCODING = "data.encoding"
TOKENIZER_FINGERPRINT = "tokenizer.fingerprint"
TOKENIZER_KIND = "tokenizer.kind"
OPTIMIZER_LR = "optimizer.lr"
OPTIMIZER_BATCH = "optimizer.batch"
OPTIMIZER_STEPS = "optimizer.steps"
OPTIMIZER_BASE_LR = "optimizer.base_lr"
OPTIMIZER_WARMUP = "optimizer.warmup_fraction"
OPTIMIZER_SCHEDULE = "optimizer.schedule"
SAMPLES_CFG = "samples.cfg"
SAMPLES_TOP_K = "samples.top_k"
SAMPLES_TOP_P = "samples.top_p"
SAMPLES_IMAGES = "samples.images"
SAMPLES_ROWS = "samples.rows"
"""Classes of a sample grid's rows, from the top."""
ENGINE_PRECISION = "engine.precision"
SEED = "seed"

# Artifacts: files of a run.
MODEL_FILE = "model.safetensors"
MODEL_FOLDER = "checkpoint"
GRID_FILE = "samples.png"
GRID_FOLDER = "samples"
RECONSTRUCTIONS_FILE = "reconstructions.png"
REPORT_FOLDER = "report"

# Tags: what may change, such as the facts of the latest attempt at a run, on other workers perhaps.
ENGINE_ZERO_STAGE = "engine.zero_stage"
ENGINE_MICRO_BATCH = "engine.micro_batch"
ENGINE_ACCUMULATION = "engine.accumulation"
RESOURCES_WORLD_SIZE = "resources.world_size"
TAG_KIND = "kind"
TAG_RUN_KEY = "run_key"
TAG_GIT_COMMIT = "git.commit"
TAG_STATE = "state"
TAG_CHECKPOINT = "checkpoint"
TAG_STUDY_KEY = "study_key"
TAG_PARENT = "mlflow.parentRunId"
TAG_REASON = "reason"
"""Why a run failed."""
TAG_RESUMED = "resumed_at_step"
"""Step of the checkpoint that the latest attempt went on from."""
TAG_SINCE = "attempts_alike_since"
"""Milliseconds since 1970: when the first of the latest attempts, all on workers alike, began."""
TAG_NOTICE = "notice"
"""Last thing that the user was told of the run, such as that it had to start again."""

KIND_STUDY = "study"
KIND_CELL = "cell"
KIND_TOKENIZER = "tokenizer"
STATE_RUNNING = "running"
STATE_FINISHED = "finished"
STATE_FAILED = "failed"
STATE_INTERRUPTED = "interrupted"
"""Stopped from outside, to go on later; a run that is neither closed nor at work still says running."""
STATES = (STATE_RUNNING, STATE_FINISHED, STATE_FAILED, STATE_INTERRUPTED)


@dataclass(frozen=True)
class Param:
    """An MLflow param, or tag, the frame column it becomes and the type its string is read as."""

    name: str
    column: str
    read: Callable[[str], int | float | str]


PARAMS = (
    Param(MODEL_DEPTH, "depth", int),
    Param(MODEL_WIDTH, "width", int),
    Param(MODEL_HEADS, "heads", int),
    Param(MODEL_N_PAPER, "n_paper", int),
    Param(MODEL_N_PARAMS, "n_params", int),
    Param(DATA_TOKENS, "tokens", int),
    Param(DATA_IMAGES, "images", int),
    Param(DATA_FINGERPRINT, "data_fingerprint", str),
    Param(TOKENIZER_FINGERPRINT, "tokenizer_fingerprint", str),
    Param(TOKENIZER_KIND, "tokenizer_kind", str),
    Param(OPTIMIZER_LR, "lr", float),
    Param(OPTIMIZER_BATCH, "batch", int),
    Param(OPTIMIZER_STEPS, "steps", int),
    Param(SEED, "seed", int),
)

ATTEMPT = (Param(ENGINE_ZERO_STAGE, "zero_stage", int), Param(RESOURCES_WORLD_SIZE, "world_size", int))
"""Tags that say what a run's latest attempt ran on; the first records have them as params. A run may lack them."""


def settings(run: Run) -> dict[str, str]:
    """Params of a run, and what is kept of its attempt, by the names above."""
    tags = run.data.tags
    return run.data.params | {param.name: tags[param.name] for param in ATTEMPT if param.name in tags}


LARGEST = 1e300
"""Nothing that is measured is larger."""


def as_logged(values: Array) -> Array:
    """Values, with inf where a store has the largest float: MLflow's databases keep an infinite metric as that."""
    return np.where(np.abs(values) > LARGEST, np.copysign(np.inf, values), values)


def figures(run: Run) -> dict[str, float]:
    """Latest value of each metric of a run."""
    return {name: float(as_logged(np.array(value, float))) for name, value in run.data.metrics.items()}


OPTIONAL_PARAMS = (
    Param(OPTIMIZER_BASE_LR, "base_lr", float),
    Param(OPTIMIZER_WARMUP, "warmup_fraction", float),
    Param(OPTIMIZER_SCHEDULE, "schedule", str),
    Param(SAMPLES_CFG, "cfg", float),
    Param(SAMPLES_TOP_K, "top_k", int),
    Param(SAMPLES_TOP_P, "top_p", float),
    Param(SAMPLES_IMAGES, "samples", int),
)
"""Settings in which the runs of a law should agree, see `comparability`; a run may lack them."""


@dataclass(frozen=True)
class Column:
    """A quantity that may stand on an axis. `symbol` is its letter in a formula, in TeX, e.g. N in N^-0.05."""

    name: str
    label: str
    unit: str
    meaning: str
    symbol: str

    @property
    def axis(self) -> str:
        """Axis label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Metric(Column):
    """A quantity that says how good a run is. To register one here is all that its reading takes.

    direction: what it does when models get better. of: what it is measured on; those of samples depend on how samples
    are drawn, and each has a law over compute. heading: its column in tables of runs, none if empty. features: space
    of a Fréchet distance. required: every finished run has it, positive and finite at its last step (a rate in % may
    be 0). curve: its whole history is read. primary: its law answers what a study is for; others stand below.
    """

    direction: Literal["falls", "rises"] = "falls"
    of: Literal["tokens", "samples"] = "tokens"
    heading: str = ""
    features: str = ""
    required: bool = False
    curve: bool = False
    primary: bool = True


METRICS = (
    Metric(VAL_LOSS, "Validation loss, all scales", "nats per token",
           "mean cross-entropy over all tokens (the paper's L_avg)", "L",
           heading="loss", required=True, curve=True),
    Metric(VAL_LOSS_LAST, "Validation loss, last scale", "nats per token",
           "mean cross-entropy over the tokens of the last scale (the paper's L_last)", "L",
           heading="loss, last", required=True, curve=True),
    Metric(VAL_ERROR, "Validation error, all scales", "%",
           "share of tokens whose most likely value is wrong", r"\mathrm{Err}",
           heading="error %", required=True, curve=True, primary=False),
    Metric(VAL_ERROR_LAST, "Validation error, last scale", "%",
           "the same over the tokens of the last scale", r"\mathrm{Err}",
           heading="error %, last", required=True, curve=True, primary=False),
    Metric(TRAIN_LOSS, "Training loss", "nats per token", "mean cross-entropy of the batch", "L",
           curve=True, primary=False),
    Metric(FID, "FID", "", "Fréchet distance of Inception features", r"\mathrm{FID}",
           of="samples", heading="FID", features="inception"),
    Metric(FD_TOKENIZER, "Fréchet distance, tokenizer features", "",
           "Fréchet distance of tokenizer features; not comparable with FID", "FD",
           of="samples", heading="FD tokenizer", features="tokenizer"),
)  # fmt: skip
"""Every metric of a run, in the order in which tables and reports show them."""

REQUIRED_METRICS = (*(metric.name for metric in METRICS if metric.required), FLOPS)
CURVE_METRICS = tuple(metric.name for metric in METRICS if metric.curve)
TELEMETRY = (LR, GRAD_NORM, IMAGES_PER_S, FLOPS_PER_S)
"""What a run tells of its course, besides its metrics."""

COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("n_paper", "Model size N = 18·d·w²", "parameters",
               "weights of the d blocks of width w as the VAR paper counts them", "N"),
        Column("n_params", "Exact parameter count", "parameters",
               "every trained parameter, embeddings and head included", "N"),
        Column("tokens", "Training tokens", "tokens", "tokens seen in training, repeats included", "D"),
        Column("images", "Training images", "images", "images seen in training, repeats included", "D"),
        Column("step", "Optimizer step", "steps", "number of optimizer steps taken", "t"),
        Column(FLOPS, "Training compute C", "FLOPs",
               "cumulative FLOPs of whole training steps, forward and backward, 2 per multiply-add", "C"),
        *METRICS,
    )
}  # fmt: skip


def column(name: str) -> Column:
    """The column called `name`; any `fd/<features>` is one. RecordError for another unknown name."""
    if name in COLUMNS:
        return COLUMNS[name]
    if name.startswith("fd/"):
        features = name.removeprefix("fd/")
        return Metric(fd_metric(features), f"Fréchet distance, {features} features", "",
                      f"Fréchet distance of {features} features; not comparable with FID", "FD",
                      of="samples", features=features)  # fmt: skip
    raise RecordError(f"column {name!r} is unknown: expected one of {', '.join(COLUMNS)} or fd/<features>")


def fd_metric(features: str) -> str:
    """Metric name of the Fréchet distance on `features`; only Inception features may be called FID.

    Raises RecordError for features that are no such name.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", features):
        raise RecordError(f"features {features!r} is no metric name: use lower-case letters, digits, '_.-'")
    return FID if features == "inception" else f"fd/{features}"
