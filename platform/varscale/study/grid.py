"""The grid: Ray Tune schedules the cells, each trial drives one Ray Train run, the records hear of all."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ray import tune

from lawfit.records import schema
from varscale.data.schema import TokenManifest
from varscale.evaluate.sample_metrics import SAMPLE_METRICS
from varscale.interruption import stage
from varscale.plan.cells import Cell
from varscale.records import Records
from varscale.spec.study import Study
from varscale.study.paths import StudyPaths
from varscale.study.placement import Wave, cluster_resources, waves
from varscale.study.watch import GridState, Ticker, run_stands
from varscale.train.cell.worker import CellJob, run_rank
from varscale.train.launch import Workers, launch, ray_storage

TRIAL_MEMORY = 64 * 2**20
"""Bytes a trial's driver reserves. Tune wants a demand, and a CPU would be taken from the driver's own workers."""


@dataclass(frozen=True)
class Grid:
    """The cells to train and what they share."""

    study: Study
    paths: StudyPaths
    manifest: TokenManifest
    parent: str
    """MLflow run of the study."""
    git_commit: str
    finished: int
    """Cells that had finished before."""
    jobs: Mapping[str, CellJob]
    """Of the others, by cell name; their ``run_id`` is set when they start."""


def run_grid(grid: Grid) -> dict[str, str]:
    """Train all cells, largest first, as many at once as fit; return the reasons of those that failed, by name."""
    if not grid.jobs:
        return {}
    jobs = sorted(grid.jobs.values(), key=lambda job: -job.cell.flops)
    records = jobs[0].records
    failed: dict[str, str] = {}
    state = GridState([job.cell for job in jobs], records)
    with stage("grid", partial(_standing, grid, records)), Ticker(records, state.print):
        for wave in waves([job.cell for job in jobs], cluster_resources()):
            failed |= _run_wave(grid, wave)
    return failed | records.failures()


def _standing(grid: Grid, records: Records) -> str:
    """How many cells are finished, and where each that trains is."""
    finished, total = grid.finished + records.finished(), grid.finished + len(grid.jobs)
    open_cells = ((grid.jobs[name].cell, progress) for name, progress in records.progress().items())
    stand = [run_stands(cell.name, cell.steps, at, grid.paths.cell_checkpoints(cell)) for cell, at in open_cells]
    return ", ".join([f"{finished} of {total} cells finished", *stand])


def _run_wave(grid: Grid, wave: Wave) -> dict[str, str]:
    """Train a wave's cells; return what no trial expected to go wrong, by cell."""
    trainable = tune.with_resources(tune.with_parameters(_trial, grid=grid), {"CPU": 0, "memory": TRIAL_MEMORY})
    tuner = tune.Tuner(
        trainable,
        param_space={"cell": tune.grid_search([cell.name for cell in wave.cells])},
        tune_config=tune.TuneConfig(max_concurrent_trials=wave.at_once),
        run_config=tune.RunConfig(
            name=f"{grid.study.name}-{time.strftime('%Y%m%dT%H%M%S')}", verbose=0, **ray_storage(grid.paths.trials)
        ),
    )
    outcomes = zip(wave.cells, tuner.fit(), strict=True)  # Tune returns trials in the order of the grid
    return {cell.name: str(result.error).strip().splitlines()[-1] for cell, result in outcomes if result.error}


def _trial(config: dict[str, str], grid: Grid) -> None:
    """One trial: open the run, train, store what came of it, close the run."""
    job = grid.jobs[config["cell"]]
    cell, records = job.cell, job.records
    params = cell_params(cell, grid.study, grid.manifest)
    tags = {schema.TAG_GIT_COMMIT: grid.git_commit, schema.TAG_CHECKPOINT: str(job.checkpoints)}
    run_id = records.open_cell(grid.parent, cell.run_key, cell.name, params, tags)
    resources = cell.resources
    workers = Workers(resources.workers, resources.cpus_per_worker, resources.gpus_per_worker)
    if launch(run_rank, replace(job, run_id=run_id), workers, grid.study.checkpoints):
        return
    final = records.read(run_id).metrics
    wanted = (*schema.REQUIRED_METRICS, *SAMPLE_METRICS)
    if broken := next((name for name in wanted if not math.isfinite(final.get(name, math.nan))), None):
        reason = f"diverged: {broken} is {final.get(broken)}; a lower optimizer.peak_lr may help"
        records.fail(run_id, reason)
        return
    records.log_files(run_id, [job.output / schema.MODEL_FILE], schema.MODEL_FOLDER)
    records.log_files(run_id, [job.output / schema.GRID_FILE], schema.GRID_FOLDER)
    records.close(run_id, schema.STATE_FINISHED)


def cell_params(cell: Cell, study: Study, manifest: TokenManifest) -> dict[str, Any]:
    """What MLflow records of a cell, constant over the run; how it was trained and sampled tells what compares."""
    optimizer = study.optimizer.at(cell.depth)
    return {
        **cell.family.params(cell.shape),
        schema.MODEL_N_PAPER: cell.costs.n_paper,
        schema.MODEL_N_PARAMS: cell.costs.n_params,
        schema.DATA_TOKENS: cell.tokens,
        schema.DATA_IMAGES: cell.images,
        schema.DATA_FINGERPRINT: manifest.data_fingerprint,
        schema.TOKENIZER_FINGERPRINT: manifest.tokenizer_fingerprint,
        schema.TOKENIZER_KIND: study.tokenizer.kind,
        schema.OPTIMIZER_LR: cell.lr,
        schema.OPTIMIZER_BATCH: cell.batch,
        schema.OPTIMIZER_STEPS: cell.steps,
        schema.OPTIMIZER_BASE_LR: optimizer.peak_lr,
        schema.OPTIMIZER_WARMUP: optimizer.warmup_fraction,
        schema.OPTIMIZER_SCHEDULE: optimizer.schedule,
        schema.SAMPLES_CFG: study.evaluation.cfg,
        schema.SAMPLES_TOP_K: study.evaluation.top_k,
        schema.SAMPLES_TOP_P: study.evaluation.top_p,
        schema.SAMPLES_IMAGES: study.evaluation.images,
        schema.SEED: cell.seed,
        schema.ENGINE_PRECISION: cell.precision,
    }
