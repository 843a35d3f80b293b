"""Fixtures: seeded random numbers, and real data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]


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
    """MNIST in Keras's file layout, by name: x_train, y_train, x_test, y_test, uint8; skips where there is none."""
    path = Path(os.environ.get("NBBN_DATA") or ROOT.parent / "shared" / "data" / "mnist.npz")
    if not path.is_file():
        pytest.skip(f"no MNIST: {path} does not exist; set NBBN_DATA to an mnist.npz in Keras's layout")
    with np.load(path) as file:
        return dict(file)
