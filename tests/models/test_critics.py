"""Networks that judge images: the discriminator, and Inception."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from varscale.errors import UserError
from varscale.models.discriminator import PatchDiscriminator
from varscale.models.inception import SIDE, Inception, _resize, load_inception


@pytest.mark.parametrize(("side", "layers", "patches"), [(256, 3, 30), (32, 3, 2), (32, 2, 6)])
def test_discriminator_gives_a_logit_a_patch(side: int, layers: int, patches: int) -> None:
    logits = PatchDiscriminator(8, layers)(torch.zeros(2, 3, side, side))
    assert logits.shape == (2, 1, patches, patches)


def test_a_logit_depends_on_its_own_image_alone() -> None:
    torch.manual_seed(0)
    model, images = PatchDiscriminator(8, 2), torch.rand(4, 3, 32, 32)
    assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-6)


def test_inception_has_the_published_parameters() -> None:
    with torch.device("meta"):
        model = Inception()
    assert sum(p.numel() for p in model.parameters()) == 21_785_568
    assert model.state_dict()["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)


def test_resize_reads_as_tensorflow_1_did() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    row = _resize(ramp)[0, 0, 0]
    wanted = (torch.arange(SIDE) * 4 / SIDE).clamp(max=3)  # no half-pixel shift; the last pixel goes on to the edge
    assert torch.allclose(row, wanted, atol=1e-5)
    same = torch.rand(1, 3, SIDE, SIDE)
    assert torch.equal(_resize(same), same)


def test_inception_features_of_a_file_with_a_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Inception().eval()
    torch.save(model.state_dict() | {"fc.weight": torch.zeros(1008, 2048)}, tmp_path / "inception.pth")
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.equal(load_inception(tmp_path / "inception.pth")(images), model(images))
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"no key 'Conv2d_1a_3x3\.conv\.weight'; wanted the FID Inception"):
        load_inception(tmp_path / "other.pth")
