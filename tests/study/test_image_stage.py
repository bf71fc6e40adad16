"""A study's images: shards that are there, or anything else ingested once into the store."""

from pathlib import Path

import pytest
import torch

from varscale.data.ingest import IngestOptions, ingest
from varscale.evaluate.assessment import QUALITY
from varscale.evaluate.references import REFERENCE
from varscale.locations import Location
from varscale.spec.files import load_study
from varscale.spec.sections import Data
from varscale.study.paths import StudyPaths
from varscale.study.stages import find, find_images, ingest_if_missing, resolve, tokenise_if_missing


def test_shards_are_taken_where_they_are_by_path_and_by_url(picture_folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    made = ingest(picture_folder, shards, IngestOptions(size=18))
    for source in (str(shards), f"file://{shards}"):
        data = Data(source=source, image_size=16)
        images = ingest_if_missing(data, find_images(data, Location.of(tmp_path / "store")))
        assert images.manifest == made
        assert images.folder.local == shards
    assert not (tmp_path / "store").exists()


def test_other_sources_are_ingested_once(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Data(source=str(picture_folder), image_size=16)
    images = ingest_if_missing(data, find_images(data, Location.of(tmp_path)))
    assert images.manifest.options["size"] == 18  # 1.125 × 16
    assert images.folder.local is not None
    assert images.folder.local.parent == tmp_path / "images"
    capsys.readouterr()
    found = find_images(data, Location.of(tmp_path))
    assert ingest_if_missing(data, found) == found.ready == images
    assert capsys.readouterr().err == ""
    smaller = find_images(data.model_copy(update={"image_size": 8}), Location.of(tmp_path))
    assert (smaller.ready, smaller.class_count) == (None, 2)
    assert smaller.folder != images.folder


def test_images_and_tokens_may_be_kept_in_object_storage(
    root: Path, picture_folder: Path, tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARSCALE_CACHE", str(tmp_path))
    fields = {"source": picture_folder, "image_size": 16, "views": 1}
    study = load_study(
        root / "studies" / "quickstart.yaml",
        [
            *(f"data.{name}={value}" for name, value in fields.items()),
            f"tokenizer={{kind: pretrained, path: {tiny_tokenizer}}}",
            "store=memory://study",
            "tracking.uri=https://host",
        ],
    )
    paths, threads = StudyPaths.of(study), torch.get_num_threads()
    found = find(study, paths.store)
    assert found.tokenizer is not None
    images = ingest_if_missing(study.data, found.images)
    resolved = resolve(study, images, found.tokenizer, found.tokens)
    folder, tokens = tokenise_if_missing(study, resolved, paths)
    torch.set_num_threads(threads)
    assert str(folder).startswith("memory://study/tokens/")
    assert {QUALITY, REFERENCE} < set(folder.files())
    assert find(study, paths.store).images.ready == images
    assert tokenise_if_missing(study, resolved, paths) == (folder, tokens)
