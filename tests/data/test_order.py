import time

import numpy as np
import pytest
from scipy.stats import chisquare

from potstill.data import Views, rows
from potstill.errors import UserError
from potstill.seeds import fold


@pytest.mark.parametrize("count", [1, 2, 7, 1797, 50_000])
def test_rows_are_a_permutation_fixed_by_seed_and_epoch(count):
    got = rows(3, 5, count)
    assert got.dtype == np.int64
    assert np.array_equal(np.sort(got), np.arange(count))
    assert np.array_equal(got, rows(3, 5, count))


def test_rows_differ_between_seeds_and_epochs():
    orders = [rows(seed, epoch, 1000) for seed in (0, 1) for epoch in (0, 1)]
    for k, order in enumerate(orders):
        for other in orders[:k]:
            # Two unrelated permutations agree in one place on average.
            assert (order == other).sum() < 10


def test_rows_are_uniform_over_places():
    firsts = np.array([rows(0, epoch, 8)[0] for epoch in range(4000)])
    assert chisquare(np.bincount(firsts, minlength=8)).pvalue > 1e-3


def test_orders_are_the_recorded_ones_on_every_platform():
    assert rows(0, 0, 8).tolist() == [6, 3, 2, 5, 7, 0, 1, 4]
    assert Views(7, 162).at(np.arange(6), 2).tolist() == [7, 42, 8, 114, 98, 56]
    assert Views(7, 2**31).at(np.arange(3), 2).tolist() == [1500235694, 336192379, 587462410]


def splitmix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)


def test_rows_sort_the_splitmix_sequence():
    start = fold(9, "order", 4)
    keys = [splitmix((start + (k + 1) * 0x9E3779B97F4A7C15) % 2**64) for k in range(500)]
    assert rows(9, 4, 500).tolist() == sorted(range(500), key=keys.__getitem__)


@pytest.mark.parametrize("available", [1, 2, 3, 18, 25, 81, 162, 4096])
def test_each_image_sees_every_view_once_in_as_many_epochs(available):
    index = np.arange(20)
    walk = np.stack([Views(1, available).at(index, epoch) for epoch in range(available)])
    assert walk.dtype == np.int64
    assert np.array_equal(np.sort(walk, axis=0), np.tile(np.arange(available)[:, None], (1, 20)))
    assert np.array_equal(Views(1, available).at(index, available), walk[0])


def test_a_limit_is_the_first_of_the_permutation():
    index = np.arange(1000)
    full, limited = Views(1, 162), Views(1, 162, 5)
    assert limited.count == 5
    for epoch in range(12):
        assert np.array_equal(limited.at(index, epoch), full.at(index, epoch % 5))
    assert Views(1, 18, 400).count == 18


def test_a_view_depends_on_the_image_and_not_on_who_else_is_asked_for():
    whole = Views(4, 162).at(np.arange(5000), 77)
    subset = np.array([4999, 3, 3, 812, 0])
    assert np.array_equal(Views(4, 162).at(subset, 77), whole[subset])
    assert Views(4, 162).at(np.array([], dtype=np.int64), 77).size == 0


def test_keys_give_unrelated_walks():
    first, second = Views(0, 162).at(np.arange(20_000), 0), Views(1, 162).at(np.arange(20_000), 0)
    assert abs((first == second).mean() - 1 / 162) < 0.004


@pytest.mark.parametrize("available", [2, 3, 25, 162])
def test_views_and_successive_pairs_of_views_are_uniform(available):
    index = np.arange(200_000)
    views = Views(7, available)
    first, second = views.at(index, 0), views.at(index, 1)
    assert chisquare(np.bincount(first, minlength=available)).pvalue > 1e-3
    pairs = np.bincount(first * available + second, minlength=available**2).reshape(available, available)
    assert np.trace(pairs) == 0
    assert chisquare(pairs[~np.eye(available, dtype=bool)]).pvalue > 1e-3


def test_huge_spaces_are_walked_without_repeats_too():
    walk = np.stack([Views(1, 2**31).at(np.arange(50), epoch) for epoch in range(100)])
    assert walk.min() >= 0
    assert walk.max() < 2**31
    assert all(len(set(walk[:, image])) == 100 for image in range(50))
    assert abs(walk.mean() / 2**30 - 1) < 0.05


def test_an_epoch_of_views_takes_milliseconds():
    index = np.arange(50_000)
    Views(0, 162).at(index, 0)
    start = time.process_time()
    for epoch in range(5):
        Views(0, 162).at(index, epoch)
    # Measured at 10 ms; the bound leaves room for slow machines and still excludes any walk over all views.
    assert (time.process_time() - start) / 5 < 0.15


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Views(0, 0), "Views was given available=0; give a number of views of at least 1."),
        (lambda: Views(0, 162, 0), "Views was given limit=0; give at least 1 view per image, or None for all."),
    ],
)
def test_impossible_numbers_of_views_are_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()
