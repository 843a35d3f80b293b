"""Fixtures: seeded random numbers, and real data.

And how the whole is shared out over processes (pytest-xdist).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]
# Processes for the whole of the tests, and as many tests as are a good part of it.
MOST_PROCESSES, MANY = 4, 2000


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """`-n auto`: a process for each core where all tests run, none besides this one where files are
    named.
    """
    if config.args_source == config.ArgsSource.ARGS:
        return 0
    return min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        MOST_PROCESSES,
    )


def pytest_collection_finish(session):
    """Of several processes each compiles its share of the kernels first.

    They keep them in one cache, and none twice.

    A share is as much as can be of one dtype: helpers of kernels are compiled once for each in
    every process.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or len(session.items) < MANY:
        return
    from nbbn.kernels import KERNELS

    jobs = [
        (kernel, np.dtype(dtype)) for dtype in ("float32", "float64") for kernel in KERNELS.values()
    ]
    me, all_of_us = int(worker["workerid"][2:]), worker["workercount"]
    for kernel, dtype in jobs[len(jobs) * me // all_of_us : len(jobs) * (me + 1) // all_of_us]:
        kernel.address(dtype)


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(20150211)


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's bundled digits: X (1797, 64) float64 in [0, 1], y (1797,); both read-only."""
    X, y = load_digits(return_X_y=True)
    X /= 16
    X.setflags(write=False)
    y.setflags(write=False)
    return X, y


@pytest.fixture(scope="session")
def mnist():
    """MNIST in Keras's file layout, by name: x_train, y_train, x_test, y_test, uint8.

    Skips where there is none.
    """
    path = Path(os.environ.get("NBBN_DATA") or ROOT.parent / "shared" / "data" / "mnist.npz")
    if not path.is_file():
        pytest.skip(
            f"no MNIST: {path} does not exist; set NBBN_DATA to an mnist.npz in Keras's layout"
        )
    with np.load(path) as file:
        return dict(file)


@pytest.fixture
def command_name(monkeypatch):
    """The name that the messages of commands begin with, whatever started the tests."""
    monkeypatch.setenv("NBBN_COMMAND", "nbbn")


@pytest.fixture(scope="session")
def models(tmp_path_factory, digits):
    """A folder with saved models of the digits (classifier), of string labels, and of a regression.

    And rows of each.
    """
    import nbbn

    folder = tmp_path_factory.mktemp("models")
    X, y = digits
    X = X.astype(np.float32)[:400]
    options = {"hidden_layer_sizes": (16, 8), "max_iter": 5, "batch_size": 32, "random_state": 0}
    classifier = nbbn.MLPClassifier(**options).fit(X, y[:400])
    classifier.save(folder / "digits.safetensors")
    classifier.fold().save(folder / "folded.safetensors")
    named = nbbn.MLPClassifier(**options).fit(X, np.where(y[:400] < 5, "low", "high, indeed"))
    named.save(folder / "named.safetensors")
    nbbn.MLPRegressor(**options).fit(X, y[:400].astype(float)).save(folder / "number.safetensors")
    np.save(folder / "rows.npy", X)
    np.savetxt(
        folder / "rows.csv", X, delimiter=",", header=",".join(f"p{i}" for i in range(64)),
        comments="",
    )
    return folder
