"""What each Ray Train worker runs: one rank of one cell, from tokens to an exported model and its quality."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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
from varscale.models.store import load_model, save_model
from varscale.models.vqvae import VQVAE
from varscale.plan.cells import Cell
from varscale.spec.study import Evaluation
from varscale.train.cell.loop import Batches, TrainingData, flops_at, new_engine, train
from varscale.train.job import Job
from varscale.train.launch import enter_rank
from varscale.train.observer import RayObserver
from varscale.train.peers import Rank
from varscale.train.resume import resume


@dataclass(frozen=True, kw_only=True)
class CellJob(Job):
    """The training of a cell; the exported model and the sample grid go to its output folder."""

    cell: Cell
    evaluation: Evaluation
    tokens: Location
    crops: FreshCrops | None
    """What training cuts and encodes at every step; None: it reads tokens. Validation reads them always."""
    tokenizer: Location


def run_rank(job: CellJob) -> None:
    """Train the cell's share of this rank, then export and assess the model together with the other ranks."""
    cell = job.cell
    rank = enter_rank(job, cell.resources.cpus_per_worker)
    tokenizer = load_model(job.tokenizer, VQVAE).model.to(rank.device).requires_grad_(False)
    val = TokenShards(job.tokens, "val", job.cache_bytes)
    with _batches(job, rank, tokenizer) as batches:
        data = TrainingData(batches, val, tokenizer.quantize, job.evaluation.batch)
        torch.manual_seed(cell.seed)
        model = cell.family.new_model(cell.shape, cell.optimizer, cell.activation_checkpointing)
        engine = new_engine(cell, model.to(rank.device), rank)
        start = resume(job, rank, engine.load, cell.zero_stage, cell.split(rank.world_size))
        train(cell, data, engine, rank, RayObserver(job, rank, engine.save, cell.zero_stage), start)
    weights, fixed = engine.full_state_dict(), model.fixed_tensors(cell.shape)
    if all(tensor.isfinite().all() for name, tensor in weights.items() if name not in fixed):
        if rank.index == 0:
            save_model(job.output / schema.MODEL_FILE, model, weights, job.facts)
        dist.barrier()
        _assess(job, tokenizer, val, rank)
    ray.train.report({"step": cell.steps})


@contextmanager
def _batches(job: CellJob, rank: Rank, tokenizer: VQVAE) -> Iterator[Batches]:
    """This rank's batches. The block ends well only if the checksums of all tokens that were read are right."""
    cell = job.cell
    share = cell.split(rank.world_size).share
    if job.crops is None:
        shards = TokenShards(job.tokens, "train", job.cache_bytes)
        yield TokenBatches(shards, cell.seed, cell.batch, share, rank.index)
        shards.finish_checks()
        return
    images = ImageShards(job.crops.images, "train", cache_bytes=job.cache_bytes)
    cpus = cell.resources.cpus_per_worker
    with TrainingViews(images, job.crops.rule, cell.seed, cell.batch, share, rank.index, cpus) as views:
        yield EncodedBatches(views, images.labels, tokenizer)


def _assess(job: CellJob, tokenizer: VQVAE, val: TokenShards, rank: Rank) -> None:
    """Sample from the exported model, as any user of the file would load it."""
    cell, evaluation = job.cell, job.evaluation
    model = load_model(job.output / schema.MODEL_FILE, cell.family.model_class()).model.to(rank.device)
    sampling = SamplingConfig(evaluation.cfg, evaluation.top_k, evaluation.top_p, cell.seed)
    metrics = measure_samples(
        model,
        Setting(tokenizer, job.tokens),
        val.labels,
        evaluation.images,
        sampling,
        evaluation.batch,
        rank.index,
        rank.world_size,
    )
    if rank.index == 0:
        grid = png_grid(class_grid(model, tokenizer, sampling), GRID_COLUMNS)
        (job.output / schema.GRID_FILE).write_bytes(grid)
        job.records.log(job.run_id, cell.steps, metrics | {schema.FLOPS: flops_at(cell, cell.steps)})
        job.records.flush()
