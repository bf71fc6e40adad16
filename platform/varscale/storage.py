"""Files that are whole or absent: written under a temporary name, then renamed; and their digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from varscale.errors import EnvironmentalError, UserError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that becomes ``target`` when the block ends well, and is removed when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that becomes ``target`` when the block ends well; replaces an older one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(target: Path) -> None:
    """Whether a file can be written there, asked before work is spent on what goes into it. Makes nothing.

    Raises:
        UserError: a folder is at its place, or a file at its folder's.
        EnvironmentalError: no right to write there.
    """
    if target.is_dir():
        raise UserError(f"{target}: is a folder; wanted the name of a file")
    nearest = next(path for path in target.absolute().parents if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{target}: {nearest} is a file; wanted a folder, there or to be made")
    if not os.access(nearest, os.W_OK):
        raise EnvironmentalError(f"{target}: {nearest} cannot be written")


def write_json(target: Path, content: Any) -> None:
    """Write ``content`` as readable JSON, atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
