"""What a family of models provides, so that its sizes are planned, trained, stored, sampled and measured like VAR's.

A family is a rule from a depth to a shape, and from a shape to a model of the tokens of a multi-scale tokenizer. The
rest of the package speaks to this protocol alone; ``families.catalogue`` lists who keeps it. Planning never loads
torch, so a family imports it where it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from varscale.spec.study import Engine, Optimizer, Sizes

if TYPE_CHECKING:
    import torch

    from varscale.models.quantizer import MultiScaleQuantizer
    from varscale.models.sampling import SamplingConfig
    from varscale.models.store import StoredModel


@dataclass(frozen=True)
class TokenFacts:
    """What the data and their tokenizer say of the tokens to be modelled."""

    num_classes: int
    vocab_size: int
    z_channels: int
    """Width of a code."""
    patch_nums: tuple[int, ...]
    """Sides p_k of the scales; L = Σ p_k² tokens make an image."""


class Shape(Protocol):
    """One size: a frozen dataclass with these fields and those of its family, all of which JSON can hold."""

    @property
    def num_classes(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def z_channels(self) -> int: ...
    @property
    def patch_nums(self) -> tuple[int, ...]: ...
    @property
    def width(self) -> int:
        """Channels of a token inside the model; the learning rate may follow it."""


@dataclass(frozen=True)
class Costs:
    """What a size costs."""

    n_paper: int
    """Parameters as papers about the family count them: the N of a law."""
    n_params: int
    """All trained parameters."""
    flops_per_image: int
    """Training FLOPs, forward and backward, 2 per multiply-add, as others count them: the C of a law."""
    executed_flops_per_image: int
    """Those of them that are computed."""


S = TypeVar("S", bound=Shape)
M = TypeVar("M", bound="StoredModel")


class Family(Protocol[S, M]):
    """A family whose shapes are S and whose models are M. It holds no state: workers get a copy."""

    @property
    def name(self) -> str:
        """What studies call it (``sizes.family``); also the ``kind`` of its models' files."""

    # For plans.
    def shape(self, depth: int, facts: TokenFacts, sizes: Sizes, optimizer: Optimizer) -> S:
        """The size of this depth."""

    def costs(self, shape: S) -> Costs:
        """Parameters and FLOPs."""

    def worker_bytes(self, shape: S, micro_batch: int, zero_stage: int, workers: int, engine: Engine) -> int:
        """Memory that training takes on one of ``workers`` at the fullest moment of a step."""

    def params(self, shape: S) -> dict[str, Any]:
        """The shape as the records keep it, by MLflow param (``model.…``); all of ``lawfit``'s must be among them."""

    # For training.
    def model_class(self) -> type[M]:
        """Its models' class, which says how a file holds one."""

    def new_model(self, shape: S, optimizer: Optimizer, activation_checkpointing: bool) -> M:
        """A model with initial weights from torch's global generator."""

    def parameter_groups(self, model: M) -> list[dict[str, Any]]:
        """All trained parameters as an optimizer takes them; each group says ``decayed``, and may say ``lr_scale``."""

    def draws_per_image(self, shape: S) -> int:
        """Random numbers that a training step needs of each image: for dropout and the like."""

    def loss(
        self,
        model: M,
        quantizer: MultiScaleQuantizer,
        tokens: torch.Tensor,
        labels: torch.Tensor,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean cross-entropy in nats, a scalar, of tokens int64 [B, L] of images of ``labels`` int64 [B].

        ``model`` is to be called, as ``model(…)``: an engine stands around it. All that is random is to come from
        ``draws``, float32 [B, draws_per_image] uniform in [0, 1): they belong to the images, so a step is the same on
        any number of workers. Without them, from torch's global generator.
        """

    # For measuring.
    def logits(
        self, model: M, quantizer: MultiScaleQuantizer, tokens: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, L, V] of every token, given what the model may know of the others, in float32."""

    def sample_tokens(
        self,
        model: M,
        quantizer: MultiScaleQuantizer,
        labels: torch.Tensor,
        indices: Sequence[int],
        sampling: SamplingConfig,
    ) -> torch.Tensor:
        """Tokens int64 [B, L] of images drawn for ``labels`` int64 [B]; row i depends on (seed, ``indices[i]``)."""


AnyFamily = Family[Any, Any]
