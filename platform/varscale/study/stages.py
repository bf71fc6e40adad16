"""The stages before the grid: images ready, tokenizer ready, tokens ready. Each reuses what is there."""

from __future__ import annotations

from pathlib import Path

from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.schema import MANIFEST, read_image_manifest
from varscale.data.sources import open_source
from varscale.data.tokenise import TokeniseJob, token_key
from varscale.errors import UserError
from varscale.locations import Location
from varscale.models.store import load_model
from varscale.models.vqvae import VQVAE
from varscale.plan import Inputs, study_key
from varscale.shapes import VQVAEConfig
from varscale.spec import Data, PretrainedTokenizer, Study, TrainedTokenizer
from varscale.study.places import Places
from varscale.study.tokenizer import train_tokenizer
from varscale.study_file import load_tokenizer_study
from varscale.tokenizer_plan import make_run, vqvae_config
from varscale.tokenizer_spec import TokenizerStudy


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
    return vqvae_config(load_tokenizer_study(Path(study.tokenizer.spec)).model)


def _class_count(data: Data) -> int:
    source = Path(data.source)
    if (source / MANIFEST).is_file():
        return len(read_image_manifest(Location.of(source)).classes)
    return len(open_source(source, data.val_fraction).classes)


def image_folder(data: Data, store: Path) -> Path:
    """Folder of a study's image shards, there or not: the source itself if it is one, else a place in the store."""
    source = Path(data.source)
    if (source / MANIFEST).is_file():
        return source
    listing = open_source(source, data.val_fraction).digest()
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
    spec = _tokenizer_spec(study, study.tokenizer)
    key = make_run(spec, read_image_manifest(Location.of(images)).fingerprint).run_key
    return store / "tokenizers" / f"{spec.name}-{key[:12]}.safetensors"


def _tokenizer_spec(study: Study, tokenizer: TrainedTokenizer) -> TokenizerStudy:
    """The specification as the study uses it: on its images, in its store, on GPUs if it has them."""
    spec = load_tokenizer_study(Path(tokenizer.spec))
    gpus = min(1, study.resources.gpus_per_worker) or spec.resources.gpus_per_worker
    shared = {"data": study.data, "store": study.store, "tracking": study.tracking}
    return spec.model_copy(update={**shared, "resources": spec.resources.model_copy(update={"gpus_per_worker": gpus})})


def prepared_tokenizer(study: Study, images: Path, places: Places, git_commit: str) -> Path:
    """Weights file of the study's tokenizer, trained now on its images if the study says so and it is not there."""
    path = tokenizer_file(study, images, places.store)
    if not path.is_file() and isinstance(study.tokenizer, TrainedTokenizer):
        spec = _tokenizer_spec(study, study.tokenizer).model_copy(update={"output": str(path)})
        train_tokenizer(spec, images, Places.of(spec), git_commit)
    return path


def plan_inputs(study: Study, images: Path, tokenizer: Path) -> tuple[Inputs, TokeniseJob]:
    """What the plan needs, and the job that makes the tokens."""
    manifest = read_image_manifest(Location.of(images))
    loaded = load_model(tokenizer, VQVAE)
    cfg = loaded.model.cfg
    gpus = min(1, study.resources.gpus_per_worker)
    job = TokeniseJob(images, tokenizer, ViewRule.of(study.data), study.data.views, study.seed, gpus_per_task=gpus)
    key = token_key(job, manifest.fingerprint, loaded.fingerprint)
    return Inputs(len(manifest.classes), cfg.vocab_size, cfg.z_channels, cfg.patch_nums, key), job


def trained_on(tokenizer: Path, images: Path) -> bool:
    """Whether the tokenizer was trained on just these images."""
    fingerprint = load_model(tokenizer, VQVAE).facts.get("data_fingerprint")
    return fingerprint == read_image_manifest(Location.of(images)).fingerprint


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
