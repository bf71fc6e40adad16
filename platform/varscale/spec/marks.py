"""Marks of fields that are not, or not always, part of what decides a result; :mod:`varscale.identity` reads them.

A field without a mark is identity. So is a new one, and then every study made before it has another key: its finished
runs would train again. A field that comes later is therefore marked with what those studies had::

    warm_restarts: Annotated[int, Later(0)] = 0

``0`` says what was so before the field was there. It never changes, whatever becomes of the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Later:
    """Marks identity that came after there were stores; left out of a digest at the value that was meant before."""

    before: Any
    """What older studies had, as JSON would hold it."""


@dataclass(frozen=True)
class Outside:
    """Marks what is not identity, a field or a whole section."""

    why: str


WHERE = Outside("says where and on what a run happens, or how it is kept; its result is the same")
CONTENT = Outside("says where files are or how they are made; what they hold is identity, by its fingerprint")
READING = Outside("says how records are read or what is looked at on the way; no run is another for it")
NAME = Outside("says what people call it")
AXIS = Outside("spans the grid: each value is a cell of its own")
