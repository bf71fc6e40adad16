"""The authors' checkpoint files: layouts to the key, full-size files loaded, and what does not fit refused."""

import json
from pathlib import Path

import pytest
import torch

from varscale.cli import _released_scales
from varscale.errors import UserError
from varscale.models import released
from varscale.models.convert import convert
from varscale.models.scales import attention_bias
from varscale.models.shapes import VARConfig, VQVAEConfig
from varscale.models.store import load_model, save_model
from varscale.models.var import VAR
from varscale.models.vqvae import VQVAE
from varscale.models.weights import read_weights

SCALES_256 = VQVAEConfig.patch_nums
SCALES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


def published(depth: int, patch_nums: tuple[int, ...] = SCALES_256, shared: bool = False) -> VARConfig:
    return VARConfig(
        depth, 64 * depth, depth, 1000, 4096, 32, patch_nums, shared_adaln=shared, drop_path=0.1 * depth / 24
    )


def on_meta(cls: type, config: VARConfig | VQVAEConfig) -> VAR | VQVAE:
    with torch.device("meta"):
        return cls(config)


def layout(model: VAR | VQVAE) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("file", "cls", "config"),
    [
        ("vqvae_keys.json", VQVAE, VQVAEConfig()),
        ("var_d16_keys.json", VAR, published(16)),
        ("var_d36s_512_keys.json", VAR, published(36, SCALES_512, shared=True)),
    ],
)
def test_layouts_are_the_released_ones(shared: Path, file: str, cls: type, config: VARConfig | VQVAEConfig) -> None:
    assert layout(on_meta(cls, config)) == json.loads((shared / "docs" / file).read_text())


@pytest.mark.parametrize("config", [*map(published, (16, 20, 24, 30)), published(36, SCALES_512, shared=True)])
def test_a_released_transformer_tells_its_shape(config: VARConfig) -> None:
    state = on_meta(VAR, config).state_dict()
    state["lvl_1L"] = torch.cat([torch.full((1, p * p), k) for k, p in enumerate(config.patch_nums)], dim=1)
    assert released.var_config(Path("var.pth"), state) == config


@pytest.mark.parametrize(
    "config",
    [
        VQVAEConfig(),
        VQVAEConfig(patch_nums=SCALES_512),
        VQVAEConfig(64, 8, 32, (1, 2), 1, (1, 2, 4), share_quant_resi=1, level_attention=False, quant_conv_ks=1),
        VQVAEConfig(64, 8, 64, (1, 1, 4), 3, (1, 2, 4), share_quant_resi=0, default_qresi_counts=3),
    ],
)
def test_a_released_tokenizer_tells_all_but_its_scales(config: VQVAEConfig) -> None:
    state = on_meta(VQVAE, config).state_dict()
    assert released.vqvae_config(Path("vae.pth"), state, config.patch_nums) == config


def test_full_size_files_load_and_give_back_every_value(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for cls, config in ((VAR, published(16)), (VQVAE, VQVAEConfig())):
        model = on_meta(cls, config).to_empty(device="cpu")
        state = model.state_dict()
        for tensor in state.values():
            tensor.copy_(torch.rand(tensor.shape[-1:]) if tensor.is_floating_point() else tensor * 0)
        if cls is VAR:
            state["lvl_1L"] = torch.cat([torch.full((1, p * p), k) for k, p in enumerate(SCALES_256)], dim=1)
            state["attn_bias_for_masking"] = attention_bias(SCALES_256)
        released.write_state(tmp_path / "model.pth", state)
        found = load_model(tmp_path / "model.pth", cls).model
        assert found.cfg == config
        assert sum(p.numel() for p in found.parameters()) == {VAR: 310_283_520, VQVAE: 108_948_355}[cls]
        assert all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())


