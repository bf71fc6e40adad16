"""What a training's state is on disk: a part per rank, which any number of ranks at any ZeRO stage can read.

A part is one safetensors file: the flat buffers that a rank's optimizer steps, as they lie in memory, and in the header
a table that says which range of which parameter each range of a buffer is. A reader copies the ranges that it holds
itself from whichever parts have them, so nothing is gathered and nothing put together in memory. Ranges differ by
stage, the table does not:

- stage 0: every rank holds all parameters whole; rank r writes every W-th;
- stages 1 and 2: the parameters of a group lie one behind the other in a buffer that is cut into W partitions;
- stage 3: each parameter is cut into W pieces, the last one padded.

This file knows under which names DeepSpeed 0.19 keeps those buffers. Its own checkpoints are read by as many ranks as
wrote them; its universal ones lose buffers, and at stage 3 settings of groups and counts of steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file

WEIGHT, STEP = "weight", "step"
"""Keys of the float32 weights, and of the optimizer's count of steps, a scalar; its other state has its own keys."""
BUFFER = "buffer"
"""First part of the names of the module's buffers."""
TABLE = "table"
"""Header field with the ranges and the counts of steps."""


@dataclass(frozen=True)
class Range:
    """A range of a flattened parameter, and where it lies in a buffer."""

    name: str
    total: int
    """Values of the whole parameter."""
    start: int
    count: int
    offset: int
    """Where the range begins in the buffer."""


Held = list[tuple[torch.Tensor, list[Range]]]
"""The buffers that an optimizer steps, each with the ranges in it."""


def held_ranges(engine: Any, stage: int) -> Held:
    """What this rank holds of the trained parameters of a DeepSpeed engine."""
    names = {id(p): name for name, p in engine.module.named_parameters() if p.requires_grad}
    if stage == 0:
        return [
            (p, [Range(names[id(p)], p.numel(), 0, p.numel(), 0)])
            for p in engine.module.parameters()
            if p.requires_grad
        ]
    pieces = _of_partitioned_groups if stage < 3 else _of_partitioned_parameters
    return list(pieces(engine.optimizer, names))


def _of_partitioned_groups(optimizer: Any, names: dict[int, str]) -> Iterator[tuple[torch.Tensor, list[Range]]]:
    for group, flat in zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True):
        ranges = []
        for p in group:
            if mapping := p._hp_mapping:
                there, here = mapping.lp_fragment_address, mapping.hp_fragment_address
                ranges.append(Range(names[id(p)], p.numel(), there.start, there.numel, here.start))
        yield flat, ranges


def _of_partitioned_parameters(optimizer: Any, names: dict[int, str]) -> Iterator[tuple[torch.Tensor, list[Range]]]:
    for group, flat in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True):
        ranges = []
        for p in group:
            _, offset, padded = optimizer.grad_position[optimizer.get_param_id(p)]
            start = dist.get_rank() * padded
            ranges.append(Range(names[id(p)], p.ds_numel, start, min(padded, p.ds_numel - start), offset))
        yield flat, [r for r in ranges if r.count > 0]


def _stepper(engine: Any) -> torch.optim.Optimizer:
    """The optimizer of torch inside."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def save_part(engine: Any, stage: int, path: Path) -> None:
    """Write this rank's part; ranks write side by side."""
    held, state = held_ranges(engine, stage), _stepper(engine).state
    rank, world_size = dist.get_rank(), dist.get_world_size()
    if stage == 0:
        held = held[rank::world_size]
    tensors = {f"{BUFFER}/{name}": buffer for name, buffer in engine.module.named_buffers()} if rank == 0 else {}
    table: list[dict[str, Any]] = []
    for i, (flat, ranges) in enumerate(held):
        own = state.get(flat, {})
        table.append({"ranges": [list(vars(r).values()) for r in ranges], STEP: float(own[STEP]) if own else None})
        tensors |= {f"{i}/{key}": value for key, value in own.items() if key != STEP} | {f"{i}/{WEIGHT}": flat.detach()}
    save_file(
        {name: tensor.reshape(-1).contiguous().cpu() for name, tensor in tensors.items()},
        path,
        metadata={TABLE: json.dumps(table)},
    )


@dataclass(frozen=True)
class _Source:
    """A range that a part has."""

    range: Range
    file: Any
    buffer: int
    """Its number in the file."""
    step: float | None
    keys: tuple[str, ...]
    """What the file has of the buffer."""

    @property
    def end(self) -> int:
        return self.range.start + self.range.count


