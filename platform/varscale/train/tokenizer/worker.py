"""What each Ray Train worker runs: one rank of a tokenizer's training, from images to an exported model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch.distributed as dist

from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards
from varscale.data.views import shown_views
from varscale.evaluate.reconstruction import scale_grid
from varscale.locations import Location
from varscale.models.lpips import LPIPS, load_lpips
from varscale.models.store import save_model
from varscale.plan.tokenizer import TokenizerRun
from varscale.records import Records
from varscale.spec.tokenizer import TokenizerEvaluation
from varscale.train.launch import enter_rank
from varscale.train.observer import RayObserver, attempt_facts, latest_checkpoint, records_reach
from varscale.train.peers import Place
from varscale.train.tokenizer.loop import TokenizerData, TokenizerTraining, train


@dataclass(frozen=True)
class TokenizerJob:
    """A tokenizer's training with all it needs; the folders must be visible to every worker."""

    run: TokenizerRun
    rule: ViewRule
    evaluation: TokenizerEvaluation
    images: Location
    output: Path
    """Weights file to write, and a picture beside it. Neither is written if training diverges."""
    facts: dict[str, Any]
    """Written into the weights file's header, with the last validation."""
    run_id: str
    """MLflow run."""
    records: Records
    cache_bytes: int
    """Most that a node's copies of shards in object storage may take."""


def run_tokenizer_rank(job: TokenizerJob) -> None:
    """Train this rank's share, then export the averaged weights."""
    run = job.run
    place = enter_rank(run.cpus_per_worker)
    images = {split: ImageShards(job.images, split, cache_bytes=job.cache_bytes) for split in ("train", "val")}
    data = TokenizerData(images["train"], images["val"], job.rule, job.evaluation)
    training = TokenizerTraining(run, place, _perceptual(run, place))
    start = _resume(training, job)
    if place.rank == 0:
        job.records.attempt(job.run_id, attempt_facts(place, 0, run), start)
    observer = RayObserver(job.records, job.run_id, place, training.save)
    quality = train(training, data, observer, start)
    if quality and place.rank == 0:
        _export(training, data, job, quality)
    dist.barrier()
    ray.train.report({"step": run.steps})


def _perceptual(run: TokenizerRun, place: Place) -> LPIPS | None:
    wanted = run.recipe.perceptual
    if wanted is None or wanted.vgg16 is None or wanted.heads is None:
        return None
    return load_lpips(Path(wanted.vgg16), Path(wanted.heads)).to(place.device)


def _resume(training: TokenizerTraining, job: TokenizerJob) -> int:
    """Restore the latest checkpoint, if the run's records reach it; return its step."""
    with latest_checkpoint() as found:
        if found is None:
            return 0
        folder, position = found
        if not records_reach(job.records, job.run_id, position):
            return 0
        training.load(folder)
    return position["step"]


def _export(training: TokenizerTraining, data: TokenizerData, job: TokenizerJob, quality: dict[str, float]) -> None:
    model = training.average.model
    picture = scale_grid(model, shown_views(data.val, job.rule), training.place.device)
    Location.of(job.output.with_suffix(".png")).write_bytes(picture)
    save_model(job.output, model, model.state_dict(), {**job.facts, "validation": quality})
