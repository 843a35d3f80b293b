"""Shards of a batch: who has which, the order of sums, and programs of one rank. Without MPI."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from networks import NETWORKS
from races import races, table_of
from test_races import SETTINGS, SPARSE, layers_of, losses_of, lowered

import nbbn
from nbbn.distributed.order import Layout, owners, shard_edges
from nbbn.group import ALONE, Group
from nbbn.kernels.executor import BARRIER
from nbbn.optimizers import SGD
from nbbn.program.shards import Calls, World, additions

CALLS = Calls(1, 2, 3, 4, {"float32": 5, "float64": 6})
WORLDS = {
    "one shard a rank": World(1, (1, 1, 1), CALLS),
    "shards": World(0, (3, 0, 5), CALLS),
    "no shard": World(1, (3, 0, 5), CALLS),
    "shards of one rank": World(0, (4,)),
}


@pytest.mark.parametrize("world", ["one shard a rank", "shards"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_program_of_a_rank_races(name, world):
    case, made = NETWORKS[name], 0
    loss = losses_of(layers_of(case), case.input_shape)[0]
    for label, (optimizer, settings, regularized) in SETTINGS.items():
        program = lowered(layers_of(case, regularized), case.input_shape, loss, optimizer,
                          world=WORLDS[world], **settings)
        if program is not None:
            made += 1
            assert races(program) == [], label
    assert made >= 4


class Shards(Group):
    """One process whose rows fall into shards."""

    def __init__(self, edges):
        self.world = World(0, (len(edges) - 1,))
        self.layout = Layout(0, np.array(edges), edges[-1])

    def share(self, order, edges):
        return self.layout.share(order, edges)

    def total(self, values, share):
        return float(sum(values[share.of_shard == k].sum() for k in range(self.world.here)))


class Team:
    """Chooses all threads there are, for however small a step."""

    def __init__(self, **_):
        pass

    def next(self, most, left):
        return most, left

    def note(self, *_):
        pass


@pytest.fixture
def teams(monkeypatch):
    monkeypatch.setattr("nbbn.trainer.ThreadChoice", Team)
    monkeypatch.setattr("nbbn.trainer._WORTH_A_TEAM", 0)
    monkeypatch.setattr("nbbn.program.runnable.TrainingRun.worth", lambda self, most: most)


def trained(case, group, threads):
    """Figures and weights of a fit of two epochs on the rows of a case, in float64."""
    layers, loss = case.built(nbbn, dtype="float64")
    x, y, weights = (np.concatenate(parts) if parts[0] is not None else None
                     for parts in zip(*case.batches()))
    model = nbbn.Sequential(layers)
    model.compile(SGD(0.05, momentum=0.9, clipnorm=1.0), loss)
    model._layers.seed = 7
    with nbbn.num_threads(threads):
        history = model._fit(group, x, y, max(case.rows), 2, 0, sample_weight=weights).history
    return history["loss"], model.get_weights()


# Those that end so that no Sequential takes them.
REFUSED = ("loss, not softmax", "loss, pixels", "loss, tanh")
# Those whose loss NumPy computes.
BY_NUMPY = ("loss, softmax, pooled", "loss, binary of softmax")
# The gradient of a bias before a batch norm is rounding noise, whose sign an L1 penalty counts.
SIGNS_OF_NOISE = ("loss, penalties",)


@pytest.mark.parametrize("name", BY_NUMPY)
def test_losses_of_numpy_are_not_shared(name):
    with pytest.raises(ValueError, match="a loss that NumPy computes cannot be shared"):
        trained(NETWORKS[name], Shards([0, 2, sum(NETWORKS[name].rows)]), 1)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in (*REFUSED, *BY_NUMPY)])
def test_shards_train_as_a_whole(name, teams):
    """Some of them without rows in a batch, or at all; to the same bits on any team."""
    case = NETWORKS[name]
    rows = sum(case.rows)
    losses, weights = trained(case, ALONE, 1)
    shards = Shards([0, 2, 3, 3, rows // 2, rows])
    found, its_weights = trained(case, shards, 1)
    np.testing.assert_allclose(found, losses, rtol=1e-11)
    for one, other in zip(its_weights, weights) if name not in SIGNS_OF_NOISE else ():
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)
    of_team, weights_of_team = trained(case, shards, 2)
    assert of_team == found
    assert all((one == other).all() for one, other in zip(weights_of_team, its_weights))


@pytest.mark.parametrize("edges", [[0, 40], [0, 7, 7, 30, 40]])
def test_figures_of_shards_are_of_all_their_rows(edges, teams):
    """Of the outputs that each shard's steps leave."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))

    def figures(group):
        nbbn.set_random_seed(0)
        layers = [nbbn.layers.Dense(4), nbbn.layers.BatchNormalization(), nbbn.layers.Dense(2)]
        model = nbbn.Sequential([*layers])
        model.compile(SGD(0.1), "mse", metrics=["mae", "r2_score"])
        return model._fit(group, x, y, 16, 2, 0).history

    ref, got = figures(ALONE), figures(Shards(edges))
    assert list(got) == list(ref)
    for name, values in ref.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-5, err_msg=name)


def test_every_barrier_of_a_rank_is_needed_somewhere():
    case = NETWORKS["convolutions with a pool"] if "convolutions with a pool" in NETWORKS else next(
        case for case in NETWORKS.values() if len(case.input_shape) == 3)
    loss = losses_of(layers_of(case), case.input_shape)[0]
    program = lowered(layers_of(case), case.input_shape, loss, world=WORLDS["shards"])
    table = table_of(program)
    for i, operation in enumerate(program.operations):
        if operation.kernel in ("gather_in_place", "exchange"):
            changed = table.copy()
            changed[i, 1] &= ~BARRIER
            changed[i - 1, 1] &= ~BARRIER
            assert races(program, changed), str(operation)


