"""The stages before the grid: images ready, tokenizer ready, tokens ready. Each reuses what is there."""

from __future__ import annotations

from pathlib import Path

from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.schema import MANIFEST, TokenManifest, read_image_manifest, read_token_manifest
from varscale.data.sources import open_source
from varscale.data.tokenise import token_key, tokenise
from varscale.errors import UserError
from varscale.evaluate.assessment import assess
from varscale.identity import study_key
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import load_model
from varscale.models.vqvae import VQVAE
from varscale.plan.cells import Inputs
from varscale.plan.tokenizer import make_run, vqvae_config
from varscale.spec.files import load_tokenizer_study
from varscale.spec.study import Data, PretrainedTokenizer, Study, TrainedTokenizer
from varscale.spec.tokenizer import TokenizerStudy
from varscale.study.places import Places
from varscale.study.tokenizer import train_tokenizer


def expected_inputs(study: Study, store: Path) -> Inputs:
    """What a plan needs, known before anything is made; its tokens have no key yet.

    Raises:
        UserError: unusable source or tokenizer, image sizes that differ, or tokens that are not this study's.
    """
    check_given_tokens(study, store)
    cfg = tokenizer_shape(study)
    if cfg.image_size != study.data.image_size:
        raise UserError(
            f"data.image_size: {study.data.image_size}, but the tokenizer is for {cfg.image_size} px images (a released"
            " .pth is taken for 256 px; 'varscale convert' with --patch-nums makes a file of another size)"
        )
    return Inputs(_class_count(study.data), cfg.vocab_size, cfg.z_channels, cfg.patch_nums, tokens_key="")


def tokenizer_shape(study: Study) -> VQVAEConfig:
    """Shape of a study's tokenizer, trained or not."""
    if isinstance(study.tokenizer, PretrainedTokenizer):
        return load_model(Path(study.tokenizer.path), VQVAE).model.cfg
    return vqvae_config(load_tokenizer_study(Path(study.tokenizer.spec)).model)


def _class_count(data: Data) -> int:
    source = Location.of(data.source)
    if (source / MANIFEST).is_file():
        return len(read_image_manifest(source).classes)
    return len(open_source(source, data.val_fraction).classes)


def image_folder(data: Data, store: Path) -> Location:
    """Folder of a study's image shards, there or not: the source itself if it is one, else a place in the store."""
    source = Location.of(data.source)
    if (source / MANIFEST).is_file():
        return source
    listing = open_source(source, data.val_fraction).digest()
    return Location.of(store / "images" / f"{source.name.split('.')[0]}-{_stored_side(data)}-{listing[:8]}")


def _stored_side(data: Data) -> int:
    return round(data.resize_ratio * data.image_size)


def prepared_images(data: Data, store: Path) -> Location:
    """Folder of image shards, ingested now if the source is none and was not ingested before."""
    folder = image_folder(data, store)
    if not (folder / MANIFEST).is_file():
        ingest(data.source, folder, IngestOptions(size=_stored_side(data), val_fraction=data.val_fraction))
    return folder


def tokenizer_file(study: Study, images: Location, store: Path) -> Path:
    """Weights file of a study's tokenizer, there or not."""
    if isinstance(study.tokenizer, PretrainedTokenizer):
        return Path(study.tokenizer.path)
    spec = _tokenizer_spec(study, study.tokenizer)
    key = make_run(spec, read_image_manifest(images).fingerprint).run_key
    return store / "tokenizers" / f"{spec.name}-{key[:12]}.safetensors"


def _tokenizer_spec(study: Study, tokenizer: TrainedTokenizer) -> TokenizerStudy:
    """The specification as the study uses it: on its images, in its store, on GPUs if it has them."""
    spec = load_tokenizer_study(Path(tokenizer.spec))
    gpus = min(1, study.resources.gpus_per_worker) or spec.resources.gpus_per_worker
    shared = {"data": study.data, "store": study.store, "tracking": study.tracking}
    return spec.model_copy(update={**shared, "resources": spec.resources.model_copy(update={"gpus_per_worker": gpus})})


