"""What is wrong with a data set: one line a problem, of each kind the first ones and how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN = 20
"""Problems of a kind that are kept; the others are counted."""
SHOWN_WARNINGS = 5


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be."""

    kind: str
    where: str
    """File of the data set, or the split."""
    what: str
    allowed: str
    row: int | None = None
    """Counted from 0 in its shard."""
    key: str | None = None
    warning: bool = False
    """Worth knowing, but nothing that training must not meet."""

    def __str__(self) -> str:
        row = "" if self.row is None else f" row {self.row}"
        key = "" if self.key is None else f" (key {self.key})"
        line = f"{self.where}{row}{key}: {self.what}; {self.allowed}"
        return ("warning: " if self.warning else "") + "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


@dataclass
class Problems:
    """Problems by kind, in the order in which the kinds were met. Picklable: every shard's come back from its task."""

    first: dict[str, list[Problem]] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def add(self, problem: Problem, count: int = 1) -> None:
        """Note a problem; one line may stand for ``count`` of them."""
        kept = self.first.setdefault(problem.kind, [])
        if len(kept) < SHOWN:
            kept.append(problem)
        self.count[problem.kind] = self.count.get(problem.kind, 0) + count

    def take(self, others: Problems) -> None:
        """Add those of another shard."""
        for kind, kept in others.first.items():
            mine = self.first.setdefault(kind, [])
            mine.extend(kept[: SHOWN - len(mine)])
            self.count[kind] = self.count.get(kind, 0) + others.count[kind]

    def total(self, warnings: bool) -> int:
        """How many warnings, or how many errors."""
        return sum(self.count[kind] for kind, kept in self.first.items() if kept[0].warning == warnings)

    def lines(self) -> Iterator[str]:
        """A line a problem, by kind; warnings first, so that errors stand next to whatever follows."""
        for kind, kept in sorted(self.first.items(), key=lambda item: not item[1][0].warning):
            lines = kept[:SHOWN_WARNINGS] if kept[0].warning else kept
            yield from map(str, lines)
            if self.count[kind] > len(lines):
                yield f"… and {self.count[kind] - len(lines):,} more of this kind ({kind})"

    def to_json(self) -> dict[str, Any]:
        """All counts, and the problems that were kept."""
        kept = [asdict(problem) for problems in self.first.values() for problem in problems]
        return {"errors": self.total(False), "warnings": self.total(True), "counts": self.count, "problems": kept}
