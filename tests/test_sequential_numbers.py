"""`Sequential` step by step against the oracle.

Outputs, losses, running statistics and weights of small networks.
"""

from __future__ import annotations

import numpy as np
import pytest
from naive_layers import STATISTICS, NaiveNetwork, NaiveOptimizer, describe, loss_and_gradient
from networks import (
    ACTIVATIONS,
    NETWORKS,
    OPTIMIZED,
    OPTIMIZERS,
    RELU,
    SGD,
    Case,
    conv,
    dense,
    image,
    max_pool,
    norm,
    vector,
)

import nbbn

# Relative to the largest number of an array: 256 roundings. A number meets a few in each of some
# ten passes over the layers, and a batch norm over few rows or a division by a small root
# multiplies them.
TOLERANCE = {dtype: 256 * float(np.finfo(dtype).eps) for dtype in ("float32", "float64")}

# What Keras can and the library refuses to train, with a part of its message. A line goes when the
# refusal does.
REFUSED = {
    "loss, tanh": "ends with softmax",
}
IN_USE = {name: case for name, case in NETWORKS.items() if name not in REFUSED}
# Accumulation is for `fit`: see `test_accumulation`.
OPTIMIZERS_IN_USE = {
    name: optimizer
    for name, optimizer in OPTIMIZERS.items()
    if "gradient_accumulation_steps" not in optimizer[1]
}
SMALL = {"dense": vector(dense(19), norm(), RELU), "image": image(conv(10), norm(), RELU)}

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
cases = pytest.mark.parametrize("case", IN_USE.values(), ids=IN_USE)
small = pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)


def assert_close(got, ref, dtype, name, scale=None):
    """The same shape and, relative to the largest number, the same values."""
    got, ref = np.asarray(got), np.asarray(ref)
    assert got.shape == ref.shape, name
    scale = np.abs(ref).max() if scale is None else scale
    np.testing.assert_allclose(got, ref, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=name)


def build(case, dtype, optimizer=SGD, metrics=None):
    """The compiled model with the oracle's weights."""
    layers, loss = case.built(nbbn, dtype=dtype)
    model = nbbn.Sequential(layers)
    model.compile(
        optimizer=getattr(nbbn.optimizers, optimizer[0])(**optimizer[1]), loss=loss, metrics=metrics
    )
    model.build((None, *case.input_shape))
    model.set_weights([w.astype(dtype) for w in case.oracle().get_weights()])
    return model


def with_rows(case, rows):
    """The case with batches of other sizes."""
    return Case(case.input_shape, case.layers, case.loss, rows, case.weighted)


def names(oracle):
    """Which array of which layer each entry of `get_weights` is."""
    return [
        f"{i} {type(layer).__name__} {name}"
        for i, layer in enumerate(oracle.layers)
        for name in oracle.shapes[i]
    ]


def check(case, dtype, optimizer=SGD):
    """Inference, then a step per batch, then inference again; everything that comes out."""
    model, oracle, loss = build(case, dtype, optimizer), case.oracle(), case.described()[1]
    naive = NaiveOptimizer(describe(optimizer[0], **optimizer[1]))
    batches = list(case.batches(dtype))
    for x, y, weight in batches:
        assert_close(model.predict(x, verbose=0), oracle.forward(x), dtype, "output")
        expected = oracle.train_step(x, y, loss, naive, weight)
        got = model.train_on_batch(x, y, sample_weight=weight)
        assert_close(got, expected, dtype, "loss", scale=max(1, abs(expected)))
        for g, ref, name in zip(
            model.get_weights(), oracle.get_weights(), names(oracle), strict=True
        ):
            assert g.dtype == dtype, name
            assert_close(g, ref, dtype, name)
    last = model.predict(batches[0][0], verbose=0)
    assert last.dtype == dtype
    assert_close(last, oracle.forward(batches[0][0]), dtype, "output after the steps")


@dtypes
@cases
def test_network(case, dtype):
    check(case, dtype)


