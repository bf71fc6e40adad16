"""What images are compared with: moments of a data set's validation images, one file per feature space."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from operator import add

import numpy as np

from varscale.data.images import ViewRule
from varscale.locations import Location
from varscale.metrics.features import FeatureSpace
from varscale.metrics.frechet import Moments
from varscale.metrics.pictures import to_tensor

REFERENCE = "reference.npz"
"""File of a token folder: moments in the features of the tokenizer that made the tokens."""


def tokenizer_reference(tokens: Location) -> Moments:
    """Moments in the tokenizer's own features, which were made with its tokens.

    Raises:
        UserError: the folder has none.
    """
    return Moments.of_bytes((tokens / REFERENCE).read_bytes())


def reference(
    folder: Location,
    data_fingerprint: str,
    rule: ViewRule,
    space: FeatureSpace,
    views: Callable[[], Iterable[np.ndarray]],
) -> Moments:
    """Moments in the features of a network of its own, kept in ``folder``; made now where they are missing.

    Args:
        data_fingerprint: of the image shards; images, rule and the network's weights decide what the moments are.
        views: gives the centre views uint8 [B, 3, S, S] of all validation images.

    Raises:
        ValueError: the space is a tokenizer's own, see :func:`tokenizer_reference`.
    """
    if space.weights is None:
        raise ValueError(f"feature space {space.name} has no weights file to be known by")
    weights = Location.of(space.weights).sha256()
    seen = f"{data_fingerprint[:16]}-{rule.size}px-{rule.resize_ratio:g}"
    place = folder / f"{seen}-{space.name}-{weights[:16]}.npz"
    if not place.is_file():
        moments = reduce(add, (Moments.of(space.extract(to_tensor(batch))) for batch in views()))
        place.write_bytes(moments.to_bytes())
    return Moments.of_bytes(place.read_bytes())
