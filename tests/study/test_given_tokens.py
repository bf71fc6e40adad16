"""Token shards that a study names instead of making them: taken if they are its own, refused in one line if not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.manifests import ImageSet
from varscale.data.schema import read_token_manifest
from varscale.data.tokenise import tokenise
from varscale.errors import UserError
from varscale.evaluate.assessment import assess
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import save_model
from varscale.models.tokenizer_file import TokenizerFile
from varscale.models.vqvae import VQVAE
from varscale.spec.files import load_study
from varscale.spec.study import Study
from varscale.study import stages
from varscale.study.paths import StudyPaths
from varscale.study.plan_table import plan_table

SHAPE = VQVAEConfig(32, 4, 8, (1, 2), 1, (1, 2, 4, 8), norm_groups=4)


@pytest.fixture(scope="module")
def made(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image shards, tokenizer and tokens of them in two views, made with seed 3."""
    folder = tmp_path_factory.mktemp("made")
    ingest(picture_folder, folder / "images", IngestOptions(size=18))
    torch.manual_seed(0)
    model = VQVAE(SHAPE)
    save_model(folder / "tokenizer.safetensors", model, model.state_dict(), {})
    images, tokenizer = files(folder)
    job = TokeniseJob(images, tokenizer, ViewRule(16), 2, seed=3)
    threads = torch.get_num_threads()
    tokenise(job, Location.of(folder / "tokens"), assess)
    torch.set_num_threads(threads)
    return folder


def files(made: Path) -> tuple[ImageSet, TokenizerFile]:
    return ImageSet.read(made / "images"), TokenizerFile.read(made / "tokenizer.safetensors")


def study_of(root: Path, made: Path, *overrides: str) -> Study:
    fields = {"source": made / "images", "image_size": 16, "views": 2, "flip": "false", "tokens": made / "tokens"}
    own = [f"data.{name}={value}" for name, value in fields.items()]
    tokenizer = f"tokenizer={{kind: pretrained, path: {made / 'tokenizer.safetensors'}}}"
    return load_study(root / "studies" / "quickstart.yaml", [*own, tokenizer, f"store={made / 'store'}", *overrides])


def test_a_study_takes_the_tokens_it_names(root: Path, made: Path) -> None:
    study = study_of(root, made)
    paths = StudyPaths.of(study, make_store=False)
    manifest = read_token_manifest(Location.of(made / "tokens"))
    resolved = stages.resolve(study, *files(made), stages.find(study, paths.store).tokens)
    assert resolved.inputs.tokens_key == manifest.key
    folder, found = stages.tokenise_if_missing(study, resolved, paths)
    assert (folder.local, found) == (made / "tokens", manifest)
    assert "6 sizes" in plan_table(study, paths)
    assert not paths.store.is_folder()


def test_encoding_at_every_step_has_another_key_and_tokens_of_validation_alone(root: Path, made: Path) -> None:
    study = study_of(root, made, "data.tokens=null")
    fresh = study_of(root, made, "data.tokens=null", "data.encoding=every_step")
    cached, other = (stages.resolve(each, *files(made), None) for each in (study, fresh))
    assert cached.inputs.tokens_key != other.inputs.tokens_key
    assert (cached.job.views, other.job.views) == (2, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.views=4", r"manifest\.json: views\.train is 2; data\.views of the study: 4"),
        ("data.flip=true", r"manifest\.json: flip is False; data\.flip of the study: True"),
        ("data.resize_ratio=1", r"manifest\.json: resize_ratio is 1\.125; data\.resize_ratio of the study: 1\.0"),
        ("data.encoding=every_step", r"data\.tokens: .+, but with data\.encoding every_step none are read"),
        ("data.tokens=/none", r"/none: no manifest\.json here; wanted a token data set"),
    ],
)
def test_tokens_of_another_rule_are_refused_by_plan_and_run(
    root: Path, made: Path, override: str, message: str
) -> None:
    study = study_of(root, made, override)
    with pytest.raises(UserError, match=message):
        plan_table(study, StudyPaths.of(study, make_store=False))
    with pytest.raises(UserError, match=message):
        stages.find(study, Location.of(study.store))


def test_tokens_of_other_images_or_another_tokenizer_are_refused(
    root: Path, made: Path, picture_folder: Path, tmp_path: Path
) -> None:
    ingest(picture_folder, tmp_path / "images", IngestOptions(size=20))
    model = VQVAE(SHAPE)
    save_model(tmp_path / "tokenizer.safetensors", model, model.state_dict(), {"other": True})
    changes = {
        "data_fingerprint is [0-9a-f]{64}; the image shards of the study: [0-9a-f]{64}": (
            f"data.source={tmp_path / 'images'}"
        ),
        "tokenizer_fingerprint is [0-9a-f]{64}; the tokenizer of the study: [0-9a-f]{64}": (
            f"tokenizer={{kind: pretrained, path: {tmp_path / 'tokenizer.safetensors'}}}"
        ),
    }
    for message, override in changes.items():
        study = study_of(root, made, override)
        with pytest.raises(UserError, match=message):
            plan_table(study, StudyPaths.of(study, make_store=False))
