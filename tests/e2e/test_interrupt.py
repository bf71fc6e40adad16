"""Ctrl-C and SIGTERM in every stage of one study, run again after each; what is left: a line, records, no process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import yaml
from PIL import Image
from small_study import ROOT, environment, small_run

from lawfit.records import schema

STUDY = "emoji-quick"
LIMIT_S = 15.0
MARK = "VARSCALE_TEST_MARK"
"""Variable that tells a command's processes from all others: they inherit it."""
TWO_WORKERS, ONE_WORKER = "d3-s0", ("d1-s0", "d2-s0")


@dataclass(frozen=True)
class Ended:
    """The end of a command after a signal."""

    code: int
    seconds: float
    line: list[str]
    """What was said after the signal."""
    said: list[str]
    left: list[psutil.Process]


@dataclass
class Command:
    """A command in a session of its own, as a terminal starts it."""

    arguments: list[str]
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    said: list[str] = field(default_factory=list)
    """Its lines on stderr."""

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "varscale", *self.arguments],
            cwd=ROOT,
            env={**environment(), MARK: self.mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self.said.append(line.rstrip())

    def wait_until(self, there: Callable[[], object]) -> None:
        deadline = time.monotonic() + 240
        while not there():
            assert self.process.poll() is None, (self.process.returncode, self.said[-5:])
            assert time.monotonic() < deadline, self.said[-5:]
            time.sleep(0.01)

    def press(self, number: signal.Signals, group: bool) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes():
            process.kill()

    def ended(self, since: float, already_said: int) -> Ended:
        """Waits for its end, and looks at what is left then."""
        code = self.process.wait(timeout=60)
        seconds, left = time.monotonic() - since, self.processes()
        self._reader.join()
        return Ended(code, seconds, self.said[already_said:], self.said, left)

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Those of it, and of all that it started, which are running and have ``name`` in their command line."""
        return [process for process in psutil.process_iter() if self._is_ours(process, name)]

    def _is_ours(self, process: psutil.Process, name: str) -> bool:
        try:
            ours = process.environ().get(MARK) == self.mark and name in " ".join(process.cmdline())
            return ours and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


@dataclass(frozen=True)
class Press:
    """Where a signal is sent, and how."""

    stage: str
    """As the line names it."""
    number: signal.Signals
    group: bool
    """To the whole process group, as a terminal does, or to the command's process alone."""
    when: Callable[[Path], object]
    """Given the store: whether the moment has come."""
    open_runs: tuple[str, ...] = ()
    """Runs that were at work."""


def files(*patterns: str, count: int = 1) -> Callable[[Path], bool]:
    return lambda store: sum(len(list(store.glob(pattern))) for pattern in patterns) >= count


def checkpoints(of: str, count: int = 1) -> Callable[[Path], bool]:
    def there(store: Path) -> bool:
        snapshots = store.glob(f"checkpoints/{of}/*/checkpoint_manager_snapshot.json")
        return sum("step_" in snapshot.read_text() for snapshot in snapshots) >= count

    return there


def runs(store: Path) -> dict[str, mlflow.entities.Run]:
    if not (store / "mlflow.db").is_file():
        return {}
    client = mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name.split("@")[0]: run for run in client.search_runs(ids)}


INT, TERM = signal.SIGINT, signal.SIGTERM
PARENT, TOKENIZER = f"study/{STUDY}", "tiny"
ALL_PRESSES = {
    "ingest": Press("ingest", INT, True, files("images/*/.train*")),
    "tokenizer": Press("tokenizer", TERM, False, checkpoints("tokenizers"), (TOKENIZER,)),
    "tokens": Press("tokens", INT, False, files("tokens/*/unfinished/train-*.json")),
    "two workers": Press("grid", INT, True, checkpoints(STUDY), (PARENT, TWO_WORKERS)),
    "one worker": Press("grid", TERM, True, checkpoints(STUDY, count=2), (PARENT,)),
    "sampling": Press("grid", INT, True, files(f"runs/{STUDY}/*/model.safetensors", count=2), (PARENT,)),
    "report": Press("report", TERM, False, files(f"reports/{STUDY}/*"), (PARENT,)),
}
LONG = "VARSCALE_LONG_TESTS" in os.environ
"""Whether every stage is pressed, which takes minutes; else these three."""
PRESSES = {name: how for name, how in ALL_PRESSES.items() if LONG or name in ("tokens", "two workers", "report")}


def press(arguments: list[str], store: Path, how: Press) -> Ended:
    with Command(arguments) as command:
        command.wait_until(lambda: how.when(store))
        before, since = len(command.said), time.monotonic()
        command.press(how.number, how.group)
        return command.ended(since, before)


def press_twice(arguments: list[str]) -> Ended:
    """What writes the records stands still, so the first signal does not have its end."""
    with Command(arguments) as command:
        command.wait_until(lambda: command.processes("RayTrainWorker"))
        (recorder,) = command.processes("Recorder")
        recorder.suspend()
        command.press(INT, group=True)
        time.sleep(1)
        assert command.process.poll() is None
        before, since = len(command.said), time.monotonic()
        command.press(INT, group=True)
        return command.ended(since, before)


