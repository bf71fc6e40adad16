"""The order of samples: uniform, and the same whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from varscale.data.order import SampleOrder

BATCH = 24


def epochs_of(rows: int, seed: int, count: int) -> np.ndarray:
    """Rows of the first epochs, int64 [count, rows]."""
    return SampleOrder(rows, seed).take(0, rows * count)[0].reshape(count, rows)


def chance(counts: np.ndarray, expected: float, rows: int) -> float:
    """Probability that permutations of so many rows, drawn independently, give counts [a, b] at least so uneven."""
    a, b = counts.shape
    statistic = ((counts - expected) ** 2 / expected).sum() * (rows - 1) / rows  # nothing is drawn twice in an epoch
    return float(chi2.sf(statistic, (a - 1) * (b - 1)))


def by_position(epochs: np.ndarray, bins: int) -> np.ndarray:
    """How often each row stood in each of ``bins`` equal parts of an epoch, [rows, bins]."""
    rows = epochs.shape[1]
    part = np.arange(rows) * bins // rows
    return np.stack([np.bincount(part[np.argsort(epochs, axis=1)[:, row]], minlength=bins) for row in range(rows)])


def test_each_epoch_is_a_permutation_and_epochs_differ() -> None:
    rows, epochs = SampleOrder(101, seed=0).take(0, 303)
    for epoch in range(3):
        assert sorted(rows[epochs == epoch]) == list(range(101))
        assert np.array_equal(np.flatnonzero(epochs == epoch), np.arange(101) + 101 * epoch)
    assert not np.array_equal(rows[:101], rows[101:202])


@pytest.mark.parametrize("bins", [2, 10, 60])
def test_rows_stand_anywhere_in_an_epoch_alike(bins: int) -> None:
    rows, count = 60, 3000
    of_one_seed = epochs_of(rows, 7, count)
    of_many_seeds = np.stack([SampleOrder(rows, seed).take(0, rows)[0] for seed in range(count)])
    for epochs in (of_one_seed, of_many_seeds):
        assert 0.001 < chance(by_position(epochs, bins), count / bins, rows) < 0.999


def test_an_epoch_says_nothing_of_the_next() -> None:
    rows, count, bins = 60, 3000, 10
    place = np.argsort(epochs_of(rows, 11, count), axis=1)
    pairs = place[:-1] * bins // rows * bins + place[1:] * bins // rows
    joint = np.bincount(pairs.ravel(), minlength=bins * bins).reshape(bins, bins)
    assert 0.001 < chance(joint, (count - 1) * rows / bins**2, rows) < 0.999
    unmoved = (place[:-1] == place[1:]).sum(axis=1)
    assert unmoved.mean() == pytest.approx(1, abs=0.06)  # as of two random permutations; 3 standard errors


def test_neighbours_in_the_order_are_no_neighbours_in_the_shards() -> None:
    rows = 20_000
    order = epochs_of(rows, 3, 2).ravel()
    steps = np.abs(np.diff(order))
    assert steps.mean() == pytest.approx((rows + 1) / 3, rel=0.01)
    assert (steps == 1).mean() == pytest.approx(2 / rows, abs=3 * np.sqrt(2 / rows / len(steps)))
    shards = order[: rows // 100 * 100].reshape(-1, 100) // (rows // 10)  # batches of 100 over 10 shards
    share = np.stack([np.bincount(batch, minlength=10) for batch in shards])
    assert share.std() == pytest.approx(np.sqrt(100 * 0.1 * 0.9), rel=0.05)


def test_a_batch_is_the_same_wherever_a_run_resumes() -> None:
    rows, steps = 1000, 200  # nearly five epochs, and batches that straddle two
    whole = SampleOrder(rows, 5).take(0, steps * BATCH)
    rng = np.random.default_rng(0)
    for step in rng.integers(0, steps, 100):
        found = SampleOrder(rows, 5).take(int(step) * BATCH, BATCH)
        for part, wanted in zip(found, whole, strict=True):
            assert np.array_equal(part, wanted[step * BATCH : (step + 1) * BATCH])


def test_global_batches_stay_when_ranks_and_micro_batches_change_at_random() -> None:
    rows, steps = 70, 60
    wanted = SampleOrder(rows, 9).take(0, steps * BATCH)[0].reshape(steps, BATCH)
    rng = np.random.default_rng(1)
    for _ in range(20):
        step = 0
        while step < steps:  # killed at ``stop``, and started again with other ranks
            stop = min(steps, step + int(rng.integers(1, 20)))
            world = int(rng.choice([1, 2, 3, 4]))
            share = BATCH // world
            micro = int(rng.choice([m for m in range(1, share + 1) if share % m == 0]))
            for at in range(step, stop):
                starts = [at * BATCH + rank * share + i * micro for rank in range(world) for i in range(share // micro)]
                found = [SampleOrder(rows, 9).take(start, micro)[0] for start in starts]
                assert np.array_equal(np.concatenate(found), wanted[at])
            step = stop


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    rows, epochs = SampleOrder(5, 0).take(0, 23)
    assert np.array_equal(epochs, np.arange(23) // 5)
    assert [sorted(rows[epochs == epoch]) for epoch in range(4)] == [list(range(5))] * 4


def test_other_seeds_give_other_orders() -> None:
    assert not np.array_equal(SampleOrder(50, 0).take(0, 50)[0], SampleOrder(50, 1).take(0, 50)[0])
