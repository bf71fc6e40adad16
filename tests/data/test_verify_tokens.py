"""Damaged token sets: each fault is named with shard and row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from crafted import shard, token_manifest

from varscale.data.assembly import Assembly
from varscale.data.checks.verify import Verdict, verify
from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.manifests import ImageSet
from varscale.data.schema import MANIFEST, Shard, read_token_manifest, token_schema, write_manifest
from varscale.data.tokenise import tokenise
from varscale.errors import UserError
from varscale.evaluate.assessment import assess
from varscale.locations import Location
from varscale.models.shapes import VQVAEConfig
from varscale.models.store import save_model
from varscale.models.tokenizer_file import TokenizerFile
from varscale.models.vqvae import VQVAE

PATCH_NUMS, VOCAB, VIEWS = (1, 2, 3), 50, {"train": 3, "val": 1}
LENGTH = 14
SCHEMA = token_schema(LENGTH)
IMAGES = {"train": 8, "val": 4}
Columns = dict[str, list[Any]]


def write_tokens(folder: Path, change: Callable[[str, Columns], None] = lambda split, columns: None) -> Path:
    """A token set of one shard a split; ``change`` may alter what the shards hold."""
    folder.mkdir(exist_ok=True)
    splits = {}
    for split, views in VIEWS.items():
        rng = np.random.default_rng(views)
        rows = [(image, view) for image in range(IMAGES[split]) for view in range(views)]
        columns: Columns = {
            "key": [f"{split}/{image}" for image, _ in rows],
            "label": [image % 2 for image, _ in rows],
            "view": [view for _, view in rows],
            "tokens": rng.integers(0, VOCAB, (len(rows), LENGTH), dtype=np.uint16).tolist(),
        }
        change(split, columns)
        splits[split] = (write_shard(folder / f"{split}-00000.arrow", columns),)
    fields = {"views": VIEWS, "vocab_size": VOCAB, "patch_nums": PATCH_NUMS}
    write_manifest(Location.of(folder), token_manifest(splits, **fields))
    return folder


def write_shard(
    path: Path,
    columns: Columns,
    schema: pa.Schema = SCHEMA,
    compression: str | None = None,
    parts: int = 1,
) -> Shard:
    batch = pa.record_batch(columns, schema=schema)
    with pa.ipc.new_file(str(path), schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        for part in range(parts):
            start, stop = (len(batch) * i // parts for i in (part, part + 1))
            writer.write_batch(batch.slice(start, stop - start))
    return shard(path, len(batch))


def in_train(column: str, row: int, value: Any) -> Callable[[str, Columns], None]:
    def change(split: str, columns: Columns) -> None:
        if split == "train":
            columns[column][row] = value

    return change


def checked(folder: Path) -> Verdict:
    return verify(Location.of(folder))


def lines(verdict: Verdict) -> str:
    return "\n".join(verdict.problems.lines())


def test_a_sound_token_set_has_no_problems(tmp_path: Path) -> None:
    verdict = checked(write_tokens(tmp_path))
    assert (verdict.sound, lines(verdict)) == (True, "")
    assert verdict.summary() == "2 shards, 28 rows; errors: 0, warnings: 0"


@pytest.mark.parametrize(
    ("column", "row", "value", "line"),
    [
        ("tokens", 4, [0] * 13 + [50], "row 4 (key train/1): token 50 at position 13; allowed 0…49"),
        ("view", 4, 2, "row 4 (key train/1): view 2; wanted 1 here"),
        ("label", 3, 7, "row 3 (key train/1): label 7; allowed 0…1"),
        ("label", 4, 0, "row 4 (key train/1): label 0; view 0 of this image has 1"),
        ("key", 5, "x", "row 5 (key x): another key; view 0 of this image has train/1"),
        ("label", 5, None, "row 5 (key train/1): nothing in column 'label'; wanted a value in every row"),
        ("tokens", 5, None, "row 5 (key train/1): nothing in column 'tokens'; wanted a value in every row"),
    ],
)
def test_wrong_values_are_named_by_row(tmp_path: Path, column: str, row: int, value: Any, line: str) -> None:
    verdict = checked(write_tokens(tmp_path, in_train(column, row, value)))
    assert f"train-00000.arrow {line}" in lines(verdict)


def test_a_key_may_occur_once_in_all_splits(tmp_path: Path) -> None:
    def again(split: str, columns: Columns) -> None:
        if split == "val":
            columns["key"][1] = "train/2"

    assert lines(checked(write_tokens(tmp_path, again))) == (
        "val-00000.arrow row 1 (key train/2): the key of train-00000.arrow row 6 again; allowed once in all splits"
    )


def test_rows_are_whole_images(tmp_path: Path) -> None:
    def shorten(split: str, columns: Columns) -> None:
        for column in columns.values():
            del column[-1]

    assert "train-00000.arrow: 23 rows; wanted a multiple of 3" in lines(checked(write_tokens(tmp_path, shorten)))


def test_shards_of_another_shape_are_named(tmp_path: Path) -> None:
    folder = write_tokens(tmp_path)
    manifest = read_token_manifest(Location.of(folder))
    with pa.ipc.open_file(str(folder / "val-00000.arrow")) as file:
        columns = file.read_all().to_pydict()

    def found(**options: Any) -> str:
        shard = write_shard(folder / "val-00000.arrow", columns, **options)
        write_manifest(Location.of(folder), manifest.model_copy(update={"splits": manifest.splits | {"val": (shard,)}}))
        return lines(checked(folder))

    wide = token_schema(LENGTH).set(3, pa.field("tokens", pa.list_(pa.int32(), LENGTH)))
    assert "column 'tokens': fixed_size_list<item: int32>[14]; allowed fixed_size_list<item: uint16>[14]" in found(
        schema=wide
    )
    assert found(parts=2) == "val-00000.arrow: 2 record batches; allowed 1"
    columns["tokens"] = [[0] * LENGTH] * IMAGES["val"]
    assert found(compression="lz4") == "val-00000.arrow: tokens are compressed; allowed uncompressed buffers"


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write_tokens(tmp_path) / "train-00000.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert "train-00000.arrow: not a readable Arrow IPC file: " in lines(checked(tmp_path))
    path.write_bytes(whole.replace(b"train/3", b"train\xff3"))
    assert "not a readable Arrow IPC file: Invalid UTF8 sequence at string index 9" in lines(checked(tmp_path))


def test_whatever_byte_is_wrong_it_is_reported(tmp_path: Path) -> None:
    path = write_tokens(tmp_path) / "train-00000.arrow"
    whole = path.read_bytes()
    for position in np.random.default_rng(0).choice(len(whole), 60, replace=False):
        content = bytearray(whole)
        content[position] ^= 0xFF
        path.write_bytes(content)
        assert "train-00000.arrow: sha256 " in lines(checked(tmp_path))


def test_a_manifest_without_views_is_refused(tmp_path: Path) -> None:
    folder = Location.of(write_tokens(tmp_path))
    manifest = read_token_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"views": {"train": 3}}))
    assert "manifest.json: field 'views' lacks split 'val'" in lines(checked(tmp_path))
    (folder / MANIFEST).write_json(manifest.model_dump(mode="json") | {"vocab_size": "many"})
    with pytest.raises(UserError, match="field 'vocab_size'"):
        checked(tmp_path)


def test_a_split_that_was_not_encoded_may_be_empty(tmp_path: Path) -> None:
    folder = Location.of(write_tokens(tmp_path))
    manifest = read_token_manifest(folder)
    none = {"splits": manifest.splits | {"train": ()}, "views": {"train": 0, "val": 1}}
    write_manifest(folder, manifest.model_copy(update=none))
    (tmp_path / "train-00000.arrow").unlink()
    assert lines(checked(tmp_path)) == ""
    write_manifest(folder, manifest.model_copy(update={"views": {"train": 0, "val": 1}}))
    assert "manifest.json: split 'train' holds 24 rows; field 'views' says that it was not encoded" in lines(
        checked(tmp_path)
    )


def test_an_unfinished_token_set_is_refused(tmp_path: Path) -> None:
    assembly = Assembly.begin(Location.of(tmp_path), "key")
    for part in ("assessment", "train-00000.arrow", "val-00000.arrow"):
        assembly.note(part, {})
    with pytest.raises(UserError, match="unfinished: 2 of its shards stand; run the tokenise again"):
        checked(tmp_path)


def test_what_tokenise_makes_is_sound(picture_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig(32, 4, 8, (1, 2), 1, (1, 2, 4, 8), norm_groups=4))
    save_model(tmp_path / "tokenizer.safetensors", model, model.state_dict(), {})
    images, tokens = Location.of(tmp_path / "images"), Location.of(tmp_path / "tokens")
    ingest(picture_folder, tmp_path / "images", IngestOptions(size=18))
    tokenise(
        TokeniseJob(
            ImageSet.read(images), TokenizerFile.read(tmp_path / "tokenizer.safetensors"), ViewRule(16), views=2, seed=0
        ),
        tokens,
        assess,
    )
    verdict = verify(tokens)
    assert (verdict.sound, lines(verdict)) == (True, "")
