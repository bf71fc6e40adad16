"""The stages before the grid: images ready, tokenizer ready, tokens ready. Each reuses what is there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.loader import ImageShards
from varscale.data.schema import MANIFEST, read_image_manifest
from varscale.data.sources import listing_digest, open_source
from varscale.data.tokenise import PICTURED, TokeniseJob, measure_tokenizer, token_key
from varscale.device import best_device
from varscale.errors import UserError
from varscale.evaluate.pictures import save_grid
from varscale.models.store import load_model, save_model
from varscale.models.vqvae import VQVAE
from varscale.plan import Inputs, study_key
from varscale.progress import Progress
from varscale.shapes import VQVAEConfig
from varscale.spec import Data, PretrainedTokenizer, Resources, Study, TokenizerStudy
from varscale.storage import digest
from varscale.study_file import load_tokenizer_study
from varscale.train import tokenizer as training


@dataclass(frozen=True)
class TrainedReport:
    """What training a tokenizer gave."""

    path: Path
    facts: dict[str, Any]
    curve: list[tuple[int, dict[str, float]]]
    """(step, figures) every LOG_EVERY steps."""


LOG_EVERY = 50


def view_rule(data: Data) -> ViewRule:
    """The view rule a study's data section asks for."""
    return ViewRule(data.image_size, data.resize_ratio, data.flip)


def expected_inputs(study: Study) -> Inputs:
    """What a plan needs, known before anything is made; its tokens have no key yet.

    Raises:
        UserError: unusable source or tokenizer, or image sizes that differ.
    """
    cfg = _tokenizer_shape(study)
    if cfg.image_size != study.data.image_size:
        raise UserError(
            f"data.image_size: {study.data.image_size}, but the tokenizer is for {cfg.image_size} px images"
        )
    return Inputs(_class_count(study.data), cfg.vocab_size, cfg.z_channels, cfg.patch_nums, tokens_key="")


def _tokenizer_shape(study: Study) -> VQVAEConfig:
    if isinstance(study.tokenizer, PretrainedTokenizer):
        return load_model(Path(study.tokenizer.path), VQVAE).model.cfg
    return tokenizer_config(load_tokenizer_study(Path(study.tokenizer.spec)))


def tokenizer_config(spec: TokenizerStudy) -> VQVAEConfig:
    """The architecture a tokenizer specification asks for."""
    return VQVAEConfig(**spec.model.model_dump())


def _class_count(data: Data) -> int:
    source = Path(data.source)
    if (source / MANIFEST).is_file():
        return len(read_image_manifest(source).classes)
    with open_source(source, data.val_fraction) as images:
        return len({image.class_name for image in images})


def image_folder(data: Data, store: Path) -> Path:
    """Folder of a study's image shards, there or not: the source itself if it is one, else a place in the store."""
    source = Path(data.source)
    if (source / MANIFEST).is_file():
        return source
    listing = listing_digest(source, data.val_fraction)
    return store / "images" / f"{source.name.split('.')[0]}-{_stored_side(data)}-{listing[:8]}"


def _stored_side(data: Data) -> int:
    return round(data.resize_ratio * data.image_size)


def prepared_images(data: Data, store: Path) -> Path:
    """Folder of image shards, ingested now if the source is none and was not ingested before."""
    folder = image_folder(data, store)
    if not (folder / MANIFEST).is_file():
        ingest(Path(data.source), folder, IngestOptions(size=_stored_side(data), val_fraction=data.val_fraction))
    return folder


def tokenizer_file(study: Study, images: Path, store: Path) -> Path:
    """Weights file of a study's tokenizer, there or not."""
    if isinstance(study.tokenizer, PretrainedTokenizer):
        return Path(study.tokenizer.path)
    spec = load_tokenizer_study(Path(study.tokenizer.spec))
    rule = dataclasses.astuple(view_rule(study.data))
    fingerprint = read_image_manifest(images).fingerprint
    key = digest([spec.model.model_dump(), spec.recipe.model_dump(), spec.seed, rule, fingerprint])
    return store / "tokenizers" / f"{spec.name}-{key[:12]}.safetensors"


