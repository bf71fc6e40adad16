"""Fréchet distance between two sets of images, from the moments of their features.

FID (Heusel et al. 2017) is this distance in the features of an Inception network; with other features it is not FID
and is named for what it is, such as ``fd/tokenizer``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of outer products of feature vectors: they add up over batches and ranks."""

    count: int
    total: np.ndarray
    """float64 [d]."""
    outer: np.ndarray
    """float64 [d, d]."""

    @staticmethod
    def of(features: np.ndarray) -> Moments:
        """Moments of features [N, d]."""
        return Moments(len(features), features.sum(axis=0), features.T @ features)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> np.ndarray:
        """float64 [d]."""
        return self.total / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased estimate, float64 [d, d]."""
        return (self.outer - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)

    def all_reduced(self, device: torch.device) -> Moments:
        """The sum over all ranks, which call this together."""
        flat = np.concatenate([[self.count], self.total, self.outer.ravel()])
        tensor = torch.from_numpy(flat).to(device)
        dist.all_reduce(tensor)
        flat = tensor.cpu().numpy()
        d = len(self.total)
        return Moments(int(flat[0]), flat[1 : d + 1], flat[d + 1 :].reshape(d, d))

    def to_bytes(self) -> bytes:
        """The content of an npz file."""
        stream = io.BytesIO()
        np.savez(stream, count=self.count, total=self.total, outer=self.outer)
        return stream.getvalue()

    @staticmethod
    def of_bytes(content: bytes) -> Moments:
        """The moments that :meth:`to_bytes` gave."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return Moments(int(stored["count"]), stored["total"], stored["outer"])


def frechet_distance(a: Moments, b: Moments) -> float:
    """‖μa - μb‖² + tr(Σa + Σb - 2 (Σa Σb)^½) (Dowson & Landau 1982).

    The trace of the root comes from the eigenvalues of Σa^½ Σb Σa^½, which is symmetric, so no imaginary parts arise.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)
    gap = a.mean - b.mean
    return float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(cross).sum())
