"""Every optimiser: the same bits on any number of threads, and after a file in the midst of a fit."""

from __future__ import annotations

import numpy as np
import pytest
from networks import OPTIMIZERS
from test_shards import teams  # noqa: F401

import nbbn
from nbbn import layers as L

RNG = np.random.default_rng(0)
X = RNG.normal(0.2, 1.0, (46, 7, 5, 3))
Y = RNG.integers(3, size=46)
ROWS, LABELS = RNG.integers(11, size=(46, 4)), RNG.integers(3, size=46)
every = pytest.mark.parametrize("name", OPTIMIZERS)


def images():
    """Kernels of all layouts, none of a whole number of vectors: grouped, by channel, in panels."""
    return [L.Conv2D(10, 3, use_bias=False), L.BatchNormalization(), L.ReLU(),
            L.Conv2D(6, 2, groups=2, kernel_regularizer="l2"),
            L.SeparableConv2D(5, 2, padding="same"), L.PReLU(), L.LayerNormalization(),
            L.Conv2DTranspose(3, 2), L.Flatten(), L.Dense(19, "tanh"), L.BatchNormalization(),
            L.Dense(3, "softmax")]


def table():
    """Embeddings, and dense layers that stand behind each other."""
    return [L.Embedding(11, 5), L.Flatten(), L.Dense(9, "relu"), L.Dropout(0.2), L.Dense(6),
            L.BatchNormalization(), L.Dense(3, "softmax")]


def model_of(name, kind, dtype="float32", seed=3):
    nbbn.set_random_seed(seed)
    rows, made = {"images": (X, images), "table": (ROWS, table)}[kind]
    model = nbbn.Sequential([nbbn.Input(rows.shape[1:], dtype=dtype), *made()])
    optimizer, arguments = OPTIMIZERS[name]
    model.compile(getattr(nbbn.optimizers, optimizer)(**arguments),
                  "sparse_categorical_crossentropy")
    return model


def arrays_of(model):
    """Weights and the optimiser's state."""
    state = model._compiled.state()
    return {**dict(enumerate(model.get_weights())), **state}


def assert_same(one, other):
    assert one.keys() == other.keys() and len(one) > 3
    for key, array in one.items():
        assert np.isfinite(array).all(), key
        np.testing.assert_array_equal(array, other[key], err_msg=str(key))


@pytest.mark.parametrize("kind", ["images", "table"])
@every
def test_threads_change_no_bit(name, kind, teams):  # noqa: F811
    x, y = (X, Y) if kind == "images" else (ROWS, LABELS)
    found = []
    for threads in (1, 2, 3):
        with nbbn.num_threads(threads):
            model = model_of(name, kind)
            model.fit(x, y, batch_size=12, epochs=2, verbose=0)
        found.append(arrays_of(model))
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])


class Save(nbbn.callbacks.Callback):
    """Writes the model to a file behind an epoch."""

    def __init__(self, path, epoch):
        super().__init__()
        self.path, self.epoch = path, epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.model.save(self.path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every
def test_a_fit_goes_on_from_a_file(name, dtype, tmp_path):
    """Written behind the second of four epochs, whose fit goes on; read and trained on."""
    for kind, x, y in (("images", X, Y), ("table", ROWS, LABELS)):
        whole = model_of(name, kind, dtype)
        history = whole.fit(x, y, batch_size=12, epochs=4, verbose=0,
                            callbacks=[Save(tmp_path / "m.safetensors", 1)]).history["loss"]
        read = nbbn.load(tmp_path / "m.safetensors")
        rest = read.fit(x, y, batch_size=12, epochs=4, initial_epoch=2, verbose=0).history["loss"]
        assert rest == history[2:]
        assert_same(arrays_of(whole), arrays_of(read))


@pytest.mark.parametrize("name", [
    name for name, (_, of) in OPTIMIZERS.items() if "gradient_accumulation_steps" not in of
])
def test_steps_go_on_from_a_file(name, tmp_path):
    """Written between two batches, thrice: behind the first step, whose state is nearly fresh."""
    model, read = model_of(name, "images"), model_of(name, "images")
    read.set_weights(model.get_weights())
    for first in (0, 9, 20, 31):
        for one in (model, read):
            one.train_on_batch(X[first : first + 11], Y[first : first + 11])
        assert_same(arrays_of(model), arrays_of(read))
        read.save(tmp_path / "m.safetensors")
        read = nbbn.load(tmp_path / "m.safetensors")
        assert read.optimizer == model.optimizer
