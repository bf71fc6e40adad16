"""``varscale tokenizer train``: a tokenizer file from a specification, its training recorded in MLflow."""

from __future__ import annotations

from pathlib import Path

from lawfit import schema
from varscale.spec import TokenizerStudy
from varscale.study import stages
from varscale.study.places import Places
from varscale.tracking import Recorder

KIND_TOKENIZER = "tokenizer"


def run_tokenizer_study(study: TokenizerStudy, places: Places, git_commit: str) -> stages.TrainedReport:
    """Train the tokenizer and record it. Ray must be initialised."""
    images = stages.prepared_images(study.data, places.store)
    report = stages.train_tokenizer(study, images, Path(study.output), study.resources)
    recorder = Recorder(places.tracking_uri, study.name, places.artifact_root)
    params = {
        schema.SEED: study.seed,
        schema.DATA_FINGERPRINT: report.facts["data_fingerprint"],
        **{f"model.{key}": value for key, value in study.model.model_dump().items()},
        **{f"recipe.{key}": value for key, value in study.recipe.model_dump().items()},
    }
    run_id = recorder.open_run(KIND_TOKENIZER, study.name, params, {schema.TAG_GIT_COMMIT: git_commit})
    for step, figures in report.curve:
        recorder.log(run_id, step, {f"train/{key}": value for key, value in figures.items()})
    recorder.log(run_id, study.recipe.steps, {f"tokenizer/{key}": v for key, v in report.facts["validation"].items()})
    recorder.log_files(run_id, [report.path, report.path.with_suffix(".png")])
    recorder.close(run_id, schema.STATE_FINISHED)
    return report
