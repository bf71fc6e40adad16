"""What each Ray Train worker runs: one rank of one cell, from tokens to an exported model and its quality."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist

from lawfit.records import schema
from varscale.data.batches import TokenBatches
from varscale.data.encoded import EncodedBatches, FreshCrops
from varscale.data.loader import ImageShards, TokenShards
from varscale.data.views import TrainingViews
from varscale.evaluate.sample import GRID_COLUMNS, class_grid
from varscale.evaluate.sample_metrics import Setting, measure_samples
from varscale.locations import Location
from varscale.metrics.pictures import png_grid
from varscale.models.sampling import SamplingConfig
from varscale.models.store import MASK, load_model, save_model
from varscale.models.var import VAR, init_weights
from varscale.models.vqvae import VQVAE
from varscale.plan.cells import Cell
from varscale.records import Records
from varscale.spec.study import Evaluation
from varscale.train.cell.loop import Batches, TrainingData, flops_at, train
from varscale.train.engine import EngineSettings, ZeroEngine
from varscale.train.launch import enter_rank
from varscale.train.observer import RayObserver, attempt_facts, latest_checkpoint, records_reach
from varscale.train.peers import Place


@dataclass(frozen=True)
class CellJob:
    """A cell with all it needs to run; the folders must be visible to every worker."""

    cell: Cell
    evaluation: Evaluation
    tokens: Location
    crops: FreshCrops | None
    """Of what training encodes at every step; None: it reads tokens. Validation reads them always."""
    tokenizer: Path
    output: Path
    """Where the exported model and the sample grid go."""
    facts: dict[str, Any]
    """Written into the exported model's header."""
    run_id: str
    """MLflow run."""
    records: Records
    cache_bytes: int
    """Most that a node's copies of shards in object storage may take."""


def run_rank(job: CellJob) -> None:
    """Train the cell's share of this rank, then export and assess the model together with the other ranks."""
    cell = job.cell
    place = enter_rank(cell.resources.cpus_per_worker)
    tokenizer = load_model(job.tokenizer, VQVAE).model.to(place.device).requires_grad_(False)
    val = TokenShards(job.tokens, "val", job.cache_bytes)
    with _batches(job, place, tokenizer) as batches:
        data = TrainingData(batches, val, tokenizer.quantize, job.evaluation.batch)
        torch.manual_seed(cell.seed)
        model = VAR(cell.var, checkpoint_blocks=cell.activation_checkpointing)
        init_weights(model, adaln_gamma=cell.optimizer.adaln_gamma)
        engine = ZeroEngine(model.to(place.device), EngineSettings.of(cell), place.device)
        start = _resume(engine, job, place)
        if place.rank == 0:
            job.records.attempt(job.run_id, attempt_facts(place, cell.zero_stage, cell), start)
        observer = RayObserver(job.records, job.run_id, place, engine.save, {"zero_stage": cell.zero_stage})
        train(cell, data, engine, place, observer, start)
    weights = engine.full_state_dict()
    if all(tensor.isfinite().all() for name, tensor in weights.items() if name != MASK):
        if place.rank == 0:
            save_model(job.output / schema.MODEL_FILE, model, weights, job.facts)
        dist.barrier()
        _assess(job, tokenizer, val, place)
    ray.train.report({"step": cell.steps})


@contextmanager
def _batches(job: CellJob, place: Place, tokenizer: VQVAE) -> Iterator[Batches]:
    """This rank's batches. The block ends well only if the checksums of all tokens that were read are right."""
    cell = job.cell
    share = cell.micro_batch * cell.accumulation
    if job.crops is None:
        shards = TokenShards(job.tokens, "train", job.cache_bytes)
        yield TokenBatches(shards, cell.seed, cell.batch, share, place.rank)
        shards.finish_checks()
        return
    images = ImageShards(job.crops.images, "train", cache_bytes=job.cache_bytes)
    cpus = cell.resources.cpus_per_worker
    with TrainingViews(images, job.crops.rule, cell.seed, cell.batch, share, place.rank, cpus) as views:
        yield EncodedBatches(views, images.labels, tokenizer)


def _resume(engine: ZeroEngine, job: CellJob, place: Place) -> int:
    """Restore the latest checkpoint, if these ranks can read it and the run's records reach it; return its step."""
    cell = job.cell
    with latest_checkpoint() as found:
        if found is None:
            return 0
        folder, position = found
        if (position["world_size"], position["zero_stage"]) != (place.world_size, cell.zero_stage):
            if place.rank == 0:
                job.records.notice(
                    job.run_id,
                    f"the checkpoint at step {position['step']} is for {position['world_size']} workers at ZeRO stage"
                    f" {position['zero_stage']}, not {place.world_size} at {cell.zero_stage}: starting again",
                )
            return 0
        if not records_reach(job.records, job.run_id, position):
            return 0
        engine.load(folder)
    return position["step"]


def _assess(job: CellJob, tokenizer: VQVAE, val: TokenShards, place: Place) -> None:
    """Sample from the exported model, as any user of the file would load it."""
    cell, evaluation = job.cell, job.evaluation
    model = load_model(job.output / schema.MODEL_FILE, VAR).model.to(place.device)
    sampling = SamplingConfig(evaluation.cfg, evaluation.top_k, evaluation.top_p, cell.seed)
    metrics = measure_samples(
        model,
        Setting(tokenizer, job.tokens),
        val.labels,
        evaluation.images,
        sampling,
        evaluation.batch,
        place.rank,
        place.world_size,
    )
    if place.rank == 0:
        grid = png_grid(class_grid(model, tokenizer, sampling), GRID_COLUMNS)
        Location.of(job.output / schema.GRID_FILE).write_bytes(grid)
        job.records.log(job.run_id, cell.steps, metrics | {schema.FLOPS: flops_at(cell, cell.steps)})
        job.records.flush()
