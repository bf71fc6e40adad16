"""What a study writes into its records, and what its report says when they are out of reach."""

from dataclasses import replace
from pathlib import Path

import pytest

from lawfit.records import schema
from varscale.data.schema import TokenManifest
from varscale.errors import EnvironmentalError
from varscale.plan.cells import Inputs, make_plan
from varscale.spec.files import load_study
from varscale.study.grid import cell_params
from varscale.study.paths import StudyPaths
from varscale.study.report import write_study_report
from varscale.study.run import _shareable, check_enough_for_a_law

INPUTS = Inputs(9, 128, 8, (1, 2, 4, 8), "t")
MANIFEST = TokenManifest(
    classes=("a",), splits={}, views={}, vocab_size=128, patch_nums=(1, 2, 4, 8),
    image_size=32, resize_ratio=1.125, flip=False, seed=0,
    data_fingerprint="sha256:data", tokenizer_fingerprint="sha256:tokenizer", key="t",
)  # fmt: skip


def test_a_cell_records_all_that_lawfit_reads(root: Path) -> None:
    study = load_study(
        root / "studies" / "quickstart.yaml", ["evaluation.cfg=2.5", "optimizer.by_depth={2: {schedule: cos}}"]
    )
    cells = make_plan(study, INPUTS)
    records = {cell.depth: cell_params(cell, study, MANIFEST) for cell in cells}
    for params in records.values():
        for param in (*schema.PARAMS, *schema.OPTIONAL_PARAMS):
            assert str(param.read(str(params[param.name]))) == str(params[param.name])
        assert not {schema.ENGINE_MICRO_BATCH, *(fact.name for fact in schema.ATTEMPT)} & set(params)
        assert params[schema.SAMPLES_CFG] == 2.5
        assert params[schema.SAMPLES_IMAGES] == study.evaluation.images
        assert params[schema.OPTIMIZER_BASE_LR] == study.optimizer.peak_lr
    assert {depth for depth, params in records.items() if params[schema.OPTIMIZER_SCHEDULE] == "cos"} == {2}


def test_records_and_screens_have_no_password(root: Path) -> None:
    uri = "postgresql://me:s3cret@host:5432/db?password=s3cret&sslmode=require"
    study = load_study(root / "studies" / "quickstart.yaml", [f"tracking.uri={uri}"])
    paths = StudyPaths.of(study, make_store=False)
    assert paths.tracking_uri == uri
    assert _shareable(study, paths)["tracking"] == {"uri": paths.records}
    assert paths.records == "postgresql://host:5432/db?sslmode=require"
    assert "s3cret" not in repr(_shareable(study, paths))


def test_too_few_sizes_left_by_failures_end_in_one_line() -> None:
    check_enough_for_a_law(6, 3)
    check_enough_for_a_law(2, 0)  # whose fault that is, lawfit says
    with pytest.raises(EnvironmentalError, match=r"6 of the study's 6 sizes failed, see above; a law needs 3"):
        check_enough_for_a_law(6, 6)


def test_a_report_without_its_tracking_server_is_an_environmental_error(root: Path) -> None:
    study = load_study(root / "studies" / "quickstart.yaml")
    paths = replace(StudyPaths.of(study, make_store=False), tracking_uri="http://127.0.0.1:9")
    with pytest.raises(EnvironmentalError, match=r"study emoji-quick: .*127\.0\.0\.1:9"):
        write_study_report(study, paths, "parent")
