"""A tokenizer's file against image shards: what is measured, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from varscale.cli import app, main
from varscale.data.assess import Answer, Question, assess
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.schema import Shard, TokenManifest, token_schema, write_manifest
from varscale.errors import UserError
from varscale.locations import Location
from varscale.models.lpips import VGG16Features
from varscale.models.store import save_model
from varscale.models.var import VAR, init_weights
from varscale.models.vqvae import VQVAE
from varscale.shapes import VARConfig, VQVAEConfig

SHAPE = VQVAEConfig(32, 4, 8, (1, 2), 1, (1, 2, 4, 8), norm_groups=4)
WHOLE = Question("val", "tokenizer", None, None, 4, None, None)


@pytest.fixture(scope="module")
def shards(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assess") / "shards"
    ingest(picture_folder, folder, IngestOptions(size=18))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = VQVAE(SHAPE)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.safetensors"
    save_model(path, model, model.state_dict(), {})
    return path


def asked(tokenizer: Path, shards: Path, **changes: object) -> Answer:
    return assess(tokenizer, shards, Question(**{**WHOLE.__dict__, **changes}))  # type: ignore[arg-type]


def test_figures_do_not_depend_on_the_batch(tokenizer: Path, shards: Path) -> None:
    one, many = (asked(tokenizer, shards, batch=batch).to_json() for batch in (1, 64))
    assert one.keys() == many.keys()
    for name in one:
        assert one[name] == pytest.approx(many[name], rel=1e-4, abs=1e-6), name
    assert one["images"] == 8


def test_another_feature_space_has_its_name(tokenizer: Path, shards: Path, tmp_path: Path) -> None:
    torch.save(VGG16Features().state_dict(), tmp_path / "vgg16.pth")
    answer = asked(tokenizer, shards, features="vgg16", weights=tmp_path / "vgg16.pth")
    assert answer.to_json()["rfd/vgg16"] > 0
    assert answer.dimensions == 512


def test_wrong_questions_are_refused(tokenizer: Path, shards: Path, picture_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        asked(tokenizer, shards, split="test")
    with pytest.raises(UserError, match="--features vgg16: needs its network's weights"):
        asked(tokenizer, shards, features="vgg16")
    small, picture = tmp_path / "small", tmp_path / "picture.png"
    ingest(picture_folder, small, IngestOptions(size=12))
    with pytest.raises(UserError, match=r"small: 'blue/.+' is 12 px wide or high; wanted at least 16 px"):
        asked(tokenizer, small, picture=picture)
    assert not picture.exists()


def test_weights_that_are_not_finite_are_refused_by_name(shards: Path, tmp_path: Path) -> None:
    model = VQVAE(SHAPE)
    state = model.state_dict() | {"decoder.conv_in.bias": torch.full((16,), float("nan"))}
    save_model(tmp_path / "nan.safetensors", model, state, {})
    with pytest.raises(UserError, match=r"nan\.safetensors: tensor 'decoder\.conv_in\.bias' holds"):
        asked(tmp_path / "nan.safetensors", shards)


def test_token_shards_of_another_codebook_are_refused(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    var = VAR(VARConfig(1, 8, 1, 2, 32, 4, SHAPE.patch_nums))
    init_weights(var)
    save_model(tmp_path / "var.safetensors", var, var.state_dict(), {})
    columns = {"key": ["a"], "label": [0], "view": [0], "tokens": [np.zeros(85, np.uint16)]}
    with pa.ipc.new_file(tmp_path / "val-00000.arrow", token_schema(85)) as writer:
        writer.write_table(pa.table(columns, schema=token_schema(85)))
    content = (tmp_path / "val-00000.arrow").read_bytes()
    shard = Shard(file="val-00000.arrow", rows=1, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    manifest = TokenManifest(
        classes=("a", "b"),
        splits={"val": (shard,)},
        views={"val": 1},
        vocab_size=32,
        patch_nums=SHAPE.patch_nums,
        image_size=16,
        resize_ratio=1.125,
        flip=False,
        seed=0,
        data_fingerprint="",
        tokenizer_fingerprint="another",
        key="",
    )
    write_manifest(Location.of(tmp_path), manifest)
    monkeypatch.setattr(
        "sys.argv", ["varscale", "evaluate", str(tmp_path / "var.safetensors"), str(tokenizer), str(tmp_path)]
    )
    with pytest.raises(SystemExit) as ended:
        main(app)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}: made by another tokenizer than {tokenizer}" in message
    assert message.count("\n") == 1