@dtypes
@pytest.mark.parametrize("optimizer", OPTIMIZERS_IN_USE.values(), ids=OPTIMIZERS_IN_USE)
def test_optimizer(optimizer, dtype):
    check(OPTIMIZED, dtype, optimizer)


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(name):
    """With a message, never with wrong numbers."""
    with pytest.raises(ValueError, match=REFUSED[name]):
        check(NETWORKS[name], "float32")


@cases
def test_threads_change_no_bit(case):
    """An epoch of three steps, its validation, and an inference."""
    x, y, weight = joined(case, np.float32)
    results = []
    for threads in (1, 2, 5):
        with nbbn.num_threads(threads):
            model = build(case, "float32")
            history = model.fit(
                x, y, case.rows[0], 1, 0, shuffle=False, sample_weight=weight,
                validation_data=(x[:7], y[:7]),
            )
            figures = np.array([history.history["loss"], history.history["val_loss"]])
            results.append([figures, *model.get_weights(), model.predict(x, verbose=0)])
    for one, *others in zip(*results, strict=True):
        for more in others:
            np.testing.assert_array_equal(one, more)
    oracle = case.oracle()
    oracle.set_weights(results[0][1:-1])
    ref = oracle.loss(x[:7], y[:7], case.described()[1])
    assert_close(figures[1], [ref], "float32", "validation", scale=max(1, abs(ref)))


@small
@pytest.mark.parametrize("rows", [2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129])
def test_rows(case, rows):
    """Around the multiples that kernels like."""
    check(with_rows(case, (rows, rows)), "float64")


@pytest.mark.parametrize("units", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65])
def test_units(units):
    check(
        vector(dense(units, use_bias=False), norm(), RELU, dense(5, "tanh"), rows=(9, 9)), "float64"
    )


@pytest.mark.parametrize("filters", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65])
def test_filters(filters):
    check(image(conv(filters, padding="same"), norm(), RELU, conv(5, 2), rows=(5, 5)), "float64")


@pytest.mark.parametrize("size", [(3, 3), (3, 8), (4, 16), (9, 5), (1, 17), (16, 1)], ids=str)
@pytest.mark.parametrize("strides", [1, 2])
def test_image_sizes(size, strides):
    layers = conv(6, padding="same", strides=strides), norm(), RELU, conv(10, 1)
    check(image(*layers, input_shape=(*size, 3), rows=(5, 5)), "float64")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_far_from_zero(name):
    """Where exponentials overflow or vanish, and at zero: outputs stay finite and right."""
    x = np.array([-1e4, -800, -100, -30, -5, -1e-3, 0, 1e-3, 5, 30, 100, 800, 1e4]).reshape(1, -1)
    model = nbbn.Sequential([nbbn.layers.Activation(name, dtype="float64")])
    model.build((None, x.shape[1]))
    ref = NaiveNetwork([describe("Activation", activation=name)], x.shape[1:]).forward(x)
    np.testing.assert_allclose(model.predict(x, verbose=0), ref, rtol=1e-10, atol=1e-14)


def test_layers_say_what_they_are():
    """The oracle reads the library's own layers, and finds in them what it takes the arguments for."""
    for name, case in NETWORKS.items():
        own = NaiveNetwork(case.built(nbbn)[0], case.input_shape)
        assert own.shapes == case.oracle().shapes, name
        own.set_weights(case.oracle().get_weights())
        x = next(case.batches())[0]
        np.testing.assert_array_equal(
            own.forward(x, training=True), case.oracle().forward(x, training=True), err_msg=name
        )


SCORED = {
    "sparse": NETWORKS["dense, norm"], "categorical": NETWORKS["loss, categorical"],
    "binary": NETWORKS["loss, binary"], "image": NETWORKS["conv, deep"],
    "weights": NETWORKS["loss, weights"],
}


def accuracy(y, p):
    """The share of rows whose most probable class is the label."""
    if p.shape[-1] == 1:
        return ((p > 0.5) == y.reshape(p.shape)).mean()
    return (p.argmax(axis=-1) == (y if y.ndim < p.ndim else y.argmax(axis=-1))).mean()


