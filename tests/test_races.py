"""No program of the tests' networks races: see races.py."""

from __future__ import annotations

import numpy as np
import pytest
from networks import NETWORKS
from races import ROWS, races, table_of
from test_csource import MORE
from test_onnx import NETWORKS as WRITTEN_TO_ONNX

import nbbn
from nbbn import inputs
from nbbn.kernels import KERNELS
from nbbn.kernels.executor import ARRIVAL, BARRIER, BLOCKS_SHIFT, GROUP_MASK, GROUP_SHIFT
from nbbn.layers import LayerError
from nbbn.losses import RECORDS
from nbbn.network import computation
from nbbn.optimizers import SGD, Adam, AdamW, RMSprop
from nbbn.program.costs import step_seconds
from nbbn.program.inference import InferenceProgram
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.splits import split
from nbbn.program.training import lower_training

F32 = np.dtype("float32")
PENALTY = "L1L2", {"l1": 0.01, "l2": 0.01}
REGULARIZED = {
    "Dense": ("kernel", "bias"), "Conv2D": ("kernel", "bias"),
    "Conv2DTranspose": ("kernel", "bias"), "DepthwiseConv2D": ("depthwise", "bias"),
    "Conv1D": ("kernel", "bias"), "Conv1DTranspose": ("kernel", "bias"),
    "DepthwiseConv1D": ("depthwise", "bias"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), ("depthwise", "pointwise", "bias")),
    "BatchNormalization": ("gamma", "beta"), "LayerNormalization": ("gamma", "beta"),
    "GroupNormalization": ("gamma", "beta"),
}
# An optimiser and the settings of `lower_training`; the last says whether every array is
# regularised.
SETTINGS = {
    "sgd": (SGD(0.01), {}, False),
    "momentum and penalties": (SGD(0.01, momentum=0.9, nesterov=True), {}, True),
    "adam, weighted": (Adam(0.01, amsgrad=True), {"weighted": True}, False),
    "clipnorm, L2": (Adam(0.01, clipnorm=1.0), {"decay": 0.1, "debias": True}, False),
    "clipvalue": (RMSprop(0.01, momentum=0.5, centered=True, clipvalue=0.1), {}, False),
    "global clipnorm, decay, penalties": (
        AdamW(0.01, weight_decay=0.1, global_clipnorm=1.0), {"weighted": True}, True,
    ),
    "weight decay, weighted statistics": (
        AdamW(0.01, weight_decay=0.1), {"weighted": "mean"}, False,
    ),
    "kept outputs": (SGD(0.01), {"keeps": True}, False),
}


def layers_of(case, regularized=False):
    """The library's layers of a case; every array regularised if so wished."""
    if not regularized:
        return case.built(nbbn)[0]
    layers = [
        (
            kind,
            {**arguments, **{f"{name}_regularizer": PENALTY for name in REGULARIZED.get(kind, ())}},
        )
        for kind, arguments in case.layers
    ]
    return type(case)(case.input_shape, layers).built(nbbn)[0]


def lowered(layers, shape, loss, optimizer=SETTINGS["sgd"][0], **settings):
    """The training program, or None where the library refuses it."""
    try:
        return lower_training(
            computation(layers, shape), F32, 41, loss, optimizer, **settings
        ).program
    except LayerError:
        return None


def losses_of(layers, shape):
    """The losses that can train the network."""
    return [loss for loss in RECORDS if lowered(layers, shape, loss) is not None]


@pytest.mark.parametrize("name", NETWORKS)
def test_training(name):
    case, made = NETWORKS[name], 0
    loss = losses_of(layers_of(case), case.input_shape)[0]
    for label, (optimizer, settings, regularized) in SETTINGS.items():
        program = lowered(
            layers_of(case, regularized), case.input_shape, loss, optimizer, **settings
        )
        if program is not None:  # not every network takes weights
            made += 1
            assert races(program) == [], label
            for threads in (4, 16):
                shared = split(program, 41, threads)
                assert races(shared, teams=(3, threads)) == [], label
                assert 0 < step_seconds(shared, 41, threads) < 1
    assert made >= 4


