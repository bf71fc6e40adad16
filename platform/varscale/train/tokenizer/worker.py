"""What each Ray Train worker runs: one rank of a tokenizer's training, from images to an exported model."""

from __future__ import annotations

from dataclasses import dataclass

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
from varscale.spec.tokenizer import TokenizerEvaluation
from varscale.train.job import Job
from varscale.train.launch import enter_rank
from varscale.train.observer import RayObserver
from varscale.train.peers import Rank
from varscale.train.resume import resume
from varscale.train.tokenizer.loop import ZERO_STAGE, TokenizerData, TokenizerTraining, train


@dataclass(frozen=True, kw_only=True)
class TokenizerJob(Job):
    """The training of a tokenizer; its output is a weights file, and a picture goes beside it."""

    run: TokenizerRun
    rule: ViewRule
    evaluation: TokenizerEvaluation
    images: Location


def run_tokenizer_rank(job: TokenizerJob) -> None:
    """Train this rank's share, then export the averaged weights."""
    run = job.run
    rank = enter_rank(job, run.cpus_per_worker)
    images = {split: ImageShards(job.images, split, cache_bytes=job.cache_bytes) for split in ("train", "val")}
    data = TokenizerData(images["train"], images["val"], job.rule, job.evaluation)
    training = TokenizerTraining(run, rank, _perceptual(run, rank))
    start = resume(job, rank, training.load, ZERO_STAGE, run.split(rank.world_size))
    quality = train(training, data, RayObserver(job, rank, training.save, ZERO_STAGE), start)
    if quality and rank.index == 0:
        _export(training, data, job, quality)
    dist.barrier()
    ray.train.report({"step": run.steps})


def _perceptual(run: TokenizerRun, rank: Rank) -> LPIPS | None:
    wanted = run.recipe.perceptual
    if wanted is None or wanted.vgg16 is None or wanted.heads is None:
        return None
    return load_lpips(wanted.vgg16, wanted.heads).to(rank.device)


def _export(training: TokenizerTraining, data: TokenizerData, job: TokenizerJob, quality: dict[str, float]) -> None:
    model = training.average.model
    picture = scale_grid(model, shown_views(data.val, job.rule), training.rank.device)
    job.output.with_suffix(".png").write_bytes(picture)
    save_model(job.output, model, model.state_dict(), {**job.facts, "validation": quality})
