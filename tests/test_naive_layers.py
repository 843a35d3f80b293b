"""The oracle for networks of layers.

Against central differences, values by hand, and Keras 3 where it is installed.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import os

import numpy as np
import pytest
from naive_layers import DEFAULTS, LOSSES, NaiveNetwork, NaiveOptimizer, describe, loss_and_gradient
from networks import NETWORKS, OPTIMIZED, OPTIMIZERS, SGD, Case

cases = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)


def trained(case, optimizer):
    """The oracle after one step per batch, and the losses."""
    oracle, loss = case.oracle(), case.described()[1]
    naive = NaiveOptimizer(describe(optimizer[0], **optimizer[1]))
    return oracle, [oracle.train_step(x, y, loss, naive, weight) for x, y, weight in case.batches()]


# The oracle itself


@cases
def test_networks_are_tame(case):
    """They learn visibly, and no probability comes near the bounds where Keras's backends clip it
    or do not.
    """
    oracle, losses = trained(case, SGD)
    start = case.oracle()
    changes = [
        np.abs(new - old).max() for new, old in zip(oracle.get_weights(), start.get_weights())
    ]
    assert 1e-3 < max(changes) < 2
    assert np.isfinite(losses).all()
    if case.layers[-1][1].get("activation") in ("softmax", "sigmoid"):
        for network in (start, oracle):
            for x, _, _ in case.batches():
                p = network.forward(x, training=True)
                assert p.min() > 1e-5
                assert p.max() < 1 - 1e-5


def assert_slope(function, array, gradient, rng, h=1e-6):
    """`gradient` is that of `function` by `array`.

    Central differences along random directions of every coordinate.

    One of the three directions may meet a kink (of a ReLU, of a maximum).
    """
    start, errors = array.copy(), []
    for _ in range(3):
        direction = rng.normal(size=array.shape)
        ends = []
        for sign in (1, -1):
            array[...] = start + sign * h * direction
            ends.append(function())
        array[...] = start
        bound = (
            1e-6 * np.sqrt((gradient**2).sum() * (direction**2).sum())
            + 1e-14 * max(abs(ends[0]), 1) / h
        )
        errors.append(abs((ends[0] - ends[1]) / (2 * h) - (gradient * direction).sum()) / bound)
    assert sorted(errors)[1] < 1


@pytest.mark.parametrize("training", [True, False])
@cases
def test_gradients(case, training, rng):
    """By the input and by every array, against a random upstream gradient."""
    network = case.oracle()
    x = rng.normal(0.3, 1.2, (5, *case.input_shape))
    dy = rng.normal(size=(5, *network.output_shape))
    network.forward(x, training)
    dx, grads = network.backward(dy)

    def value():
        return (dy * network.forward(x, training)).sum()

    assert_slope(value, x, dx, rng)
    for arrays, own in zip(network.weights, grads):
        assert list(own) == [name for name in arrays if name not in ("mean", "var")]
        for name, grad in own.items():
            assert grad.shape == arrays[name].shape
            assert_slope(value, arrays[name], grad, rng)


LOSS_OPTIONS = [
    *((name, {}) for name in LOSSES),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.2}),
    ("CategoricalCrossentropy", {"label_smoothing": 0.2}),
    ("SparseCategoricalCrossentropy", {"from_logits": True}),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}),
    ("Huber", {"delta": 0.3}),
]


@pytest.mark.parametrize("outputs", [(4,), (2, 3, 4), (1,)], ids=str)
@pytest.mark.parametrize(("name", "options"), LOSS_OPTIONS, ids=str)
def test_loss_gradients(name, options, outputs, rng):
    case = Case(outputs, [("Activation", {"activation": "linear"})], name, rows=(6,))
    ((_, y, _),) = case.batches()
    loss = describe(name, **options) if name in DEFAULTS else name
    p = rng.uniform(0.1, 0.9, (6, *outputs))
    weight = rng.uniform(0.2, 2, p.shape[:-1])
    dp = loss_and_gradient(loss, y, p, weight)[1]
    assert_slope(lambda: loss_and_gradient(loss, y, p, weight)[0], p, dp, rng)


@pytest.mark.parametrize("kind", ["dense", "image", "axis 1"])
def test_batch_norm_ignores_an_offset(kind, rng):
    """In training the gradient by the input sums to zero over each channel."""
    shape, axis = {"dense": ((9, 4), -1), "image": ((4, 5, 7, 3), -1), "axis 1": ((4, 5, 7, 3), 1)}[
        kind
    ]
    network = NaiveNetwork([describe("BatchNormalization", axis=axis)], shape[1:]).draw(rng)
    network.forward(rng.normal(3, 2, shape), training=True)
    dx, _ = network.backward(rng.normal(size=shape))
    assert np.abs(dx).max() > 0.1
    np.testing.assert_allclose(
        np.moveaxis(dx, axis, -1).reshape(-1, shape[axis]).sum(axis=0), 0, atol=1e-12
    )


def run(kind, x, weights=None, **arguments):
    """Output of one layer for one image of one channel, as a matrix."""
    x = np.array(x, dtype=float)[None, :, :, None]
    network = NaiveNetwork(
        [describe(kind, **arguments)], x.shape[1:], None if weights is None else [weights]
    )
    return network.forward(x)[0, ..., 0]


def test_values_by_hand():
    """Which cells a window has where the padding is uneven, and which part of a transposed map is
    kept.
    """
    row = [[1.0, 2.0, 4.0, 8.0, 16.0]]
    ones = {"kernel": np.ones((1, 3, 1, 1)), "bias": np.full(1, 0.5)}
    window = {"kernel_size": (1, 3), "filters": 1, "padding": "same"}
    np.testing.assert_array_equal(
        run("Conv2D", row, ones, **window, strides=(1, 2)), [[3.5, 14.5, 24.5]]
    )
    np.testing.assert_array_equal(
        run("Conv2D", [row[0][:4]], ones, **window, strides=(1, 2)), [[7.5, 12.5]]
    )
    pool = {"pool_size": (1, 2), "padding": "same"}
    np.testing.assert_array_equal(run("AveragePooling2D", row, **pool), [[1.5, 6.0, 16.0]])
    np.testing.assert_array_equal(run("MaxPooling2D", -np.array(row), **pool), [[-1, -4, -16]])
    kernel = {"kernel": np.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1), "bias": np.full(1, 0.5)}
    transposed = {"kernel_size": (1, 3), "filters": 1, "strides": (1, 2)}
    short = [[1.0, 2.0]]
    full = run("Conv2DTranspose", short, kernel, **transposed)
    np.testing.assert_array_equal(full, [[1.5, 10.5, 102.5, 20.5, 200.5]])
    same = run("Conv2DTranspose", short, kernel, **transposed, padding="same")
    np.testing.assert_array_equal(same, [[1.5, 10.5, 102.5, 20.5]])
    longer = run("Conv2DTranspose", short, kernel, **transposed, output_padding=(0, 1))
    np.testing.assert_array_equal(longer, [[1.5, 10.5, 102.5, 20.5, 200.5, 0.5]])


def test_the_first_of_equal_cells_gets_the_gradient():
    network = NaiveNetwork([describe("MaxPooling2D", pool_size=2, strides=1)], (2, 3, 1))
    network.forward(np.array([[0.0, 5, 5], [5, 5, 5]]).reshape(1, 2, 3, 1))
    dx, _ = network.backward(np.array([1.0, 10]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(dx[0, ..., 0], [[0, 11, 0], [0, 0, 0]])


def test_optimisers_by_hand():
    """One parameter of 10, whose gradient is its value; the first two steps."""

    def steps(kind, **arguments):
        optimizer, arrays, seen = (
            NaiveOptimizer(describe(kind, **arguments)), {"p": np.full(1, 10.0)}, [],
        )
        for _ in range(2):
            optimizer.update(arrays, {"p": arrays["p"].copy()})
            seen.append(arrays["p"][0])
        return seen

    assert steps("SGD", learning_rate=0.1, momentum=0.5) == pytest.approx([9, 7.6])
    assert steps("SGD", learning_rate=0.1, momentum=0.5, nesterov=True) == pytest.approx(
        [8.5, 6.975]
    )
    assert steps("RMSprop", learning_rate=0.1)[0] == pytest.approx(10 - 1 / math.sqrt(10 + 1e-7))
    assert steps("Adam", learning_rate=0.1, epsilon=0.0)[0] == pytest.approx(9.9)
    assert steps("AdamW", learning_rate=0.1, weight_decay=0.5, epsilon=0.0)[0] == pytest.approx(9.4)
    assert steps("SGD", learning_rate=0.1, weight_decay=0.5)[0] == pytest.approx(8.5)
    assert steps("SGD", learning_rate=0.1, gradient_accumulation_steps=2) == pytest.approx([10, 9])
    assert steps("SGD", learning_rate=0.1, clipnorm=2.0) == pytest.approx([9.8, 9.6])


# Keras


@pytest.fixture(scope="module")
def keras():
    """Keras in float64, on torch or jax."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("no Keras")
    found = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
    if "KERAS_BACKEND" not in os.environ and not found:
        pytest.skip("no backend for Keras")
    os.environ.setdefault("KERAS_BACKEND", found[0] if found else "")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    with pytest.MonkeyPatch.context() as patch:
        # Keras takes the type of a result of two float64 arrays for float32, and normalises and
        # multiplies in that.
        patch.setattr("keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE", {})
        assert keras.backend.result_type("float64", "float32") == "float64"
        yield keras
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def compare_with_keras(keras, case, optimizer):
    """The same weights and batches.

    Inference output, losses, all arrays after the steps, and inference again.
    """
    layers, loss = case.built(keras, dtype="float64")
    model = keras.Sequential([keras.Input(case.input_shape), *layers])
    model.compile(optimizer=getattr(keras.optimizers, optimizer[0])(**optimizer[1]), loss=loss)
    start = case.oracle()
    model.set_weights(start.get_weights())
    ref, losses = trained(case, optimizer)
    batches = list(case.batches())

    def assert_close(got, expected):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * scale + 1e-14)

    assert_close(model.predict_on_batch(batches[0][0]), start.forward(batches[0][0]))
    assert_close([model.train_on_batch(x, y, sample_weight=w) for x, y, w in batches], losses)
    for got, expected in zip(model.get_weights(), ref.get_weights(), strict=True):
        assert_close(got, expected)
    assert_close(model.predict_on_batch(batches[1][0]), ref.forward(batches[1][0]))


