"""How a global batch is divided among workers, and a worker's share into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

from varscale.errors import UserError


@dataclass(frozen=True)
class BatchSplit:
    """What one worker does of each step."""

    micro_batch: int
    """Images per forward pass."""
    accumulation: int
    """Forward passes per step."""

    @property
    def share(self) -> int:
        """Images of each global batch that one worker takes."""
        return self.micro_batch * self.accumulation


def batch_split(batch: int, workers: int, largest: int | None, field: str, where: str = "") -> BatchSplit:
    """The split of ``batch`` images among ``workers``.

    Args:
        largest: most images per forward pass; None takes a worker's share whole.
        field: of a specification, where the batch stands.
        where: what a message adds, such as " at depth 3".

    Raises:
        UserError: it does not come out even.
    """
    share, rest = divmod(batch, workers)
    if rest:
        raise UserError(f"{field}: {batch} images do not divide among resources.workers {workers}{where}")
    micro_batch = min(largest or share, share)
    if share % micro_batch:
        raise UserError(f"engine.micro_batch: {micro_batch} does not divide the {share} images a worker takes{where}")
    return BatchSplit(micro_batch, share // micro_batch)
