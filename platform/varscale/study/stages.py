"""The stages before the grid: what there is of a study, then images, tokenizer and tokens, each made where missing.

What a stage has read or listed it hands on, so that a source is listed, a manifest read and a tokenizer loaded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, begin_ingest, finish_ingest
from varscale.data.manifests import ImageSet
from varscale.data.schema import MANIFEST, TokenManifest, read_image_manifest, read_token_manifest
from varscale.data.sources import Source, open_source
from varscale.data.tokenise import token_key, tokenise
from varscale.errors import UserError
from varscale.evaluate.assessment import assess
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.tokenizer_file import TokenizerFile
from varscale.plan.cells import Inputs
from varscale.plan.tokenizer import make_run, tokenizer_config
from varscale.spec.files import load_tokenizer_study
from varscale.spec.sections import Data
from varscale.spec.study import PretrainedTokenizer, Study, TrainedTokenizer
from varscale.spec.tokenizer import TokenizerStudy
from varscale.study.paths import StudyPaths
from varscale.study.tokenizer import train_tokenizer


@dataclass(frozen=True)
class FoundImages:
    """Where a study's image shards are, or will be."""

    folder: Location
    """The data source itself if it holds image shards, else a folder of the store."""
    ready: ImageSet | None
    """None: not ingested yet."""
    source: Source | None
    """Listing of the data source; None where it holds image shards."""

    @property
    def class_count(self) -> int:
        """Number of classes."""
        if self.ready:
            return len(self.ready.manifest.classes)
        assert self.source is not None  # what is not ready is made of it
        return len(self.source.classes)


@dataclass(frozen=True)
class Found:
    """What there is of a study before anything is made."""

    images: FoundImages
    tokenizer: TokenizerFile | None
    """None: not trained yet, or not known before the images are."""
    shape: VQVAEConfig
    """Shape of the tokenizer, trained or not."""
    tokens: TokenManifest | None
    """Manifest of the tokens that the study names, if it does."""

    @property
    def expected_inputs(self) -> Inputs:
        """What a plan needs; its tokens have no key yet."""
        shape = self.shape
        return Inputs(self.images.class_count, shape.vocab_size, shape.z_channels, shape.patch_nums, tokens_key="")


@dataclass(frozen=True)
class Resolved:
    """What a study's cells stand on, but for tokens that are still to be made."""

    job: TokeniseJob
    """Images, tokenizer, and how tokens are made of them; where training encodes at every step, those of validation
    alone, under another key."""
    tokens: TokenManifest | None
    """Manifest of the tokens that the study names, if it does."""

    @property
    def inputs(self) -> Inputs:
        """What the plan needs."""
        classes, cfg = self.job.images.manifest.classes, self.job.tokenizer.cfg
        key = self.tokens.key if self.tokens else token_key(self.job)
        return Inputs(len(classes), cfg.vocab_size, cfg.z_channels, cfg.patch_nums, key)


def find(study: Study, store: Location) -> Found:
    """Look for what there is of a study. Makes nothing.

    Raises:
        UserError: unusable source or tokenizer, image sizes that differ, or tokens that are not this study's.
    """
    tokens = _named_tokens(study)
    check_tokens(study, tokens, None, None)
    images = find_images(study.data, store)
    tokenizer, shape = _find_tokenizer(study, images.ready, store)
    check_tokens(study, tokens, images.ready, tokenizer)
    if shape.image_size != study.data.image_size:
        raise UserError(
            f"data.image_size: {study.data.image_size}, but the tokenizer is for {shape.image_size} px images (a"
            " released .pth is taken for 256 px; 'varscale convert' with --patch-nums makes a file of another size)"
        )
    return Found(images, tokenizer, shape, tokens)


def find_images(data: Data, store: Location) -> FoundImages:
    """List the data source, and look for what was ingested of it.

    Raises:
        UserError: the source is of no known layout.
        EnvironmentalError: it cannot be read.
    """
    place = Location.of(data.source)
    if (place / MANIFEST).is_file():
        return FoundImages(place, ImageSet.read(place), None)
    source = open_source(place, data.val_fraction)
    name = f"{place.name.split('.')[0]}-{_stored_side(data)}-{source.digest()[:8]}"
    folder = store / "images" / name
    ready = ImageSet(folder, read_image_manifest(folder)) if (folder / MANIFEST).is_file() else None
    return FoundImages(folder, ready, source)


def _stored_side(data: Data) -> int:
    return round(data.resize_ratio * data.image_size)


def _find_tokenizer(study: Study, images: ImageSet | None, store: Location) -> tuple[TokenizerFile | None, VQVAEConfig]:
    if isinstance(study.tokenizer, PretrainedTokenizer):
        given = TokenizerFile.read(study.tokenizer.path)
        return given, given.cfg
    spec = _tokenizer_spec(study, study.tokenizer)
    path = _trained_file(spec, images, store) if images else None
    return TokenizerFile.read(path) if path and path.is_file() else None, tokenizer_config(spec.model)


