"""A state is read by any number of ranks at any ZeRO stage, to equality; and steps are the same on all of them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_engine import SAVED, build, cell, free_port
from training_log import Log

from varscale.plan.cadence import Cadence
from varscale.plan.cells import Cell
from varscale.train.cell import loop
from varscale.train.engine import PARTS, ZeroEngine
from varscale.train.peers import Rank
from varscale.train.state import TABLE, Parts, Range, held_ranges

STAGES = (0, 1, 2, 3)
Values = dict[str, torch.Tensor]


class EachStep(Cadence):
    """Figures after every step."""

    def records(self, done: int) -> bool:
        return True


def noisy(stage: int, workers: int) -> Cell:
    """A cell that drops labels and paths, large enough for stage 3 to cut its parameters."""
    of = cell(3, workers)
    shape = dataclasses.replace(of.shape, drop_path=0.2, label_dropout=0.2)  # type: ignore[type-var]
    return dataclasses.replace(of, zero_stage=stage, shape=shape)


def held(engine: ZeroEngine) -> dict[str, dict[int, torch.Tensor]]:
    """All that this rank holds: weights, moments, counts of steps by parameter and first value."""
    inner = engine._engine.optimizer
    state, found = getattr(inner, "optimizer", inner).state, {}
    for flat, ranges in held_ranges(engine._engine, engine._stage):
        for r in ranges:
            part = slice(r.offset, r.offset + r.count)
            for key, value in {"weight": flat.detach(), **state[flat]}.items():
                values = value.view(-1) if key == "step" else value.reshape(-1)[part]
                found.setdefault(f"{r.name}/{key}", {})[0 if key == "step" else r.start] = values.clone()
    return found


def together(ranks: list[dict[str, dict[int, torch.Tensor]]]) -> Values:
    """The whole of what ranks hold."""
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    for each in ranks:
        for name, by_start in each.items():
            pieces.setdefault(name, {}).update(by_start)
    return {name: torch.cat([by_start[start] for start in sorted(by_start)]) for name, by_start in pieces.items()}


def train(of: Cell, rank: Rank, load: Path | None = None, save: Path | None = None) -> dict:
    """Losses and gradient norms by step, what was held at the checkpoint, and the weights at its moment."""
    model, data = build(of, rank)
    if load:  # whatever is not restored shows
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
    engine = loop.new_engine(of, model, rank)
    found: dict = {}

    def keep() -> None:
        found.update(held=held(engine), weights=engine.full_state_dict())

    if load:
        engine.load(load)
        keep()

    def on_checkpoint(step: int) -> None:
        if save:
            engine.save(save)
            keep()

    log = Log(on_checkpoint)
    loop.train(
        dataclasses.replace(of, cadence=EachStep(**vars(of.cadence))), data, engine, rank, log, SAVED if load else 0
    )
    found["steps"] = {s: (m["train/loss"], m["train/grad_norm"]) for s, m in log.metrics if "train/loss" in m}
    return found


def _rank(index: int, world_size: int, port: int, jobs: list[tuple[int, str, str]], folder: Path) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(index), WORLD_SIZE=str(world_size), LOCAL_RANK="0"
    )
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=index, world_size=world_size)
    rank = Rank(index, world_size, torch.device("cpu"))
    for stage, load, save in jobs:
        load_from, save_to = folder / load if load else None, folder / save if save else None
        found = train(noisy(stage, world_size), rank, load_from, save_to)
        torch.save(found, folder / f"found-{stage}-{load}-{world_size}-{index}.pt")
    dist.destroy_process_group()


def spawn(world_size: int, jobs: list[tuple[int, str, str]], folder: Path) -> dict[tuple[int, str], list[dict]]:
    """What each rank found, by stage and what was loaded."""
    mp.start_processes(_rank, (world_size, free_port(), jobs, folder), nprocs=world_size, start_method="spawn")
    return {
        (stage, load): [
            torch.load(folder / f"found-{stage}-{load}-{world_size}-{i}.pt", weights_only=True)
            for i in range(world_size)
        ]
        for stage, load, _ in jobs
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[int, str], list[dict]]]:
    """Two ranks at every stage, and again from their checkpoints: the folder with these, and what they found."""
    folder = tmp_path_factory.mktemp("two")

    def fresh_and_resumed(*stages: int) -> dict[tuple[int, str], list[dict]]:
        return spawn(2, [(s, load, "" if load else f"s{s}") for s in stages for load in ("", f"s{s}")], folder)

    # Stage 3 replaces torch's linear function for the whole process, which then rounds otherwise.
    return folder, fresh_and_resumed(0, 1, 2) | fresh_and_resumed(3)


def assert_same_state(ours: list[dict], theirs: list[dict]) -> None:
    a, b = together([each["held"] for each in ours]), together([each["held"] for each in theirs])
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    weights = theirs[0]["weights"]
    assert [n for n, w in ours[0]["weights"].items() if not torch.equal(w.nan_to_num(), weights[n].nan_to_num())] == []


def assert_same_steps(ours: dict, theirs: dict) -> None:
    for step, (loss, norm) in ours["steps"].items():
        assert loss == pytest.approx(theirs["steps"][step][0], abs=1e-5)
        assert norm == pytest.approx(theirs["steps"][step][1], rel=1e-4)


def test_the_same_ranks_at_the_same_stage_go_on_to_the_last_bit(two: tuple) -> None:
    _, found = two
    for stage in STAGES:
        whole, resumed = found[stage, ""], found[stage, f"s{stage}"]
        assert_same_state(resumed, whole)
        for step, (loss, norm) in resumed[0]["steps"].items():
            assert loss == whole[0]["steps"][step][0]
            # At stage 0 torch sums gradients that lie elsewhere in memory in another order.
            assert norm == pytest.approx(whole[0]["steps"][step][1], rel=0 if stage else 1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_one_rank_reads_what_two_wrote_at_any_stage(two: tuple, alone: Rank, stage: int) -> None:
    folder, found = two
    for written in STAGES:
        ours = train(noisy(stage, 1), alone, folder / f"s{written}")
        assert_same_state([ours], found[written, ""])
        assert_same_steps(ours, found[written, ""][0])


def test_four_ranks_read_what_two_wrote(two: tuple) -> None:
    folder, found = two
    for (_, written), ours in spawn(4, [(2, "s1", ""), (3, "s2", ""), (1, "s3", ""), (0, "s3", "")], folder).items():
        stage = int(written[1])
        assert_same_state(ours, found[stage, ""])
        assert_same_steps(ours[0], found[stage, ""][0])


@pytest.mark.parametrize("stage", STAGES)
def test_steps_do_not_know_how_many_workers_take_them(two: tuple, alone: Rank, stage: int) -> None:
    alone_found = train(noisy(stage, 1), alone)
    for written in STAGES:
        assert_same_steps(alone_found, two[1][written, ""][0])


def test_a_state_of_another_model_or_without_a_part_is_refused(two: tuple, alone: Rank, tmp_path: Path) -> None:
    folder = two[0] / "s1"
    small = cell(1, 1)
    engine = loop.new_engine(small, build(small, alone)[0], alone)
    with pytest.raises(ValueError, match=r"word_embed\.weight has 768 values there, 64 here"):
        engine.load(folder)
    first = sorted(folder.glob(PARTS))[0]
    shutil.copy(first, tmp_path)
    with pytest.raises(ValueError, match=r"do not hold every value of .* once"):
        Parts([tmp_path / first.name])
    with pytest.raises(ValueError, match=r"do not hold every value of .* once"):
        Parts([first, first])


def test_a_range_is_read_from_all_parts_that_have_some_of_it(tmp_path: Path) -> None:
    paths = []
    for i, (start, values) in enumerate(((0, [0.0, 1.0, 2.0]), (3, [9.0, 3.0, 4.0, 5.0]), (6, [6.0]))):
        offset = 1 if i == 1 else 0  # a buffer may begin with something else
        count = len(values) - offset
        table = [{"ranges": [["w", 7, start, count, offset]], "step": 2.0}]
        paths.append(tmp_path / f"{i}.safetensors")
        save_file({"0/weight": torch.tensor(values)}, paths[-1], metadata={TABLE: json.dumps(table)})
    parts = Parts(paths)
    assert parts.read(Range("w", 7, 2, 5, 0), "weight").tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert (parts.totals, parts.kept("w")) == ({"w": 7}, (("weight",), 2.0))


def test_parts_hold_no_value_twice_and_no_pickle(two: tuple) -> None:
    for stage in (1, 2, 3):
        paths = sorted((two[0] / f"s{stage}").glob("*"))
        assert [path.suffix for path in paths] == [".safetensors"] * 2
        held_values = sum(t.numel() for path in paths for name, t in load_file(path).items() if name[0].isdigit())
        wanted = sum(Parts(paths).totals.values())
        assert 3 * wanted <= held_values < 3 * wanted + 100  # weights and two moments; padding
        with safe_open(paths[0], framework="pt") as file:
            assert any(key.startswith("buffer/") for key in file.keys())  # noqa: SIM118
