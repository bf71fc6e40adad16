"""A data set's card as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from varscale.data.cards.histogram import Bin
from varscale.data.cards.images import ImageCard, split_sizes
from varscale.data.cards.tokens import TokenCard
from varscale.data.schema import Shard

ALL_CLASSES = 40
"""More classes than that are shown by their ends."""
ENDS = 10
NAME_WIDTH = 40
BAR = 40
MIB = 2**20


def image_text(card: ImageCard) -> str:
    """The card of an image data set."""
    weights = card.weights
    weighed = f" (of {weights.of:,} images)" if weights.of < sum(s.images for s in card.shorter_sides) else ""
    lines = [
        *_facts(card.facts),
        *_splits(card.manifest.splits),
        *_classes(card.manifest.classes, card.manifest.counts),
        *_bins("shorter side, px", card.shorter_sides),
        *_bins("width : height", card.shapes),
        "",
        f"bytes per image: median {weights.median:,.0f}, 95 % below {weights.p95:,.0f}{weighed}",
    ]
    return "\n".join(lines)


def token_text(card: TokenCard) -> str:
    """The card of a token data set."""
    lines = [
        *_facts(card.facts),
        *_splits(card.manifest.splits),
        *_classes(card.manifest.classes, card.counts),
        "",
        *_table(
            ("scale", "tokens", "codes used", "perplexity"),
            [
                (f"{s.side} × {s.side}", f"{s.side**2}", f"{s.codes_used_percent:.1f} %", f"{s.perplexity:,.1f}")
                for s in card.scales
            ],
        ),
    ]
    return "\n".join(lines)


def _facts(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        yield f"{name:<{width}}  {value}"


def _splits(splits: dict[str, tuple[Shard, ...]]) -> Iterator[str]:
    yield ""
    sizes = split_sizes(splits)
    rows = [(s, f"{n['rows']:,}", f"{n['shards']:,}", f"{n['bytes'] / MIB:,.1f}") for s, n in sizes.items()]
    yield from _table(("split", "rows", "shards", "MiB"), rows)


def _classes(classes: Sequence[str], counts: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Images by class: all of them, or the largest and the smallest."""
    totals = [sum(of_label) for of_label in zip(*counts.values(), strict=True)]
    by_size = sorted(range(len(classes)), key=lambda label: -totals[label])
    shown = range(len(classes)) if len(classes) <= ALL_CLASSES else [*by_size[:ENDS], *by_size[-ENDS:]]
    rows = [(_short(classes[label]), *(f"{c[label]:,}" for c in counts.values())) for label in shown]
    table = list(_table((f"{len(classes):,} classes", *counts), rows))
    if len(classes) > ALL_CLASSES:
        middle = by_size[ENDS:-ENDS]
        rest = f"… {len(middle):,} more, {totals[middle[-1]]:,} to {totals[middle[0]]:,} images each"
        table.insert(1 + ENDS, rest)
    yield from ("", *table)
    held = [total for total in totals if total]
    yield ""
    if held:
        yield f"largest to smallest class: {max(held) / min(held):.3g} to 1"
    for split, of_split in counts.items():
        if missing := of_split.count(0):
            yield f"classes without an image in {split}: {missing:,}"


def _bins(title: str, bins: Sequence[Bin]) -> Iterator[str]:
    yield from ("", title)
    most = max((found.images for found in bins), default=0)
    names, numbers = max(len(b.name) for b in bins), max(len(f"{b.images:,}") for b in bins)
    for found in bins:
        bar = "█" * round(BAR * found.images / most) or ("▏" if found.images else "")
        yield f"  {found.name:>{names}}  {found.images:>{numbers},}  {bar}".rstrip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they need; the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        first, *others = (
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others)).rstrip()


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
