"""Models on disk."""

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from varscale.errors import UserError
from varscale.models.shapes import VARConfig, VQVAEConfig
from varscale.models.store import FORMAT, HEADER_KEY, load_model, save_model
from varscale.models.var import VAR, init_weights
from varscale.models.vqvae import VQVAE
from varscale.models.weights import read_weights


@pytest.fixture
def stored(tmp_path: Path) -> tuple[VAR, Path]:
    var = VAR(VARConfig(2, 16, 2, 5, 32, 4, (1, 2, 4)))
    init_weights(var)
    path = tmp_path / "model.safetensors"
    save_model(path, var, var.state_dict(), {"seed": 3})
    return var, path


def test_round_trip_keeps_weights_shape_and_facts(stored: tuple[VAR, Path]) -> None:
    var, path = stored
    loaded = load_model(path, VAR)
    assert loaded.facts == {"seed": 3}
    assert loaded.model.cfg == var.cfg
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.model.state_dict().values(), var.state_dict().values(), strict=True)
    )


def test_a_model_in_object_storage_is_the_same_model(stored: tuple[VAR, Path]) -> None:
    var, path = stored
    there = "memory://models/model.safetensors"
    save_model(there, var, var.state_dict(), {"seed": 3})
    loaded = load_model(there, VAR)
    assert (loaded.fingerprint, loaded.facts) == (load_model(path, VAR).fingerprint, {"seed": 3})
    assert torch.equal(loaded.model.head.weight, var.head.weight)
    with pytest.raises(UserError, match=r"^memory://models/.+: holds 'var'; wanted a varscale tokenizer"):
        load_model(there, VQVAE)


def test_same_model_has_the_same_fingerprint(stored: tuple[VAR, Path], tmp_path: Path) -> None:
    var, path = stored
    save_model(tmp_path / "again.safetensors", var, var.state_dict(), {"seed": 3})
    assert load_model(path, VAR).fingerprint == load_model(tmp_path / "again.safetensors", VAR).fingerprint


def test_wrong_files_are_refused_by_name(stored: tuple[VAR, Path], tmp_path: Path) -> None:
    _, path = stored
    with pytest.raises(UserError, match=r"holds 'var'; wanted a varscale tokenizer"):
        load_model(path, VQVAE)
    with pytest.raises(UserError, match=r"no such file"):
        load_model(tmp_path / "none.safetensors", VAR)
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"garbage\.safetensors: not a safetensors file"):
        load_model(garbage, VAR)


def test_weights_that_do_not_fit_are_refused(stored: tuple[VAR, Path], tmp_path: Path) -> None:
    var, _ = stored
    state = {name: tensor for name, tensor in var.state_dict().items() if name != "head.bias"}
    save_model(tmp_path / "short.safetensors", var, state, {})
    with pytest.raises(UserError, match=r"tensor 'head.bias' is absent; its configuration wants \[32\]"):
        load_model(tmp_path / "short.safetensors", VAR)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": 3}, "describes no var; wanted 'config' and 'facts'"),
        ({"config": {"new": 1}}, "a var has no field 'new'; allowed: attn_l2_norm"),
        ({"config": {"depth": "x"}}, "var.depth: input should be a valid integer"),
        ({"config": {"depth": -1}}, "no such model can be built|configuration wants"),
    ],
)
def test_a_header_that_describes_no_model_is_refused(
    stored: tuple[VAR, Path], tmp_path: Path, changes: dict, message: str
) -> None:
    var, path = stored
    header = {"format": FORMAT, "kind": "var", "config": dataclasses.asdict(var.cfg), "facts": {}}
    if isinstance(changes["config"], dict):
        changes = {"config": {**header["config"], **changes["config"]}}
    text = {HEADER_KEY: json.dumps({**header, **changes})}
    safetensors.torch.save_file(read_weights(path), tmp_path / "other.safetensors", metadata=text)
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "other.safetensors", VAR)


def test_a_tokenizer_of_any_shape_round_trips(tmp_path: Path) -> None:
    vqvae = VQVAE(VQVAEConfig(32, 4, 8, (2, 1), 1, (1, 2, 4), norm_groups=4, share_quant_resi=0, level_attention=False))
    path = tmp_path / "tokenizer.safetensors"
    save_model(path, vqvae, vqvae.state_dict(), {})
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    loaded = load_model(path, VQVAE).model
    assert torch.equal(loaded.tokens(images), vqvae.eval().tokens(images))
    assert loaded.decode(loaded.tokens(images)).shape == images.shape
