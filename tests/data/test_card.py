"""What a data set's card says, and the picture beside it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crafted import shard, token_manifest
from PIL import Image
from typer.testing import CliRunner

from varscale.cli import app
from varscale.data.cards.histogram import Bin, shape_bins, size_bins
from varscale.data.cards.images import ImageCard, evenly, image_card
from varscale.data.cards.show import show
from varscale.data.cards.text import image_text
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.schema import (
    IMAGE_SCHEMA,
    read_image_manifest,
    token_schema,
    write_manifest,
)
from varscale.errors import UserError
from varscale.locations import Location


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three plain colours: 20 wide pictures, 10 tall ones, 5 squares; as PNG and JPEG, large and small."""
    source = tmp_path_factory.mktemp("source")
    for name, count, size, colour in (
        ("red", 20, (300, 200), (255, 0, 0)),
        ("green", 10, (16, 24), (0, 255, 0)),
        ("a class with a name that no line of a picture holds", 5, (48, 48), (0, 0, 255)),
    ):
        for split, images in (("train", count), ("val", 2)):
            (source / split / name).mkdir(parents=True)
            for i in range(images):
                Image.new("RGB", size, colour).save(source / split / name / f"{i}.png")
    folder = tmp_path_factory.mktemp("sets") / "colours"
    ingest(source, folder, IngestOptions())
    return folder


def card_of(folder: Path) -> ImageCard:
    place = Location.of(folder)
    return image_card(place, read_image_manifest(place))


def test_a_card_counts_sizes_shapes_and_bytes(data: Path) -> None:
    card = card_of(data)
    assert card.shorter_sides == [Bin("16", 12), Bin("48", 7), Bin("200", 22)]
    assert [(b.name, b.images) for b in card.shapes if b.images] == [
        ("2:3 – 3:4", 12),
        ("square", 7),
        ("3:2 – 2:1", 22),
    ]
    assert card.weights.of == 41
    path = data / "train-00000.parquet"
    assert card.weights.p95 == max(len(image) for image in pq.read_table(path)["image"].to_pylist())


def test_a_card_in_text_names_all_classes_and_the_imbalance(data: Path) -> None:
    lines = image_text(card_of(data)).splitlines()
    assert "train    35       1" in "\n".join(lines)
    assert "red                                          20    2" in lines
    assert "a class with a name that no line of a p…      5    2" in lines
    assert "largest to smallest class: 3.14 to 1" in lines
    assert "  200  22  ████████████████████████████████████████" in lines


def test_of_many_classes_the_largest_and_the_smallest_are_shown(data: Path) -> None:
    card = card_of(data)
    counts = {"train": tuple(range(100)), "val": (1,) * 100}
    many = card.manifest.model_copy(update={"classes": tuple(f"class{i}" for i in range(100)), "counts": counts})
    lines = image_text(ImageCard(many, card.columns, card.shorter_sides, card.shapes, card.weights)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("100 classes"))
    assert lines[start + 1].split() == ["class99", "99", "1"]
    assert lines[start + 11] == "… 80 more, 11 to 90 images each"
    assert lines[start + 21].split() == ["class0", "0", "1"]
    assert "classes without an image in train: 1" in lines


def test_sizes_fall_into_bins_of_equal_ratio() -> None:
    assert size_bins(np.array([5, 5, 9])) == [Bin("5", 2), Bin("9", 1)]
    sides = np.arange(64, 257)
    bins = size_bins(sides)
    assert [found.name for found in bins] == ["64–90", "91–127", "128–181", "182–255", "256–362"]
    assert [found.images for found in bins] == [27, 37, 54, 74, 1]
    wide = size_bins(np.arange(1, 5000))
    assert [*[found.name for found in wide][:3], wide[-1].name] == ["1", "2–3", "4–7", "4096–8191"]
    assert sum(found.images for found in wide) == 4999


def test_shapes_leave_out_empty_ends() -> None:
    bins = shape_bins(np.array([100, 133, 200, 100]), np.array([100, 100, 100, 101]))
    assert [(b.name, b.images) for b in bins] == [
        ("square", 2),
        ("1:1 – 4:3", 1),
        ("4:3 – 3:2", 0),
        ("3:2 – 2:1", 0),
        ("above 2:1", 1),
    ]


def test_evenly_takes_both_ends_and_never_more_than_there_are() -> None:
    assert evenly(100, 3) == [0, 50, 99]
    assert evenly(2, 12) == [0, 1]
    assert evenly(0, 12) == []


