"""A tokenizer's file against image shards: what is measured, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from crafted import TINY, shard, token_manifest

from varscale.cli import app, main
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.schema import token_schema, write_manifest
from varscale.errors import UserError
from varscale.evaluate.tokenizer import Answer, Question, evaluate_tokenizer
from varscale.locations import Location
from varscale.models.lpips import VGG16Features
from varscale.models.shapes import VARConfig
from varscale.models.store import save_model
from varscale.models.var import VAR, init_weights
from varscale.models.vqvae import VQVAE

WHOLE = Question("val", "tokenizer", None, None, 4, None, None)


def asked(tiny_tokenizer: Path, image_set: Path, **changes: object) -> Answer:
    return evaluate_tokenizer(tiny_tokenizer, image_set, Question(**{**WHOLE.__dict__, **changes}))  # type: ignore[arg-type]


def test_figures_do_not_depend_on_the_batch(tiny_tokenizer: Path, image_set: Path) -> None:
    one, many = (asked(tiny_tokenizer, image_set, batch=batch).to_json() for batch in (1, 64))
    assert one.keys() == many.keys()
    for name in one:
        assert one[name] == pytest.approx(many[name], rel=1e-4, abs=1e-6), name
    assert one["images"] == 8


def test_another_feature_space_has_its_name(tiny_tokenizer: Path, image_set: Path, tmp_path: Path) -> None:
    torch.save(VGG16Features().state_dict(), tmp_path / "vgg16.pth")
    answer = asked(tiny_tokenizer, image_set, features="vgg16", weights=tmp_path / "vgg16.pth")
    assert answer.to_json()["rfd/vgg16"] > 0
    assert answer.dimensions == 512


def test_wrong_questions_are_refused(
    tiny_tokenizer: Path, image_set: Path, picture_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        asked(tiny_tokenizer, image_set, split="test")
    with pytest.raises(UserError, match="--features vgg16: needs its network's weights"):
        asked(tiny_tokenizer, image_set, features="vgg16")
    small, picture = tmp_path / "small", tmp_path / "picture.png"
    ingest(picture_folder, small, IngestOptions(size=12))
    with pytest.raises(UserError, match=r"small: 'blue/.+' is 12 px wide or high; wanted at least 16 px"):
        asked(tiny_tokenizer, small, picture=picture)
    assert not picture.exists()


def test_weights_that_are_not_finite_are_refused_by_name(image_set: Path, tmp_path: Path) -> None:
    model = VQVAE(TINY)
    state = model.state_dict() | {"decoder.conv_in.bias": torch.full((16,), float("nan"))}
    save_model(tmp_path / "nan.safetensors", model, state, {})
    with pytest.raises(UserError, match=r"nan\.safetensors: tensor 'decoder\.conv_in\.bias' holds"):
        asked(tmp_path / "nan.safetensors", image_set)


def test_token_shards_of_another_codebook_are_refused(
    tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    var = VAR(VARConfig(1, 8, 1, 2, 32, 4, TINY.patch_nums))
    init_weights(var)
    save_model(tmp_path / "var.safetensors", var, var.state_dict(), {})
    columns = {"key": ["a"], "label": [0], "view": [0], "tokens": [np.zeros(85, np.uint16)]}
    with pa.ipc.new_file(tmp_path / "val-00000.arrow", token_schema(85)) as writer:
        writer.write_table(pa.table(columns, schema=token_schema(85)))
    splits = {"val": (shard(tmp_path / "val-00000.arrow", 1),)}
    write_manifest(Location.of(tmp_path), token_manifest(splits, tokenizer_fingerprint="another"))
    monkeypatch.setattr(
        "sys.argv", ["varscale", "evaluate", str(tmp_path / "var.safetensors"), str(tiny_tokenizer), str(tmp_path)]
    )
    with pytest.raises(SystemExit) as ended:
        main(app)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}: made by another tokenizer than {tiny_tokenizer}" in message
    assert message.count("\n") == 1
