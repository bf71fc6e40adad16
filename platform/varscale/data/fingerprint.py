"""What identifies the images of a data set, whatever their order, shards and machine.

Each row has a digest; the data set's is made of their sum, so shards are summed apart and in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MODULUS = 2**256


def row_digest(split: str, key: str, label: int, image: bytes) -> int:
    """SHA-256, as a number, of a row: its image enters by the SHA-256 of its encoded bytes."""
    row = hashlib.sha256(f"{split}\0{key}\0{label}\0".encode())
    row.update(hashlib.sha256(image).digest())
    return int.from_bytes(row.digest(), "big")


def content_fingerprint(classes: Sequence[str], total: int) -> str:
    """Fingerprint of a data set with these class names.

    Args:
        total: sum of the rows' digests, reduced modulo 2²⁵⁶ or not.
    """
    content = hashlib.sha256("\n".join(classes).encode())
    content.update((total % MODULUS).to_bytes(32, "big"))
    return content.hexdigest()