def prepared_tokenizer(study: Study, images: Path, store: Path) -> Path:
    """Weights file of the study's tokenizer, trained now on its images if the study says so and it is not there."""
    path = tokenizer_file(study, images, store)
    if not path.is_file() and not isinstance(study.tokenizer, PretrainedTokenizer):
        spec = load_tokenizer_study(Path(study.tokenizer.spec)).model_copy(update={"data": study.data})
        train_tokenizer(spec, images, path, study.resources)
    return path


def train_tokenizer(spec: TokenizerStudy, images: Path, path: Path, resources: Resources) -> TrainedReport:
    """Train a tokenizer in one Ray task on a whole node, showing progress. Ray must be initialised."""
    cpus = int(max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"]))
    progress = Progress("tokenizer", spec.recipe.steps, "steps")
    feed = ray.remote(num_cpus=0)(_Feed).remote()
    task = ray.remote(num_cpus=cpus, num_gpus=min(1, resources.gpus_per_worker))(_train_tokenizer)
    result = task.remote(spec, images, path, cpus, resources.gpus_per_worker, feed)
    while not ray.wait([result], timeout=1.0)[0]:
        step, figures = ray.get(feed.latest.remote())
        progress.advance(step - progress.done, ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    report = ray.get(result)
    progress.advance(spec.recipe.steps - progress.done)
    progress.close()
    return report


class _Feed:
    """Holds the latest figures of a task for those who watch."""

    def __init__(self) -> None:
        self._latest: tuple[int, dict[str, float]] = (0, {})

    def put(self, step: int, figures: dict[str, float]) -> None:
        self._latest = (step, figures)

    def latest(self) -> tuple[int, dict[str, float]]:
        return self._latest


def _train_tokenizer(spec: TokenizerStudy, images: Path, path: Path, cpus: int, gpus: int, feed: Any) -> TrainedReport:
    torch.set_num_threads(cpus)
    device = best_device(gpus)
    curve: list[tuple[int, dict[str, float]]] = []

    def on_step(step: int, figures: dict[str, float]) -> None:
        if step % LOG_EVERY == 0:
            curve.append((step, figures))
            feed.put.remote(step, figures)

    cfg = tokenizer_config(spec)
    shards = ImageShards(images, "train")
    rule = view_rule(spec.data)
    model = training.train(cfg, spec.recipe, spec.seed, shards, rule, device, on_step)
    quality = measure_tokenizer(model, images, rule, device)
    facts = {
        "name": spec.name,
        "seed": spec.seed,
        "recipe": spec.recipe.model_dump(mode="json"),
        "data": spec.data.model_dump(mode="json", exclude={"source"}),
        "data_fingerprint": shards.manifest.fingerprint,
        "validation": quality.facts(),
    }
    save_grid(path.with_suffix(".png"), quality.pictures, columns=PICTURED)
    save_model(path, model, model.state_dict(), facts)
    return TrainedReport(path, facts, curve)


def plan_inputs(study: Study, images: Path, tokenizer: Path) -> tuple[Inputs, TokeniseJob]:
    """What the plan needs, and the job that makes the tokens."""
    manifest = read_image_manifest(images)
    loaded = load_model(tokenizer, VQVAE)
    cfg = loaded.model.cfg
    gpus = min(1, study.resources.gpus_per_worker)
    job = TokeniseJob(images, tokenizer, view_rule(study.data), study.data.views, study.seed, gpus_per_task=gpus)
    key = token_key(job, manifest.fingerprint, loaded.fingerprint)
    return Inputs(len(manifest.classes), cfg.vocab_size, cfg.z_channels, cfg.patch_nums, key), job


def trained_on(tokenizer: Path, images: Path) -> bool:
    """Whether the tokenizer was trained on just these images."""
    fingerprint = load_model(tokenizer, VQVAE).facts.get("data_fingerprint")
    return fingerprint == read_image_manifest(images).fingerprint


def known_key(study: Study, store: Path) -> str:
    """The study's key, if its images and tokenizer are there.

    Raises:
        UserError: they are not, so the study has not been run.
    """
    images = image_folder(study.data, store)
    if not (images / MANIFEST).is_file() or not tokenizer_file(study, images, store).is_file():
        raise UserError(f"study {study.name}: nothing made of it yet in {store}; run it first")
    inputs, _ = plan_inputs(study, images, tokenizer_file(study, images, store))
    return study_key(study, inputs)