class Parts:
    """The parts of a state, open for reading.

    Raises:
        ValueError: not all values of a parameter are in them, or some twice.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._sources: dict[str, list[_Source]] = {}
        self._files = [safe_open(path, framework="pt") for path in paths]
        for file in self._files:
            keys = list(file.keys())
            for i, entry in enumerate(json.loads(file.metadata()[TABLE])):
                of_buffer = tuple(key.partition("/")[2] for key in keys if key.startswith(f"{i}/"))
                for r in (Range(*values) for values in entry["ranges"]):
                    self._sources.setdefault(r.name, []).append(_Source(r, file, i, entry[STEP], of_buffer))
        for name, sources in self._sources.items():
            sources.sort(key=lambda source: source.range.start)
            borders = [0, *(b for s in sources for b in (s.range.start, s.end)), sources[0].range.total]
            if any(before != after for before, after in list(pairwise(borders))[::2]):
                raise ValueError(f"the parts do not hold every value of {name} once")

    @property
    def totals(self) -> dict[str, int]:
        """Values of each parameter, by name."""
        return {name: sources[0].range.total for name, sources in self._sources.items()}

    def kept(self, name: str) -> tuple[tuple[str, ...], float | None]:
        """Keys of what is kept of each value of a parameter, and its optimizer's count of steps."""
        first = self._sources[name][0]
        return first.keys, first.step

    def read(self, wanted: Range, key: str) -> torch.Tensor:
        """float32 [count]: what is kept under ``key`` of a range of a parameter."""
        out = torch.empty(wanted.count)
        for source in self._sources[wanted.name]:
            there = source.range
            low, high = max(there.start, wanted.start), min(source.end, wanted.start + wanted.count)
            if low < high:
                first = there.offset + low - there.start
                values = source.file.get_slice(f"{source.buffer}/{key}")[first : first + high - low]
                out[low - wanted.start : high - wanted.start] = values
        return out

    def buffers(self) -> dict[str, torch.Tensor]:
        """The module's buffers by name, each [numel]."""
        found = ((key, file) for file in self._files for key in file.keys() if key.startswith(f"{BUFFER}/"))  # noqa: SIM118
        return {key.partition("/")[2]: file.get_tensor(key) for key, file in found}


@torch.no_grad()
def load_parts(engine: Any, stage: int, paths: Sequence[Path]) -> None:
    """Restore what this rank holds from the parts of any number of ranks at any stage; ranks call it together.

    Raises:
        ValueError: the parts are of another model, or not complete.
    """
    parts, held, stepper = Parts(paths), held_ranges(engine, stage), _stepper(engine)
    _check_model(parts, {r.name: r.total for _, ranges in held for r in ranges})
    if stage == 3:
        engine.optimizer.checkpoint_event_prologue()
    for flat, ranges in held:
        for r in ranges:
            _restore(flat, r, parts, stepper)
    _share_weights(engine.optimizer, stage)
    saved = parts.buffers()
    for name, buffer in engine.module.named_buffers():
        buffer.copy_(saved[name].view(buffer.shape))


def _share_weights(optimizer: Any, stage: int) -> None:
    """Have the module's parameters follow the buffers."""
    if stage in (1, 2):
        optimizer.update_lp_params()
    elif stage == 3:
        pairs = zip(optimizer.fp16_partitioned_groups_flat, optimizer.fp32_partitioned_groups_flat, strict=True)
        for shown, stepped in pairs:
            shown.copy_(stepped)
        optimizer.checkpoint_event_epilogue()


def _check_model(parts: Parts, ours: dict[str, int]) -> None:
    for name, total in ours.items():
        if (there := parts.totals.get(name, 0)) != total:
            raise ValueError(f"{name} has {there} values there, {total} here")


def _restore(flat: torch.Tensor, wanted: Range, parts: Parts, stepper: torch.optim.Optimizer) -> None:
    """Fill a range of a buffer and of the optimizer's state beside it."""
    keys, step = parts.kept(wanted.name)
    if step is not None:
        # A fused optimizer counts on the device.
        device = flat.device if stepper.defaults.get("fused") else None
        stepper.state[flat][STEP] = torch.tensor(step, dtype=torch.float32, device=device)
    for key in keys:
        if key != WEIGHT and key not in stepper.state[flat]:
            stepper.state[flat][key] = torch.zeros_like(flat)
        target = flat.data if key == WEIGHT else stepper.state[flat][key]
        values = parts.read(wanted, key)
        if wanted.count == target.numel():  # of any memory layout
            target.copy_(values.view(target.shape))
        else:
            target.view(-1)[wanted.offset : wanted.offset + wanted.count] = values
