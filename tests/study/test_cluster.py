"""Which sizes train side by side, and which a cluster refuses."""

from pathlib import Path

import pytest

from varscale.errors import EnvironmentalError, UserError
from varscale.plan.cells import Cell, Inputs, make_plan
from varscale.spec.files import load_study
from varscale.spec.study import Study
from varscale.study.paths import StudyPaths
from varscale.study.placement import check_fit, waves

INPUTS = Inputs(9, 128, 8, (1, 2, 4, 8), "t")


def quickstart(root: Path, *overrides: str) -> Study:
    return load_study(root / "studies" / "quickstart.yaml", list(overrides))


def largest_first(study: Study) -> list[Cell]:
    return sorted(make_plan(study, INPUTS), key=lambda cell: -cell.flops)


def shape(root: Path, offered: dict[str, float], *overrides: str) -> list[tuple[list[int], int]]:
    found = waves(largest_first(quickstart(root, *overrides)), offered)
    return [([cell.depth for cell in wave.cells], wave.at_once) for wave in found]


def test_a_size_that_fills_the_machine_goes_first_and_alone(root: Path) -> None:
    assert shape(root, {"CPU": 2, "GPU": 0}) == [([4], 1), ([6, 5, 3, 2, 1], 2)]
    assert shape(root, {"CPU": 64, "GPU": 0}) == [([6, 5, 4, 3, 2, 1], 64)]
    assert shape(root, {"CPU": 1, "GPU": 0}, "resources.by_depth={}") == [([d], 1) for d in (6, 5, 4, 3, 2, 1)]


def test_gpus_bind_where_they_are_fewer(root: Path) -> None:
    gpu = ("resources.gpus_per_worker=1",)
    assert shape(root, {"CPU": 64, "GPU": 4}, *gpu) == [([6, 5, 4, 3, 2, 1], 4)]


def test_what_never_fits_is_refused_by_name(root: Path) -> None:
    cells = make_plan(quickstart(root), INPUTS)
    with pytest.raises(UserError, match=r"d4-s0 needs 2 CPU for 2 workers; the cluster has 1\."):
        check_fit(cells, {"CPU": 1, "GPU": 0})
    check_fit(cells, {"CPU": 2, "GPU": 0})


def test_a_study_has_its_store_to_itself(root: Path, tmp_path: Path) -> None:
    paths = StudyPaths.of(quickstart(root, f"store={tmp_path}"))
    with paths.locked(), pytest.raises(EnvironmentalError, match="another run"), paths.locked():
        pass
    with paths.locked():
        assert paths.store.local == tmp_path


def test_a_store_that_cannot_be_is_named_as_the_field(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below"):
        for make_store in (True, False):
            with pytest.raises(
                UserError, match=rf"^store: {tmp_path}/{name}: {tmp_path}/file is a file; wanted a folder"
            ):
                StudyPaths.of(quickstart(root, f"store={tmp_path}/{name}"), make_store)
    with pytest.raises(EnvironmentalError, match=r"^store: /proc/x: cannot be written \(.+\); name another"):
        StudyPaths.of(quickstart(root, "store=/proc/x"))
    with (
        pytest.raises(EnvironmentalError, match=r"^store: /proc: cannot be written"),
        StudyPaths.of(quickstart(root, "store=/proc")).locked(),
    ):
        pass


def test_a_job_refuses_places_that_vanish_with_it(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"store: '\.varscale' is relative"):
        StudyPaths.of(quickstart(root))
    with pytest.raises(UserError, match=r"tracking\.uri: 'x\.db' is relative"):
        StudyPaths.of(quickstart(root, f"store={tmp_path}", "tracking.uri=sqlite:///x.db"))
    assert StudyPaths.of(quickstart(root, f"store={tmp_path}", "tracking.uri=https://host")).artifact_root is None


def test_a_store_may_be_a_url_where_a_server_keeps_the_records(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"^store: memory://shop: records in SQLite need a folder; name an MLflow server"
    ):
        StudyPaths.of(quickstart(root, "store=memory://shop"))
    monkeypatch.setenv("VARSCALE_CACHE", str(tmp_path))
    paths = StudyPaths.of(quickstart(root, "store=memory://shop", "tracking.uri=https://host"))
    assert str(paths.tokens("0123456789abcdef0")) == "memory://shop/tokens/0123456789abcdef"
    assert str(paths.report) == "memory://shop/reports/emoji-quick"
    with paths.locked(), pytest.raises(EnvironmentalError, match="another run"), paths.locked():
        pass
