"""What a checkpoint says of itself, and which step training starts from; one real worker of Ray Train."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import torch

from lawfit.records import schema
from varscale.plan.batch_split import BatchSplit
from varscale.ray_session import connected
from varscale.records import recording
from varscale.spec.sections import Checkpoints
from varscale.train.checkpoint import POSITION_FILE, Position, keep, read_position
from varscale.train.job import Job
from varscale.train.launch import Workers, enter_rank, launch
from varscale.train.peers import Rank
from varscale.train.resume import resume

TWO = Rank(0, 2, torch.device("cpu"))
ONE = Rank(0, 1, torch.device("cpu"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"recorded": 16, "step": 20, "world_size": 2, "zero_stage": 1}', Position(20, 16, 2, 1)),  # of a first cell
        ('{"recorded": 16, "step": 20, "world_size": 2}', Position(20, 16, 2, 0)),  # of a first tokenizer
        ('{"recorded": 16, "st', None),
        ('{"recorded": 16}', None),
        (None, None),
    ],
)
def test_a_checkpoint_without_its_whole_position_is_none(tmp_path: Path, text: str | None, wanted: object) -> None:
    if text is not None:
        (tmp_path / POSITION_FILE).write_text(text)
    assert read_position(tmp_path) == wanted


def test_parts_are_for_as_many_ranks_at_the_same_stage_and_whole_states_for_any() -> None:
    assert Position(20, 16, 2, 1).unreadable_by(TWO, 1) is None
    assert Position(20, 16, 2, 1).unreadable_by(ONE, 1) == "is of 2 workers at ZeRO stage 1, not 1 at 1"
    assert Position(20, 16, 2, 1).unreadable_by(TWO, 2) == "is of 2 workers at ZeRO stage 1, not 2 at 2"
    assert Position(20, 16, 2).unreadable_by(ONE, 0) is None


@dataclass(frozen=True, kw_only=True)
class Steps(Job):
    """Where the worker below writes the steps that it would start from."""

    storage: Path


def start_again_and_again(job: Steps) -> None:
    rank, loaded = enter_rank(job, 1), []

    def start(zero_stage: int) -> int:
        return resume(
            job, rank, lambda folder: loaded.append((folder / "part").read_text()), zero_stage, BatchSplit(4, 2)
        )

    steps = [start(1)]
    job.records.log(job.run_id, 16, {schema.TRAIN_LOSS: 2.5})
    keep(Position(20, 16, 1, 1, job.run_id), rank, lambda folder: (folder / "part").write_text("state"))
    steps += [start(1), start(2)]
    keep(Position(30, 29, 1, 1, job.run_id), rank, lambda folder: (folder / "part").write_text("state"))
    steps.append(start(1))
    (position,) = job.storage.glob(f"step_0000030-*/{POSITION_FILE}")
    position.write_text("")
    steps.append(start(1))
    job.output.write_text(json.dumps([steps, loaded]))


def test_training_starts_from_a_checkpoint_that_it_can_go_on_from_and_says_why_not(
    empty_database: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri, storage = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "checkpoints" / "one"
    with connected(), recording("one", uri, "one", None) as records:
        run = records.open_cell(records.open_study("key", "study/one", {}, {}), "cell", "d1-s0", {}, {})
        job = Steps(
            output=tmp_path / "steps.json", facts={}, run_id=run, records=records, cache_bytes=0, storage=storage
        )
        assert launch(start_again_and_again, job, Workers(1, 1, 0), Checkpoints(max_failures=0), storage) is None
        notices = records.notices()
    steps, loaded = json.loads(job.output.read_text())
    assert (steps, loaded) == ([0, 20, 0, 0, 0], ["state"])
    assert notices == [
        f"d1-s0: the latest checkpoint {reason}: starting again"
        for reason in (
            "at step 20 is of 1 workers at ZeRO stage 1, not 1 at 2",
            "at step 30 goes further than the records of its run",
            "is not whole",
        )
    ]
    tags = mlflow.MlflowClient(uri).get_run(run).data.tags
    assert (tags[schema.ENGINE_MICRO_BATCH], tags[schema.ENGINE_ACCUMULATION]) == ("4", "2")
    assert schema.TAG_RESUMED not in tags  # the last attempt began at step 0
