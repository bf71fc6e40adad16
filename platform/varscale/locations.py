"""Files and folders wherever they are: a local path, or a URL of object storage (s3, gs, whatever fsspec knows).

Everything goes through pyarrow's file systems. A file written here appears whole or not at all: it is written under a
temporary name and moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import pyarrow as pa
import pyarrow.fs as pafs

from varscale.errors import EnvironmentalError, UserError

AnyPath = Union[str, Path, "Location"]
"""What :meth:`Location.of` takes."""
READ_CHUNK = 4 * 2**20
TEMPORARY = ".part"
"""Ending of names that no reader takes for a file of a data set."""


@dataclass(frozen=True)
class Location:
    """A file or folder. Picklable: it travels to Ray tasks."""

    filesystem: pafs.FileSystem
    path: str
    """Inside the file system, absolute, without scheme."""
    shown: str
    """As the user names it."""

    @staticmethod
    def of(place: AnyPath) -> Location:
        """The location a path or URL names, there or not; a local path becomes absolute.

        Raises:
            UserError: the URL's scheme is unknown.
            EnvironmentalError: the object storage does not answer.
        """
        if isinstance(place, Location):
            return place
        text = str(place)
        if "://" not in text:
            return Location(pafs.LocalFileSystem(), str(Path(text).resolve()), text)
        try:
            filesystem, path = _from_url(text)
        except (pa.ArrowInvalid, ValueError, ImportError) as error:
            raise UserError(f"{text}: {error}; wanted a path, s3://…, gs://… or a URL that fsspec knows") from error
        except OSError as error:
            raise EnvironmentalError(f"{text}: {error}") from error
        return Location(filesystem, path.rstrip("/"), text.rstrip("/"))

    def __truediv__(self, name: str) -> Location:
        base, _, query = self.shown.partition("?")  # s3://bucket/folder?region=… keeps its options at the end
        shown = f"{base.rstrip('/')}/{name}" + (f"?{query}" if query else "")
        return Location(self.filesystem, posixpath.join(self.path, name), shown)

    def __str__(self) -> str:
        return self.shown

    @property
    def name(self) -> str:
        """Last part of the path."""
        return posixpath.basename(self.path)

    @property
    def suffix(self) -> str:
        """Ending of the name, from its last dot on."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> Location:
        """The folder around it."""
        base, _, query = self.shown.partition("?")
        shown = posixpath.dirname(base) + (f"?{query}" if query else "")
        return Location(self.filesystem, posixpath.dirname(self.path), shown)

    @property
    def local(self) -> Path | None:
        """The path, if this is on a file system of this machine."""
        return Path(self.path) if isinstance(self.filesystem, pafs.LocalFileSystem) else None

    def as_path(self) -> Path:
        """The path, where a library takes nothing else.

        Raises:
            UserError: this is on no file system of this machine.
        """
        if self.local is None:
            raise UserError(f"{self}: wanted a path: what is kept here needs a file system of this machine")
        return self.local

    def with_suffix(self, suffix: str) -> Location:
        """The file beside this one whose name ends otherwise."""
        base, _, query = self.shown.partition("?")
        shown = f"{posixpath.splitext(base)[0]}{suffix}" + (f"?{query}" if query else "")
        return Location(self.filesystem, f"{posixpath.splitext(self.path)[0]}{suffix}", shown)

    def overlaps(self, other: Location) -> bool:
        """Whether the two are one place, or one lies inside the other."""
        ours, theirs = (f"{place.path.rstrip('/')}/" for place in (self, other))
        same_system = self.filesystem.equals(other.filesystem)
        return same_system and (ours.startswith(theirs) or theirs.startswith(ours))

    def is_file(self) -> bool:
        """Whether a file is here."""
        return self._info().type == pafs.FileType.File

    def is_folder(self) -> bool:
        """Whether a folder is here; in object storage, whether anything lies below."""
        return self._info().type == pafs.FileType.Directory

    def size(self) -> int:
        """Bytes of the file.

        Raises:
            UserError: no file is here.
        """
        info = self._info()
        if info.type != pafs.FileType.File:
            raise UserError(f"{self}: no such file")
        return info.size

    def _info(self) -> pafs.FileInfo:
        return self.filesystem.get_file_info(self.path)

    def files(self, recursive: bool = False) -> dict[str, int]:
        """Path below this folder -> bytes, of all files in it, sorted by path; empty where no folder is."""
        selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found = self.filesystem.get_file_info(selector)
        files = {posixpath.relpath(info.path, self.path): info.size for info in found if info.is_file}
        return dict(sorted(files.items()))

    def open(self) -> pa.NativeFile:
        """The file for random access: ``read_at(bytes, offset)``, ``seek``, ``read``.

        Raises:
            UserError: no file is here.
        """
        try:
            return self.filesystem.open_input_file(self.path)
        except FileNotFoundError as error:
            raise UserError(f"{self}: no such file") from error

    def read_bytes(self) -> bytes:
        """The file's content; raises as :meth:`open`."""
        with self.open() as stream:
            return stream.read()

    @contextmanager
    def here(self) -> Iterator[Location]:
        """This file on this machine, for libraries that read paths alone: itself, or a copy for the block, shown alike.

        Raises:
            UserError: no file is here.
        """
        if self.local:
            yield self
            return
        with tempfile.TemporaryDirectory() as folder, self.open() as stream:
            copy = Path(folder) / self.name
            with copy.open("wb") as content:
                shutil.copyfileobj(stream, content, READ_CHUNK)
            yield Location(pafs.LocalFileSystem(), str(copy), self.shown)

    def sha256(self) -> str:
        """Hex digest of the file's content; raises as :meth:`open`."""
        content = hashlib.sha256()
        with self.open() as stream:
            while chunk := stream.read(READ_CHUNK):
                content.update(chunk)
        return content.hexdigest()

    @contextmanager
    def written(self) -> Iterator[pa.NativeFile]:
        """A stream whose content becomes this file when the block ends well; nothing is left when it does not.

        Raises:
            EnvironmentalError: the disk is full, or the place cannot be written.
        """
        with self._appearing() as temporary, self.filesystem.open_output_stream(temporary) as stream:
            yield stream

    @contextmanager
    def written_path(self) -> Iterator[Path]:
        """:meth:`written` for libraries that write to a path alone."""
        if self.local:
            with self._appearing() as temporary:
                yield Path(temporary)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.name
            yield path
            with path.open("rb") as content, self.written() as stream:
                shutil.copyfileobj(content, stream, READ_CHUNK)

    @contextmanager
    def _appearing(self) -> Iterator[str]:
        """A temporary name beside this file, which becomes its own when the block ends well; raises as `written`."""
        folder = posixpath.dirname(self.path)
        temporary = posixpath.join(folder, f".{self.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
        try:
            self.filesystem.create_dir(folder, recursive=True)
            yield temporary
            if self.local:
                _sync(temporary)
            self.filesystem.move(temporary, self.path)
        except BaseException as error:
            self._forget(temporary)
            if isinstance(error, OSError):
                # pyarrow's words about a missing bucket are advice to a programmer.
                reason = "no such bucket" if "allow_bucket_creation" in str(error) else error
                raise EnvironmentalError(f"{self}: not written: {reason}") from error
            raise

    def _forget(self, path: str) -> None:
        if self.filesystem.get_file_info(path).is_file:
            self.filesystem.delete_file(path)

    def write_bytes(self, content: bytes) -> None:
        """Write the file, whole or not at all; raises as :meth:`written`."""
        with self.written() as stream:
            stream.write(content)

    def write_json(self, content: Any) -> None:
        """Write ``content`` as readable JSON with sorted keys; raises as :meth:`written`."""
        self.write_bytes(readable_json(content))

    def check_writable(self) -> None:
        """Whether a file can be written here, asked before work is spent on what goes into it. Makes nothing.

        Of object storage only writing tells.

        Raises:
            UserError: a folder is here, or a file where the folder would be.
            EnvironmentalError: no right to write here.
        """
        if self.local is None:
            return
        if self.local.is_dir():
            raise UserError(f"{self}: is a folder; wanted the name of a file")
        nearest = next(path for path in self.local.parents if path.exists())
        if not nearest.is_dir():
            raise UserError(f"{self}: {nearest} is a file; wanted a folder, there or to be made")
        if not os.access(nearest, os.W_OK):
            raise EnvironmentalError(f"{self}: {nearest} cannot be written")

    @contextmanager
    def filled(self) -> Iterator[Path]:
        """A folder of this machine to write files to, which are in this one when the block ends well."""
        if self.local:
            self.local.mkdir(parents=True, exist_ok=True)
            yield self.local
            return
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
            made = Location.of(name)
            for file in made.files(recursive=True):
                (self / file).write_bytes((made / file).read_bytes())

    def remove(self) -> None:
        """Delete the file, or the folder with all in it; nothing happens where nothing is."""
        kind = self._info().type
        if kind == pafs.FileType.File:
            self.filesystem.delete_file(self.path)
        elif kind == pafs.FileType.Directory:
            self.filesystem.delete_dir(self.path)


def readable_json(content: Any) -> bytes:
    """``content`` as indented JSON with sorted keys."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _sync(path: str) -> None:
    """Have the disk hold the file's content before its name does, for a power cut may come between."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _from_url(url: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's own file systems first; fsspec has many more."""
    try:
        return pafs.FileSystem.from_uri(url)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem" not in str(error):
            raise
        return pafs.FileSystem.from_uri(f"fsspec+{url}")
