"""The report of a study, made from its MLflow records alone and stored with them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lawfit
from lawfit.records import schema
from lawfit.report.page import write_report
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location
from varscale.spec.study import Study
from varscale.study.paths import StudyPaths
from varscale.tracking import Recorded, Recorder

LAWS_FILE = "laws.json"


def write_study_report(study: Study, paths: StudyPaths, parent: str) -> Location:
    """Fit the laws of a study and write figures and ``report.html``; log all to its MLflow run ``parent``.

    Raises:
        UserError: too few finished sizes to fit.
        EnvironmentalError: MLflow does not answer.
    """
    try:
        records = lawfit.load_study(paths.tracking_uri, study.name, parent)
        results = lawfit.fit_study(
            records, form=study.analysis.form, bootstrap=study.analysis.bootstrap, seed=study.seed
        )
    except lawfit.RecordError as error:
        raise UserError(f"study {study.name}: {error}") from error
    except lawfit.TrackingError as error:
        raise EnvironmentalError(f"study {study.name}: {error}") from error
    recorder = Recorder(paths.tracking_uri, study.name, paths.artifact_root)
    grid = f"{schema.GRID_FOLDER}/{schema.GRID_FILE}"
    with tempfile.TemporaryDirectory() as name, paths.report.filled() as folder:
        scratch = Path(name)
        samples = {
            str(run.run_name): recorder.fetch(str(run.run_id), grid, scratch / str(run.run_id))
            for run in records.finished.itertuples()
        }
        picture = recorder.fetch(parent, schema.RECONSTRUCTIONS_FILE, scratch)
        page = write_report(
            records,
            results,
            folder,
            samples,
            _facts(recorder.read(parent)),
            {"Validation images (top), and what the tokenizer makes of them after each scale": picture},
        )
        Location.of(folder / LAWS_FILE).write_json([result.to_json() for result in results])
        recorder.log_folder(parent, folder, schema.REPORT_FOLDER)
    return paths.report / page.name


def _facts(run: Recorded) -> dict[str, str]:
    """What a reader wants to know besides the laws, from the parent run."""
    metrics, params = run.metrics, run.params
    return {
        "Tokenizer, validation PSNR": f"{metrics[schema.OF_TOKENIZER + schema.PSNR]:.2f} dB",
        "Fréchet distance of reconstructions (floor of fd/tokenizer)": (
            f"{metrics[schema.OF_TOKENIZER + schema.FD_RECONSTRUCTION]:.4g}"
        ),
        "Tokenizer": params[schema.TOKENIZER_KIND],
        "Rows of the sample grids": params[schema.SAMPLES_ROWS],
        "Augmented views per image": params[schema.DATA_VIEWS],
        "Git commit": run.tags[schema.TAG_GIT_COMMIT],
    }