@pytest.mark.parametrize("loss", RECORDS)
def test_training_with_every_loss(loss):
    programs = [lowered(layers_of(case), case.input_shape, loss) for case in NETWORKS.values()]
    programs = [program for program in programs if program is not None]
    assert programs or loss == "poisson"
    end = nbbn.layers.Activation(RECORDS[loss].end or "tanh")
    programs.append(lowered([nbbn.layers.Dense(3), end], (5,), loss, weighted=True))
    for program in programs:
        assert races(program) == []


# On rows of stored elements.
SPARSE = {
    "dense": [nbbn.layers.Dense(41, "relu"), nbbn.layers.Dense(3, "softmax")],
    "norm": [
        nbbn.layers.Dense(41), nbbn.layers.BatchNormalization(), nbbn.layers.Activation("relu"),
        nbbn.layers.Dense(3, "softmax"),
    ],
    "logits alone": [nbbn.layers.Dense(3, "softmax")],
}


@pytest.mark.parametrize("name", SPARSE)
def test_training_on_stored_elements(name):
    for label, (optimizer, settings, _) in SETTINGS.items():
        program = lowered(
            SPARSE[name], (50,), "softmax_cross_entropy", optimizer, sparse=True, **settings
        )
        names = [op.kernel for op in program.operations]
        assert {"sort_by_column", "sparse_dense_forward"} <= set(names)
        assert any(kernel.startswith("sparse_update_") for kernel in names)
        assert races(program) == [], label
        table = table_of(program)
        for i in np.flatnonzero(table[:, 1] & BARRIER):
            changed = table.copy()
            changed[i, 1] &= ~BARRIER
            assert races(program, changed), (label, i, str(program.operations[i]))


NOISE = [
    nbbn.layers.Dense(9), nbbn.layers.Dropout(0.3), nbbn.layers.GaussianNoise(0.1),
    nbbn.layers.Dense(3, "softmax"),
]


@pytest.mark.parametrize("name", [*MORE, "noise"])
def test_training_of_other_lists(name):
    shape, layers = MORE[name] if name in MORE else ((5,), NOISE)
    losses = losses_of(layers, shape)
    assert losses or name == "an input layer"  # nothing is computed
    for loss in losses:
        assert races(lowered(layers, shape, loss, SETTINGS["adam, weighted"][0])) == []


INFERENCE = {
    "networks": [(case.input_shape, case.built(nbbn)[0]) for case in NETWORKS.values()],
    "more": list(MORE.values()),
    "written to ONNX": WRITTEN_TO_ONNX,
}


@pytest.mark.parametrize("name", INFERENCE)
def test_inference(name):
    """A thread walks the program of its own block of rows alone, so it may write to memory of its
    own and to its outputs only.
    """
    for shape, layers in INFERENCE[name]:
        whole = InferenceProgram(computation(layers, shape).inference, F32)
        for program in (whole.program, (whole.of_stored_elements() or whole).program):
            assert races(program, rows=ROWS[:1], own_places=False) == []
            for op in program.operations:
                for operand, access in KERNELS[op.kernel].buffers().items():
                    if access.writes:
                        assert op.operands[operand].segment in (
                            Segment.WORK, Segment.OUT, Segment.PRIVATE,
                        ), str(op)


def test_functions_of_arrays(monkeypatch, rng):
    """Programs of functions on the caller's arrays run once, on all threads."""
    programs, table = [], Program.table
    monkeypatch.setattr(
        Program,
        "table",
        lambda self, *args, **more: programs.append(self) or table(self, *args, **more),
    )
    for rows, channels in [(37, 3), (400, 24), (5000, 40)]:
        for activation in (None, "relu"):
            x = rng.standard_normal((rows, channels)).astype(F32)
            y, cache = nbbn.functional.batch_norm_train(x, activation=activation, epsilon=2e-5)
            nbbn.functional.batch_norm_backward(y, cache)
            nbbn.functional.batch_norm_inference(x, None, None, cache.mean, cache.var, activation=activation)
    inputs.scan(rng.standard_normal(12345))
    monkeypatch.undo()
    assert len(programs) >= 13
    for program in programs:
        assert races(program, rows=ROWS[:1]) == [], program


# The check itself


ADAM = Adam(0.01)


def program_of(name, optimizer=ADAM):
    case = NETWORKS[name]
    layers = layers_of(case)
    return lowered(layers, case.input_shape, losses_of(layers, case.input_shape)[0], optimizer)


