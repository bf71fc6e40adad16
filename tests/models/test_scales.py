"""Geometry of the pyramid, and the resizes between its levels, against reference values."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from varscale.models.scales import block_causal_mask, level_of_token, phi_index, scale_slices

REFERENCE = Path(__file__).parents[1] / "data" / "sampling"
RELEASED = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)


def test_phi_index_follows_the_reference_even_where_rounding_decides() -> None:
    wanted = json.loads((REFERENCE / "schedules_phi.json").read_text())["phi_index"]
    for name, index in wanted.items():
        n_phi, n_scales = (int(part.strip("KSN")) for part in name.split("_"))
        assert phi_index(n_phi, n_scales) == index, name
    assert phi_index(4, 10) == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert phi_index(3, 7) == [0, 0, 0, 1, 1, 2, 2]


def test_one_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 scales"):
        phi_index(4, 1)


def test_slices_cover_the_sequence() -> None:
    covered = [i for part in scale_slices(RELEASED) for i in range(part.start, part.stop)]
    assert covered == list(range(680))


def test_mask_shows_own_and_earlier_scales_only() -> None:
    mask, level = block_causal_mask(RELEASED), level_of_token(RELEASED)
    assert mask.float().mean().item() == pytest.approx(286_434 / 680**2)
    assert torch.equal(mask, level[:, None] >= level)


def test_resizes_are_the_reference_ones() -> None:
    generator = torch.Generator().manual_seed(1)
    with np.load(REFERENCE / "interp_matrices.npz") as stored:
        for name in stored.files:
            kind, source, target = name.split("_")
            matrix = torch.from_numpy(stored[name]).double()
            assert matrix.shape == (int(target), int(source))
            picture = torch.randn(1, 1, *[int(source)] * 2, dtype=torch.float64, generator=generator)
            ours = F.interpolate(picture, size=(int(target),) * 2, mode=kind)
            assert torch.allclose(ours[0, 0], matrix @ picture[0, 0] @ matrix.T, atol=1e-6), name
