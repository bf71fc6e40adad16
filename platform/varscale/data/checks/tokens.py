"""What one shard of tokens holds: whole columns at a time, since a row is small and there are many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from varscale.data.checks.problems import Problem, Problems
from varscale.data.checks.shard_files import (
    UNREADABLE,
    ShardFacts,
    column_bytes,
    note_unreadable,
    same_file,
    same_rows,
    same_schema,
    shown,
)
from varscale.data.schema import Shard, TokenManifest, token_schema
from varscale.locations import Location

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class TokenCheck:
    """What every shard is held against."""

    dest: Location
    manifest: TokenManifest


def check_token_shard(check: TokenCheck, part: tuple[str, Shard]) -> ShardFacts:
    """Read one shard whole; one task."""
    split, shard = part
    problems = Problems()
    with same_file(check.dest, shard, problems) as path:
        batch = None if path is None else _batch(path, shard, token_schema(check.manifest.length), problems)
        if batch is None:
            return ShardFacts(problems)
        whole = same_rows(len(batch), shard, problems)
        rows = _Rows(shard, batch, check.manifest.views.get(split) or 1, problems)
        return rows.check(check, whole)


def _batch(path: Path, shard: Shard, wanted: pa.Schema, problems: Problems) -> pa.RecordBatch | None:
    """The shard's record batch, its buffers mapped from the file; None if it cannot be read."""
    try:
        mapped = pa.memory_map(str(path)).read_buffer()
        file = pa.ipc.open_file(pa.BufferReader(mapped))
        if not same_schema(file.schema, wanted, shard, problems):
            return None
        if file.num_record_batches != 1:
            problems.add(Problem("batches", shard.file, f"{file.num_record_batches} record batches", "allowed 1"))
            return None
        batch = file.get_batch(0)
        for name in wanted.names:  # before any value is looked at: damaged offsets point anywhere
            batch[name].validate(full=True)
    except UNREADABLE as error:
        note_unreadable(shard, "Arrow IPC", error, problems)
        return None
    values = batch["tokens"].values.buffers()[1]
    if not mapped.address <= values.address < mapped.address + mapped.size:
        problems.add(Problem("compressed", shard.file, "tokens are compressed", "allowed uncompressed buffers"))
    return batch


@dataclass(frozen=True)
class _Rows:
    """A shard's rows, and where problems with them go."""

    shard: Shard
    batch: pa.RecordBatch
    views: int
    problems: Problems

    def check(self, check: TokenCheck, whole: bool) -> ShardFacts:
        if self._no_value() or not self._whole_images():
            return ShardFacts(self.problems)
        labels, classes = self._numbers("label"), len(check.manifest.classes)
        views = self._numbers("view")
        first = np.arange(len(self.batch)) // self.views * self.views
        wanted = np.arange(len(self.batch)) - first
        keys = self.batch["key"].cast(pa.large_string())
        other_key = pc.not_equal(keys, keys.take(pa.array(first))).to_numpy(zero_copy_only=False)
        inside = (labels >= 0) & (labels < classes)
        self._note("view", views != wanted, lambda r: (f"view {views[r]}", f"wanted {wanted[r]} here"))
        self._note("label", ~inside, lambda r: (f"label {labels[r]}", f"allowed 0…{classes - 1}"))
        self._note(
            "label of view",
            labels != labels[first],
            lambda r: (f"label {labels[r]}", f"view 0 of this image has {labels[first[r]]}"),
        )
        self._note("key of view", other_key, lambda r: ("another key", f"view 0 of this image has {keys[first[r]]}"))
        self._tokens(check)
        images = np.arange(0, len(self.batch), self.views)
        counts = np.bincount(labels[images][inside[images]], minlength=classes)
        return ShardFacts(self.problems, whole, images.tolist(), keys.take(pa.array(images)), counts=counts)

    def _no_value(self) -> bool:
        holes = {name: _holes(self.batch[name]) for name in self.batch.schema.names}
        for name, missing in holes.items():
            self._note("no value", missing, _always(f"nothing in column '{name}'", "wanted a value in every row"))
        return any(missing.any() for missing in holes.values())

    def _whole_images(self) -> bool:
        if len(self.batch) % self.views:
            what = f"{len(self.batch):,} rows"
            allowed = f"wanted a multiple of {self.views}, the views of each image"
            self.problems.add(Problem("part of an image", self.shard.file, what, allowed))
        return len(self.batch) % self.views == 0

    def _tokens(self, check: TokenCheck) -> None:
        vocab = check.manifest.vocab_size
        tokens = self.batch["tokens"].flatten().to_numpy().reshape(-1, check.manifest.length)
        blocks = (tokens[start : start + BLOCK_ROWS] for start in range(0, len(tokens), BLOCK_ROWS))
        too_large = np.concatenate([block.max(axis=1) >= vocab for block in blocks] or [np.zeros(0, bool)])

        def said(row: int) -> tuple[str, str]:
            position = int(np.argmax(tokens[row] >= vocab))
            return f"token {tokens[row, position]} at position {position}", f"allowed 0…{vocab - 1}"

        self._note("token", too_large, said)

    def _numbers(self, column: str) -> np.ndarray:
        return self.batch[column].to_numpy()

    def _note(self, kind: str, wrong: np.ndarray, said: Callable[[int], tuple[str, str]]) -> None:
        """A line for every row that is ``wrong``."""
        for row in np.flatnonzero(wrong).tolist():
            what, allowed = said(row)
            key = shown(column_bytes(self.batch["key"].slice(row, 1))[0])
            self.problems.add(Problem(kind, self.shard.file, what, allowed, row, key))


def _always(what: str, allowed: str) -> Callable[[int], tuple[str, str]]:
    return lambda row: (what, allowed)


def _holes(column: pa.Array) -> np.ndarray:
    return column.is_null().to_numpy(zero_copy_only=False)
