"""Files wherever they are: nothing half-written ever looks whole, and libraries that want a path get one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """A file that is not there, in a folder that is not either."""
    folder = Location.of(tmp_path if request.param == "local" else "memory://locations") / "folder"
    yield folder / "file.txt"
    folder.remove()


def interrupted(place: Location, way: str) -> None:
    if way == "stream":
        with place.written() as stream:
            stream.write(b"half")
            raise RuntimeError
    with place.written_path() as path:
        path.write_bytes(b"half")
        raise RuntimeError


@pytest.mark.parametrize("way", ["stream", "path"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(place: Location, way: str) -> None:
    place.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        interrupted(place, way)
    assert place.read_bytes() == b"old"
    folder = Location(place.filesystem, place.path.rpartition("/")[0], "folder")
    assert folder.files(recursive=True) == {"file.txt": 3}


def test_what_is_written_to_a_path_is_read_from_a_path(place: Location) -> None:
    with place.written_path() as path:
        path.write_bytes(b"whole")
    with place.here() as here:
        assert (here.as_path().name, here.as_path().read_bytes()) == ("file.txt", b"whole")
        assert str(here) == str(place)
    assert place.sha256() == "5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099"


def test_a_folder_is_filled_when_all_that_goes_into_it_is_written(place: Location) -> None:
    with place.parent.filled() as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / "a.png").write_bytes(b"a")
    assert place.parent.files(recursive=True) == {"figures/a.png": 1}


def test_a_file_beside_keeps_the_options_of_the_url() -> None:
    beside = Location.of("s3://bucket/a.b/model.safetensors?region=us-east-1").with_suffix(".png")
    assert (beside.suffix, str(beside.parent)) == (".png", "s3://bucket/a.b?region=us-east-1")
    assert (str(beside), beside.path) == ("s3://bucket/a.b/model.png?region=us-east-1", "bucket/a.b/model.png")
    with pytest.raises(UserError, match=r"s3://bucket/.+png.+: wanted a path"):
        beside.as_path()


def test_a_place_that_takes_no_file_is_said_beforehand_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Location.of(tmp_path / "new" / "folder" / "file").check_writable()
    assert not (tmp_path / "new").exists()
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken/under/file: .*taken is a file; wanted a folder"):
        Location.of(tmp_path / "taken" / "under" / "file").check_writable()
    with pytest.raises(UserError, match="is a folder; wanted the name of a file"):
        Location.of(tmp_path).check_writable()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root, who may write anywhere
    with pytest.raises(EnvironmentalError, match=f"{tmp_path} cannot be written"):
        Location.of(tmp_path / "file").check_writable()
