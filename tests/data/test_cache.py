"""Shards of object storage on this machine, and checksums of local ones. A sub-tree stands for the storage."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest

from varscale.data.cache import LocalShards
from varscale.data.checksums import Checksums
from varscale.data.schema import Shard
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

SIZE = 100_000
Bucket = tuple[Location, list[Shard]]


def shards_in(folder: Path, count: int, seed: int = 0) -> list[Shard]:
    """Files of ``SIZE`` random bytes."""
    folder.mkdir(parents=True)
    rng, shards = np.random.default_rng(seed), []
    for number in range(count):
        content = rng.bytes(SIZE)
        (folder / f"{number}.bin").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards.append(Shard(file=f"{number}.bin", rows=1, bytes=SIZE, sha256=digest))
    return shards


def remote(base: Path, name: str) -> Location:
    """A folder that only its file system can read."""
    return Location(pafs.SubTreeFileSystem(str(base), pafs.LocalFileSystem()), name, f"bucket://{name}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    shards = shards_in(tmp_path / "bucket" / "a", 5)
    return remote(tmp_path / "bucket", "a"), shards


def copies(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.name != ".lock"}


def named(*shards: Shard) -> set[str]:
    return {shard.sha256 for shard in shards}


def test_local_files_are_read_in_place(tmp_path: Path, cache: Path) -> None:
    shards = shards_in(tmp_path / "here", 2)
    local = LocalShards(Location.of(tmp_path / "here"), limit_bytes=0)
    local.fetch(shards, shards)
    assert local.path(shards[1]) == tmp_path / "here" / "1.bin"
    assert not cache.exists()


def test_shards_are_copied_once_and_then_need_no_storage(bucket: Bucket, cache: Path, tmp_path: Path) -> None:
    folder, shards = bucket
    local = LocalShards(folder, 10 * SIZE)
    local.fetch(shards, shards)
    assert copies(cache) == named(*shards)
    originals = {shard.file: (tmp_path / "bucket" / "a" / shard.file).read_bytes() for shard in shards}
    for shard in shards:
        (tmp_path / "bucket" / "a" / shard.file).write_bytes(bytes(SIZE))
    local.fetch(shards, shards)
    assert {shard.file: local.path(shard).read_bytes() for shard in shards} == originals


def test_a_shard_that_is_not_the_manifests_is_named_and_not_kept(bucket: Bucket, cache: Path, tmp_path: Path) -> None:
    folder, shards = bucket
    path = tmp_path / "bucket" / "a" / "3.bin"
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.write_bytes(content)
    local = LocalShards(folder, 10 * SIZE)
    with pytest.raises(UserError, match=r"bucket://a/3\.bin: its sha256 begins [0-9a-f]{12}, the manifest's"):
        local.fetch(shards, shards)
    assert copies(cache) <= named(*shards[:3], shards[4])
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match=rf"bucket://a/3\.bin: {SIZE - 1} bytes where the manifest says {SIZE}"):
        local.fetch(shards, shards)
    path.unlink()
    with pytest.raises(UserError, match=r"bucket://a/3\.bin: no such file"):
        local.fetch(shards, shards)
    with pytest.raises(UserError, match=r"bucket://a/3\.bin: no such file"):
        local.path(shards[3])


def test_the_least_recently_used_copies_of_others_make_room(bucket: Bucket, cache: Path, tmp_path: Path) -> None:
    folder, shards = bucket
    others = shards_in(tmp_path / "bucket" / "b", 3, seed=1)
    first, second = LocalShards(remote(tmp_path / "bucket", "b"), 6 * SIZE), LocalShards(folder, 6 * SIZE)
    first.fetch(others, others)
    for age, shard in enumerate((others[1], others[0], others[2])):
        os.utime(cache / shard.sha256, (1000 + age, 1000 + age))
    reader = first.path(others[0]).open("rb")  # which uses it: now the most recent
    second.fetch(shards, shards)
    assert copies(cache) == named(others[0], *shards)
    second.fetch(shards, shards)
    first.path(others[1])
    assert others[1].sha256 in copies(cache)
    assert len(copies(cache)) == 6
    assert reader.read(1)  # open files stay readable, whatever is dropped
    reader.close()


def test_a_split_larger_than_the_limit_is_refused_in_one_line(bucket: Bucket, cache: Path) -> None:
    folder, shards = bucket
    local = LocalShards(folder, 4 * SIZE)
    with pytest.raises(UserError, match=r"data\.cache_gib\); a uniform order draws from all shards at once") as refused:
        local.fetch(shards[:2], shards)
    assert "\n" not in str(refused.value)
    assert not cache.exists()


def test_reading_in_order_needs_room_for_a_few_shards_alone(bucket: Bucket, cache: Path) -> None:
    folder, shards = bucket
    local = LocalShards(folder, 2 * SIZE)
    for number, shard in enumerate(shards):
        for ahead in shards[number + 1 : number + 2]:
            local.begin(ahead)
        assert local.path(shard).stat().st_size == SIZE
    with pytest.raises(UserError, match=r"data\.cache_gib allows"):
        LocalShards(folder, SIZE // 2).path(shards[0].model_copy(update={"sha256": "0" * 64}))


def test_what_a_killed_copy_left_is_made_anew(bucket: Bucket, cache: Path) -> None:
    folder, shards = bucket
    cache.mkdir(parents=True)
    (cache / f"{shards[0].sha256}.part").write_bytes(b"begun" * 30_000)
    (cache / f"{'f' * 64}.part").write_bytes(b"of another set" * 10_000)
    local = LocalShards(folder, 5 * SIZE)
    local.fetch(shards, shards)
    assert copies(cache) == named(*shards)
    assert hashlib.sha256(local.path(shards[0]).read_bytes()).hexdigest() == shards[0].sha256


def _fetch(base: Path, shards: list[Shard], opened: Path) -> None:
    counted = pafs.PyFileSystem(_Counted(base, opened))
    LocalShards(Location(counted, "a", "bucket://a"), 10 * SIZE).fetch(shards, shards)


class _Counted(pafs.FSSpecHandler):
    """The sub-tree, noting every file that is opened; slow enough for processes to meet."""

    def __init__(self, base: Path, opened: Path) -> None:
        import fsspec

        super().__init__(fsspec.filesystem("dir", path=str(base), target_protocol="file"))
        self._opened = opened

    def open_input_file(self, path: str) -> object:
        with self._opened.open("a") as log:
            log.write(f"{path}\n")
        time.sleep(0.05)
        return super().open_input_file(path)


def test_ranks_of_a_node_copy_each_shard_once(bucket: Bucket, cache: Path, tmp_path: Path) -> None:
    _, shards = bucket
    opened = tmp_path / "opened"
    spawn = multiprocessing.get_context("fork")
    ranks = [spawn.Process(target=_fetch, args=(tmp_path / "bucket", shards, opened)) for _ in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0
    assert sorted(opened.read_text().split()) == [f"a/{shard.file}" for shard in shards]
    assert copies(cache) == named(*shards)


def test_a_cache_that_cannot_be_written_is_the_environments_fault(bucket: Bucket, tmp_path: Path, cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(EnvironmentalError, match=r"bucket://a/0\.bin: not copied to"):
        LocalShards(bucket[0], 10 * SIZE).path(bucket[1][0])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose content is hashed."""
    names: list[str] = []
    whole = Location.sha256
    monkeypatch.setattr(Location, "sha256", lambda place: names.append(place.name) or whole(place))
    return names


