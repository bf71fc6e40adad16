"""The perceptual distance, and the published weights it is read from."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from varscale.errors import UserError
from varscale.models.lpips import LPIPS, VGG16Features, load_lpips, load_vgg16


class TwoVectors(nn.Module):
    """Five maps of one position with two channels: (3, 4) for dark images, (4, 3) for bright ones."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        vectors = torch.where(images[:, :2, :1, :1] < 0, torch.tensor([3.0, 4.0])[:, None, None], torch.ones(2, 1, 1))
        bright = torch.tensor([4.0, 3.0])[:, None, None]
        return [torch.where(images[:, :2, :1, :1] < 0, vectors, bright)] * 5


def test_distance_is_the_weighed_difference_of_unit_vectors() -> None:
    model = LPIPS()
    model.vgg16 = TwoVectors()  # type: ignore[assignment]
    model.heads = nn.ModuleList(nn.Conv2d(2, 1, 1, bias=False) for _ in range(5))
    for head in model.heads:
        head.weight.data = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)  # type: ignore[union-attr]
    dark, bright = -torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    # unit vectors (.6, .8) and (.8, .6): squares .04 each, weighed 1 and 2, five times over
    assert model(dark, bright).item() == pytest.approx(5 * (0.04 + 2 * 0.04), rel=1e-6)
    assert model(dark, dark).item() == 0


def test_features_are_those_before_each_pooling() -> None:
    maps = VGG16Features()(torch.zeros(2, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]


def test_gradient_is_finite_where_all_features_vanish() -> None:
    model = LPIPS()
    for parameter in model.vgg16.parameters():
        parameter.data.zero_()
    a = torch.zeros(1, 3, 16, 16, requires_grad=True)
    model(a, torch.ones(1, 3, 16, 16)).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Random weights in the two published layouts, the classifier beside the features."""
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    vgg16 = VGG16Features().state_dict() | {"classifier.0.weight": torch.zeros(3)}
    torch.save(vgg16, folder / "vgg16.pth")
    heads = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate((64, 128, 256, 512, 512))}
    torch.save(heads, folder / "heads.pth")
    safetensors.torch.save_file(heads, folder / "heads.safetensors")
    return folder / "vgg16.pth", folder / "heads.pth"


def test_published_layouts_load_frozen_from_both_formats(published: tuple[Path, Path]) -> None:
    vgg16, heads = published
    model = load_lpips(vgg16, heads)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    a, b = torch.rand(2, 2, 3, 16, 16)
    assert torch.equal(model(a, b), load_lpips(vgg16, heads.with_suffix(".safetensors"))(a, b))


def test_files_of_another_layout_are_refused_by_key(published: tuple[Path, Path], tmp_path: Path) -> None:
    vgg16, heads = published
    with pytest.raises(UserError, match=r"heads\.pth: no key 'features\.0\.weight'; wanted torchvision's VGG16"):
        load_vgg16(heads)
    with pytest.raises(UserError, match=r"vgg16\.pth: no key 'lin0\.model\.1\.weight'"):
        load_lpips(vgg16, vgg16)
    state = torch.load(heads, weights_only=True)
    torch.save(state | {"lin2.model.1.weight": torch.zeros(1, 2, 1, 1)}, tmp_path / "narrow.pth")
    with pytest.raises(UserError, match=r"'lin2\.model\.1\.weight' is \[1, 2, 1, 1\], wanted \[1, 256, 1, 1\]"):
        load_lpips(vgg16, tmp_path / "narrow.pth")
    torch.save(state | {"lin1.model.1.weight": torch.full((1, 128, 1, 1), float("nan"))}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"'lin1\.model\.1\.weight' holds values that are not finite"):
        load_lpips(vgg16, tmp_path / "nan.pth")


class Trap:
    """Pickles into a call."""

    def __reduce__(self) -> tuple:
        return (print, ("unpickled",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"features.0.weight": Trap()}))
    with pytest.raises(UserError, match=r"trap\.pth: not a readable weights file"):
        load_vgg16(tmp_path / "trap.pth")
    assert "unpickled" not in capsys.readouterr().out