def _trained_file(spec: TokenizerStudy, images: ImageSet, store: Location) -> Location:
    """Weights file of a tokenizer that a study trains, there or not."""
    key = make_run(spec, images.manifest.fingerprint).run_key
    return store / "tokenizers" / f"{spec.name}-{key[:12]}.safetensors"


def _tokenizer_spec(study: Study, tokenizer: TrainedTokenizer) -> TokenizerStudy:
    """The specification as the study uses it: on its images, in its store, on GPUs if it has them."""
    spec = load_tokenizer_study(Path(tokenizer.spec))
    gpus = min(1, study.resources.gpus_per_worker) or spec.resources.gpus_per_worker
    shared = {"data": study.data, "store": study.store, "tracking": study.tracking}
    return spec.model_copy(update={**shared, "resources": spec.resources.model_copy(update={"gpus_per_worker": gpus})})


def _named_tokens(study: Study) -> TokenManifest | None:
    """Manifest of the tokens that a study names, if it does."""
    if study.data.tokens is None:
        return None
    if study.data.encoding != "once":
        raise UserError(f"data.tokens: {study.data.tokens}, but with data.encoding {study.data.encoding} none are read")
    return read_token_manifest(Location.of(study.data.tokens))


def check_tokens(
    study: Study, tokens: TokenManifest | None, images: ImageSet | None, tokenizer: TokenizerFile | None
) -> None:
    """Compare the tokens that a study names, if it does, with as much of it as is known.

    Tokens may have another seed than the study: then only the training differs between studies.

    Raises:
        UserError: naming the first field that differs.
    """
    if tokens is None or study.data.tokens is None:
        return
    wanted = {
        "data_fingerprint": ("the image shards", images and images.manifest.fingerprint),
        "tokenizer_fingerprint": ("the tokenizer", tokenizer and tokenizer.fingerprint),
        "image_size": ("data.image_size", study.data.image_size),
        "resize_ratio": ("data.resize_ratio", study.data.resize_ratio),
        "flip": ("data.flip", study.data.flip),
        "views.train": ("data.views", study.data.views),
    }
    found = tokens.model_dump() | {"views.train": tokens.views["train"]}
    place = Location.of(study.data.tokens) / MANIFEST
    for field, (origin, value) in wanted.items():
        if value is not None and found[field] != value:
            raise UserError(f"{place}: {field} is {found[field]}; {origin} of the study: {value}")


def ingest_if_missing(data: Data, images: FoundImages) -> ImageSet:
    """The images as shards, ingested now if they are not there."""
    if images.ready:
        return images.ready
    options = IngestOptions(size=_stored_side(data), val_fraction=data.val_fraction)
    begun = begin_ingest(data.source, images.folder, options, images.source)
    return ImageSet(images.folder, finish_ingest(begun))


def train_tokenizer_if_missing(
    study: Study, images: ImageSet, tokenizer: TokenizerFile | None, paths: StudyPaths, git_commit: str
) -> TokenizerFile:
    """The study's tokenizer, trained now on its images if the study says so and it is not there.

    Args:
        tokenizer: the one that was found.
    """
    if tokenizer:
        return tokenizer
    assert isinstance(study.tokenizer, TrainedTokenizer)  # one that is given was found
    spec = _tokenizer_spec(study, study.tokenizer)
    path = _trained_file(spec, images, paths.store)
    if path.is_file():
        return TokenizerFile.read(path)
    spec = spec.model_copy(update={"output": str(path)})
    return train_tokenizer(spec, images, StudyPaths.of(spec), git_commit)


def resolve(study: Study, images: ImageSet, tokenizer: TokenizerFile, tokens: TokenManifest | None) -> Resolved:
    """Put together what the tokens follow from.

    Raises:
        UserError: the study names tokens that are not its own.
    """
    check_tokens(study, tokens, images, tokenizer)
    job = TokeniseJob(
        images=images,
        tokenizer=tokenizer,
        rule=ViewRule.of(study.data),
        views=study.data.views if study.data.encoding == "once" else 0,
        seed=study.seed,
        cpus_per_actor=study.resources.cpus_per_worker,
        gpus_per_actor=min(1, study.resources.gpus_per_worker),
        cache_bytes=study.data.cache_bytes,
    )
    return Resolved(job, tokens)


def tokenise_if_missing(study: Study, resolved: Resolved, paths: StudyPaths) -> tuple[Location, TokenManifest]:
    """Folder and manifest of a study's tokens: those it names, else those with its key, made now where missing."""
    if study.data.tokens and resolved.tokens:
        return Location.of(study.data.tokens), resolved.tokens
    folder = paths.tokens(resolved.inputs.tokens_key)
    return folder, tokenise(resolved.job, folder, assess)
