"""Images to tokens with a tokenizer of the released size: images/s, share of the matrix-product peak, memory.

    python benchmarks/encode.py            # about 2 minutes on 2 cores

Two threads, float32: tokens are an argmin over codes, which bf16 would move. A row says for how many tokens the memory
format changed the choice (other sums, near-ties). Weights are random.
"""

from __future__ import annotations

import torch
from published import Memory, in_fresh_process, matrix_peak, median_seconds
from record import print_table, recorded

from varscale.device import keep_freed_memory
from varscale.models.shapes import VQVAEConfig
from varscale.models.vqvae import VQVAE

ENCODER_FLOPS = 215.126e9
"""An image, by torch's flop counter at the released size."""


def measure(batch: int, memory_format: torch.memory_format) -> tuple[float, float, int, torch.Tensor]:
    """Seconds, peak FLOP/s, bytes, tokens."""
    keep_freed_memory()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEConfig()).eval().to(memory_format=memory_format)
    images = torch.rand(batch, 3, 256, 256) * 2 - 1
    rate, memory = matrix_peak(), Memory()
    with torch.inference_mode():
        tokens = vqvae.tokens(images)
        time = median_seconds(lambda: vqvae.tokens(images), 3)
    return time, max(rate, matrix_peak()), memory.peak(), tokens


def main() -> None:
    """Measure and print."""
    rows = []
    for batch in (2, 8):
        base, wanted = 0.0, torch.empty(0)
        for layout in (torch.contiguous_format, torch.channels_last):
            time, rate, memory, tokens = in_fresh_process(measure, batch, layout)
            if layout is torch.contiguous_format:
                base, wanted = time, tokens
            rows.append((
                f"encode, batch {batch}, {str(layout)[6:]}", f"{batch / time:.2f}", f"{base / time:.2f}",
                f"{batch * ENCODER_FLOPS / time / rate:.0%}", f"{memory / 2**20:.0f}",
                f"{(tokens != wanted).sum().item()} of {tokens.numel()}",
            ))  # fmt: skip
    print_table(("part", "images/s", "× contiguous", "of peak", "MiB", "tokens changed"), rows)


if __name__ == "__main__":
    with recorded(__file__):
        main()
