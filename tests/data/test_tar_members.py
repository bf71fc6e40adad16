"""Tar headers: whatever tarfile and GNU tar write is listed as tarfile lists it; damage is never an archive's end."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from varscale.data.sources.tar_members import Headers, Member, members
from varscale.errors import UserError
from varscale.locations import Location

NAMES = ["a.png", "s/" + "long" * 20 + "/" + "b" * 60 + ".png", "x" * 180 + ".png", "ü/ß.png", "d/" * 60 + "c.png", "e"]


def listed(archive: Path, start: int = 0) -> list[Member]:
    place = Location.of(archive)
    with place.open() as file:
        return list(members(Headers(file, place), start, place.size(), "it"))


def by_tarfile(archive: Path) -> list[tuple[str, int, int]]:
    with tarfile.open(archive) as tar:
        return [(member.name, member.offset_data, member.size) for member in tar if member.isreg()]


def write(archive: Path, kind: int) -> Path:
    with tarfile.open(archive, "w", format=kind) as tar:
        for i, name in enumerate(NAMES):
            folder = tarfile.TarInfo(f"folder{i}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            member = tarfile.TarInfo(name)
            member.size, member.mtime = i * 300, 1.5 + i  # a broken second makes pax write a header before each
            tar.addfile(member, io.BytesIO(bytes(i * 300)))
    return archive


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_members_are_those_of_tarfile(tmp_path: Path, kind: int) -> None:
    archive = write(tmp_path / "a.tar", kind)
    assert [(m.name, m.offset, m.size) for m in listed(archive)] == by_tarfile(archive)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("kind", ["v7", "ustar", "gnu", "oldgnu", "pax"])
def test_members_are_those_that_gnu_tar_writes(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    for name in NAMES[:1] if kind == "v7" else [NAMES[0], NAMES[1], NAMES[3]]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 50)
    with (folder / "sparse.png").open("wb") as stream:
        for i in range(40):  # more holes than fit the first header
            stream.seek(i * 2**20)
            stream.write(b"x" * 4096)
    (folder / "z.png").write_bytes(b"last")
    (folder / "link.png").symlink_to("a.png")
    sparse = ["--sparse"] if kind in ("gnu", "oldgnu", "pax") else []
    archive = tmp_path / "a.tar"
    subprocess.run(["tar", *sparse, f"--format={kind}", "-cf", archive, "-C", folder, "."], check=True)
    found = listed(archive)
    kinds = {Path(m.name).name: m.kind for m in found}
    assert kinds["link.png"] == "link"
    assert kinds["z.png"] == "file"
    files = [(m.name, m.offset, m.size) for m in found if m.kind == "file"]
    assert files == [file for file in by_tarfile(archive) if not (sparse and file[0].endswith("sparse.png"))]
    assert sum(m.kind == "sparse" for m in found) == len(sparse)


def test_sizes_beyond_octal_are_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.png")
    header.size = 9 * 2**30
    archive = tmp_path / "a.tar"
    with archive.open("wb") as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        stream.seek(512 + header.size)
        stream.write(bytes(1024))
    assert listed(archive) == [Member("a.png", "file", 512, header.size)]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_tar_cut_anywhere_is_refused(tmp_path: Path, kind: int) -> None:
    whole = write(tmp_path / "a.tar", kind)
    content = whole.read_bytes()
    end = max(m.offset + -(-m.size // 512) * 512 for m in listed(whole))
    for cut in range(0, end, 256):
        whole.write_bytes(content[:cut])
        with pytest.raises(UserError, match=r"it: cut off"):
            listed(whole)
    whole.write_bytes(content[: end + 512])
    assert len(listed(whole)) == len(NAMES)


def test_damage_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar", tarfile.GNU_FORMAT)
    content = bytearray(archive.read_bytes())
    third = listed(archive)[1].offset - 512
    content[third + 3] ^= 1
    archive.write_bytes(content)
    with pytest.raises(UserError, match=rf"it: damaged header at byte {third} after "):
        listed(archive)


@pytest.mark.parametrize("name", ["gz", "bz2", "xz"])
def test_compressed_tars_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / f"a.tar.{name}"
    with tarfile.open(archive, f"w:{name}") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(UserError, match=r"it: compressed with \w+; images are read in place, so uncompress it first"):
        listed(archive)
