"""Models called on arrays, as in inference and as in training, and models within a Sequential."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn.tensor import Tensor, tensor

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, (40, 6)).astype("float32")
IMAGES = RNG.random((30, 8, 8, 1)).astype("float32")
CLASSES = RNG.integers(0, 3, 30)


def plain():
    nbbn.set_random_seed(0)
    return nbbn.Sequential([L.Dense(5, activation="relu", input_shape=(6,)), L.Dense(3)])


def branched(name="base"):
    inputs = L.Input((8, 8, 1))
    x = L.Conv2D(4, 3, padding="same")(inputs)
    return nbbn.Model(inputs, L.Add()([x, L.BatchNormalization()(x)]), name=name)


# -- what a call gives


def test_a_call_gives_an_array_that_answers_numpy():
    model = plain()
    got = model(X)
    assert isinstance(got, np.ndarray) and type(got.numpy()) is np.ndarray
    np.testing.assert_array_equal(got, model.predict(X))
    for made in (got + 1, got.mean(), got[0], got[:, 0].sum(), np.exp(got), got[0, 0], got.max(1)):
        assert isinstance(made, Tensor) and type(made.numpy()) is np.ndarray
    assert float(got.mean()) == got.numpy().mean() and got.numpy().base is not None
    assert np.shares_memory(got, got.numpy())


def test_several_outputs_are_a_list_of_such():
    inputs = L.Input((6,))
    model = nbbn.Model(inputs, [L.Dense(1)(inputs), L.Dense(2)(inputs)])
    assert [out.numpy().shape for out in model(X)] == [(40, 1), (40, 2)]


def test_a_tensor_is_a_view():
    array = np.zeros(3)
    tensor(array)[0] = 5
    assert array[0] == 5 and tensor(2.0).numpy() == 2.0


# -- as in training


@pytest.mark.parametrize("momentum", [0.99, 0.5])
def test_batch_norm_takes_the_batch_and_moves_its_running_statistics(momentum):
    model = nbbn.Sequential([L.BatchNormalization(momentum=momentum, input_shape=(6,))])
    got = model(X, training=True)
    mean, var = X.astype("f8").mean(0), X.astype("f8").var(0)
    np.testing.assert_allclose(got, (X - mean) / np.sqrt(var + 1e-3), rtol=1e-5, atol=1e-5)
    _, _, *running = model.get_weights()
    np.testing.assert_allclose(running[0], (1 - momentum) * mean, rtol=1e-5)
    np.testing.assert_allclose(running[1], momentum + (1 - momentum) * var, rtol=1e-5)


def test_mean_over_all_batches():
    model = nbbn.Sequential([L.BatchNormalization(momentum=None, input_shape=(6,))])
    for part in (X[:20], X[20:]):
        model(part, training=True)
    halves = [half.astype("f8").mean(0) for half in (X[:20], X[20:])]
    np.testing.assert_allclose(model.get_weights()[2], np.mean(halves, 0), rtol=1e-5)


def test_as_in_training_is_what_a_step_sees():
    """The loss of a step before its update is that of the outputs as in training."""
    model = nbbn.Sequential([L.Conv2D(3, 3, input_shape=(8, 8, 1)), L.BatchNormalization(), L.ReLU(),
                             L.Flatten(), L.Dense(1)])
    model.compile("sgd", "mse")
    y, weights = RNG.normal(size=(30, 1)), model.get_weights()
    out = model(IMAGES, training=True).numpy()
    moved = model.get_weights()
    model.set_weights(weights)
    loss = model.train_on_batch(IMAGES, y)
    np.testing.assert_allclose(loss, np.square(out - y).mean(), rtol=1e-5)
    for at in (4, 5):
        np.testing.assert_allclose(model.get_weights()[at], moved[at], rtol=1e-5, atol=1e-7)


def test_frozen_batch_norm_is_in_inference():
    model = nbbn.Sequential([L.BatchNormalization(input_shape=(6,), trainable=False)])
    before = model.get_weights()
    np.testing.assert_array_equal(model(X, training=True), model(X))
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


def test_dropout_draws_anew_each_time():
    nbbn.set_random_seed(0)
    model = nbbn.Sequential([L.Dropout(0.25, input_shape=(6,))])
    ones = np.ones((4000, 6))
    first, second = model(ones, training=True), model(ones, training=True)
    assert set(np.unique(first.numpy())) == {0, np.float32(4 / 3)} and (first != second).any()
    assert abs((first == 0).mean() - 0.25) < 0.01
    np.testing.assert_array_equal(model(ones), ones)
    nbbn.set_random_seed(0)
    again = nbbn.Sequential([L.Dropout(0.25, input_shape=(6,))])
    np.testing.assert_array_equal(again(ones, training=True), first)


def test_noise_and_masks_of_one_draw():
    noise = nbbn.Sequential([L.GaussianNoise(0.5, input_shape=(6,))])
    assert abs(np.std(noise(np.zeros((4000, 6)), training=True)) - 0.5) < 0.02
    rows = nbbn.Sequential([L.Dropout(0.5, noise_shape=(None, 1), input_shape=(6,))])
    assert (np.ptp(rows(np.ones((50, 6)), training=True), axis=1) == 0).all()
    assert (nbbn.Sequential([L.Dropout(1.0, input_shape=(6,))])(X, training=True) == 0).all()


# -- functions


def test_functions_of_nn():
    x = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(nbbn.nn.softmax(x).sum(1), 1)
    np.testing.assert_allclose(nbbn.nn.softmax(x, axis=0).sum(0), 1)
    np.testing.assert_allclose(nbbn.nn.log_softmax(x), np.log(nbbn.nn.softmax(x)))
    np.testing.assert_allclose(nbbn.nn.sigmoid(x), 1 / (1 + np.exp(-x)))
    np.testing.assert_array_equal(nbbn.nn.relu([-1, 2]).numpy(), [0, 2])
    assert all(getattr(nbbn.nn, name)(x).shape == x.shape for name in nbbn.nn.__all__)
    with pytest.raises(TypeError, match="x must be numeric, got dtype"):
        nbbn.nn.relu(["a"])


# -- models within a Sequential


def test_softmax_put_on_a_model():
    """TensorFlow's quickstart ends so."""
    model = plain()
    whole = nbbn.Sequential([model, L.Softmax()])
    np.testing.assert_allclose(whole(X), nbbn.nn.softmax(model(X)), rtol=1e-5)
    assert whole.layers[0] is model and len(whole.layers) == 2 and whole.get_layer(index=0) is model


