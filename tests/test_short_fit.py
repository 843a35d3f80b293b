"""A fit too short for its running statistics is told apart from a bad model."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn.models.short_fit import running_statistics, tell
from nbbn.training_loop import Samples
from nbbn.warning import ShortFitWarning

RNG = np.random.default_rng(0)
# Far from the start of running statistics, 0 and 1.
X = (RNG.normal(size=(640, 6)) * [1, 2, 3, 4, 5, 6] + 20).astype("float32")
Y = (X[:, 5] > 20).astype(int)


def network(momentum=0.99, **norm):
    nbbn.set_random_seed(0)
    model = nbbn.Sequential([L.BatchNormalization(momentum=momentum, **norm), L.Dense(16),
                             L.BatchNormalization(momentum=momentum), L.ReLU(),
                             L.Dense(2, activation="softmax")])
    model.compile(nbbn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def told(model, **given):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        history = model.fit(X, Y, verbose=0, **{"validation_data": (X, Y), "epochs": 5, **given})
    return [w for w in found if w.category is ShortFitWarning], history


def test_one_line_that_names_the_ways_out():
    (said,), history = told(network())
    text = str(said.message)
    assert history.history["accuracy"][-1] > 0.9 > history.history["val_accuracy"][-1]
    assert "still hold 37% of their start after 100 batches: the validation loss is" in text
    assert "call recalibrate on the training rows" in text and "smaller momentum" in text
    assert said.filename == __file__ and "\n" not in text
    assert issubclass(ShortFitWarning, UserWarning)


def test_the_ways_out_help():
    assert not told(network(0.5))[0] and not told(network(None))[0]
    assert not told(network(), epochs=30)[0]
    model = network()
    told(model)
    before = model.evaluate(X, Y, verbose=0)
    model.recalibrate(X)
    assert model.evaluate(X, Y, verbose=0)[0] < before[0] / 2
    assert not told(model, epochs=1)[0]  # a further fit begins with good statistics


@pytest.mark.parametrize("given", [
    {"validation_data": None}, {"epochs": 0}, {"validation_data": nbbn.Partitions([(X, Y)])},
    {"validation_data": (X, 1 - Y)},  # bad with any statistics
], ids=["no validation", "no epoch", "partitions", "other targets"])
def test_nothing_to_say(given):
    assert not told(network(), **given)[0]


def test_frozen_norms_have_no_start():
    model = network()
    for layer in (model.layers[0], model.layers[2]):
        layer.trainable = False
    model.build((None, 6))
    assert running_statistics(model.network()) == {}


def test_of_batches_and_of_estimators():
    model = network()
    batches = [(X[i : i + 32], Y[i : i + 32]) for i in range(0, 640, 32)]
    with pytest.warns(ShortFitWarning, match="37% of their start"):
        model.fit(batches, validation_data=(X, Y), epochs=5, verbose=0)
    layers = [L.BatchNormalization(), L.Dense(16), L.BatchNormalization(), L.ReLU()]
    with pytest.warns(ShortFitWarning, match="of their start"):
        nbbn.SequentialClassifier(layers, epochs=5, random_state=0, optimizer=nbbn.optimizers.Adam(
            0.01)).fit(X, Y, X_val=X, y_val=Y)


def test_several_outputs():
    nbbn.set_random_seed(0)
    inputs = L.Input((6,))
    x = L.BatchNormalization()(inputs)
    model = nbbn.Model(inputs, [L.Dense(2, activation="softmax")(x), L.Dense(1)(x)])
    model.compile(nbbn.optimizers.Adam(0.05), ["sparse_categorical_crossentropy", "mse"])
    y = [Y, (X[:, :1] - 20)]
    with pytest.warns(ShortFitWarning, match="of their start after 100 batches"):
        model.fit(X, y, validation_data=(X, y), epochs=5, verbose=0)


def test_the_formula():
    """What is left of the start is taken away, exactly."""
    model = nbbn.Sequential([L.BatchNormalization(momentum=0.9, input_shape=(1,))])
    model.compile("sgd", "mse")
    x = np.array([[1.0], [3.0]], "float32")
    network = model.network()
    before = running_statistics(network)
    network.weights[0]["mean"][:] = (1 - 0.9**10) * 2
    network.weights[0]["var"][:] = 0.9**10 + (1 - 0.9**10) * 1
    held = Samples(x, np.array([[-1.0], [1.0]], "float32"))
    with pytest.warns(ShortFitWarning, match="35% of their start after 10 .* 0.486, and 2.5e-07 w"):
        tell(network, before, 10, model.loss, held, {"loss": [0.1], "val_loss": [1.0]})
