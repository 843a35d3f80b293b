"""Memory of a training step by need: what shares a place, that nothing counts on what it finds."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from architecture_numbers import trained
from architectures import NAMES
from networks import NETWORKS
from poison import places_of_their_own, poison, same_bytes
from races import check_places, races, table_of
from test_architectures import compiled

import nbbn
from nbbn.kernels.executor import ARRIVAL, BARRIER
from nbbn.layers import LayerError
from nbbn.optimizers import Adam
from nbbn.program import kept, training
from nbbn.program.placement import most_at_once, phases_of, share_memory
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.splits import split

F32 = np.dtype("float32")


# -- how much


@pytest.mark.parametrize("name", NAMES)
def test_a_step_has_room_for_what_is_in_use_at_once(name, monkeypatch):
    """And for hardly more; no barrier moves, on any team."""
    seen = {}

    def noted(program, lasting):
        barriers = program.barriers()
        seen["before"] = barriers, program.arrivals(barriers)
        seen["apart"] = program.sizes[Segment.WORK]
        seen["most"] = most_at_once(program, phases_of(program, lasting))
        return share_memory(program, lasting)

    monkeypatch.setattr(training, "share_memory", noted)
    kept._made.cache_clear()
    program = compiled(name, "float32", Adam(0.01))[1].lowered.program
    assert seen["before"] == (program.barriers(), program.arrivals(program.barriers()))
    assert seen["most"] <= program.sizes[Segment.WORK] <= 1.15 * seen["most"]
    assert program.sizes[Segment.WORK] < seen["apart"]
    with places_of_their_own():
        apart = compiled(name, "float32", Adam(0.01))[1].lowered.program
    assert apart.sizes[Segment.WORK] == seen["apart"] and not apart.overlaps
    for threads in (2, 4, 16):
        assert sum(split(program, 41, threads).barriers()) == sum(
            split(apart, 41, threads).barriers())


def test_places_do_not_depend_on_chance():
    def places():
        kept._made.cache_clear()
        return compiled("densenet", "float32", Adam(0.01))[1].lowered.program.pieces

    assert places() == places()


# -- what they hold


def arrays_of(case, dtype):
    """All that some steps on a network give; clipping counts what padding holds."""
    layers, loss = case.built(nbbn, dtype=dtype)
    model = nbbn.Sequential(layers)
    model.compile(Adam(0.01, clipnorm=1.0), loss)
    model._layers.seed = 7
    losses = [model.train_on_batch(x.astype(dtype) if x.dtype.kind == "f" else x, y,
                                   sample_weight=weight) for x, y, weight in case.batches()]
    return [*losses, *model.get_weights(), model._trainer_in_use.params.copy()]


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_counts_on_what_it_finds(name):
    """Bits are those of buffers with places of their own, that begin as zeros."""
    case = NETWORKS[name]
    try:
        with places_of_their_own():
            expected = arrays_of(case, "float32")
    except LayerError:
        pytest.skip("no Sequential takes it")
    assert same_bytes(expected, arrays_of(case, "float32"))
    with poison():
        assert same_bytes(expected, arrays_of(case, "float32"))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_counts_on_what_it_finds_in_a_graph(name):
    def arrays():
        found = trained(nbbn, name, "adam", "float32")
        return [np.asarray(found.losses), *chain(*found.weights.values()), *found.after]

    with places_of_their_own():
        expected = arrays()
    with poison() as filled:
        assert same_bytes(expected, arrays())
    assert filled[0]


DROPPED = [
    nbbn.layers.Conv2D(5, 3), nbbn.layers.Dropout(0.3, noise_shape=(None, 1, 1, 5)),
    nbbn.layers.SpatialDropout2D(0.2), nbbn.layers.GaussianNoise(0.1), nbbn.layers.Flatten(),
    nbbn.layers.Dense(9), nbbn.layers.Dropout(0.3), nbbn.layers.Dense(3, activation="softmax"),
]


def test_nothing_counts_on_what_it_finds_where_numbers_are_dropped():
    def arrays():
        rng = np.random.default_rng(0)
        nbbn.set_random_seed(0)
        model = nbbn.Sequential(DROPPED)
        model.compile(Adam(0.01), "sparse_categorical_crossentropy")
        x, y = rng.standard_normal((40, 6, 7, 2)).astype("f4"), rng.integers(0, 3, 40)
        return [*(model.train_on_batch(x[:n], y[:n]) for n in (40, 17, 40)), *model.get_weights()]

    with places_of_their_own():
        expected = arrays()
    with poison():
        assert same_bytes(expected, arrays())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sparse", [False, True])
def test_nothing_counts_on_what_it_finds_in_an_estimator(sparse):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 37)).astype("f4") * (rng.random((150, 37)) < 0.2)
    x, y = scipy_sparse.csr_array(x) if sparse else x, rng.integers(0, 3, 150)

    def arrays():
        model = nbbn.MLPClassifier((41, 18), max_iter=3, random_state=0, batch_size=40)
        model.fit(x, y)
        return [*model.coefs_, *model.intercepts_, model.loss_curve_]

    with places_of_their_own():
        expected = arrays()
    with poison():
        assert same_bytes(expected, arrays())


@pytest.mark.parametrize("metrics", [[], ["mae"]])
def test_numpy_finds_what_its_loss_reads(metrics):
    """Weights of rows too, which the program itself reads no more, and outputs for metrics."""
    def arrays():
        rng = np.random.default_rng(0)
        nbbn.set_random_seed(0)
        layers = [nbbn.layers.Conv2D(9, 3, activation="softmax"),
                  nbbn.layers.GlobalAveragePooling2D()]
        model = nbbn.Sequential(layers)
        model.compile(Adam(0.01), "categorical_crossentropy", metrics=metrics)
        x, y = rng.standard_normal((40, 6, 7, 2)).astype("f4"), np.eye(9)[rng.integers(0, 9, 40)]
        weights = rng.random(40)
        history = model.fit(x, y, batch_size=16, epochs=3, sample_weight=weights, verbose=0)
        return [*chain(*history.history.values()), *model.get_weights()]

    with places_of_their_own():
        expected = arrays()
    assert same_bytes(expected, arrays())
    with poison():
        assert same_bytes(expected, arrays())


def test_the_next_step_finds_nothing():
    """Nor does a step on two threads, whatever the last one has left."""
    losses = []
    for fill in (None, 0xFF):
        model, trainer = compiled("unet", "float32", Adam(0.01), rows=12)
        program, work = trainer.lowered.program, trainer._steps.work
        for name in program.overlaps:
            first, size = program.pieces[name]
            if fill is not None:
                work[first : first + size] = fill
        rng = np.random.default_rng(0)
        x = rng.standard_normal((12, *model.input_shape[1:])).astype("f4")
        y = rng.integers(0, 2, (12, *model.output_shape[1:-1]))
        losses.append(model.train_on_batch(x, y))
    assert losses[0] == losses[1] and np.isfinite(losses[0])


# -- the placing itself


def masked(program, x, mask, panels):
    program.add("mask_columns", x=x, mask=mask, panels=panels)


def three_in_a_row():
    """A program of three buffers, each made from the one before by another split, and a result."""
    program = Program(F32)
    result = Buffer("result", Segment.PARAMS)
    a, b, c = (program.buffer(name, Segment.WORK, 64) for name in "abc")
    caller = Buffer("X", Segment.X)
    masked(program, a, caller, 2)
    masked(program, b, a, 3)
    masked(program, c, b, 2)
    masked(program, result, c, 4)
    masked(program, result, caller, 5)
    return program


def test_a_buffer_takes_the_place_of_one_that_is_read_no_more():
    program = three_in_a_row()
    barriers = program.barriers()
    assert sum(barriers) >= 3
    moves = share_memory(program)
    assert program.barriers() == barriers
    assert program.pieces["a"] == program.pieces["c"] != program.pieces["b"]
    assert program.sizes[Segment.WORK] == 512
    assert moves(Buffer("c", Segment.WORK, 512 + 64)).offset == program.pieces["c"][0] + 64
    assert program.overlaps == {"a": {"c"}, "c": {"a"}}
    assert races(program) == []


def test_a_lasting_one_shares_with_nobody():
    program = three_in_a_row()
    share_memory(program, {"a"})
    assert not program.overlaps and program.sizes[Segment.WORK] == 768


def test_without_a_barrier_nothing_is_shared():
    program = Program(F32)
    a, b = (program.buffer(name, Segment.WORK, 64) for name in "ab")
    masked(program, a, Buffer("X", Segment.X), 2)
    masked(program, b, Buffer("X", Segment.X), 2)
    share_memory(program)
    assert program.barriers() == [False, False] and not program.overlaps


def test_shared_memory_wants_barriers_and_the_races_see_it():
    """Buffers that are put on each other whatever threads do."""
    program = Program(F32)
    a, b = (program.buffer(name, Segment.WORK, 64) for name in "ab")
    masked(program, a, Buffer("X", Segment.X), 2)
    masked(program, b, Buffer("X", Segment.X), 2)
    program.move(lambda x: Buffer(x.name, x.segment, 0), {"a": 0, "b": 0}, 256)
    assert program.barriers() == [True, True] and races(program) == []
    assert check_places(program) == {"a": {"b"}, "b": {"a"}}
    table = table_of(program)
    for i in (0, 1):
        changed = table.copy()
        changed[i, 1] &= ~(BARRIER | ARRIVAL)
        assert races(program, changed)


def test_two_working_buffers_of_one_name_are_refused():
    program = Program(F32)
    program.buffer("a", Segment.WORK, 1)
    with pytest.raises(ValueError, match="two working buffers are named a"):
        program.buffer("a", Segment.WORK, 1)