def prepared_tokenizer(study: Study, images: Location, places: Places, git_commit: str) -> Path:
    """Weights file of the study's tokenizer, trained now on its images if the study says so and it is not there."""
    path = tokenizer_file(study, images, places.store)
    if not path.is_file() and isinstance(study.tokenizer, TrainedTokenizer):
        spec = _tokenizer_spec(study, study.tokenizer).model_copy(update={"output": str(path)})
        train_tokenizer(spec, images, Places.of(spec), git_commit)
    return path


def plan_inputs(study: Study, images: Location, tokenizer: Path) -> tuple[Inputs, TokeniseJob]:
    """What the plan needs, and the job that makes the tokens unless the study names some.

    Raises:
        UserError: the study names tokens that are not its own.
    """
    manifest = read_image_manifest(images)
    loaded = load_model(tokenizer, VQVAE)
    cfg, job = loaded.model.cfg, token_job(study, images, tokenizer)
    given = _given_tokens(study, manifest.fingerprint, loaded.fingerprint)
    key = given.key if given else token_key(job, manifest.fingerprint, loaded)
    return Inputs(len(manifest.classes), cfg.vocab_size, cfg.z_channels, cfg.patch_nums, key), job


def token_job(study: Study, images: Location, tokenizer: Path) -> TokeniseJob:
    """What is encoded before training, and how: validation alone where training encodes at every step."""
    return TokeniseJob(
        images=images,
        tokenizer=tokenizer,
        rule=ViewRule.of(study.data),
        views=study.data.views if study.data.encoding == "once" else 0,
        seed=study.seed,
        cpus_per_actor=study.resources.cpus_per_worker,
        gpus_per_actor=min(1, study.resources.gpus_per_worker),
        cache_bytes=study.data.cache_bytes,
    )


def check_given_tokens(study: Study, store: Path) -> None:
    """Compare the tokens a study names, if it does, with as much of the study as is there.

    Raises:
        UserError: naming the first field that differs.
    """
    if study.data.tokens is None:
        return
    images = image_folder(study.data, store)
    if not (images / MANIFEST).is_file():
        _given_tokens(study, None, None)
        return
    tokenizer = tokenizer_file(study, images, store)
    made_by = load_model(tokenizer, VQVAE).fingerprint if tokenizer.is_file() else None
    _given_tokens(study, read_image_manifest(images).fingerprint, made_by)


def _given_tokens(study: Study, data: str | None, tokenizer: str | None) -> TokenManifest | None:
    """Manifest of the tokens a study names, which must be of its data and tokenizer, as far as they are known.

    Tokens may have another seed than the study: then only the training differs between studies.
    """
    if study.data.tokens is None:
        return None
    if study.data.encoding != "once":
        raise UserError(f"data.tokens: {study.data.tokens}, but with data.encoding {study.data.encoding} none are read")
    folder = Location.of(study.data.tokens)
    manifest = read_token_manifest(folder)
    wanted = {
        "data_fingerprint": ("the image shards", data),
        "tokenizer_fingerprint": ("the tokenizer", tokenizer),
        "image_size": ("data.image_size", study.data.image_size),
        "resize_ratio": ("data.resize_ratio", study.data.resize_ratio),
        "flip": ("data.flip", study.data.flip),
        "views.train": ("data.views", study.data.views),
    }
    found = manifest.model_dump() | {"views.train": manifest.views["train"]}
    for field, (origin, value) in wanted.items():
        if value is not None and found[field] != value:
            raise UserError(f"{folder / MANIFEST}: {field} is {found[field]}; {origin} of the study: {value}")
    return manifest


def prepared_tokens(study: Study, job: TokeniseJob, places: Places, key: str) -> tuple[Location, TokenManifest]:
    """Folder and manifest of a study's tokens: those it names, else those with this key, made now where missing."""
    if study.data.tokens:
        folder = Location.of(study.data.tokens)
        return folder, read_token_manifest(folder)
    folder = Location.of(places.tokens(key))
    return folder, tokenise(job, folder, assess)


def trained_on(tokenizer: Path, images: Location) -> bool:
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
    return study_key(study, inputs.tokens_key)
