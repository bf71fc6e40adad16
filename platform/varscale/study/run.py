"""``varscale run``: a study from its file to its report. Run again, it does what is missing and nothing twice."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from lawfit.fitting.points import MIN_DISTINCT_X
from lawfit.records import schema
from varscale.data.encoded import FreshCrops
from varscale.data.schema import TokenManifest
from varscale.errors import EnvironmentalError, UserError
from varscale.evaluate.assessment import QUALITY
from varscale.evaluate.sample import GRID_CLASSES
from varscale.identity import former_study_key, study_key
from varscale.interruption import on_interrupt, stage
from varscale.locations import Location
from varscale.plan.cells import Cell, Inputs, check_frontier, make_plan
from varscale.progress import clock, say
from varscale.records import Records, recording
from varscale.spec.study import Study
from varscale.study import stages
from varscale.study.grid import Grid, run_grid
from varscale.study.paths import StudyPaths
from varscale.study.placement import check_fit, cluster_resources
from varscale.study.recorded import note_key
from varscale.study.report import write_study_report
from varscale.tracking import check_writable
from varscale.train.cell.worker import CellJob


@dataclass
class Timing:
    """Seconds by stage, in order."""

    stages: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def ended(self, stage: str) -> None:
        """The stage that began where the last one ended is over."""
        now = time.monotonic()
        self.stages[stage] = now - self._since
        self._since = now

    def standing(self) -> str:
        """The stages that are over."""
        return f"after {', '.join(self.stages)}" if self.stages else "at its beginning"

    def table(self) -> str:
        """One line per stage."""
        rows = [f"  {name:<10} {clock(seconds):>8}" for name, seconds in self.stages.items()]
        return "\n".join([*rows, f"  {'total':<10} {clock(sum(self.stages.values())):>8}"])


@dataclass(frozen=True)
class Outcome:
    """What a run of a study left behind."""

    report: Location
    failed: dict[str, str]
    """Cell -> reason."""


@dataclass(frozen=True)
class Prepared:
    """What the grid stands on."""

    inputs: Inputs
    cells: tuple[Cell, ...]
    tokenizer: Location
    tokens: Location
    manifest: TokenManifest
    crops: FreshCrops | None
    """What training encodes at every step; None: it reads tokens."""


def prepare(study: Study, paths: StudyPaths, git_commit: str, timing: Timing | None = None) -> Prepared:
    """Images, tokenizer, plan and tokens of a study, each made only where missing. Ray must be initialised.

    Raises:
        UserError: the study asks for what data, tokenizer or cluster cannot give.
    """
    timing = timing or Timing()
    offered = cluster_resources()
    found = stages.find(study, paths.store)
    expected = make_plan(study, found.expected_inputs)
    check_fit(expected, offered)  # before hours of work, not after
    check_frontier(expected)
    images = stages.ingest_if_missing(study.data, found.images)
    stages.check_tokens(study, found.tokens, images, found.tokenizer)
    timing.ended("data")
    tokenizer = stages.train_tokenizer_if_missing(study, images, found.tokenizer, paths, git_commit)
    timing.ended("tokenizer")
    if tokenizer.facts.get("data_fingerprint") != images.manifest.fingerprint:
        say(f"tokenizer: {tokenizer.path} was trained on other images; the report shows what it makes of these")
    resolved = stages.resolve(study, images, tokenizer, found.tokens)
    cells = make_plan(study, resolved.inputs)
    tokens, manifest = stages.tokenise_if_missing(study, resolved, paths)
    crops = FreshCrops(images.folder, resolved.job.rule) if study.data.encoding == "every_step" else None
    timing.ended("tokens")
    return Prepared(resolved.inputs, cells, tokenizer.path, tokens, manifest, crops)


def run_study(study: Study, paths: StudyPaths, git_commit: str, timing: Timing) -> Outcome:
    """Run a study to its report. Ray must be initialised; raises as :func:`prepare`, :func:`check_enough_for_a_law`."""
    if len(study.sizes.depths) < MIN_DISTINCT_X:
        raise UserError(f"sizes.depths: {list(study.sizes.depths)}; a law needs at least {MIN_DISTINCT_X} sizes")
    check_writable(paths.tracking_uri, study.name)  # before hours of work, not after
    ready = prepare(study, paths, git_commit, timing)
    with recording(paths.recorder(), paths.tracking_uri, study.name, paths.artifact_root) as records:
        parent, failed = _train_missing(study, paths, ready, git_commit, records)
        timing.ended("grid")
        check_enough_for_a_law(len(ready.cells), len(failed))
        finished = f"{len(ready.cells) - len(failed)} of {len(ready.cells)} cells finished"
        with stage("report", lambda: finished), on_interrupt(partial(records.close, parent, schema.STATE_INTERRUPTED)):
            report = write_study_report(study, paths, parent)
    timing.ended("report")
    return Outcome(report, failed)


def _train_missing(
    study: Study, paths: StudyPaths, ready: Prepared, git_commit: str, records: Records
) -> tuple[str, dict[str, str]]:
    """Train the cells that are not finished; return the study's own run, and the reasons of the cells that failed."""
    parent = _open_parent(records, study, paths, ready, git_commit)
    missing = [cell for cell in ready.cells if not records.finished_cell(parent, cell.run_key)]
    say(f"grid: {len(ready.cells)} sizes, {len(ready.cells) - len(missing)} finished before, {len(missing)} to train")
    jobs = {cell.name: _cell_job(study, paths, cell, ready, git_commit, records) for cell in missing}
    failed = run_grid(Grid(study, paths, ready.manifest, parent, git_commit, len(ready.cells) - len(missing), jobs))
    for name, reason in failed.items():
        say(f"failed: {name}: {reason}")
    records.close(parent, schema.STATE_FAILED if failed else schema.STATE_FINISHED)
    return parent, failed


