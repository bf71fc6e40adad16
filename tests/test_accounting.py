"""Parameters and FLOPs by formula against published counts and against the real model."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from varscale.accounting import exact_params, forward_flops, model_state_bytes, paper_params
from varscale.models.var import VAR
from varscale.shapes import VARConfig

SCALES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
SCALES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
SMALL = VARConfig(
    depth=3, width=48, heads=3, num_classes=9, vocab_size=64, z_channels=8, patch_nums=(1, 2, 4), mlp_ratio=4.0
)


def published(depth: int, width: int, heads: int, patch_nums: tuple[int, ...], shared: bool) -> VARConfig:
    return VARConfig(depth, width, heads, 1000, 4096, 32, patch_nums, shared_adaln=shared)


def test_published_counts_and_flops_are_met_exactly(shared: Path) -> None:
    rows = json.loads((shared / "docs" / "params_flops.json").read_text())["rows"]
    assert len(rows) > 10
    for row in rows:
        scales = SCALES_256 if row["res"] == 256 else SCALES_512
        cfg = published(row["depth"], row["width"], row["heads"], scales, row["saln"])
        assert exact_params(cfg) == row["params"]
        assert forward_flops(cfg) / 1e9 == pytest.approx(row["total_G"], rel=1e-9)


@pytest.mark.parametrize(
    ("depth", "n"), [(16, 310_283_520), (20, 600_917_136), (24, 1_033_399_360), (30, 2_010_020_356)]
)
def test_released_sizes(depth: int, n: int) -> None:
    assert exact_params(published(depth, 64 * depth, depth, SCALES_256, False)) == n
    assert paper_params(depth, 64 * depth) == 73_728 * depth**3


@pytest.mark.parametrize("shared_adaln", [False, True])
@pytest.mark.parametrize("attn_l2_norm", [False, True])
def test_formula_counts_what_the_model_has(shared_adaln: bool, attn_l2_norm: bool) -> None:
    cfg = VARConfig(2, 32, 2, 9, 64, 8, (1, 2, 4), 2.0, attn_l2_norm, shared_adaln)
    assert exact_params(cfg) == sum(p.numel() for p in VAR(cfg).parameters())


def test_formula_agrees_with_torch_flop_counter() -> None:
    model = VAR(SMALL).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, dtype=torch.long), torch.zeros(1, SMALL.seq_len - 1, SMALL.z_channels))
    attention = 4 * SMALL.seq_len**2 * SMALL.width * SMALL.depth  # which the counter misses on the CPU
    counted = counter.get_total_flops()
    assert forward_flops(SMALL) == pytest.approx(counted + attention, rel=0.01)


def test_zero_stages_shard_more_and_more() -> None:
    n = 1000
    assert [model_state_bytes(n, stage, 4) for stage in (1, 2, 3)] == [10_000, 7_000, 4_000]
    assert {model_state_bytes(n, stage, 1) for stage in (1, 2, 3)} == {16_000}
