"""How long `lawfit.load` takes to read the curves of 1,000 MLflow runs of 1,000 points.

Writes a SQLite database (two metrics, loss and flops: two million values) to a temporary folder, then reads it
straight from the file and, with --server, through an `mlflow server` on loopback.

    python benchmarks/lawfit_records.py [--runs 1000] [--points 1000] [--server]
"""

import argparse
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
from record import print_table, recorded

import lawfit

METRICS = ("loss", "flops")


def write_database(path: Path, runs: int, points: int) -> None:
    """Runs through MLflow, so that its schema is its own; values straight into its table, which is quicker."""
    from mlflow import MlflowClient
    from mlflow.entities import Param

    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    experiment = client.create_experiment("bench", artifact_location=path.parent.as_uri())
    ids = []
    for i in range(runs):
        run = client.create_run(experiment, run_name=f"run-{i}")
        client.log_batch(run.info.run_id, params=[Param("n_params", "10000"), Param("tokens", "1000000")])
        client.set_terminated(run.info.run_id)
        ids.append(run.info.run_id)
    losses = np.random.default_rng(0).uniform(2, 4, points)
    values = [losses.tolist(), np.linspace(6e10 / points, 6e10, points).tolist()]
    rows = (
        (metric, values[m][step], step, step, False, run)
        for run in ids for m, metric in enumerate(METRICS) for step in range(points)
    )  # fmt: skip
    last = [
        (metric, values[m][-1], points - 1, points - 1, False, run) for run in ids for m, metric in enumerate(METRICS)
    ]
    insert = "INSERT INTO {} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
    with sqlite3.connect(path) as database:
        database.executemany(insert.format("metrics"), rows)
        database.executemany(insert.format("latest_metrics"), last)


@contextmanager
def server(path: Path) -> Iterator[str]:
    """An mlflow server over the database; its URI."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{path}",
               "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def timed(uri: str) -> tuple[float, float, int]:
    """Seconds, CPU seconds of this process, and rows read."""
    start, cpu = time.perf_counter(), time.process_time()
    table = lawfit.load(f"{uri}#bench", curves=True)
    return time.perf_counter() - start, time.process_time() - cpu, len(table)


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--server", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        write_database(path, arguments.runs, arguments.points)
        import mlflow  # noqa: F401 - its import takes seconds and is no reading

        results = {"SQLite file": timed(f"sqlite:///{path}")}
        if arguments.server:
            with server(path) as uri:
                results["HTTP server"] = timed(uri)
    lines = [(name, f"{rows:,}", f"{taken:.2f}", f"{cpu:.2f}") for name, (taken, cpu, rows) in results.items()]
    print_table(("source", "rows", "seconds", "CPU s"), lines)


if __name__ == "__main__":
    with recorded(__file__):
        main()