# What Keras itself gets wrong, or cannot run, on torch alone.
BROKEN_ON_TORCH = {
    "average pool, same": "divides by repeated border cells where the padding is uneven",
    "average pool, overlapping, same": "divides by repeated border cells where the padding is uneven",
    "average pool, strides 1": "divides by repeated border cells where the padding is uneven",
    "layer norm, axis 1": "takes consecutive axes for the last ones",
    "layer norm, axes 1 and 2": "takes consecutive axes for the last ones",
    "loss, pixels": "needs a contiguous gradient",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_is_keras(keras, name):
    if keras.backend.backend() == "torch" and name in BROKEN_ON_TORCH:
        pytest.skip(f"Keras on torch {BROKEN_ON_TORCH[name]}")
    compare_with_keras(keras, NETWORKS[name], SGD)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizer_is_keras(keras, optimizer):
    compare_with_keras(keras, OPTIMIZED, optimizer)


@pytest.mark.filterwarnings("ignore")
def test_defaults_are_keras(keras):
    """Every default of `DEFAULTS` that a constructor of Keras's has."""
    for kind, defaults in DEFAULTS.items():
        owner = next(
            m
            for m in (keras.layers, keras.losses, keras.optimizers, keras.regularizers)
            if hasattr(m, kind)
        )
        parameters = inspect.signature(getattr(owner, kind)).parameters
        for name, ours in defaults.items():
            theirs = parameters[name].default if name in parameters else inspect.Parameter.empty
            if theirs is not inspect.Parameter.empty:
                once = theirs[0] if isinstance(theirs, tuple) and len(set(theirs)) == 1 else theirs
                assert once == ours, (kind, name)