def test_checksums_are_compared_once_for_all_runs(tmp_path: Path, cache: Path, counted: list[str]) -> None:
    folder = tmp_path / "here"
    shards = shards_in(folder, 3)
    for _ in range(2):
        Checksums(folder, shards).finish()
    assert counted == ["0.bin", "1.bin", "2.bin"]
    (folder / "1.bin").write_bytes((folder / "1.bin").read_bytes())  # as a restored copy would be
    os.utime(folder / "1.bin", (5, 5))
    Checksums(folder, shards).finish()
    assert counted[3:] == ["1.bin"]
    (notes,) = (cache.parent / "checked").glob("*.json")
    assert json.loads(notes.read_text()).keys() == {"0.bin", "1.bin", "2.bin"}


def test_a_flipped_byte_is_met_by_whoever_reads_and_is_never_noted_as_right(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "here"
    shards = shards_in(folder, 3)
    content = bytearray((folder / "1.bin").read_bytes())
    content[SIZE // 2] ^= 1
    (folder / "1.bin").write_bytes(content)
    for _ in range(2):
        checksums = Checksums(folder, shards)
        with pytest.raises(UserError, match=r"1\.bin: its sha256 begins [0-9a-f]{12}, the manifest's .* bytes changed"):
            checksums.finish()
        with pytest.raises(UserError, match=r"1\.bin"):
            checksums.check()