@dataclass(frozen=True)
class Story:
    """A study that was interrupted in each of its stages, and the same left alone."""

    ended: dict[str, Ended]
    states: dict[str, dict[str, tuple[str, str]]]
    """Run -> state, MLflow's status, after each."""
    ended_twice: Ended
    interrupted: Path
    undisturbed: Path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures that take a moment to decode."""
    folder = tmp_path_factory.mktemp("interrupted") / "pictures"
    rng = np.random.default_rng(0)
    for label, colour in (("blue", (40, 60, 220)), ("red", (220, 60, 40))):
        (folder / label).mkdir(parents=True)
        for i in range(90):
            pixels = rng.integers(200, 255, (256, 256, 3), dtype=np.uint8)
            top, left = rng.integers(0, 128, 2)
            pixels[top : top + 128, left : left + 128] = colour
            Image.fromarray(pixels).save(folder / label / f"{i:03d}.png", compress_level=1)
    return folder


def arguments(folder: Path, store: Path) -> list[str]:
    """A study of three sizes, the largest on two workers, that ingests, trains its tokenizer, and samples a while."""
    raw = yaml.safe_load((ROOT / "studies" / "tokenizer-emoji32.yaml").read_text())
    raw |= {"name": TOKENIZER, "data": {"source": str(folder / "pictures"), "image_size": 16}}
    raw["model"] |= {"vocab_size": 32, "z_channels": 4, "ch": 8, "ch_mult": [1, 2], "norm_groups": 4}
    raw |= {"recipe": {"steps": 120, "batch": 8, "lr": 4.0e-3}, "checkpoints": {"every_steps": 20}}
    raw |= {"resources": {"workers": 1, "cpus_per_worker": 1}, "evaluation": {"points": 2}}
    (folder / "tokenizer.yaml").write_text(yaml.safe_dump(raw))
    return small_run(
        store,
        f"data.source={folder / 'pictures'}",
        "data.image_size=16",
        "data.views=40",
        f"tokenizer={{kind: train, spec: {folder / 'tokenizer.yaml'}}}",
        "evaluation={points: 4, images: 256, cfg: 1.5}",
    )


@pytest.fixture(scope="module")
def story(pictures: Path) -> Story:
    folder = pictures.parent
    store, other = folder / "store", folder / "other"
    ended, states = {}, {}
    for name, how in PRESSES.items():
        ended[name] = press(arguments(folder, store), store, how)
        states[name] = {key: (run.data.tags[schema.TAG_STATE], run.info.status) for key, run in runs(store).items()}
        if name == "tokens":
            shutil.copytree(store, other)
        if name == "two workers":
            twice = press_twice(arguments(folder, store))
    for place in (store, other):
        with Command(arguments(folder, place)) as command:
            assert command.process.wait(timeout=240) == 0, command.said[-5:]
    return Story(ended, states, twice, store, other)


@pytest.mark.parametrize("name", PRESSES)
def test_it_ends_in_one_line_at_once_and_leaves_nothing_behind(name: str, story: Story) -> None:
    how, found = PRESSES[name], story.ended[name]
    assert found.code == 128 + how.number
    assert found.seconds < LIMIT_S
    assert found.left == []
    (line,) = found.line
    assert line.startswith(f"interrupted in {how.stage}: ")
    assert line.endswith("; run the same command again to go on")
    assert "Traceback" not in "\n".join(found.said)


@pytest.mark.parametrize("name", PRESSES)
def test_open_runs_say_interrupted_and_none_says_running(name: str, story: Story) -> None:
    found = story.states[name]
    assert {found[run] for run in PRESSES[name].open_runs} <= {(schema.STATE_INTERRUPTED, "KILLED")}
    assert set(found.values()) <= {(schema.STATE_INTERRUPTED, "KILLED"), (schema.STATE_FINISHED, "FINISHED")}


def test_the_line_says_where_each_size_stands_and_goes_on(story: Story) -> None:
    lines = {name: ended.line[0] for name, ended in story.ended.items()}
    assert "0 of 3 cells finished, d3-s0 at step " in lines["two workers"]
    assert " of 64 (saved at 16)" in lines["two workers"]
    assert "3 of 3 cells finished" in lines["report"]
    if LONG:
        assert "1 of 3 cells finished, d" in lines["one worker"]
        assert "tiny at step " in lines["tokenizer"]


def test_the_second_signal_ends_it_at_once(story: Story) -> None:
    found = story.ended_twice
    assert found.code == 128 + INT
    assert found.seconds < 4
    assert (found.line, found.left) == ([], [])
    assert "Traceback" not in "\n".join(found.said)


def test_run_again_it_ends_as_if_nothing_had_been(story: Story) -> None:
    ours, theirs = runs(story.interrupted), runs(story.undisturbed)
    assert set(ours) == set(theirs)
    assert {run.data.tags[schema.TAG_STATE] for run in ours.values()} == {schema.STATE_FINISHED}
    resumed = {name for name, run in ours.items() if int(run.data.tags.get(schema.TAG_RESUMED, 0)) > 0}
    assert TWO_WORKERS in resumed
    if LONG:
        assert TOKENIZER in resumed
        assert resumed & set(ONE_WORKER)
    for name in (TWO_WORKERS, *ONE_WORKER):
        for metric in (schema.VAL_LOSS, schema.VAL_LOSS_LAST, schema.FD_TOKENIZER):
            assert ours[name].data.metrics[metric] == theirs[name].data.metrics[metric], (name, metric)


def test_ingest_without_ray_goes_on_to_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    def ingest(dest: Path) -> list[str]:
        return ["ingest", str(pictures), str(dest), "--size", "128", "--shard-mib", "1"]

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    ended = press(ingest(stopped), stopped, Press("ingest", TERM, True, files("unfinished/train*")))
    assert (ended.code, ended.left) == (128 + TERM, [])
    assert re.fullmatch(r"interrupted in ingest: [1-9]\d* of 180 images; run .* to go on", ended.line[0])
    for dest in (stopped, whole):
        with Command(ingest(dest)) as command:
            assert command.process.wait(timeout=240) == 0, command.said[-5:]
    assert {p.name: p.read_bytes() for p in stopped.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}
