"""The members of a tar from their headers alone: ustar, GNU and pax.

The standard library's ``tarfile`` takes three times as long a header, keeps an object for each of ImageNet's 1.28 M,
and takes a damaged header for the archive's end, so that what follows is lost without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from varscale.errors import UserError
from varscale.locations import Location

BLOCK = 512
LOCAL_READ = 16 * 2**10
REMOTE_READ = 8 * 2**20
"""Bytes read at once: over a network, reading past small members costs less than asking for each header."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
FILES = (b"0", b"\0", b"7")
LINKS = (b"1", b"2")
EXTRAS = (b"L", b"K", b"x", b"X", b"g")
"""Headers that say more of the next member (or, g, of all)."""


class Member(NamedTuple):
    """One entry; ``offset`` and ``size`` are its content's bytes within the outermost file."""

    name: str
    kind: str
    """file, link, sparse or other."""
    offset: int
    size: int


class Headers:
    """Reads a file by blocks through a buffer. Several may share one open file, in threads of their own."""

    def __init__(self, file: pa.NativeFile, place: Location) -> None:
        self._file = file
        self._read = LOCAL_READ if place.local else REMOTE_READ
        self._start = 0
        self._held = b""

    def at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; fewer only at the file's end."""
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._held):
            self._start, begin = offset, 0
            self._held = self._file.read_at(max(size, self._read), offset)
        return self._held[begin : begin + size]


def check_uncompressed(head: bytes, shown: str) -> None:
    """Refuse a compressed file by its first bytes.

    Raises:
        UserError: it is one.
    """
    for magic, name in COMPRESSED.items():
        if head.startswith(magic):
            raise UserError(f"{shown}: compressed with {name}; images are read in place, so uncompress it first")


def begins_tar(head: bytes) -> bool:
    """Whether a file is a tar by its first block."""
    return len(head) == BLOCK and (not head.strip(b"\0") or _sound(head))


def members(headers: Headers, start: int, stop: int, shown: str) -> Iterator[Member]:
    """The members of a tar from byte ``start`` to ``stop``, in order; folders are left out.

    Args:
        shown: the tar's name in messages.

    Raises:
        UserError: compressed, no tar, damaged, or cut off.
    """
    position, last = start, ""
    extra: dict[str, str] = {}
    while True:
        block = headers.at(position, min(BLOCK, stop - position))
        if position == start:
            check_uncompressed(block, shown)
        if len(block) < BLOCK:
            raise UserError(f"{shown}: cut off{_after(last)}: the mark of a tar's end is missing; get it again")
        if not block.strip(b"\0"):
            return
        if not _sound(block):
            fault = "damaged header" if last else "not a tar: no header"
            raise UserError(f"{shown}: {fault} at byte {position}{_after(last)}")
        kind, name = block[156:157], extra.get("path") or _name(block)
        size = int(extra["size"]) if "size" in extra and kind not in EXTRAS else _number(block[124:136])
        content = _content(headers, position, block)
        position = content + -(-size // BLOCK) * BLOCK
        if content + size > stop:
            raise UserError(f"{shown}: cut off within '{name}'; get it again")
        if kind in EXTRAS:
            extra |= _extra(kind, headers.at(content, size), f"{shown}: header before byte {position}")
            continue
        if kind != b"5" and not name.endswith("/"):
            yield Member(name, _kind(kind, extra), content, size)
        last, extra = name, {}


def _content(headers: Headers, position: int, block: bytes) -> int:
    """Where a member's content begins: GNU's maps of sparse files go on in blocks that no size counts."""
    position += BLOCK
    goes_on = block[156:157] == b"S" and block[482]
    while goes_on:
        more = headers.at(position, BLOCK)
        goes_on = len(more) == BLOCK and more[504]
        position += BLOCK
    return position


def _extra(kind: bytes, content: bytes, shown: str) -> dict[str, str]:
    """What a header before a member says of it: its long name, or pax records."""
    if kind == b"L":
        return {"path": _decoded(content)}
    return _pax(content, shown) if kind in (b"x", b"X") else {}


def _after(name: str) -> str:
    return f" after '{name}'" if name else ""


def _sound(block: bytes) -> bool:
    """Whether a header's numbers are some, and its checksum holds: the sum of its bytes, its own field as spaces."""
    field = block[148:156]
    try:
        return sum(block) - sum(field) + 8 * ord(" ") == _number(field) and _number(block[124:136]) >= 0
    except ValueError:
        return False


def _number(field: bytes) -> int:
    """A number in octal, or where the first bit is set in base 256."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)


def _name(block: bytes) -> str:
    name = _decoded(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's own format has other things there
        return f"{_decoded(block[345:500])}/{name}"
    return name


def _decoded(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _pax(records: bytes, shown: str) -> dict[str, str]:
    """The records ``<length> <key>=<value>\\n`` before a member."""
    found = {}
    while records:
        digits, _, _ = records.partition(b" ")
        if not digits.isdigit() or not 0 < int(digits) <= len(records):
            raise UserError(f"{shown}: damaged: a pax record without its length")
        key, _, value = records[len(digits) + 1 : int(digits) - 1].partition(b"=")
        if key == b"size" and not value.isdigit():
            raise UserError(f"{shown}: damaged: size '{_decoded(value)}'")
        found[_decoded(key)] = _decoded(value)
        records = records[int(digits) :]
    return found


def _kind(kind: bytes, extra: dict[str, str]) -> str:
    if kind == b"S" or any(key.startswith("GNU.sparse") for key in extra):
        return "sparse"
    return "file" if kind in FILES else "link" if kind in LINKS else "other"
