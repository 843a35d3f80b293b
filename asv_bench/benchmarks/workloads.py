"""Data of MNIST's size and the networks that several modules measure. Nothing is downloaded."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse

import nbbn

ROWS, FEATURES, CLASSES = 60_000, 784, 10
HIDDEN = (128, 64, 32)
FILTERS = (32, 64)
CNN_BATCH = 128
SPARSE_BATCH, SPARSE_HIDDEN = 200, (100,)


def make_images(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Rows as dark as handwritten digits, float32, with labels that depend on them."""
    rng = np.random.default_rng(7)
    x = rng.random((rows, FEATURES), dtype=np.float32)
    x *= x > 0.8
    return x, (x @ rng.standard_normal((FEATURES, CLASSES)).astype(np.float32)).argmax(1)


def make_rows(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal rows, float32, with the label of their largest of ten columns."""
    x = np.random.default_rng(0).standard_normal((rows, features), dtype=np.float32)
    return x, x[:, :CLASSES].argmax(1)


def sparse_rows(
    rows: int = 2000, features: int = 60_000, stored: int = 80
) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """CSR rows as of texts, float32, with labels that depend on them."""
    rng = np.random.default_rng(7)
    columns = rng.integers(0, features // stored, (rows, stored))
    columns += np.arange(stored) * (features // stored)  # no column twice in a row
    values = rng.random((rows, stored), dtype=np.float32)
    edges = np.arange(rows + 1) * stored
    x = scipy.sparse.csr_matrix((values.ravel(), columns.ravel(), edges), (rows, features))
    return x, values[:, :CLASSES].argmax(1)


def classifier(
    batch_size: int, epochs: int = 1, hidden: tuple[int, ...] = HIDDEN, **params: Any
) -> nbbn.MLPClassifier:
    """An estimator that runs so many epochs, whatever the loss does."""
    fixed = {"max_iter": epochs, "tol": 0, "n_iter_no_change": epochs + 1, "random_state": 0}
    return nbbn.MLPClassifier(hidden, batch_size=batch_size, **{**fixed, **params})


def fit(
    x: np.ndarray | scipy.sparse.csr_matrix,
    y: np.ndarray,
    batch_size: int,
    epochs: int = 1,
    hidden: tuple[int, ...] = HIDDEN,
    sample_weight: np.ndarray | None = None,
    **params: Any,
) -> nbbn.MLPClassifier:
    """A fitted estimator; that it has not converged is no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return classifier(batch_size, epochs, hidden, **params).fit(x, y, sample_weight)


def cnn(filters: tuple[int, ...] = FILTERS) -> nbbn.Sequential:
    """The README's convolutional network, compiled for training."""
    layers = nbbn.layers
    stack: list[nbbn.layers.Layer] = [layers.Input((28, 28, 1))]
    for f in filters:
        stack += [
            layers.Conv2D(f, (3, 3)),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D((2, 2)),
        ]
    return compiled([*stack, layers.Flatten(), *hidden_layer(64)])


def mlp(features: int, hidden: tuple[int, ...]) -> nbbn.Sequential:
    """A dense network with batch norm as a `Sequential`, compiled for training."""
    stack: list[nbbn.layers.Layer] = [nbbn.layers.Input((features,))]
    for units in hidden:
        stack += hidden_layer(units)
    return compiled(stack)


def hidden_layer(units: int) -> list[nbbn.layers.Layer]:
    """Dense, batch norm, ReLU."""
    layers = nbbn.layers
    return [layers.Dense(units), layers.BatchNormalization(), layers.Activation("relu")]


def compiled(stack: list[nbbn.layers.Layer]) -> nbbn.Sequential:
    """The layers and a softmax over the classes, compiled for training."""
    model = nbbn.Sequential([*stack, nbbn.layers.Dense(CLASSES, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    return model


def cnn_fit(
    model: nbbn.Sequential, x: np.ndarray, y: np.ndarray, epochs: int = 1
) -> nbbn.Sequential:
    """Epochs of the convolutional network, silently."""
    model.fit(x, y, batch_size=CNN_BATCH, epochs=epochs, verbose=0)
    return model


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """`make_images` as images of one channel."""
    x, y = make_images(count)
    return x.reshape(-1, 28, 28, 1), y
