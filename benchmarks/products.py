"""float32 products of linear layers by torch's own route and by ours: GFLOP/s and their ratio.

    python benchmarks/products.py [THREADS]            # half a minute

Forward, and backward to input and weight, by rows × inputs × outputs. The last sizes are those of the published
geometry at depths 4 and 8 (batch 4), the first those of the first study (batch 16).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from published import median_seconds
from record import print_table, recorded

from varscale.device import keep_freed_memory
from varscale.models.linear import linear

SIZES = ((1360, 12, 48), (1360, 36, 144), (1360, 72, 216), (1360, 72, 288), (1360, 96, 384), (680, 256, 256),
         (2720, 256, 1024), (2720, 1024, 256), (2720, 512, 2048), (2720, 512, 4096))  # fmt: skip


def rate(product: Callable[..., torch.Tensor], rows: int, inputs: int, outputs: int) -> float:
    """FLOP/s of forward and backward."""
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()
    above = torch.randn(rows, outputs)
    time = median_seconds(lambda: torch.autograd.grad(product(x, weight, bias), (x, weight, bias), above), 15)
    return 6 * rows * inputs * outputs / time


def main(threads: int) -> None:
    """Measure and print."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    lines = []
    for size in SIZES:
        theirs, ours = rate(F.linear, *size), rate(linear, *size)
        lines.append((" × ".join(map(str, size)), f"{theirs / 1e9:.0f}", f"{ours / 1e9:.0f}", f"{ours / theirs:.2f}"))
    print_table((f"{threads} threads", "F.linear", "ours", "ratio"), lines)


if __name__ == "__main__":
    with recorded(__file__):
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
