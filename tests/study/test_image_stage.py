"""A study's images: shards that are there, or anything else ingested once into the store."""

from pathlib import Path

import pytest

from varscale.data.ingest import IngestOptions, ingest
from varscale.data.schema import read_image_manifest
from varscale.spec.study import Data
from varscale.study.stages import image_folder, prepared_images


def test_shards_are_taken_where_they_are_by_path_and_by_url(picture_folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    made = ingest(picture_folder, shards, IngestOptions(size=18))
    for source in (str(shards), f"file://{shards}"):
        folder = prepared_images(Data(source=source, image_size=16), tmp_path / "store")
        assert read_image_manifest(folder) == made
        assert folder.local == shards
    assert not (tmp_path / "store").exists()


def test_other_sources_are_ingested_once(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Data(source=str(picture_folder), image_size=16)
    folder = prepared_images(data, tmp_path)
    assert read_image_manifest(folder).options["size"] == 18  # 1.125 × 16
    assert folder.local is not None
    assert folder.local.parent == tmp_path / "images"
    capsys.readouterr()
    assert prepared_images(data, tmp_path) == image_folder(data, tmp_path) == folder
    assert capsys.readouterr().err == ""
    smaller = image_folder(data.model_copy(update={"image_size": 8}), tmp_path)
    assert smaller != folder