def test_the_verb_prints_a_card_and_writes_a_picture_of_every_class(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    before = sorted(data.iterdir())
    done = CliRunner().invoke(app, ["data", "show", str(data), "--picture", str(target), "--json"])
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert answer["counts"]["train"] == [5, 10, 20]
    assert answer["splits"]["val"]["rows"] == 6
    assert answer["picture"] == str(target)
    assert sorted(data.iterdir()) == before
    with Image.open(target) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    coloured = {colour: int((pixels == colour).all(axis=1).sum()) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))}
    # 12 of 20 at 96 × 64, 10 at 64 × 96 (16 × 24 enlarged four times), 5 at 96 × 96.
    assert coloured == {(255, 0, 0): 12 * 96 * 64, (0, 255, 0): 10 * 64 * 96, (0, 0, 255): 5 * 96 * 96}


def test_a_picture_has_the_name_of_the_data_set_in_the_working_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert show(Location.of(data), None, as_json=False).endswith("picture: colours.png")
    assert (tmp_path / "colours.png").is_file()


def test_a_picture_that_is_there_is_replaced_only_where_it_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "colours.png"
    mine.write_bytes(b"mine")
    assert "picture" not in show(Location.of(data), None, as_json=False)
    assert json.loads(show(Location.of(data), None, as_json=True))["picture"] is None
    assert capsys.readouterr().err.count("colours.png: exists already, so no picture is written; --picture") == 2
    assert mine.read_bytes() == b"mine"
    show(Location.of(data), Path("colours.png"), as_json=False)
    assert mine.read_bytes() != b"mine"


def test_a_damaged_data_set_is_refused_with_its_shard_named(data: Path, tmp_path: Path) -> None:
    manifest = read_image_manifest(Location.of(data))
    broken = tmp_path / "broken"
    broken.mkdir()
    write_manifest(Location.of(broken), manifest)
    with pytest.raises(UserError, match=r"broken/train-00000\.parquet: no such file"):
        show(Location.of(broken), tmp_path / "no.png", as_json=False)
    for split in manifest.splits:
        rows = pq.read_table(data / f"{split}-00000.parquet").to_pylist()
        cut = pa.Table.from_pylist([row | {"image": row["image"][:40]} for row in rows], schema=IMAGE_SCHEMA)
        pq.write_table(cut, broken / f"{split}-00000.parquet")
    with pytest.raises(UserError, match=r"train-00000\.parquet row group 0 row 0: image does not decode"):
        show(Location.of(broken), tmp_path / "no.png", as_json=False)
    (broken / "val-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"val-00000\.parquet: not readable: .* 'varscale data verify .*broken' says"):
        show(Location.of(broken), tmp_path / "no.png", as_json=False)
    assert not (tmp_path / "no.png").exists()


def test_a_card_of_tokens_tells_how_codes_are_used_by_scale(tmp_path: Path) -> None:
    """Scale 1 uses one code, scale 2 all eight alike."""
    columns = {
        "key": ["a", "a", "b", "b"],
        "label": [0, 0, 1, 1],
        "view": [0, 1, 0, 1],
        "tokens": [[3, 0, 1, 2, 3], [3, 4, 5, 6, 7]] * 2,
    }
    path = tmp_path / "train-00000.arrow"
    schema = token_schema(5)
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    manifest = token_manifest({"train": (shard(path, 4),)}, views={"train": 2}, vocab_size=8, patch_nums=(1, 2))
    folder = Location.of(tmp_path)
    write_manifest(folder, manifest)
    answer = json.loads(show(folder, None, as_json=True))
    assert answer["counts"] == {"train": [1, 1]}
    assert [scale["codes_used_percent"] for scale in answer["scales"]] == [12.5, 100]
    assert [scale["perplexity"] for scale in answer["scales"]] == pytest.approx([1, 8])
    text = show(folder, None, as_json=False).splitlines()
    assert "2 × 2       4     100.0 %         8.0" in text
    with pytest.raises(UserError, match="holds tokens; only images have a picture"):
        show(folder, tmp_path / "no.png", as_json=False)
    write_manifest(folder, manifest.model_copy(update={"vocab_size": 7}))
    with pytest.raises(UserError, match="tokens or labels out of range; 'varscale data verify"):
        show(folder, None, as_json=False)