@pytest.mark.parametrize("built", [True, False])
def test_layers_are_shared(built):
    nbbn.set_random_seed(0)
    shape = {"input_shape": (6,)} if built else {}
    encoder = nbbn.Sequential([L.Dense(3, **shape)])
    decoder = nbbn.Sequential([L.Dense(6)])
    both = nbbn.Sequential([encoder, decoder])
    both.compile("adam", "mse")
    both.fit(X, X, epochs=2, verbose=0)
    np.testing.assert_allclose(decoder.predict(encoder.predict(X)), both.predict(X), rtol=1e-5,
                               atol=1e-6)
    assert [layer.name for layer in both.network().layers] == ["dense", "dense_1"]


def test_a_model_with_branches():
    base = branched()
    base.trainable = False
    model = nbbn.Sequential([base, L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    before = base.get_weights()
    model.fit(IMAGES, CLASSES, epochs=2, verbose=0)
    assert all((a == b).all() for a, b in zip(before, base.get_weights()))
    model.layers[0].trainable = True
    model.fit(IMAGES, CLASSES, epochs=2, verbose=0)
    assert any((a != b).any() for a, b in zip(before, base.get_weights()))
    assert model.layers[0] is base and len(model.layers) == 3 and model.get_layer("base") is base
    assert model.get_layer("conv2d").get_weights()[0].shape == (3, 3, 1, 4)


def test_behind_other_layers_and_within_a_model():
    inner = nbbn.Sequential([L.Conv2D(1, 1, input_shape=(8, 8, 1)), branched(), L.Flatten()])
    inputs = L.Input((8, 8, 1))
    outer = nbbn.Model(inputs, L.Dense(2)(inner(inputs)))
    assert outer.predict(IMAGES).shape == (30, 2)
    half = nbbn.Model(inner.inputs, inner.get_layer("add").output)
    np.testing.assert_allclose(half.predict(IMAGES).reshape(30, -1), inner.predict(IMAGES), rtol=1e-5,
                               atol=1e-6)


@pytest.mark.parametrize("make", [
    lambda: nbbn.Sequential([branched(), L.Flatten(), L.Dense(3, activation="softmax")]),
    lambda: nbbn.Sequential([nbbn.Sequential([L.Flatten(), L.Dense(4)]),
                             L.Dense(3, activation="softmax"), L.Dense(3, activation="softmax")]),
], ids=["graph", "chain"])
def test_saved_and_pickled(make, tmp_path):
    model = make()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(IMAGES, CLASSES, epochs=1, verbose=0)
    model.save(tmp_path / "model.safetensors")
    model.save_weights(tmp_path / "some.weights")
    others = [nbbn.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))]
    for other in others:
        np.testing.assert_array_equal(other.predict(IMAGES), model.predict(IMAGES))
    model.fit(IMAGES, CLASSES, epochs=1, verbose=0)
    for other in others:
        other.fit(IMAGES, CLASSES, epochs=1, verbose=0)
        np.testing.assert_array_equal(other.predict(IMAGES), model.predict(IMAGES))
    fresh = make()
    if not fresh.built:
        fresh.build((None, 8, 8, 1))
    fresh.load_weights(tmp_path / "some.weights")
    assert model.fold().predict(IMAGES).shape == (30, 3)


def test_pop_takes_a_model_away():
    model = nbbn.Sequential([L.Dense(6, input_shape=(6,)), plain()])
    model.pop()
    assert len(model.layers) == 1 and model.output_shape == (None, 6)


def within_itself():
    model = plain()
    model.add(model)


def twice():
    inner = nbbn.Sequential([L.Dense(6, input_shape=(6,))])
    nbbn.Sequential([inner, inner])


def of_two_inputs():
    one, two = L.Input((6,)), L.Input((6,))
    nbbn.Sequential([nbbn.Model([one, two], L.Add()([one, two]))])


@pytest.mark.parametrize("call, error, match", [
    (within_itself, ValueError, "a model cannot be within itself"),
    (twice, ValueError, "has these layers already; call them on values"),
    (of_two_inputs, ValueError, "takes models of one input and one output, .* has 2 and 1"),
    (lambda: nbbn.Sequential([L.Conv2D(1, 1), branched()]), ValueError, "give the first layer .*input"),
    (lambda: nbbn.Sequential([L.Dense(4, input_shape=(6,)), plain()]), L.LayerError,
     r"the model within takes rows of shape \(6,\), got rows of shape \(4,\)"),
    (lambda: nbbn.Sequential([branched(), L.Flatten()]).pop(), ValueError, "branches; make another"),
])
def test_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
