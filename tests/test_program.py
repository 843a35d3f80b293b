"""Programs: where barriers fall, how they print, and how many threads they can use.

The pace that picks threads.
"""

import sys

import numpy as np
import pytest

from nbbn.kernels import KERNELS
from nbbn.kernels.team import BY_ROWS
from nbbn.layers import Activation, BatchNormalization, Dense, LayerError
from nbbn.losses import RECORDS
from nbbn.network import computation
from nbbn.optimizers import SGD, Adam
from nbbn.program.layout import lanes, padded, stride_of
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.training import lower_training
from nbbn.thread_choice import ThreadChoice
from nbbn.trainer import Trainer, batches

F32 = np.dtype("float32")


def buffer(name, segment=Segment.WORK):
    return Buffer(name, segment)


def dense(program, x, z, weights="w", panels=2, row_parts=1):
    program.add(
        "dense_forward", x=buffer(x), x_stride=32, depth=32, weights=buffer(weights),
        weight_depth=32, bias=buffer("b"), z=buffer(z), z_stride=32, panels=panels,
        row_parts=row_parts,
        shared=1, relu=0,
    )


def relu(program, x, panels=2):
    program.add("relu_forward", x=buffer(x), x_stride=32, panels=panels)


def test_own_columns_need_no_barrier():
    p = Program(F32)
    dense(p, "x", "z")
    relu(p, "z")
    assert p.barriers(repeats=False) == [False, False]


def test_all_columns_of_the_layer_before_need_one():
    p = Program(F32)
    dense(p, "x", "z")
    relu(p, "z")
    dense(p, "z", "a")
    assert p.barriers(repeats=False) == [False, True, False]


def test_other_split_of_the_same_columns_needs_one():
    p = Program(F32)
    dense(p, "x", "z", panels=2)
    relu(p, "z", panels=3)
    assert p.barriers(repeats=False) == [True, False]


def test_the_next_step_counts():
    """The last operation writes what the first of the next step reads as a whole, so the threads
    must meet at the end too.
    """
    p = Program(F32)
    dense(p, "x", "z")
    dense(p, "z", "x")
    assert p.barriers(repeats=False) == [True, False]
    assert p.barriers() == [True, True]


@pytest.mark.parametrize("row_parts, due", [(1, False), (2, True), (BY_ROWS, True)])
def test_rows_have_other_owners_in_the_next_step(row_parts, due):
    """It may be shorter: what a thread has written another one writes over. Columns stay."""
    p = Program(F32)
    dense(p, "x", "z", row_parts=row_parts)
    assert p.barriers() == [due]
    assert p.barriers(repeats=False) == [False]


@pytest.mark.parametrize("other, due", [(2, False), (3, True), (1, True), (BY_ROWS, True)])
def test_cells_of_one_grid_need_none_of_another_one(other, due):
    p = Program(F32)
    dense(p, "x", "z", row_parts=2)
    dense(p, "y", "z", row_parts=other)
    assert p.barriers(repeats=False) == [due, False]


def test_private_buffers_never_need_one():
    p = Program(F32)
    own = Buffer("x", Segment.PRIVATE)
    p.add(
        "gather_all_rows", x=buffer("X", Segment.X), order=buffer("o", Segment.ORDER), out=own,
        width=30, out_stride=32,
    )
    p.add(
        "dense_forward", x=own, x_stride=32, depth=30, weights=buffer("w"), weight_depth=32,
        bias=buffer("b"), z=buffer("z"), z_stride=32, panels=2, row_parts=1,
        shared=1, relu=0,
    )
    assert p.barriers() == [False, False]


def test_unknown_or_missing_operand():
    with pytest.raises(TypeError, match="relu_forward takes"):
        Program(F32).add("relu_forward", x=buffer("z"), panels=1)


def small_training(optimizer=None, loss="softmax_cross_entropy", last="softmax", rows=40):
    layers = (
        Dense(100, use_bias=False), BatchNormalization(), Activation("relu"), Dense(3),
        Activation(last),
    )
    shapes = [(37,), (100,), (100,), (100,), (3,), (3,)]
    return lower_training(computation(layers, shapes[0]), F32, rows, loss, optimizer or Adam())


def test_training_program_reads_as_a_text():
    text = str(small_training().program)
    lines = [line.split("(")[0] for line in text.splitlines()]
    assert lines[:4] == ["gather_all_rows", "dense_forward", "norm_forward", "--"]
    assert lines.count("dense_update_adam") == 2
    assert "x_stride=48" in text or lanes(F32) != 16


def test_relu_joins_the_norm_and_the_output_activation_joins_the_loss():
    kernels = [op.kernel for op in small_training().program.operations]
    assert "relu_forward" not in kernels and "softmax_forward" not in kernels
    assert {"norm_forward", "norm_backward", "softmax_cross_entropy"} <= set(kernels)


@pytest.mark.parametrize("rows", [40, 10**5])
def test_every_thread_gathers_the_rows_of_a_dense_network_for_itself(rows):
    program = small_training(rows=rows).program
    assert program.operations[0].kernel == "gather_all_rows"
    assert not program.barriers()[0]


def test_weights_are_updated_after_every_thread_has_used_them():
    """The transposed kernel is written in another split than it is read in.

    A barrier stands between.
    """
    program = small_training(SGD()).program
    names = [op.kernel for op in program.operations]
    barriers = program.barriers()
    read = max(
        i
        for i, op in enumerate(program.operations)
        if getattr(op.operands.get("weights"), "name", "") == "kernel3T"
    )
    write = names.index("transpose_weights")
    assert any(barriers[read:write])


