"""Parameters and FLOPs by formula against published counts and against the real model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from varscale.models.accounting import (
    _activation_bytes,
    allowed_pairs,
    dense_pairs,
    exact_params,
    executed_pairs,
    forward_flops,
    model_state_bytes,
    paper_params,
    training_flops,
)
from varscale.models.shapes import VARConfig
from varscale.models.var import VAR

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
        assert forward_flops(cfg, allowed_pairs) / 1e9 == pytest.approx(row["total_blockcausal_G"], rel=1e-9)


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


@pytest.mark.parametrize("cfg", [SMALL, replace(SMALL, shared_adaln=True, mlp_ratio=2.0, attn_l2_norm=False)])
def test_formula_agrees_with_torch_flop_counter(cfg: VARConfig) -> None:
    torch.manual_seed(0)
    model = VAR(cfg).train()
    target = torch.zeros(2, cfg.seq_len, dtype=torch.long)
    inputs = torch.zeros(2, dtype=torch.long), torch.zeros(2, cfg.seq_len - cfg.patch_nums[0] ** 2, cfg.z_channels)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(*inputs)
    with FlopCounterMode(display=False) as step:
        model(*inputs, target).backward()
    assert forward.get_total_flops() == pytest.approx(2 * forward_flops(cfg, executed_pairs), rel=0.001)
    assert step.get_total_flops() == pytest.approx(training_flops(cfg, 2, executed_pairs), rel=0.01)


def test_attention_pairs_by_hand() -> None:
    assert dense_pairs((1, 2, 8)) == 69 * 69
    assert allowed_pairs((1, 2, 8)) == 1 * 1 + 4 * 5 + 64 * 69
    assert executed_pairs((1, 2, 8)) == 69 * 69  # 1 + 4 tokens are too few for a span of their own
    assert executed_pairs((8, 8)) == allowed_pairs((8, 8)) == 64 * 64 + 64 * 128


def test_zero_stages_shard_more_and_more() -> None:
    n = 1000
    assert [model_state_bytes(n, stage, 4) for stage in (1, 2, 3)] == [11_000, 8_000, 5_000]
    assert {model_state_bytes(n, stage, 1) for stage in (1, 2, 3)} == {20_000}


def test_a_block_saves_what_the_memory_formula_says() -> None:
    """The saved tensors of one more block, counted on the model."""

    def saved_bytes(depth: int) -> int:
        model = VAR(replace(SMALL, depth=depth)).train()
        parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
        saved: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.untyped_storage().data_ptr() not in parameters:
                saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.zeros(8, dtype=torch.long), torch.zeros(8, 20, 8), torch.zeros(8, 21, dtype=torch.long))
        return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())

    _, block, _, _ = _activation_bytes(SMALL, 8, half=False)
    assert saved_bytes(3) - saved_bytes(2) == pytest.approx(block, rel=0.05)  # AdaLN's few values aside
