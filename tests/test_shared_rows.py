"""Inference with all threads on one block of rows: the bits of one thread, for every network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from test_csource import drawn, rows
from test_fallback import NETWORKS
from test_images_one_pixel_wide import CHANNELS, LENGTH, NAMES, layers, tall, wide

import nbbn
from nbbn.kernels import executor
from nbbn.predictor import Predictor
from nbbn.program.program import Segment
from nbbn.program.runnable import InferenceRun

MOST_ROWS = 5


def thin(name, way):
    return (*way(1, LENGTH), CHANNELS), layers(name, way)


CASES = {
    **NETWORKS,
    **{f"{name}, one high": thin(name, wide) for name in NAMES},
    **{f"{name}, one wide": thin(name, tall) for name in NAMES},
}


def check(name, dtype, teams):
    network = drawn(*CASES[name], dtype)
    run = Predictor(network)._blocks
    assert isinstance(run, InferenceRun)
    x = np.ascontiguousarray(rows(network, MOST_ROWS).reshape(MOST_ROWS, -1), dtype)
    for n in range(1, min(MOST_ROWS, run.block) + 1):
        alone, together = np.empty((2, n, run.outputs), dtype)
        run._fill_alone(x[:n], alone)
        for team in teams:
            together[...] = np.nan
            assert run._fill_together(x[:n], together, team)
            np.testing.assert_array_equal(together, alone, err_msg=f"{n} rows, {team} threads")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_same_bits(name, dtype):
    check(name, dtype, (1, min(2, numba.config.NUMBA_NUM_THREADS)))


def test_same_bits_on_many_threads():
    """More threads than the image has lines, and than this machine has cores."""
    names = [name for name in CASES if len(CASES[name][0]) == 3][::4]
    lines = ["import numpy as np", "from test_shared_rows import check"]
    lines += [f"check({name!r}, np.float32, (3, 5, 16))" for name in names]
    env = {**os.environ, "NUMBA_NUM_THREADS": "16"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env=env,
        text=True,
        capture_output=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_thread_writes_for_itself_is_its_own(name):
    """Threads meet after every operation; what each writes all of is in memory of its own."""
    network = drawn(*NETWORKS[name], np.float32)
    program = Predictor(network)._blocks._lowered.together()
    assert all(program.barriers(repeats=False))
    for op in program.operations:
        for operand in ("scratch", "strip"):
            if operand in op.operands:
                assert op.operands[operand].segment == Segment.PRIVATE, str(op)


def test_few_rows_of_a_large_network_are_shared(monkeypatch):
    """One image, and few rows of features, on all threads; many rows are not."""
    calls = []
    for name in ("run_together", "run_blocks", "run_blocks_alone"):
        whole = getattr(executor, name)
        monkeypatch.setattr(executor, name, lambda *a, f=whole, n=name: calls.append(n) or f(*a))
    net = nbbn.Sequential(
        [
            nbbn.layers.Input((32, 32, 3)),
            nbbn.layers.Conv2D(32, 3, padding="same"),
            nbbn.layers.BatchNormalization(),
            nbbn.layers.ReLU(),
            nbbn.layers.Conv2D(32, 3),
            nbbn.layers.Flatten(),
            nbbn.layers.Dense(10),
        ]
    )
    folded = net.fold()
    x = np.random.default_rng(0).normal(size=(32, 32, 32, 3)).astype(np.float32)
    calls.clear()  # of folding
    with nbbn.num_threads(2):
        one = folded.predict(x[:1])
        many = folded.predict(x)
    assert calls[0] == "run_together" and calls[1] in ("run_blocks", "run_blocks_alone")
    np.testing.assert_array_equal(one[0], many[0])
