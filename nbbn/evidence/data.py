"""Images to study: MNIST where its file is, else scikit-learn's digits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbbn.datasets import mnist

CLASSES = 10
_KERAS_FILE = Path("~/.keras/datasets").expanduser() / mnist.FILE
# Rows of the digits to train on, of 1,797.
_DIGITS_TRAIN = 1297


@dataclass(frozen=True)
class Images:
    """Rows of pixels in [0, 1], float32, with labels; `side` is the width of an image."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    side: int

    def first(self, train: int, test: int | None = None) -> Images:
        """The first rows alone."""
        x, y = self.x_train[:train], self.y_train[:train]
        x_test, y_test = self.x_test[:test], self.y_test[:test]
        return Images(self.name, x, y, x_test, y_test, self.side)

    def as_squares(self) -> Images:
        """The rows as images `(n, side, side, 1)`."""
        shape = (-1, self.side, self.side, 1)
        return Images(self.name, self.x_train.reshape(shape), self.y_train,
                      self.x_test.reshape(shape), self.y_test, self.side)

    def __str__(self) -> str:
        return (f"{self.name}, {len(self.x_train):,} rows to train on, {len(self.x_test):,} to "
                "test on")


def images(train: int | None = None, test: int | None = None) -> Images:
    """The first rows of MNIST or the digits; all of them by default.

    MNIST is taken where the environment variable NBBN_DATA tells of its file, or Keras has fetched
    it. Nothing is fetched here.
    """
    whole = _mnist() if os.environ.get("NBBN_DATA") or _KERAS_FILE.is_file() else _digits()
    return whole.first(train or len(whole.x_train), test)


def _mnist() -> Images:
    (x, y), (x_test, y_test) = mnist.load_data()
    x, x_test = ((a.reshape(len(a), -1) / np.float32(255)).astype(np.float32) for a in (x, x_test))
    return Images("MNIST", x, y.astype(np.int64), x_test, y_test.astype(np.int64), 28)


def _digits() -> Images:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order].astype(np.int64)
    return Images("scikit-learn's digits", x[:_DIGITS_TRAIN], y[:_DIGITS_TRAIN],
                  x[_DIGITS_TRAIN:], y[_DIGITS_TRAIN:], 8)


class Batches:
    """Rows in an order of their own, epoch after epoch."""

    def __init__(self, x: np.ndarray, y: np.ndarray, batch_size: int, seed: int):
        self.x, self.y, self.batch_size = x, y, min(batch_size, len(x))
        self._rng, self._left = np.random.default_rng(seed), np.empty(0, np.int64)

    def take(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the next steps, one batch behind the other."""
        rows = steps * self.batch_size
        while len(self._left) < rows:
            self._left = np.append(self._left, self._rng.permutation(len(self.x)))
        now, self._left = self._left[:rows], self._left[rows:]
        return self.x[now], self.y[now]