@pytest.mark.parametrize("case", SCORED.values(), ids=SCORED)
def test_accuracy(case):
    """`train_on_batch` measures the output of training, before the step, and each batch for itself.

    No row weighs more.
    """
    model, oracle, loss = (
        build(case, "float64", metrics=["accuracy"]), case.oracle(), case.described()[1],
    )
    naive = NaiveOptimizer(describe(SGD[0], **SGD[1]))
    for x, y, weight in case.batches():
        expected = accuracy(y, case_output(oracle, x))
        got = model.train_on_batch(x, y, sample_weight=weight)
        assert got[0] == pytest.approx(oracle.train_step(x, y, loss, naive, weight), rel=1e-10)
        assert got[1] == pytest.approx(expected)


def case_output(oracle, x):
    """The output of training; the running statistics stay."""
    copy = NaiveNetwork(oracle.layers, x.shape[1:], oracle.weights)
    return copy.forward(x, training=True)


@pytest.mark.parametrize("case", SCORED.values(), ids=SCORED)
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_evaluate(case, batch_size):
    """Inference on all rows; a shorter last batch counts by its rows."""
    model, oracle, loss = (
        build(case, "float64", metrics=["accuracy"]), case.oracle(), case.described()[1],
    )
    x, y, weight = next(case.batches())
    before = model.get_weights()
    got = model.evaluate(x, y, sample_weight=weight, batch_size=batch_size, verbose=0)
    p = oracle.forward(x)
    np.testing.assert_allclose(
        got, [loss_and_gradient(loss, y, p, weight)[0], accuracy(y, p)], rtol=1e-10
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def joined(case, dtype=np.float64):
    """The rows of all batches together."""
    x, y, weight = zip(*case.batches(dtype))
    return (
        np.concatenate(x), np.concatenate(y), None if weight[0] is None else np.concatenate(weight),
    )


def fit_oracle(oracle, case, optimizer, batch_size, epochs):
    """One step per consecutive `batch_size` rows.

    The losses of the epochs, each the mean over rows.
    """
    x, y, weight = joined(case)
    loss, naive, losses = (
        case.described()[1], NaiveOptimizer(describe(optimizer[0], **optimizer[1])), [],
    )
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            value = oracle.train_step(
                x[part], y[part], loss, naive, None if weight is None else weight[part]
            )
            total += value * len(x[part])
        losses.append(total / len(x))
    return losses


@pytest.mark.parametrize("case", SCORED.values(), ids=SCORED)
@dtypes
def test_fit(case, dtype):
    """Epochs of consecutive batches with a shorter last one, and validation by inference after
    each.
    """
    case = with_rows(case, (20, 9))
    model, oracle = build(case, dtype), case.oracle()
    x, y, weight = joined(case)
    history = model.fit(
        x.astype(dtype), y, batch_size=8, epochs=3, shuffle=False, sample_weight=weight, verbose=0,
        validation_data=(x[:11].astype(dtype), y[:11]),
    ).history  # fmt: skip
    assert_close(history["loss"], fit_oracle(oracle, case, SGD, 8, 3), dtype, "loss")
    for got, ref, name in zip(
        model.get_weights(), oracle.get_weights(), names(oracle), strict=True
    ):
        assert_close(got, ref, dtype, name)
    assert_close(
        history["val_loss"][-1], oracle.loss(x[:11], y[:11], case.described()[1]), dtype, "val_loss"
    )


@dtypes
@pytest.mark.parametrize("rows", [24, 29])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_loss_of_an_epoch_has_the_penalties_of_its_steps(rows, dtype, weighted):
    """Of each step before its update, and by the step's rows: a shorter last batch counts less."""
    penalized = NETWORKS["loss, penalties"]
    case = Case(penalized.input_shape, penalized.layers, penalized.loss, (rows,), weighted)
    optimizer = "SGD", {"learning_rate": 0.1}
    model, oracle = build(case, dtype, optimizer), case.oracle()
    x, y, weight = joined(case, dtype)
    history = model.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, sample_weight=weight, verbose=0
    ).history
    assert_close(history["loss"], fit_oracle(oracle, case, optimizer, 8, 2), dtype, "loss")


