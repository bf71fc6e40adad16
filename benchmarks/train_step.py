"""A training step at the published 256 px geometry: images/s, share of the matrix-product peak, peak memory.

    python benchmarks/train_step.py            # about 11 minutes on 2 cores
    python benchmarks/train_step.py --short    # depth 4 alone

Micro-batch 4 unless a row says otherwise, two threads, through the engine that studies train with (DeepSpeed ZeRO-1).
"Of peak" is the dense FLOP count, masked attention included, over the best float32 product of two 2048² matrices in the
same process, so bf16 can exceed 1, and so can float32 (products by oneDNN). The plain rows are the same model with
dense masked attention, torch's cross-entropy of all logits, torch's own products and the default allocator: all, then
one at a time.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from published import SCALES_256, Memory, cell, in_fresh_process, matrix_peak, seconds
from record import print_table, recorded

from varscale.device import keep_freed_memory
from varscale.models import linear as linear_module
from varscale.models.scales import block_causal_mask
from varscale.models.var import VAR

BATCH = 4
STEPS = 15
PLAIN = {"attention", "loss", "allocator", "products"}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    depth: int
    engine: dict[str, object]
    plain: frozenset[str] = frozenset()
    """Parts of the fast path to leave out."""
    batch: int = BATCH
    compiled: bool = False
    """By ``torch.compile``; the first step then shows what that costs."""

    @property
    def name(self) -> str:
        options = [] if self.batch == BATCH else [f"micro-batch {self.batch}"]
        options += [str(value) if key == "precision" else key for key, value in self.engine.items()]
        options += ["torch.compile"] if self.compiled else []
        options += ["plain"] if self.plain == PLAIN else [f"plain {part}" for part in sorted(self.plain)]
        return f"depth {self.depth} {', '.join(options) or 'fp32'}"


@dataclass(frozen=True)
class Measured:
    """Medians over steps."""

    seconds: float
    peak_rate: float
    memory: int
    first_step: float


def measure(case: Case) -> Measured:
    """Train a few steps of random tokens in this process."""
    if "allocator" not in case.plain:
        keep_freed_memory()
    torch.set_num_threads(2)
    rate = matrix_peak()
    plan = cell(case.depth, case.batch, **case.engine)
    _engine(cell(1, case.batch, **case.engine))  # a small one, so that what DeepSpeed loads and keeps is not counted
    memory = Memory()
    engine = _engine(plan)
    if case.compiled:
        engine.module.compile()
    if "attention" in case.plain:
        _use_dense_attention(engine.module)
    if "products" in case.plain:
        linear_module.WORTHWHILE = sys.maxsize
    torch.manual_seed(0)
    tokens = torch.randint(0, 4096, (case.batch, plan.shape.seq_len))
    batch = (torch.randint(0, 1000, (case.batch,)), torch.randn(case.batch, plan.shape.seq_len - 1, 32), tokens)
    loss = _plain_loss if "loss" in case.plain else _loss
    step = functools.partial(engine.step, [batch], loss, lr=1e-4, weight_decay=0.05)
    first = seconds(step)
    times = [seconds(step) for _ in range(STEPS)]
    return Measured(statistics.median(times), max(rate, matrix_peak()), memory.peak(), first)


def _engine(plan):
    from varscale.train.cell.loop import new_engine
    from varscale.train.peers import Rank

    if not torch.distributed.is_initialized():
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    torch.manual_seed(0)
    model = plan.family.new_model(plan.shape, plan.optimizer, plan.activation_checkpointing)
    engine = new_engine(plan, model, Rank(0, 1, torch.device("cpu")))
    engine.module.train()
    return engine


def _loss(model, batch):
    return model(*batch)


def _plain_loss(model, batch):
    labels, inputs, tokens = batch
    return F.cross_entropy(model(labels, inputs).flatten(0, 1), tokens.flatten())


def _use_dense_attention(model: VAR) -> None:
    import varscale.models.var as var

    bias = torch.zeros(680, 680).masked_fill_(~block_causal_mask(SCALES_256), -torch.inf)
    var.block_causal_attention = lambda q, k, v, bias=bias, spans=(): F.scaled_dot_product_attention(
        q, k, v, bias.to(q.dtype), scale=1.0
    )


def main(short: bool) -> None:
    """Measure and print."""
    cases = []
    for depth in (4,) if short else (4, 8):
        cases += [Case(depth, {}, frozenset(PLAIN)), *(Case(depth, {}, frozenset({part})) for part in sorted(PLAIN))]
        cases += [Case(depth, {}), Case(depth, {"activation_checkpointing": True}), Case(depth, {"precision": "bf16"})]
        cases += [Case(depth, {"precision": "bf16", "activation_checkpointing": True})]
        cases += [Case(depth, {}, batch=1), Case(depth, {}, batch=8), Case(depth, {}, compiled=True)]
    rows, base = [], {}
    for case in cases:
        found, plan = in_fresh_process(measure, case), cell(case.depth, case.batch, **case.engine)
        rate = case.batch / found.seconds
        base.setdefault(case.depth, rate)
        of_peak = case.batch * plan.costs.flops_per_image / found.seconds / found.peak_rate
        predicted = f"{plan.memory_bytes / 2**20:.0f}" if not case.plain else ""
        rows.append((
            case.name, f"{rate:.2f}", f"{rate / base[case.depth]:.2f}", f"{of_peak:.0%}",
            f"{found.peak_rate / 1e9:.0f}", f"{found.memory / 2**20:.0f}", predicted, f"{found.first_step:.1f}",
        ))  # fmt: skip
    head = ("step", "images/s", "× plain", "of peak", "peak GFLOP/s", "MiB", "MiB by plan", "first step s")
    print_table(head, rows)


if __name__ == "__main__":
    with recorded(__file__):
        main("--short" in sys.argv)