def test_one_machine_exchanges_nothing():
    case = next(iter(NETWORKS.values()))
    loss = losses_of(layers_of(case), case.input_shape)[0]
    for world in (None, WORLDS["shards of one rank"]):
        program = lowered(layers_of(case), case.input_shape, loss, world=world)
        kernels = {operation.kernel for operation in program.operations}
        assert not kernels & {"gather_in_place", "exchange"}
        assert ("take_shard" in kernels) == (world is not None)


@pytest.mark.parametrize("world", WORLDS)
def test_stored_elements_race_no_more(world):
    for layers in SPARSE.values():
        program = lowered(layers, (50,), "softmax_cross_entropy", sparse=True, world=WORLDS[world])
        assert races(program) == []


def words(pairs, values):
    """What is left of words that are joined in pairs."""
    values = dict(values)
    for a, b in pairs:
        values[a] = f"({values[a]}+{values[b]})"
    return values


@pytest.mark.parametrize("shards", range(1, 18))
def test_the_order_of_a_sum_follows_from_the_number_of_shards_alone(shards, rng):
    leaves = {(k, k + 1): k for k in range(shards)}
    whole = words(additions(0, shards, shards, leaves), {k: str(k) for k in range(shards)})[0]
    assert whole.count("+") == shards - 1
    for _ in range(20):
        ranks = int(rng.integers(1, 7))
        cuts = np.sort(rng.integers(0, shards + 1, ranks - 1))
        owned = tuple(np.diff([0, *cuts, shards]).tolist())
        world, left, at = World(0, owned, CALLS), {}, {}
        for rank in range(ranks):
            first, trees = world.first(rank), world.trees(rank)
            assert len(trees) <= world.slots
            own = {(first + k, first + k + 1): k for k in range(owned[rank])}
            values = {k: str(first + k) for k in range(owned[rank])}
            for slot, tree in enumerate(trees):
                values = words(additions(*tree, shards, own), values)
                at[tree] = slot * ranks + rank
                left[slot * ranks + rank] = values[tree[0] - first]
        merged = words(additions(0, shards, shards, at), left)
        assert merged[at[next(tree for tree in at if tree[0] == 0)]] == whole


def test_places_of_what_shards_leave():
    world = World(2, (3, 0, 2), CALLS)
    assert world.most == 3 and world.shards == 5 and world.here == 2
    assert world.places == [0, 1, 2, 6, 7]
    assert [world.place(k) for k in range(2)] == [6, 7]
    assert World(1, (3, 0, 2), CALLS).here == 1


@pytest.mark.parametrize("rows, shards", [([5, 0, 8], 4), ([1, 1, 1, 1], 4), ([13], 5), ([0, 3], 8)])
def test_each_row_of_a_batch_is_at_one_rank(rows, shards, rng):
    n = sum(rows)
    edges, of_rank = shard_edges(n, shards), owners(rows, shards)
    assert (np.diff(of_rank) >= 0).all()
    order, batches, seen = rng.permutation(n), np.array([0, n // 3, n // 2, n]), Counter()
    for rank in range(len(rows)):
        own = np.flatnonzero(of_rank == rank)
        if not len(own):
            continue
        cut = edges[own[0] : own[-1] + 2]
        layout = Layout(int(cut[0]), cut - cut[0], n)
        share = layout.share(order, batches)
        assert share.rows.tolist() == np.diff(batches).tolist()
        for batch, (first, end) in enumerate(zip(share.edges, share.edges[1:])):
            for at in range(first, end):
                row = share.order[at] + layout.first
                assert order[batches[batch] + share.places[at]] == row
                shard = int(np.searchsorted(edges, row, "right")) - 1
                assert edges[own[share.of_shard[at]]] <= row < edges[own[share.of_shard[at]] + 1]
                assert own[share.of_shard[at]] == shard or edges[shard] == edges[shard + 1]
                seen[int(row)] += 1
            if share.shards is not None:
                assert share.shards[batch, 0] == first and share.shards[batch, -1] == end
                for k, (a, b) in enumerate(zip(share.shards[batch], share.shards[batch][1:])):
                    assert (share.of_shard[a:b] == k).all()
                    assert (np.diff(share.places[a:b]) > 0).all()
    assert seen == Counter(range(n))


def test_rows_that_are_chosen_keep_their_shards(rng):
    layout = Layout(10, np.array([0, 5, 5, 12]), 30)
    chosen = np.sort(rng.choice(30, 17, replace=False))
    found = layout.narrowed(chosen)
    counts = [((chosen >= a) & (chosen < b)).sum() for a, b in ((10, 15), (15, 15), (15, 22))]
    assert np.diff(found.edges).tolist() == counts
    assert found.first == (chosen < 10).sum() and found.rows == 17
    assert layout.of(chosen).tolist() == [row - 10 for row in chosen if 10 <= row < 22]


def test_most_shards_of_a_rank_with_most_of_their_rows():
    assert owners([10, 2], 4).tolist() == [0, 0, 0, 1]
    assert owners([6, 6], 4).tolist() == [0, 0, 1, 1]
    assert owners([0, 12, 0], 3).tolist() == [1, 1, 1]
    assert owners([2, 0, 1], 8).tolist()[-1] == 2
