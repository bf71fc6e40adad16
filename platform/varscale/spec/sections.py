"""What study files and tokenizer files share: the base of all sections, and the sections that are the same in both.

Sections are frozen and refuse unknown fields. Those with ``by_depth`` let single sizes differ without a second copy.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from varscale.spec.field_errors import problem
from varscale.spec.marks import CONTENT, WHERE


class Section(BaseModel):
    """Base of all parts of a specification."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class PerDepth(Section):
    """A section whose fields can differ for single depths: ``by_depth: {6: {workers: 2}}``."""

    by_depth: dict[int, dict[str, Any]] = Field(default_factory=dict)
    """Depth → fields of this section that differ for it."""

    def at(self, depth: int) -> Self:
        """This section as it holds for one depth."""
        own = self.model_dump(exclude={"by_depth"})
        return type(self).model_validate({**own, **self.by_depth.get(depth, {})})

    @model_validator(mode="after")
    def _check_each_depth(self) -> Self:
        for depth, changes in self.by_depth.items():
            if "by_depth" in changes:
                raise ValueError(f"by_depth.{depth}: by_depth cannot stand inside itself")
            try:
                self.at(depth)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in (depth, *first["loc"]))
                raise ValueError(f"by_depth.{field}: {problem(first, type(self))}") from None
        return self


class Data(Section):
    """Which images, and how they are seen."""

    source: Annotated[str, CONTENT]
    """Shards made by ``varscale ingest``, or anything it takes, ingested on the way: a path or a URL."""
    image_size: int = Field(gt=0)
    """Side of the views in pixels; the tokenizer's."""
    resize_ratio: float = Field(1.125, ge=1, le=4)
    """Shorter side is resized to this times image_size before the crop; at 1 a square image is seen whole."""
    flip: bool = False
    """Mirror half of the training views."""
    views: int = Field(1, ge=1)
    """Augmented views per image that are encoded; epoch e sees view e mod views."""
    encoding: Literal["once", "every_step"] = "once"
    """once: before training, in ``views`` views. every_step: fresh crops are encoded on the fly, for ever."""
    tokens: Annotated[str | None, CONTENT] = None
    """Token shards made by ``varscale tokenise``; by default they are made in the store."""
    cache_gib: Annotated[float, WHERE] = Field(200, gt=0)
    """Most that local copies of shards in object storage may take, on each node."""
    val_fraction: Annotated[float, CONTENT] = Field(0.1, gt=0, lt=1)
    """Share of validation images where the source has no train and val folders."""

    @property
    def cache_bytes(self) -> int:
        """``cache_gib`` in bytes."""
        return round(self.cache_gib * 2**30)


class StepEngine(Section):
    """How a step is computed."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast, also of a tokenizer's critics; weights, moments, losses and the quantizer stay float32."""
    micro_batch: Annotated[int | None, WHERE] = Field(None, gt=0)
    """Images per forward pass on one worker; null takes the worker's share of the batch whole."""


class Checkpoints(Section):
    """Resumable state."""

    every_steps: int = Field(500, gt=0)
    """Steps between two checkpoints."""
    keep: int = Field(2, ge=1)
    """Checkpoints kept per size, the latest; where one is damaged, training goes on from the one before."""
    max_failures: int = Field(2, ge=0)
    """Restarts of a size from its checkpoint before it counts as failed."""


class Tracking(Section):
    """Where records go."""

    uri: str | None = None
    """MLflow tracking URI; null means a SQLite database in the store."""
