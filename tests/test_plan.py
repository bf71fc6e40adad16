"""A study becomes cells by the family rule, and a run key says which results are the same."""

from itertools import pairwise
from pathlib import Path

import pytest

from varscale.errors import UserError
from varscale.identity import study_key
from varscale.plan.cadence import evaluation_steps
from varscale.plan.cells import Cell, Inputs, check_frontier, make_plan
from varscale.spec.files import load_study
from varscale.spec.study import Study

INPUTS = Inputs(num_classes=9, vocab_size=128, z_channels=8, patch_nums=(1, 2, 4, 8), tokens_key="t")


@pytest.fixture
def study(root: Path):
    def load(*overrides: str) -> Study:
        return load_study(root / "studies" / "quickstart.yaml", list(overrides))

    return load


def keys(study: Study) -> dict[str, str]:
    return {cell.name: cell.run_key for cell in make_plan(study, INPUTS)}


def test_family_rule(study) -> None:
    cells: tuple[Cell, ...] = make_plan(study(), INPUTS)
    assert len(cells) >= 6
    assert cells[-1].costs.n_paper >= 50 * cells[0].costs.n_paper
    assert cells[-1].costs.n_params >= 50 * cells[0].costs.n_params
    for cell in cells:
        assert (cell.shape.width, cell.shape.heads) == (12 * cell.depth, cell.depth)
        assert cell.shape.drop_path == pytest.approx(0.1 * cell.depth / 24)
        assert cell.lr == pytest.approx(6e-3 * 32 / cell.shape.width)
        assert cell.split(cell.resources.workers).share * cell.resources.workers == cell.batch
        assert cell.steps * cell.batch == cell.images == 49152
        assert cell.cadence.evaluate_at[-1] == cell.steps
    assert any(cell.resources.workers == 2 for cell in cells)


def test_run_key_changes_with_what_changes_the_result(study) -> None:
    base = keys(study())
    for override in ("seed=1", "optimizer.peak_lr=1e-3", "budget.images=64", "evaluation.cfg=2", "optimizer.batch=32"):
        changed = {name.split("-")[0]: key for name, key in keys(study(override)).items()}
        assert all(changed[name.split("-")[0]] != key for name, key in base.items()), override


def test_run_key_ignores_where_and_how_it_runs(study) -> None:
    base = keys(study())
    for override in (
        "store=/elsewhere",
        "resources.workers=2",
        "engine.micro_batch=4",
        "engine.zero_stage=2",
        "checkpoints.every_steps=7",
        "analysis.bootstrap=200",
    ):
        assert keys(study(override)) == base, override


def test_one_depth_can_change_without_the_others(study) -> None:
    base, changed = keys(study()), keys(study("optimizer.by_depth={3: {peak_lr: 1.0e-3}}"))
    assert {name for name in base if base[name] != changed[name]} == {"d3-s0"}


def test_study_stays_the_same_study_when_a_depth_is_added(study) -> None:
    more = study("sizes.depths=[1, 2, 3, 4, 5, 6, 7]")
    assert study_key(study(), "t") == study_key(more, "t")
    assert study_key(study(), "t") != study_key(study("budget.images=64"), "t")


def test_zero_stage_rises_when_memory_is_short(study) -> None:
    one = "sizes.depths=[6]"
    roomy = make_plan(study(one, "resources.by_depth={6: {workers: 2}}"), INPUTS)[0]
    sharded = make_plan(study(one, "resources.by_depth={6: {workers: 2}}", "engine.zero_stage=3"), INPUTS)[0]
    stage3_gib = (sharded.memory_bytes + 1) / 2**30
    tight = make_plan(study(one, f"resources.by_depth={{6: {{workers: 2, memory_gib: {stage3_gib}}}}}"), INPUTS)[0]
    assert (roomy.zero_stage, tight.zero_stage) == (1, 3)
    with pytest.raises(UserError, match=r"resources\.memory_gib: depth 6 needs"):
        make_plan(study(one, "resources.by_depth={6: {workers: 2, memory_gib: 0.001}}"), INPUTS)


def test_batches_that_do_not_divide_are_refused(study) -> None:
    with pytest.raises(UserError, match=r"optimizer\.batch: 16 images do not divide"):
        make_plan(study("resources.workers=3", "resources.by_depth={}"), INPUTS)
    with pytest.raises(UserError, match=r"engine\.micro_batch: 5 does not divide"):
        make_plan(study("engine.micro_batch=5"), INPUTS)


def test_evaluations_are_log_spaced_from_warm_up_to_the_end() -> None:
    steps = evaluation_steps(2048, 102, 12)
    assert (steps[0], steps[-1], len(steps)) == (102, 2048, 12)
    ratios = [b / a for a, b in pairwise(steps)]
    assert max(ratios) / min(ratios) < 1.02
    assert evaluation_steps(3, 0, 12)[-1] == 3


def test_validations_too_few_for_a_frontier_are_refused(study) -> None:
    check_frontier(make_plan(study(), INPUTS))
    check_frontier(make_plan(study("evaluation.points=3"), INPUTS))
    for override in ("optimizer.warmup_fraction=0.001", "budget.images=1"):
        with pytest.raises(UserError, match=r"^evaluation\.points: d1-s0 has 1 validation after the first 10%"):
            check_frontier(make_plan(study("evaluation.points=3", override), INPUTS))