ACCUMULATING = {name: o for name, o in OPTIMIZERS.items() if "gradient_accumulation_steps" in o[1]}


@pytest.mark.parametrize("optimizer", ACCUMULATING.values(), ids=ACCUMULATING)
def test_accumulation(optimizer):
    """In `fit`, equal batches without batch statistics.

    The step is Keras's, by the mean of their gradients.
    """
    case = Case((37,), [dense(19, "tanh"), dense(3, "softmax")], rows=(8, 8, 8, 8))
    model, oracle = build(case, "float64", optimizer), case.oracle()
    x, y, _ = joined(case)
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    fit_oracle(oracle, case, optimizer, 8, 3)
    for got, ref, name in zip(
        model.get_weights(), oracle.get_weights(), names(oracle), strict=True
    ):
        assert_close(got, ref, "float64", name)


def test_accumulation_takes_exact_batch_statistics():
    """Batch norm sees the rows of all the batches that make a step, as if they were one batch."""
    case = with_rows(SMALL["dense"], (16, 16))
    spec = ("SGD", {"learning_rate": 0.02, "momentum": 0.5})
    model = build(case, "float64", (spec[0], {**spec[1], "gradient_accumulation_steps": 2}))
    oracle = case.oracle()
    x, y, _ = joined(case)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    fit_oracle(oracle, case, spec, 16, 2)
    for got, ref, name in zip(
        model.get_weights(), oracle.get_weights(), names(oracle), strict=True
    ):
        assert_close(got, ref, "float64", name)


@pytest.mark.parametrize(
    "name", ["norm, frozen", "norm, frozen image", "norm, frozen dense", "layer norm, frozen"]
)
def test_frozen_layers_keep_every_bit(name):
    case = NETWORKS[name]
    model, oracle = build(case, "float32"), case.oracle()
    before = model.get_weights()
    for x, y, weight in case.batches(np.float32):
        model.train_on_batch(x, y, sample_weight=weight)
    frozen = [
        not layer.trainable
        for layer, shapes in zip(oracle.layers, oracle.shapes)
        for _ in shapes
        if shapes
    ]
    changed = [
        not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)
    ]
    assert any(frozen)
    assert not any(new for new, still in zip(changed, frozen) if still)
    assert changed[0] or frozen[0]
    assert changed[-1]


@small
def test_running_statistics_of_many_steps(case):
    """Forty steps with the default momentum; inference uses what they have become."""
    case = with_rows(case, (16,) * 40)
    model, oracle = build(case, "float64"), case.oracle()
    start, naive = oracle.get_weights(), NaiveOptimizer(describe("SGD", learning_rate=0.01))
    model.optimizer.learning_rate = 0.01
    for x, y, _ in case.batches():
        oracle.train_step(x, y, case.loss, naive)
        model.train_on_batch(x, y)
    for got, ref, old, name in zip(
        model.get_weights(), oracle.get_weights(), start, names(oracle), strict=True
    ):
        assert_close(got, ref, "float64", name)
        assert not name.endswith(STATISTICS) or np.abs(ref - old).max() > 0.1
    assert_close(model.predict(x, verbose=0), oracle.forward(x), "float64", "output")


def test_first_of_equal_cells():
    """Gradients through a pool whose windows hold equal numbers.

    Only the first cell's kernel column moves.
    """
    x = np.zeros((2, 4, 4, 1))
    x[0, 1:3, 1:3], x[1, :2, 2:] = 2.0, -1.0
    case = image(
        conv(2, 1, use_bias=False), norm(trainable=False), max_pool(3, 1), input_shape=(4, 4, 1)
    )
    model, oracle = build(case, "float64"), case.oracle()
    y = np.array([2, 0])
    naive = NaiveOptimizer(describe(SGD[0], **SGD[1]))
    assert_close(
        model.train_on_batch(x, y), oracle.train_step(x, y, case.loss, naive), "float64", "loss"
    )
    for got, ref, name in zip(
        model.get_weights(), oracle.get_weights(), names(oracle), strict=True
    ):
        assert_close(got, ref, "float64", name)
