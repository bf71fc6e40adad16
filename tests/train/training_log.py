"""What the tests of both training loops watch them with."""

from __future__ import annotations

from collections.abc import Callable


class Log:
    """Keeps what a loop reports; saves where told."""

    def __init__(self, save: Callable[[int], None] = lambda step: None) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.on_checkpoint = save

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics.append((step, metrics))

    def last(self, name: str) -> float:
        return [metrics[name] for _, metrics in self.metrics if name in metrics][-1]
