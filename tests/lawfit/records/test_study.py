"""Records: a round trip through a real MLflow database, and every refusal."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.questions.study_laws import fit_study
from lawfit.records import schema
from lawfit.records.study import Study, load_study
from lawfit.records.table import load


def test_runs_come_back_as_written(quick: Study) -> None:
    row = quick.runs.set_index("run_name").loc["d3-s0"]
    assert (row["depth"], row["width"], row["heads"], row["n_paper"]) == (3, 48, 3, 18 * 3 * 48**2)
    assert (row["batch"], row["steps"], row["seed"], row["world_size"], row["zero_stage"]) == (
        64,
        256,
        0,
        2,
        1,
    )
    assert row["lr"] == 0.002
    assert row["data_fingerprint"] == "sha256:data"
    assert row["tokenizer_kind"] == "train"
    assert row[schema.VAL_LOSS] == pytest.approx(1.8 * 27**-0.049, rel=1e-12)
    assert row[schema.FLOPS] == pytest.approx(6.0 * row["n_params"] * 85 * 64 * 256, rel=1e-12)
    assert row["wall_s"] >= 0
    assert np.isnan(row[schema.FID])


def test_runs_are_ordered_by_size(quick: Study) -> None:
    assert list(quick.finished["depth"]) == [1, 2, 3, 4, 5, 6]


def test_unfinished_runs_are_listed_and_left_out(quick: Study) -> None:
    assert quick.left_out == (("d7-s0", "failed"),)
    assert "d7-s0" in set(quick.runs["run_name"])
    assert 7 not in set(quick.curves["depth"])


def test_a_study_without_a_finished_run_is_read_and_not_fitted(writer: Any) -> None:
    failed = replace(writer.cell(1), metrics=[]).with_tag(schema.TAG_STATE, schema.STATE_FAILED)
    writer.study("none-finished", [failed, writer.cell(2).with_tag(schema.TAG_STATE, schema.STATE_INTERRUPTED)])
    study = load_study(writer.uri, "none-finished")
    assert (len(study.finished), len(study.curves)) == (0, 0)
    assert study.left_out == (("d1-s0", "failed"), ("d2-s0", "interrupted"))
    with pytest.raises(RecordError, match="0 sizes among 0 finished runs, a law needs 3"):
        fit_study(study)


def test_curves_are_tidy_and_carry_their_flops(quick: Study) -> None:
    assert tuple(quick.curves.columns) == ("run_id", "depth", "step", "flops", "metric", "value")
    curve = quick.curves[(quick.curves["depth"] == 2) & (quick.curves["metric"] == schema.VAL_LOSS)]
    assert len(curve) == 20
    row = quick.finished.set_index("depth").loc[2]
    np.testing.assert_allclose(curve["flops"], 6.0 * row["n_params"] * 85 * 64 * curve["step"], rtol=1e-12)
    assert curve["value"].iloc[-1] == row[schema.VAL_LOSS]
    assert set(quick.curves["metric"]) == set(schema.CURVE_METRICS)


def test_a_step_logged_twice_counts_as_last_written(writer: Any) -> None:
    writer.study("resumed", [writer.cell(1).with_metric(schema.VAL_LOSS, 9.5, 128)])
    curves = load_study(writer.uri, "resumed").curves
    at = curves[(curves["metric"] == schema.VAL_LOSS) & (curves["step"] == 128)]
    assert list(at["value"]) == [9.5]


def test_the_newest_parent_is_read_unless_one_is_named(writer: Any) -> None:
    first = writer.study("twice", [writer.cell(1), writer.cell(2)])
    second = writer.study("twice", [writer.cell(3)])
    assert load_study(writer.uri, "twice").parent_run_id == second
    assert list(load_study(writer.uri, "twice").runs["depth"]) == [3]
    assert list(load_study(writer.uri, "twice", first).runs["depth"]) == [1, 2]


@pytest.mark.parametrize("field", [schema.MODEL_N_PAPER, schema.DATA_FINGERPRINT, schema.SEED])
def test_a_missing_param_names_the_run_and_the_field(writer: Any, field: str) -> None:
    writer.study(f"without {field}", [writer.cell(1), writer.cell(2).without(field)])
    with pytest.raises(RecordError, match=f"run 'd2-s0' has no param '{field}'"):
        load_study(writer.uri, f"without {field}")


@pytest.mark.parametrize("field", [schema.VAL_LOSS_LAST, schema.FLOPS])
def test_a_missing_metric_names_the_run_and_the_field(writer: Any, field: str) -> None:
    writer.study(f"without {field}", [writer.cell(2).without(field)])
    with pytest.raises(RecordError, match=f"run 'd2-s0' has no metric '{field}'"):
        load_study(writer.uri, f"without {field}")


@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (0.0, "0.0")])
def test_a_final_metric_that_is_no_number_is_refused(writer: Any, value: float, shown: str) -> None:
    writer.study(f"ends {shown}", [writer.cell(2).with_metric(schema.VAL_LOSS, value, 256)])
    with pytest.raises(RecordError, match=f"run 'd2-s0': metric 'val/loss' ends at {shown}"):
        load_study(writer.uri, f"ends {shown}")


def test_a_param_of_another_type_is_refused(writer: Any) -> None:
    writer.study("typed", [writer.cell(2).with_param(schema.MODEL_DEPTH, "two")])
    with pytest.raises(RecordError, match=r"run 'd2-s0': param 'model\.depth' is 'two', not an integer"):
        load_study(writer.uri, "typed")


def test_workers_are_read_from_tags_from_params_of_the_first_records_or_not_at_all(writer: Any) -> None:
    cell = writer.cell(1)
    first = replace(cell.without(schema.RESOURCES_WORLD_SIZE).without(schema.ENGINE_ZERO_STAGE), name="first")
    first = first.with_param(schema.RESOURCES_WORLD_SIZE, "4").with_param(schema.ENGINE_ZERO_STAGE, "3")
    both = writer.cell(2).with_param(schema.RESOURCES_WORLD_SIZE, "4")
    neither = writer.cell(3).without(schema.RESOURCES_WORLD_SIZE)
    writer.study("workers", [first, both, neither])
    runs = load_study(writer.uri, "workers").runs
    assert runs["world_size"].tolist()[:2] == [4, 2]
    assert np.isnan(runs["world_size"].tolist()[2])
    assert list(runs["zero_stage"]) == [3, 1, 1]
    table = load(f"{writer.uri}#workers").set_index("run")
    assert (table["world_size"]["first"], table["world_size"]["d2-s0"]) == (4, 2)


def test_a_step_without_flops_is_refused(writer: Any) -> None:
    writer.study("no flops", [writer.cell(2).with_metric(schema.TRAIN_LOSS, 2.0, 7)])
    with pytest.raises(RecordError, match="run 'd2-s0': 'train/loss' is logged at step 7, 'flops' is not"):
        load_study(writer.uri, "no flops")


@pytest.mark.parametrize("field", [schema.DATA_FINGERPRINT, schema.TOKENIZER_FINGERPRINT])
def test_different_data_or_tokenizers_are_never_mixed(writer: Any, field: str) -> None:
    writer.study(f"mixed {field}", [writer.cell(1), writer.cell(2).with_param(field, "sha256:other")])
    with pytest.raises(RecordError, match=r"mixes .* fingerprints: .*\(d1-s0\), sha256:other \(d2-s0\)"):
        load_study(writer.uri, f"mixed {field}")


def test_a_cell_that_finished_twice_is_refused(writer: Any) -> None:
    writer.study("repeated", [writer.cell(1), writer.cell(1)])
    with pytest.raises(RecordError, match="the finished runs d1-s0, d1-s0 are one cell"):
        load_study(writer.uri, "repeated")


def test_an_unknown_state_is_refused(writer: Any) -> None:
    writer.study("state", [writer.cell(1).with_tag(schema.TAG_STATE, "done")])
    with pytest.raises(RecordError, match="tag 'state' is 'done', expected one of running, finished, failed"):
        load_study(writer.uri, "state")


def test_what_is_not_recorded_is_named(writer: Any, quick: Study, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"study 'quik' is not recorded: there are .*quick"):
        load_study(writer.uri, "quik")
    with pytest.raises(RecordError, match="has no parent run 'abc'"):
        load_study(writer.uri, "quick", "abc")
    writer.study("empty", [])
    with pytest.raises(RecordError, match="it has no child runs"):
        load_study(writer.uri, "empty")
    missing = tmp_path / "none.db"
    with pytest.raises(RecordError, match="no database at"):
        load_study(f"sqlite:///{missing}", "quick")
    assert not missing.exists()
