"""``varscale status``: what a study's records hold so far, one line per run."""

from __future__ import annotations

from lawfit.records import schema
from varscale.errors import UserError
from varscale.spec.study import Study
from varscale.study.paths import StudyPaths
from varscale.study.recorded import recorded_parent


def status_table(study: Study, paths: StudyPaths) -> str:
    """Name, state and latest figures of every run of the study as its file stands.

    Raises:
        UserError: the study has no records yet.
    """
    import lawfit

    try:
        records = lawfit.load_study(paths.tracking_uri, study.name, recorded_parent(study, paths))
    except lawfit.RecordError as error:
        raise UserError(f"study {study.name}: {error}") from error
    measured = [metric.name for metric in schema.METRICS if metric.primary and records.runs[metric.name].notna().any()]
    return records.runs[["run_name", "state", "n_paper", *measured]].to_string(index=False, na_rep="-")
