"""ResNets, MobileNets, U-Nets and their kin: Keras's numbers, bits, races, memory, new heads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
from architecture_numbers import (
    OPTIMIZERS,
    TRANSFERRED,
    TUNED,
    kept,
    kept_numbers,
    keras_in_float64,
    trained,
    transferred,
    tuned,
)
from architectures import (
    ARCHITECTURES,
    NAMES,
    Named,
    alone_or_all,
    draw_weights,
    rows_of,
    targets_of,
)
from races import races

import nbbn
from nbbn.optimizers import SGD, Adam
from nbbn.program.inference import InferenceProgram
from nbbn.program.program import Segment
from nbbn.program.runnable import TrainingRun
from nbbn.program.splits import split
from nbbn.thread_choice import ThreadChoice

KERAS = kept_numbers()
# What differs from Keras, which adds in another order: of an array's largest number. Adam makes
# steps out of the rounding of gradients that are 0, as that of a bias before a norm.
RELATIVE = {"momentum": 1e-12, "adam": 1e-10}


@pytest.fixture(scope="module")
def keras():
    with keras_in_float64() as found:
        yield found


def assert_close(got, ref, relative, scale=None):
    """Equal but for a share of the largest number, or of `scale`."""
    scale = np.abs(ref).max() if scale is None else scale
    np.testing.assert_allclose(got, ref, rtol=0, atol=relative * scale + 1e-14)


def assert_as_kept(found, ref, relative):
    """The numbers of the file."""
    got = kept(found)
    assert_close(got["losses"], ref["losses"], relative)
    assert got["weights"].keys() == ref["weights"].keys()
    pairs = [(array, one, other) for layer, arrays in found.weights.items() for array, one, other
             in zip(arrays, got["weights"][layer], ref["weights"][layer], strict=True)]
    for when in ("before", "after"):
        pairs += zip(getattr(found, when), got[when], ref[when], strict=True)
    for array, one, other in pairs:
        assert_close(one, other, relative, np.sqrt(array.size) * np.abs(array).max())


def assert_same(got, ref, relative):
    """Losses, arrays and predictions, number by number."""
    assert_close(got.losses, ref.losses, relative)
    assert got.weights.keys() == ref.weights.keys()
    for layer, arrays in ref.weights.items():
        for one, other in zip(got.weights[layer], arrays, strict=True):
            assert_close(one, other, relative)
    for one, other in zip([*got.before, *got.after], [*ref.before, *ref.after], strict=True):
        assert_close(one, other, relative)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_keras(name, optimizer):
    """Losses, all arrays after three steps, and predictions, as Keras computed them once."""
    assert_as_kept(trained(nbbn, name, optimizer), KERAS[name][optimizer], RELATIVE[optimizer])


@pytest.mark.parametrize("name", TRANSFERRED)
def test_another_head(name):
    """On a base that is frozen, norms' statistics too; then all but the norms is trained."""
    assert_as_kept(transferred(nbbn, name), KERAS[name]["transferred"], RELATIVE["momentum"])


@pytest.mark.parametrize("name", TUNED)
def test_a_base_that_is_trained_again(name):
    """Called with `training=False`, as Keras's guide to transfer learning writes it."""
    assert_as_kept(tuned(nbbn, name), KERAS[name]["tuned"], RELATIVE["adam"])


# What Keras cannot run on torch, or runs with fewer digits.
BROKEN_ON_TORCH = {"autoencoder": "needs a contiguous gradient",
                   "mobilenet_v3": "has a sixth of float32 in the slopes of hard sigmoids"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_is_keras(keras, name):
    """The same beside Keras itself."""
    if keras.backend.backend() == "torch" and name in BROKEN_ON_TORCH:
        pytest.skip(f"Keras on torch {BROKEN_ON_TORCH[name]}")
    for optimizer, relative in RELATIVE.items():
        ref, got = (trained(namespace, name, optimizer) for namespace in (keras, nbbn))
        assert_same(got, ref, relative)
    if name in TRANSFERRED:
        ref, got = (transferred(namespace, name) for namespace in (keras, nbbn))
        assert_same(got, ref, RELATIVE["momentum"])
    if name in TUNED:
        ref, got = (tuned(namespace, name) for namespace in (keras, nbbn))
        assert_same(got, ref, RELATIVE["adam"])


# -- every architecture as a program


def compiled(name, dtype, optimizer, rows=41):
    """A model after a step, and that step's trainer."""
    architecture = ARCHITECTURES[name]
    model = architecture.make(Named(nbbn, dtype))
    draw_weights(model)
    model.compile(optimizer, architecture.loss, loss_weights=architecture.loss_weights)
    model.train_on_batch(alone_or_all(rows_of(model, rows, dtype=dtype)),
                         alone_or_all(targets_of(model, architecture, rows, dtype=dtype)))
    return model, model._trainer_in_use


@pytest.mark.parametrize("name", NAMES)
def test_no_races(name):
    for optimizer in (SGD(0.01, momentum=0.9), Adam(0.01, global_clipnorm=1.0)):
        model, trainer = compiled(name, "float32", optimizer)
        program = trainer.lowered.program
        assert races(program) == []
        for threads in (4, 16):
            assert races(split(program, 41, threads), teams=(3, threads)) == []
    inference = InferenceProgram(model.network().computation(), np.dtype("float32")).program
    assert races(inference, rows=(41,), own_places=False) == []


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_close(name):
    """To float64, after three steps: of an array's largest number."""
    got, ref = (trained(nbbn, name, "momentum", dtype) for dtype in ("float32", "float64"))
    assert got.after[0].dtype == np.float32
    assert_same(got, ref, 2e-5)


def digest(name):
    """Of all numbers that three steps give, bit by bit."""
    found = trained(nbbn, name, "adam", "float32")
    arrays = [found.losses, *chain(*found.weights.values()), *found.after]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


class Forced(ThreadChoice):
    """As many threads as there may be, for any network."""

    def next(self, threads, left):
        return threads, left

    def note(self, threads, steps, seconds):
        pass


def print_digests():
    """Of every architecture on 1, 2 and 3 threads, for the test below, in a process of its own."""
    nbbn.trainer.ThreadChoice, nbbn.trainer._WORTH_A_TEAM = Forced, 0
    TrainingRun.worth = lambda self, threads: threads
    for name in NAMES:
        found = []
        for threads in (1, 2, 3):
            with nbbn.num_threads(threads):
                found.append(digest(name))
        print(name, *found)


def test_the_same_bits_on_any_number_of_threads():
    code = "import test_architectures; test_architectures.print_digests()"
    env = os.environ | {"NUMBA_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == NAMES
    for name, *found in lines:
        assert len(found) == 3 and len({*found}) == 1, name
    assert len({found[0] for _, *found in lines}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_memory_by_lifetime(name):
    """In inference what is live at once has room, and what is no longer read makes room."""
    network = ARCHITECTURES[name].make(Named(nbbn, "float32")).network()
    program = InferenceProgram(network.computation(), np.dtype("float32")).program
    apart, most = room(program)
    assert most <= program.sizes[Segment.WORK] < min(apart, 2 * most)


def room(program):
    """Bytes of all working buffers, and of those that are live at the same time, at most."""
    uses, sizes = program.uses(Segment.WORK), {}
    ends = sorted({first for first, _, _ in uses.values()} | {program.sizes[Segment.WORK]})
    for name, (first, _, _) in uses.items():
        sizes[name] = ends[ends.index(first) + 1] - first
    live = [sum(sizes[name] for name, (_, begin, end) in uses.items() if begin <= i <= end)
            for i in range(len(program.operations))]
    return sum(sizes.values()), max(live)
