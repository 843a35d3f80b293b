"""How matrix products are split over a team: bits, races, and what the costs choose."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from races import races

import nbbn
from nbbn.kernels.team import BY_ROWS
from nbbn.layers import Activation, BatchNormalization, Dense, Dropout, ReLU
from nbbn.network import computation
from nbbn.optimizers import Adam
from nbbn.program import kept, runnable, splits, training
from nbbn.program.costs import Machine, cost, step_seconds
from nbbn.program.program import GRIDS, Segment
from nbbn.program.splits import split
from nbbn.program.training import lower_training
from nbbn.trainer import Trainer, batches

WIDTH, ROWS, BATCH = 70, 150, 60
PLAIN = [Dense(40, activation="relu"), Dense(20), Dense(3, activation="softmax")]
NORMED = [
    Dense(100), BatchNormalization(), ReLU(), Dropout(0.2), Dense(33), BatchNormalization(),
    Activation("tanh"), Dense(3, activation="softmax"),
]
NETWORKS = {"plain": PLAIN, "normed": NORMED, "one layer": [Dense(3, activation="softmax")]}
MNIST = [
    Dense(128), BatchNormalization(), ReLU(), Dense(64), BatchNormalization(), ReLU(), Dense(32),
    BatchNormalization(), ReLU(), Dense(10, activation="softmax"),
]
EVERY, TEAMS = (1, 2, 3, 4, 8, BY_ROWS), (2, 3, 4, 8, 16)


def forced(program, parts):
    """The program with so many row parts wherever there is a choice; odd ones share their rows."""
    program = splits._with_shared_rows(program) if parts % 2 and program.shared else program
    operations = [
        op if op.grid is None else replace(op, operands={**op.operands, op.grid: parts})
        for op in program.operations
    ]
    return program.with_operations(operations)


def lowered(layers, width=WIDTH, rows=BATCH, **more):
    net = computation(layers, (width,))
    return lower_training(net, np.dtype("float32"), rows, "softmax_cross_entropy", Adam(), **more)


def trained(layers, dtype, threads):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, WIDTH)).astype(dtype), rng.integers(0, 3, ROWS)
    with nbbn.num_threads(threads):
        trainer = Trainer(computation(layers, (WIDTH,)), np.dtype(dtype), x.dtype, BATCH,
                          "softmax_cross_entropy", Adam(0.01), decay=0.01)
        trainer.upload([{name: (0.2 * rng.normal(size=array.shape)).astype(dtype) ** 2
                         for name, array in arrays.items()} for arrays in trainer.download()])
        # No trial on one thread.
        trainer._choice = SimpleNamespace(next=lambda most, left: (threads, left),
                                          note=lambda *_: None)
        trainer._steps.worth = lambda most: threads
        edges = batches(ROWS, BATCH, merge_tail=False)
        rates = np.full(len(edges) - 1, 0.01)
        losses = [trainer.epoch(x, y, np.arange(ROWS), edges, rates).loss for _ in range(3)]
    return [*losses, *(array for arrays in trainer.download() for array in arrays.values())]


def same_bits(name):
    """Whether a network is trained to the bits of one thread by every split and team."""
    for dtype, panel_bytes in itertools.product(("float32", "float64"), (0, 1 << 40)):
        training._PANEL_BYTES = panel_bytes
        kept._made.cache_clear()
        expected = trained(NETWORKS[name], dtype, 1)
        assert np.isfinite(expected[-1]).all()
        for parts, threads in itertools.product(EVERY, TEAMS):
            runnable.split = lambda program, *_, n=parts: forced(program, n)
            for a, b in zip(expected, trained(NETWORKS[name], dtype, threads)):
                np.testing.assert_array_equal(a, b, err_msg=f"{parts} parts, {threads} threads")
    return True


@pytest.mark.parametrize("name", NETWORKS)
def test_every_split_gives_the_same_bits(name):
    """In a process that may use as many threads, whatever cores there are."""
    env = {**os.environ, "NUMBA_NUM_THREADS": str(max(TEAMS))}
    run = subprocess.run([sys.executable, __file__, name], env=env, capture_output=True, text=True)
    assert run.stdout.split() == ["True"], run.stderr


@pytest.mark.parametrize("threads", [2, 3, 4, 6, 16])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_chosen_splits_have_no_race(name, threads):
    """Nor have they on a team that fewer threads have joined."""
    for decay in (0.0, 0.01):
        program = split(lowered(NETWORKS[name], decay=decay).program, BATCH, threads)
        assert races(program, teams=(2, 3, 4, 16)) == []


@pytest.mark.parametrize("parts", EVERY)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_split_has_a_race(name, parts):
    program = forced(lowered(NETWORKS[name]).program, parts)
    assert races(program, teams=(2, 3, 4, 7, 16)) == []


def test_a_grid_without_its_barrier_is_a_race():
    program = forced(lowered(NORMED).program, 2)
    barriers = program.barriers()
    first = next(i for i, op in enumerate(program.operations) if op.kernel == "dense_forward")
    assert barriers[first]
    assert not lowered(NORMED).program.barriers()[first]


def parts_of(program):
    return [(op.kernel, op.operands[op.grid]) for op in program.operations if op.grid]


def test_two_threads_share_wide_layers_by_columns_and_the_output_by_rows():
    program = split(lowered(MNIST, 784, 256).program, 256, 2)
    forward = [n for kernel, n in parts_of(program) if kernel.startswith("dense_forward")]
    assert forward[:4] == [1, 1, 1, BY_ROWS]
    assert len(program.barriers()) == len(program.operations)
    assert sum(program.barriers()) == 7


def test_sixteen_threads_have_work_where_there_are_eight_panels():
    """The first layer's products are most of the work: no thread is without a part of them."""
    program = lowered(MNIST, 784, 256).program
    by_columns, chosen = program, split(program, 256, 16)
    parts = parts_of(chosen)
    assert parts[0][0] == "dense_forward_panels" and parts[0][1] > 1
    assert parts[-1][0] == "dense_update_adam" and parts[-1][1] > 1
    assert step_seconds(chosen, 256, 16) < 0.7 * step_seconds(by_columns, 256, 16)


