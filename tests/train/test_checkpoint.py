"""What a checkpoint says of itself, and which step training starts from; one real worker of Ray Train."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow

from lawfit.records import schema
from varscale.locations import Location
from varscale.plan.batch_split import BatchSplit
from varscale.ray_session import connected
from varscale.records import recording
from varscale.spec.sections import Checkpoints
from varscale.train.checkpoint import POSITION_FILE, Position, keep
from varscale.train.job import Job
from varscale.train.launch import Workers, enter_rank, launch
from varscale.train.resume import resume

POSITION = Position(20, 16, "run", "key", "d1-s0", 1, 1)


@dataclass(frozen=True, kw_only=True)
class Steps(Job):
    """A job whose worker below writes the steps that it would start from."""


def start_again_and_again(job: Steps) -> None:
    rank, loaded = enter_rank(job, 1), []

    def start() -> int:
        return resume(job, rank, lambda folder: loaded.append((folder / "part").read_text()), 1, BatchSplit(4, 2))

    def keep_at(step: int, recorded: int = 16, key: str = "key") -> None:
        position = replace(POSITION, step=step, recorded=recorded, run_key=key)
        keep(position, rank, lambda folder: (folder / "part").write_text(f"state {step}"))

    def only(pattern: str) -> Path:
        (found,) = Path(job.checkpoints.path).glob(pattern)
        return found

    steps = [start()]
    job.records.log(job.run_id, 16, {schema.TRAIN_LOSS: 2.5})
    keep_at(20)
    steps.append(start())
    keep_at(30, recorded=29)
    keep_at(40, key="another")
    steps.append(start())
    keep_at(50)
    only("step_0000050-*/part").write_text("changed")
    steps.append(start())
    keep_at(60)
    only("step_0000060-*/part").unlink()
    steps.append(start())
    only(f"step_0000020-*/{POSITION_FILE}").write_text('{"step": 20, "recor')
    steps.append(start())
    job.output.write_json([steps, loaded])


def test_training_starts_from_the_newest_checkpoint_that_holds_and_says_why_others_do_not(
    empty_database: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with connected(), recording("one", uri, "one", None) as records:
        run = records.open_cell(records.open_study("key", "study/one", {}, {}), "cell", "d1-s0", {}, {})
        job = Steps(
            output=Location.of(tmp_path / "steps.json"),
            facts={},
            run_id=run,
            name="d1-s0",
            run_key="key",
            checkpoints=Location.of(tmp_path / "checkpoints" / "one"),
            records=records,
            cache_bytes=0,
        )
        assert launch(start_again_and_again, job, Workers(1, 1, 0), Checkpoints(keep=9, max_failures=0)) is None
        notices = records.notices()
    steps, loaded = json.loads(job.output.read_bytes())
    assert (steps, loaded) == ([0, 20, 20, 20, 20, 0], ["state 20"] * 4)
    of_another, ahead = "is of another training, d1-s0", "goes further than the records of its run"
    altered, gone = "part is not what was written", "part is missing"
    unread = "has no position that this version reads"
    wanted = [(40, of_another), (30, ahead), (50, altered), (60, gone), (20, unread)]  # each is told once
    sentence = re.compile(r"d1-s0: checkpoint step_0*(\d+)-\w+: (.+); going on from the one before, .*")
    found = [match.groups() for notice in notices if (match := sentence.fullmatch(notice))]
    assert found == [(str(step), reason) for step, reason in wanted]
    tags = mlflow.MlflowClient(uri).get_run(run).data.tags
    assert (tags[schema.ENGINE_MICRO_BATCH], tags[schema.ENGINE_ACCUMULATION]) == ("4", "2")
    assert schema.TAG_RESUMED not in tags  # the last attempt began at step 0
