"""Writes one of the databases beside this file, with the MLflow that is installed where it runs.

    python -m venv V && V/bin/pip install mlflow-skinny==2.9.2 sqlalchemy alembic pandas
    V/bin/python write.py          # mlflow-2.9.2.db.gz

The same seven runs in each: `n_params`, a loss at three steps with the last written twice, one loss that is inf, one
that is NaN, a run that failed, one that was deleted, an experiment that was deleted.
"""

import gzip
import os
import sqlite3
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag

SIZES = (1000000, 2000000, 4000000, 8000000, 16000000, 32000000, 64000000)


def write(uri: str) -> None:
    """The runs."""
    client = mlflow.tracking.MlflowClient(uri)
    experiment = client.create_experiment("old", artifact_location="artifacts", tags={"team": "laws"})
    for place, size in enumerate(SIZES):
        run = client.create_run(experiment, start_time=1 + place, tags={"mlflow.runName": f"n{place}"}).info.run_id
        losses = [1.7 + 8 * (size / 1e6) ** -0.34 * factor for factor in (1.5, 1.2, 9.0, 1.0)]
        metrics = [
            Metric("loss", loss, time, step)
            for time, (loss, step) in enumerate(zip(losses, (10, 20, 30, 30)))  # noqa: B905 - Python 3.9 runs this
        ]
        metrics += [Metric("top", float("inf") if place == 0 else 2.0, 9, 30)]
        metrics += [Metric("lost", float("nan") if place == 0 else 2.0, 9, 30)]
        client.log_batch(run, metrics, [Param("n_params", str(size))], [RunTag("note", "kept")])
        client.set_terminated(run, "FAILED" if place == len(SIZES) - 1 else "FINISHED", end_time=1000 + place)
    client.delete_run(client.create_run(experiment).info.run_id)
    client.delete_experiment(client.create_experiment("gone", artifact_location="artifacts"))


def main() -> None:
    """Write, pack."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mlflow.db")
        write("sqlite:///" + path)
        with sqlite3.connect(path) as database:
            database.execute("VACUUM")
        packed = Path(__file__).parent / f"mlflow-{mlflow.__version__}.db.gz"
        packed.write_bytes(gzip.compress(Path(path).read_bytes(), 9, mtime=0))
        print(packed.name, packed.stat().st_size)


if __name__ == "__main__":
    main()