@pytest.mark.parametrize("name", list(NETWORKS)[::3])
def test_no_barrier_can_be_left_out(name):
    """Without any one of them there is a race.

    So there is none too many, and none that the check would not miss.
    """
    program = program_of(name)
    table = table_of(program)
    for i in np.flatnonzero(table[:, 1] & BARRIER):
        changed = table.copy()
        changed[i, 1] &= ~BARRIER
        assert races(program, changed), (i, str(program.operations[i]))


@pytest.mark.parametrize("name", list(NETWORKS)[1::3])
def test_no_thread_can_arrive_earlier(name):
    """An operation sooner there is a race: others would read what is not yet written."""
    program = program_of(name)
    table, first = table_of(program), 0  # operation behind the last barrier
    starts = [i for i in range(len(table)) if not (i and _goes_on(table, i))]
    for i, word in enumerate(table[:, 1]):
        if word & ARRIVAL:
            before = max(start for start in starts if start <= i) - 1  # the end of a group or one
            if before >= first:
                changed = table.copy()
                changed[i, 1] &= ~ARRIVAL
                changed[before, 1] |= ARRIVAL
                assert races(program, changed), (i, str(program.operations[i]))
        if word & BARRIER:
            first = i + 1


def _goes_on(table, i):
    """Whether a row is in a group that begins above it."""
    for start in range(i):
        size = int(table[start, 1]) >> GROUP_SHIFT & GROUP_MASK
        if size > 1 and start < i < start + size:
            return True
    return False


def test_threads_work_on_between_arrival_and_barrier():
    """What updates parameters stands there: nobody waits for it."""
    program = program_of("dense, norm behind")
    barriers = program.barriers()
    arrivals = program.arrivals(barriers)
    assert sum(arrivals) == sum(barriers)
    assert any(arrival and not barrier for arrival, barrier in zip(arrivals, barriers))


def test_groups_that_run_across_barriers():
    """Within a group the executor looks at the last operation's barrier alone."""
    found = 0
    names = [name for name, case in NETWORKS.items() if len(case.input_shape) == 3]
    for name in names:
        program = program_of(name)
        table = table_of(program)
        by_image = [op.by_image() for op in program.operations]
        table[:, 1] &= BARRIER | ARRIVAL
        for first in [
            i for i, own in enumerate(by_image) if own and (i == 0 or not by_image[i - 1])
        ]:
            size = [*by_image[first:], False].index(False)
            if size > 1:
                table[first, 1] |= (
                    size << GROUP_SHIFT
                    | program.operations[first].operands["blocks"] << BLOCKS_SHIFT
                )
        found += bool(races(program, table))
    assert found > len(names) / 2


def buffer(name):
    return Buffer(name, Segment.WORK, 1024 * "x mask state".split().index(name))


def masked(program, mask, panels):
    program.add("mask_columns", x=buffer("x"), mask=buffer(mask), panels=panels)


def images(program, x, blocks):
    sizes = {"pixel": 16, "pixels": 4, "panels": 1, "blocks": blocks, "relu": 0}
    program.add("norm_inference", x=buffer(x), state=buffer("state"), epsilon=1e-3, **sizes)


def rows_of(program, x):
    program.add("softmax_forward", x=buffer(x), x_stride=32, units=20, panels=2)


def test_same_columns_meet_nobody():
    program = Program(F32)
    masked(program, "mask", 2)
    masked(program, "mask", 2)
    assert races(program) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda p: (masked(p, "mask", 2), masked(p, "mask", 3)),
        lambda p: (masked(p, "mask", 2), masked(p, "x", 2)),
        lambda p: (masked(p, "mask", 2), rows_of(p, "x")),
        lambda p: (images(p, "x", 2), images(p, "x", 3)),
        lambda p: (images(p, "x", 3), rows_of(p, "x")),
        lambda p: rows_of(p, "x"),
    ],
    ids=[
        "other panels", "all", "columns and rows", "other blocks", "images and rows",
        "fewer rows in the next step",
    ],
)
def test_accesses_that_meet(make):
    program = Program(F32)
    make(program)
    table = table_of(program)
    table[:, 1] = 0
    assert races(program, table)
    table[:, 1] = BARRIER | ARRIVAL
    assert races(program, table) == []