def test_a_small_released_pair_computes_what_our_own_file_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEConfig(64, 8, 32, (1, 2), 1, (1, 2, 4)))
    released.write_state(tmp_path / "vae.pth", vqvae.state_dict())
    save_model(tmp_path / "vae.safetensors", vqvae, vqvae.state_dict(), {})
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    theirs = load_model(tmp_path / "vae.pth", VQVAE, (1, 2, 4)).model
    ours = load_model(tmp_path / "vae.safetensors", VQVAE).model
    assert torch.equal(theirs.decode(theirs.tokens(images)), ours.decode(ours.tokens(images)))
    assert convert(tmp_path / "vae.safetensors", tmp_path / "again.pth") == "tokenizer"
    again, wanted = read_weights(tmp_path / "again.pth"), vqvae.state_dict()
    assert list(again) == list(wanted)
    assert all(torch.equal(again[name], wanted[name]) for name in wanted)


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    vqvae = VQVAE(VQVAEConfig(64, 8, 32, (1, 2), 1, (1, 2, 4)))
    path = tmp_path / "vae.pth"

    def refused(changes: dict[str, torch.Tensor | None], message: str) -> None:
        state = {**vqvae.state_dict(), **changes}
        released.write_state(path, {name: tensor for name, tensor in state.items() if tensor is not None})
        with pytest.raises(UserError, match=message):
            load_model(path, VQVAE, (1, 2, 4))

    refused(
        {"decoder.conv_out.bias": torch.zeros(4)}, r"vae\.pth: tensor 'decoder.conv_out.bias' is \[4\].*wants \[3\]"
    )
    refused({"decoder.conv_out.bias": None}, r"'decoder.conv_out.bias' is absent; its configuration wants \[3\]")
    refused({"extra": torch.zeros(2)}, r"tensor 'extra' is \[2\]; its configuration wants absent")
    refused({"quant_conv.bias": torch.full((8,), torch.nan)}, r"'quant_conv.bias' holds values that are not finite")
    refused({"encoder.conv_in.weight": None}, r"no tensor 'encoder.conv_in.weight'")
    released.write_state(path, vqvae.state_dict())
    with pytest.raises(UserError, match=r"a tokenizer of 3 scales; wanted one of 10"):
        load_model(path, VQVAE)
    with pytest.raises(UserError, match=r"no tensor 'class_emb.weight'"):
        load_model(path, VAR)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("class_emb.weight", torch.zeros(3), r"'class_emb.weight' is \[3\]; the released layout has 2 dimensions"),
        ("blocks.0.attn.scale_mul_1H11", torch.zeros(3), r"scale_mul_1H11' is \[3\]; .* has 4 dimensions"),
        ("blocks.0.attn.scale_mul_1H11", torch.zeros(1, 3, 1, 1), "width 32 .* does not divide among 3 heads"),
        ("lvl_1L", torch.tensor([[0, 1, 1, 1]]), "'lvl_1L' does not say which scale"),
        ("lvl_1L", torch.zeros(1, 1), "'lvl_1L' does not say which scale"),
        ("attn_bias_for_masking", torch.zeros(1, 1, 21, 21), r"is not that of the scales \[1, 2, 4\]"),
        ("head.weight", torch.zeros(64, 32).to_sparse(), "'head.weight' is no plain tensor"),
    ],
)
def test_a_transformer_of_no_geometry_is_refused_by_name(
    tmp_path: Path, name: str, tensor: torch.Tensor, message: str
) -> None:
    torch.manual_seed(0)
    state = VAR(VARConfig(2, 32, 2, 5, 64, 8, (1, 2, 4))).state_dict()
    torch.save({**state, name: tensor}, tmp_path / "vars.pth")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "vars.pth", VAR)


@pytest.mark.parametrize("scales", [(4, 2, 1), (0, 2, 4), (-1, 2, 4)])
def test_scales_that_are_no_pyramid_are_refused(tmp_path: Path, scales: tuple[int, ...]) -> None:
    released.write_state(tmp_path / "vae.pth", VQVAE(VQVAEConfig(64, 8, 32, (1, 2), 1, (1, 2, 4))).state_dict())
    with pytest.raises(UserError, match=r"vae\.pth: scales .*: wanted at least 2 whole numbers above 0"):
        load_model(tmp_path / "vae.pth", VQVAE, scales)


def test_scales_are_not_taken_for_what_tells_its_own(tmp_path: Path) -> None:
    released.write_state(tmp_path / "var.pth", VAR(VARConfig(2, 32, 2, 5, 64, 8, (1, 2, 4))).state_dict())
    with pytest.raises(UserError, match="is a transformer, which tells its scales"):
        convert(tmp_path / "var.pth", tmp_path / "var.safetensors", (1, 2, 4))
    with pytest.raises(UserError, match=r"--patch-nums 1,2,4: only for a released \.pth; x\.safetensors holds"):
        _released_scales("x.safetensors", "1,2,4")


def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(20_000)}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    for length in range(0, len(content), 997):
        (tmp_path / "cut.pth").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut\.pth: not a readable weights file"):
            read_weights(tmp_path / "cut.pth")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "hook": print}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth: not a readable weights file"):
        load_model(tmp_path / "bad.pth", VAR)


def test_a_released_tokenizer_keeps_the_scales_it_was_converted_with(tmp_path: Path) -> None:
    vqvae = VQVAE(VQVAEConfig(64, 8, 32, (1, 2), 1, (1, 3, 5)))
    released.write_state(tmp_path / "vae.pth", vqvae.state_dict())
    assert convert(tmp_path / "vae.pth", tmp_path / "vae.safetensors", (1, 3, 5)) == "tokenizer"
    assert load_model(tmp_path / "vae.safetensors", VQVAE).model.cfg == vqvae.cfg


def test_a_tokenizer_that_would_load_as_another_is_not_converted(tmp_path: Path) -> None:
    vqvae = VQVAE(VQVAEConfig(64, 8, 32, (1, 2), 1, (1, 2, 4), norm_groups=8))
    save_model(tmp_path / "vae.safetensors", vqvae, vqvae.state_dict(), {})
    with pytest.raises(UserError, match=r"vae\.safetensors: the released format cannot say this tokenizer's shape"):
        convert(tmp_path / "vae.safetensors", tmp_path / "vae.pth")
    assert not (tmp_path / "vae.pth").exists()


@pytest.mark.parametrize("content", [b"hello", b"<html></html>", b""])
def test_a_page_saved_as_a_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"page\.pth: not a readable weights file"):
        load_model(tmp_path / "page.pth", VAR)
