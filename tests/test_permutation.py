"""Orders that no rank holds: the permutation, a rank's part of it, and fits in such orders."""

from __future__ import annotations

import mpi
import numpy as np
import pytest

from nbbn.distributed import order as orders
from nbbn.distributed.order import Layout
from nbbn.distributed.permutation import Permutation
from nbbn.group import ALONE, KEY_BYTES, Group, OwnOrder
from nbbn.training_loop import without_weightless

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def key(number):
    return np.random.default_rng(number).bytes(KEY_BYTES)


SIZES = [1, 2, 3, 4, 5, 1000, *(2**k + more for k in (3, 8, 15, 17) for more in (-1, 0, 1))]


@pytest.mark.parametrize("count", SIZES)
def test_it_is_a_permutation_with_its_inverse(count):
    permutation = Permutation(count, key(count))
    places, numbers = permutation.places(0, count), permutation.numbers(0, count)
    assert places.dtype == numbers.dtype == np.int64
    assert (np.sort(places) == np.arange(count)).all()
    assert (numbers[places] == np.arange(count)).all()


@pytest.mark.parametrize("count", [2**27 + 1, 10**9, 2**40 - 1, 2**61 + 7])
def test_large_counts(count):
    """Runs of numbers from the first, from the middle and to the last."""
    permutation = Permutation(count, key(1))
    for first in (0, count // 2, count - 1000):
        places = permutation.places(first, first + 1000)
        assert 0 <= places.min() and places.max() < count and len(np.unique(places)) == 1000
        back = [int(permutation.numbers(int(p), int(p) + 1)[0]) for p in places[:50]]
        assert back == list(range(first, first + 50))


def test_parts_are_those_of_the_whole():
    permutation = Permutation(100_003, key(2))
    places = permutation.places(0, 100_003)
    for first, end in ((0, 1), (17, 70_000), (65_536, 65_536), (99_999, 100_003)):
        assert (permutation.places(first, end) == places[first:end]).all()


def test_the_numbers_stay_what_they_are():
    """A checkpoint of one version goes on with the next."""
    assert Permutation(10**9, bytes(range(KEY_BYTES))).places(0, 4).tolist() == PINNED


PINNED = [784523468, 288876824, 515652347, 234484522]


def test_another_key_is_another_permutation():
    places = [Permutation(1000, key(k)).places(0, 1000) for k in range(20)]
    same = [(a == b).sum() for i, a in enumerate(places) for b in places[:i]]
    assert max(same) < 12 and 0.5 < np.mean(same) < 1.5  # one on average


def test_every_bit_of_the_key_counts():
    count = 10_000  # two sides of 100, of which a bit of the first round's moves nearly all
    before = Permutation(count, key(3)).places(0, count)
    for bit in range(8 * KEY_BYTES):
        changed = bytearray(key(3))
        changed[bit // 8] ^= 1 << bit % 8
        assert (Permutation(count, bytes(changed)).places(0, count) == before).mean() < 0.1, bit


def chi_square(counts):
    """How far counts are from equal ones, in standard deviations of what chance does."""
    mean = counts.sum() / counts.size
    return (((counts - mean) ** 2).sum() / mean - (counts.size - 1)) / np.sqrt(2 * counts.size)


@pytest.mark.parametrize("count", [10, 97, 1000])
def test_all_places_are_as_likely(count):
    """Of a row, of a pair of neighbours' distance, over 2000 keys."""
    places = np.array([Permutation(count, key(k)).places(0, count) for k in range(2000)])
    cells = min(count, 50)
    for row in (0, 1, count // 2, count - 1):
        found = np.bincount(places[:, row] * cells // count, minlength=cells)
        wanted = np.bincount(np.arange(count) * cells // count, minlength=cells) / count * 2000
        assert ((found - wanted) ** 2 / wanted).sum() < cells - 1 + 5 * np.sqrt(2 * cells)
    for row in (0, count // 2):
        apart = (places[:, row + 1] - places[:, row]) % count  # 1 to count - 1
        found = np.bincount(apart, minlength=count)[1:]
        assert chi_square(found.astype(float)) < 5


def test_neighbours_are_no_neighbours_in_the_order():
    """Neither rows in a run, nor rows a side of the network apart."""
    count = 1 << 16
    places = Permutation(count, key(4)).places(0, count).astype(float)
    for apart in (1, 2, 255, 256, 257, 4096):
        assert abs(np.corrcoef(places[:-apart], places[apart:])[0, 1]) < 5 / np.sqrt(count)


@pytest.mark.parametrize("more", [0, 9])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_a_rank_finds_its_part_of_the_order(rows, shards, more):
    """As from the array of the whole order: whoever has which rows, and some beyond it."""
    rng = np.random.default_rng(rows)
    whole = Permutation(rows, key(5)).numbers(0, rows)
    edges = np.append(np.arange(0, rows, 64), rows)
    for name, order in ((key(5), whole), (None, np.arange(rows))):
        for ranks in (1, 2, 5):
            cuts = np.sort(rng.integers(0, rows + more + 1, ranks * shards - 1))
            cuts = np.concatenate([[0], cuts, [rows + more]])
            found = []
            for rank in range(ranks):
                own = cuts[rank * shards : (rank + 1) * shards + 1]
                layout = Layout(int(own[0]), own - own[0], rows + more)
                part = layout.keyed(rows, name) if name else layout.in_order(0, rows)
                assert len(part) == rows and part.order.nbytes + part.places.nbytes == 16 * len(
                    layout.of(np.arange(rows)))
                assert_same(layout.share(part, edges), layout.share(order, edges))
                first = edges[(len(edges) - 1) // 2]
                some = edges[edges >= first] - first
                assert_same(layout.share(part[first:], some), layout.share(order[first:], some))
                found += (part.order + layout.first).tolist()
            assert sorted(found) == list(range(rows))


def assert_same(one, other):
    for name in ("order", "edges", "rows", "places", "shards", "of_shard"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=name)
            assert a.dtype == b.dtype == np.int64


def test_batches_without_weight_are_left_out():
    layout, rows = Layout(20, np.array([0, 30]), 100), 100
    edges = np.array([0, 20, 40, 60, 80, 100])
    order = Permutation(rows, key(6)).numbers(0, rows)
    weights = np.ones(rows)
    weights[order[20:40]] = weights[order[80:100]] = 0

    class All:
        def masses(self, weights, order, edges):
            return np.array([1.0, 0, 1, 1, 0])

    wanted, its_edges = without_weightless(order, edges, weights, All())
    found, own_edges = without_weightless(layout.keyed(rows, key(6)), edges, weights, All())
    assert isinstance(found, OwnOrder) and len(found) == len(wanted) == 60
    assert (own_edges == its_edges).all()
    assert_same(layout.share(found, own_edges), layout.share(wanted, its_edges))


def test_a_group_of_one_has_every_order_as_an_array():
    assert ALONE.has_orders_of(1 << 40)
    with pytest.raises(NotImplementedError, match="as an array"):
        ALONE.keyed_order(3, key(0))
    assert orders.MOST_ROWS == 1 << 27


# -- ranks

NAMES = ["adam", "weights", "early stopping", "no norm", "lbfgs", "lbfgs, no norm",
         "stored elements", "images", "layers"]


def test_fits_in_such_orders_have_the_same_bits_on_any_number_of_ranks():
    arguments = "keyed_cases", NAMES
    one = mpi.run("mpich", 1, *arguments, [1], 2).results[0]
    for kind, counts in (("mpich", [2, 1]), ("openmpi", [1, 3])):
        found = mpi.run(kind, 2, *arguments, counts, 2).results
        assert [rank[name]["digest"] for rank in found for name in NAMES] == 2 * [
            one[name]["digest"] for name in NAMES]


def test_they_are_other_orders_unless_nothing_is_shuffled():
    one = mpi.run("mpich", 1, "keyed_cases", ["adam", "stored elements"], [1], 2).results[0]
    other = mpi.run("mpich", 1, "cases", ["adam", "stored elements"], [1], 2).results[0]
    assert one["adam"]["digest"] != other["adam"]["digest"]
    assert one["stored elements"] == other["stored elements"]


def test_a_fit_in_the_order_is_one_machines():
    """That of one process which has the same orders as arrays."""
    import rank_jobs

    found = mpi.run("mpich", 2, "keyed_cases", ["adam"], [2, 1], None).results[0]["adam"]
    by_key = Keyed()
    model, (x, y, *_) = rank_jobs.model_and_data("adam")
    model.fit_in_group(by_key, x, y, None, None, None)
    assert by_key.drawn == 3
    for figure, values in rank_jobs.curves(model).items():
        np.testing.assert_allclose(found["curves"][figure], values, rtol=1e-12)
    np.testing.assert_allclose(found["weights"], rank_jobs.weights_of(model), rtol=1e-9, atol=1e-9)


class Keyed(Group):
    """One process that takes its orders from keys."""

    drawn = 0

    def has_orders_of(self, rows):
        return False

    def keyed_order(self, rows, key):
        self.drawn += 1
        return Permutation(rows, key).numbers(0, rows)


def test_a_checkpoint_goes_on_in_the_same_orders(tmp_path):
    expected = mpi.run("mpich", 2, "keyed_checkpoint", None, [1, 1], 8).results[0]
    path = str(tmp_path / "checkpoint")
    assert mpi.run("mpich", 2, "keyed_checkpoint", path, [1, 1], 8, 1).status != 0
    assert mpi.run("mpich", 1, "keyed_checkpoint", path, [1], 8).results[0] == expected
