"""A study's images: shards that are there, or anything else ingested once into the store."""

from pathlib import Path

import pytest

from varscale.data.ingest import IngestOptions, ingest
from varscale.locations import Location
from varscale.spec.study import Data
from varscale.study.stages import find_images, ingest_if_missing


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
