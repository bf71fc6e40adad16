"""The order of samples."""

import numpy as np

from varscale.data.order import SampleOrder


def test_each_epoch_is_a_permutation_and_epochs_differ() -> None:
    rows, epochs = SampleOrder(101, seed=0).take(0, 303)
    for epoch in range(3):
        assert sorted(rows[epochs == epoch]) == list(range(101))
    assert not np.array_equal(rows[:101], rows[101:202])


def test_any_piece_of_the_stream_is_the_same_however_it_is_asked_for() -> None:
    order = SampleOrder(50, seed=3)
    whole, _ = order.take(0, 200)
    for world_size in (1, 2, 4):
        share = 20 // world_size
        pieces = [order.take(step * 20 + rank * share, share)[0] for step in range(10) for rank in range(world_size)]
        assert np.array_equal(np.concatenate(pieces), whole)


def test_positions_are_uniform() -> None:
    rows = np.stack([SampleOrder(20, seed).take(0, 20)[0] for seed in range(2000)])
    counts = np.stack([np.bincount(rows[:, position], minlength=20) for position in range(20)])
    chi_squared = ((counts - 100) ** 2 / 100).sum()
    assert chi_squared < 450  # 19² = 361 degrees of freedom: exceeded with probability 0.001


def test_other_seeds_give_other_orders() -> None:
    assert not np.array_equal(SampleOrder(50, 0).take(0, 50)[0], SampleOrder(50, 1).take(0, 50)[0])
