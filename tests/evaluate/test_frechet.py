"""Fréchet distance."""

import numpy as np
import pytest
import scipy.linalg

from varscale.metrics.frechet import Moments, frechet_distance


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)), rng.normal(1, 2, size=(400, 6))


def test_agrees_with_the_matrix_square_root(samples: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = samples
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    gap = a.mean(axis=0) - b.mean(axis=0)
    wanted = gap @ gap + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(wanted, rel=1e-9)


def test_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(200_000, 1))
    assert frechet_distance(Moments.of(a), Moments.of(3 * a + 2)) == pytest.approx(2**2 + (3 - 1) ** 2, rel=0.02)
    assert frechet_distance(Moments.of(a), Moments.of(a)) == pytest.approx(0, abs=1e-9)


def test_fewer_samples_than_dimensions_still_give_a_number() -> None:
    rng = np.random.default_rng(2)
    few = Moments.of(rng.normal(size=(5, 20)))
    assert np.isfinite(frechet_distance(few, Moments.of(rng.normal(size=(100, 20)))))


def test_moments_add_up_and_survive_the_disk(samples: tuple[np.ndarray, np.ndarray]) -> None:
    a, _ = samples
    parts = Moments.of(a[:100]) + Moments.of(a[100:])
    loaded = Moments.of_bytes(parts.to_bytes())
    assert np.allclose(loaded.covariance, np.cov(a.T))
    assert np.allclose(loaded.mean, a.mean(axis=0))