def test_parallelism_is_that_of_the_widest_layer():
    """A cell of eight rows, of a batch or of a kernel, and a panel is the least for a thread."""
    assert small_training().program.parallelism(40) == -(-100 // lanes(F32)) * 5


def test_loss_and_output_must_fit():
    with pytest.raises(
        LayerError, match="needs a network that ends with softmax, this one ends with linear"
    ):
        small_training(last="linear")


def test_records_of_losses_say_what_the_kernels_take():
    takes = {name: set(KERNELS[name].operands) for name in RECORDS}
    for record in RECORDS.values():
        assert ("labels" in takes[record.engine], "hits" in takes[record.engine]) == (
            record.takes_labels,
            record.counts_hits,
        )
        assert ("y" in takes[record.engine]) == (record.end is None)
        assert record.parameter is None or "parameter" in takes[record.engine]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 15, 16, 37, 256, 1024])
def test_strides_hold_whole_vectors_off_powers_of_two(width, dtype):
    stride = stride_of(width, dtype)
    assert stride >= padded(width, dtype) >= width
    assert stride % lanes(dtype) == 0
    assert stride * np.dtype(dtype).itemsize % 1024 != 0


@pytest.mark.parametrize(
    "rows, size, sizes",
    [
        (64, 32, [32, 32]), (65, 32, [32, 33]), (71, 32, [32, 39]), (72, 32, [32, 32, 8]),
        (5, 4, [5]), (3, 8, [3]),
    ],
)
def test_batches_merge_a_short_tail(rows, size, sizes):
    assert np.diff(batches(rows, size, merge_tail=True)).tolist() == sizes


def test_batches_without_batch_norm_are_scikit_learns():
    assert np.diff(batches(65, 32, merge_tail=False)).tolist() == [32, 32, 1]


class TestPace:
    def run(self, pace, seconds_a_step, steps, threads=2):
        """Let the pace run so many steps; return how many each number of threads got."""
        got = {}
        while steps:
            way, chunk = pace.next(threads, steps)
            pace.note(way, chunk, chunk * seconds_a_step[way])
            got[way] = got.get(way, 0) + chunk
            steps -= chunk
        return got

    @pytest.mark.parametrize("fast, slow", [(2, 1), (1, 2)])
    def test_takes_the_faster_way(self, fast, slow):
        got = self.run(ThreadChoice(), {fast: 1e-4, slow: 3e-4}, 100_000)
        assert got[fast] > 0.99 * 100_000

    def test_steps_that_come_one_by_one(self):
        """Trials are as rare as between long runs.

        Half of partial_fit's calls went the slow way.
        """
        pace, got = ThreadChoice(), {1: 0, 2: 0}
        for _ in range(20_000):
            got[next(iter(self.run(pace, {1: 5e-5, 2: 2e-2}, 1)))] += 1
        assert got[2] < 0.01 * got[1]

    def test_comes_back_when_the_machine_changes(self):
        pace = ThreadChoice()
        self.run(pace, {1: 3e-4, 2: 1e-4}, 10_000)
        got = self.run(pace, {1: 1e-4, 2: 3e-4}, 400_000)
        assert got[1] > got[2]

    def test_one_thread_needs_no_choice(self):
        assert set(self.run(ThreadChoice(), {1: 1e-4}, 1000, threads=1)) == {1}


def test_a_weighted_step_is_the_step_on_repeated_rows():
    """Loss, decay, batch statistics and running statistics.

    A row of weight 3 is three rows, one of weight 0 is none.
    """
    layers = (
        Dense(9), BatchNormalization(), Activation("relu"), Dense(6), BatchNormalization(),
        Dense(3, activation="softmax"),
    )
    shapes = [(5,)]
    for layer in layers:
        shapes.append(layer.output_shape(shapes[-1]))
    rng = np.random.default_rng(0)
    x, y, weights = (
        rng.standard_normal((20, 5)), rng.integers(0, 3, 20), rng.integers(0, 4, 20).astype(float),
    )
    start = [layer.initial_weights(shape, rng, "f8") for layer, shape in zip(layers, shapes)]

    def train(rows, weighted):
        whole = computation(layers, shapes[0])
        trainer = Trainer(
            whole, np.dtype("f8"), x.dtype, 60, "softmax_cross_entropy", SGD(0.1), decay=0.1,
            weighted="mean" if weighted else False,
        )
        trainer.upload(start)
        edges, more = np.array([0, len(rows)]), {"weights": weights[rows]} if weighted else {}
        epochs = [
            trainer.epoch(x[rows], y[rows], np.arange(len(rows)), edges, np.full(1, 0.1), **more)
            for _ in range(3)
        ]
        return epochs[-1].mean_loss, trainer.download()

    loss, got = train(np.arange(20), True)
    ref_loss, ref = train(np.repeat(np.arange(20), weights.astype(int)), False)
    assert loss == pytest.approx(ref_loss, rel=1e-13)
    for arrays, wanted in zip(got, ref, strict=True):
        for name in wanted:
            np.testing.assert_allclose(arrays[name], wanted[name], rtol=1e-12, atol=1e-13)


def test_compiled_functions_have_names_of_their_own():
    """Code that two processes cached under one symbol would run in place of each other in a third."""
    functions = [k.function for k in KERNELS.values()]
    for module in {function.__module__ for function in functions}:
        helpers = vars(sys.modules[module]).values()
        functions += [
            h.py_func for h in helpers if hasattr(h, "py_func") and h.py_func.__module__ == module
        ]
    names = [
        f"{function.__module__}.{function.__qualname__}"
        for function in {id(f): f for f in functions}.values()
    ]
    assert len(names) == len(set(names))
