"""Nothing half-written ever looks whole."""

from pathlib import Path

import pytest

from varscale.errors import EnvironmentalError, UserError
from varscale.identity import digest
from varscale.storage import atomic_folder, atomic_path, check_writable, sha256_file


def interrupted_write(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def interrupted_folder(target: Path) -> None:
    with atomic_folder(target) as temporary:
        (temporary / "shard").write_text("half")
        raise RuntimeError


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError):
        interrupted_write(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        interrupted_folder(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_folder_replaces_an_older_one_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with atomic_folder(tmp_path / "set") as temporary:
            (temporary / name).write_text(name)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["second"]


def test_digests_are_known_values(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert sha256_file(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_a_place_that_takes_no_file_is_said_beforehand_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "new" / "folder" / "file")
    assert not (tmp_path / "new").exists()
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken/under/file: .*taken is a file; wanted a folder"):
        check_writable(tmp_path / "taken" / "under" / "file")
    with pytest.raises(UserError, match="is a folder; wanted the name of a file"):
        check_writable(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    with pytest.raises(EnvironmentalError, match=f"{tmp_path} cannot be written"):
        check_writable(tmp_path / "file")
