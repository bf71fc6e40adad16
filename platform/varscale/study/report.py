"""The report of a study, made from its MLflow records alone and stored with them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lawfit
from lawfit.records import schema
from lawfit.report.page import write_report
from varscale.errors import EnvironmentalError, UserError
from varscale.spec.study import Study
from varscale.storage import write_json
from varscale.study.places import Places
from varscale.tracking import new_client

LAWS_FILE = "laws.json"


def write_study_report(study: Study, places: Places, parent: str) -> Path:
    """Fit the laws of a study and write figures and ``report.html``; log all to its MLflow run ``parent``.

    Raises:
        UserError: too few finished sizes to fit.
        EnvironmentalError: MLflow does not answer.
    """
    client = new_client(places.tracking_uri)
    try:
        records = lawfit.load_study(places.tracking_uri, study.name, parent)
        results = lawfit.fit_study(
            records, form=study.analysis.form, bootstrap=study.analysis.bootstrap, seed=study.seed
        )
    except lawfit.RecordError as error:
        raise UserError(f"study {study.name}: {error}") from error
    except lawfit.TrackingError as error:
        raise EnvironmentalError(f"study {study.name}: {error}") from error
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        samples = {
            str(run.run_name): _fetch(
                client, str(run.run_id), f"{schema.GRID_FOLDER}/{schema.GRID_FILE}", scratch / str(run.run_id)
            )
            for run in records.finished.itertuples()
        }
        picture = _fetch(client, records.parent_run_id, schema.RECONSTRUCTIONS_FILE, scratch)
        path = write_report(
            records,
            results,
            places.report,
            samples,
            _facts(client, records.parent_run_id),
            {"Validation images (top), and what the tokenizer makes of them after each scale": picture},
        )
    write_json(places.report / LAWS_FILE, [result.to_json() for result in results])
    client.log_artifacts(records.parent_run_id, str(places.report), artifact_path="report")
    return path


def _fetch(client: Any, run_id: str, artifact: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(run_id, artifact, str(folder)))


def _facts(client: Any, parent: str) -> dict[str, str]:
    """What a reader wants to know besides the laws, from the parent run."""
    run = client.get_run(parent)
    metrics, params = run.data.metrics, run.data.params
    return {
        "Tokenizer, validation PSNR": f"{metrics[schema.OF_TOKENIZER + schema.PSNR]:.2f} dB",
        "Fréchet distance of reconstructions (floor of fd/tokenizer)": (
            f"{metrics[schema.OF_TOKENIZER + schema.FD_RECONSTRUCTION]:.4g}"
        ),
        "Tokenizer": params[schema.TOKENIZER_KIND],
        "Rows of the sample grids": params[schema.SAMPLES_ROWS],
        "Augmented views per image": params[schema.DATA_VIEWS],
        "Git commit": run.data.tags[schema.TAG_GIT_COMMIT],
    }