def check_enough_for_a_law(sizes: int, failed: int) -> None:
    """Tell apart a law that failed sizes leave no points for from records that do not fit.

    Raises:
        EnvironmentalError: sizes failed, and too few are left.
    """
    if failed and sizes - failed < MIN_DISTINCT_X:
        raise EnvironmentalError(
            f"{failed} of the study's {sizes} sizes failed, see above; a law needs {MIN_DISTINCT_X} that finished;"
            " run again to retry them"
        )


def _open_parent(records: Records, study: Study, paths: StudyPaths, ready: Prepared, git_commit: str) -> str:
    """The study's own run, with its specification, its tokenizer's quality and picture."""
    quality = json.loads((ready.tokens / QUALITY).read_bytes())
    params = {
        schema.DATA_FINGERPRINT: ready.manifest.data_fingerprint,
        schema.TOKENIZER_FINGERPRINT: ready.manifest.tokenizer_fingerprint,
        schema.TOKENIZER_KIND: study.tokenizer.kind,
        schema.SEED: study.seed,
        schema.DATA_ENCODING: study.data.encoding,
        schema.DATA_VIEWS: ready.manifest.views["train"],
        schema.SAMPLES_ROWS: ", ".join(ready.manifest.classes[:GRID_CLASSES]),
    }
    tags = {schema.TAG_GIT_COMMIT: git_commit, schema.TAG_STATE: schema.STATE_RUNNING}
    name = f"study/{study.name}@{git_commit[:7]}"
    key, former = (named(study, ready.inputs.tokens_key) for named in (study_key, former_study_key))
    note_key(study, paths, key)
    parent = records.open_study(key, name, params, tags, former)
    records.log(parent, 0, {schema.OF_TOKENIZER + key: value for key, value in quality.items()})
    with tempfile.TemporaryDirectory() as folder:
        resolved = Location.of(folder) / "study.yaml"
        resolved.write_bytes(yaml.safe_dump(_shareable(study, paths), sort_keys=False).encode())
        records.log_files(parent, [resolved, ready.tokens / schema.RECONSTRUCTIONS_FILE])
    return parent


def _shareable(study: Study, paths: StudyPaths) -> dict[str, Any]:
    """The specification, its tracking URI without user and password."""
    tracking = {"uri": study.tracking.uri and paths.records}
    return study.model_dump(mode="json") | {"tracking": tracking}


def _cell_job(
    study: Study, paths: StudyPaths, cell: Cell, ready: Prepared, git_commit: str, records: Records
) -> CellJob:
    return CellJob(
        cell=cell,
        evaluation=study.evaluation,
        tokens=ready.tokens,
        crops=ready.crops,
        tokenizer=ready.tokenizer,
        output=paths.cell(cell),
        facts={"study": study.name, "cell": cell.name, "run_key": cell.run_key, "git_commit": git_commit},
        run_id="",
        name=cell.name,
        run_key=cell.run_key,
        checkpoints=paths.cell_checkpoints(cell),
        records=records,
        cache_bytes=study.data.cache_bytes,
    )