def test_many_threads_share_the_rows_that_they_gather():
    """Two of them fill a copy each: what another core has written is slow to read."""
    program = lowered(MNIST, 784, 256).program
    first = {n: split(program, 256, n).operations[0] for n in (2, 64)}
    assert {n: op.kernel for n, op in first.items()} == {
        2: "gather_all_panels", 64: "gather_panels"}
    assert first[64].operands["out"].segment == Segment.WORK


def test_a_dear_barrier_leaves_columns_alone():
    program = lowered(MNIST, 784, 32).program
    slow = split(program, 32, 16, Machine(barrier=1e-3))
    assert sum(slow.barriers()) <= sum(program.barriers())


def test_one_thread_has_no_choice():
    program = lowered(MNIST, 784, 32).program
    assert parts_of(split(program, 32, 1)) == parts_of(program)


def test_splits_are_printed():
    text = str(split(lowered(MNIST, 784, 256).program, 256, 16))
    assert all(f"{name}=" in text for name in GRIDS)


def test_costs_count_what_is_multiplied():
    """Forward, the gradient by what came in, and the gradient by the kernel."""
    program = lowered(MNIST, 784, 256).program
    products = sum(cost(op, program, 256, 1).products for op in program.operations)
    exact = 256 * (2 * 784 * 128 + 3 * (128 * 64 + 64 * 32) + 3 * 32 * 10)
    assert exact <= products <= 1.1 * exact


def test_more_threads_never_cost_more_work():
    program = lowered(MNIST, 784, 1024).program
    times = [step_seconds(split(program, 1024, n), 1024, n) for n in (1, 2, 4, 8, 16)]
    assert times == sorted(times, reverse=True)


def test_a_step_takes_as_many_threads_as_are_worth_it():
    """Of a small batch's step meetings are most."""
    run = runnable.TrainingRun(lowered(MNIST, 784, 32).program, np.dtype("float32"),
                               np.zeros(0, np.uint8), 32)
    assert run.worth(1) == 1 and run.worth(2) == 2
    assert 2 <= run.worth(64) < 64


if __name__ == "__main__":
    print(same_bits(sys.argv[1]))
