"""The quickstart as a submitted job on a local head, with token authentication on."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
import pytest
from small_study import ROOT, environment, small_run

import lawfit
from lawfit.records import schema


@dataclass(frozen=True)
class Head:
    """A running head node."""

    address: str
    environment: dict[str, str]
    pid: int

    def actors(self) -> set[str]:
        """Names of the actors' processes: trials, workers, who writes the records."""
        children = psutil.Process(self.pid).children(recursive=True)
        commands = ("".join(process.cmdline()) for process in children if process.status() != psutil.STATUS_ZOMBIE)
        ours = ("Recorder", "RayTrainWorker", "TrainController", "ImplicitFunc")
        return {command for command in commands if any(name in command for name in ours)}

    def submit(self, arguments: list[str], *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``ray job submit`` as the README documents it."""
        command = ["submit", "--runtime-env", "cluster/runtime_env.yaml", *options]
        return self.job(*command, "--", "python", "-m", "varscale", *arguments, **environment)

    def job(self, verb: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``ray job VERB`` on this head."""
        return subprocess.run(
            ["ray", "job", verb, "--address", self.address, *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_until_up(address: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head ended"
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2)
            return
        except urllib.error.HTTPError:
            return  # it answers, and wants a token
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the head did not come up within 90 s")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    scratch = Path(tempfile.mkdtemp(prefix="vsj-", dir="/tmp"))
    gcs, dashboard, agent, client = free_ports(4)
    env = {
        **environment(),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [
        "ray", "start", "--head", "--block", "--num-cpus=2", f"--port={gcs}", f"--dashboard-port={dashboard}",
        "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", f"--temp-dir={scratch}",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=scratch, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until_up(f"http://127.0.0.1:{dashboard}", process)
        yield Head(f"http://127.0.0.1:{dashboard}", env, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the head's own group; told to end, it takes half a minute after a job
        process.wait(timeout=60)
        shutil.rmtree(scratch, ignore_errors=True)


def test_without_the_token_nothing_runs(head: Head) -> None:
    refused = head.submit(["--help"], RAY_AUTH_TOKEN="0" * 32)
    assert refused.returncode != 0
    assert "token" in (refused.stdout + refused.stderr).lower()


def test_a_relative_store_is_refused_in_a_job(head: Head) -> None:
    refused = head.submit(["run", "studies/quickstart.yaml"])
    assert refused.returncode != 0
    assert "store: '.varscale' is relative" in refused.stdout + refused.stderr


def stop_at_its_first_checkpoint(head: Head, arguments: list[str], store: Path) -> float:
    """Submit a job and stop it; return the seconds until none of its actors was left."""
    submitted = head.submit(arguments, "--no-wait", "--submission-id=stopped")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: list(store.glob("checkpoints/*/*/step_*")))
    since = time.monotonic()
    assert head.job("stop", "stopped").returncode == 0
    wait_for(lambda: not head.actors())
    return time.monotonic() - since


def wait_for(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stopped_job_is_interrupted_and_another_goes_on(head: Head, tmp_path: Path) -> None:
    arguments = small_run(tmp_path)
    assert stop_at_its_first_checkpoint(head, arguments, tmp_path) < 60  # the verb that stops it starts up, too
    said = head.job("logs", "stopped").stdout
    assert "interrupted in grid: " in said
    assert "Traceback" not in said
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("emoji-quick").experiment_id])
    states = {run.info.run_name.split("@")[0]: (run.data.tags[schema.TAG_STATE], run.info.status) for run in runs}
    assert states["study/emoji-quick"] == (schema.STATE_INTERRUPTED, "KILLED")
    assert set(states.values()) <= {states["study/emoji-quick"], (schema.STATE_FINISHED, "FINISHED")}
    done = head.submit(arguments)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert f"report: {tmp_path}/reports/emoji-quick/report.html" in done.stdout
    records = lawfit.load_study(f"sqlite:///{tmp_path}/mlflow.db", "emoji-quick")
    assert sorted(records.finished["world_size"]) == [1, 1, 2]
