"""Reference moments: found where they were made, told apart by data, view rule and network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from varscale.data.images import ViewRule
from varscale.data.loader import ImageShards
from varscale.data.views import validation_batches
from varscale.evaluate.references import reference
from varscale.locations import Location
from varscale.metrics.features import FeatureSpace, fixed_features
from varscale.models.lpips import VGG16Features

RULE = ViewRule(16)


@pytest.fixture
def space(tmp_path: Path) -> FeatureSpace:
    torch.manual_seed(0)
    torch.save(VGG16Features().state_dict(), tmp_path / "vgg16.pth")
    return fixed_features("vgg16", tmp_path / "vgg16.pth", torch.device("cpu"))


def test_moments_are_made_once_for_data_rule_and_network(image_set: Path, tmp_path: Path, space: FeatureSpace) -> None:
    shards, looks = ImageShards(image_set, "val"), 0

    def views() -> Iterator[np.ndarray]:
        nonlocal looks
        looks += 1
        return validation_batches(shards, RULE, len(shards), 3)

    folder = Location.of(tmp_path / "references")
    made = reference(folder, shards.manifest.fingerprint, RULE, space, views)
    found = reference(folder, shards.manifest.fingerprint, RULE, space, views)
    assert looks == 1
    assert found.count == made.count == len(shards)
    assert np.array_equal(found.outer, made.outer)
    reference(folder, "other" + shards.manifest.fingerprint, RULE, space, views)
    reference(folder, shards.manifest.fingerprint, ViewRule(16, 1.0), space, views)
    torch.save(VGG16Features().state_dict(), tmp_path / "other.pth")
    other = fixed_features("vgg16", tmp_path / "other.pth", torch.device("cpu"))
    assert not np.allclose(reference(folder, shards.manifest.fingerprint, RULE, other, views).total, made.total)
    assert looks == 4
    assert len(folder.files()) == 4
