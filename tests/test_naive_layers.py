"""The oracle for networks of layers: against central differences, values by hand, and Keras 3 where it is installed."""

from __future__ import annotations

import importlib.util
import inspect
import math
import os

import numpy as np
import pytest
from naive_layers import DEFAULTS, LOSSES, NaiveNetwork, NaiveOptimizer, describe, loss_and_gradient

IMAGE = (5, 7, 3)


class Case:
    """A small network, its loss, and the rows of its batches; layers, loss and optimiser are `(kind, arguments)`."""

    def __init__(self, input_shape, layers, loss="sparse_categorical_crossentropy", rows=(9, 9, 6), weighted=False):
        self.input_shape, self.layers, self.loss = input_shape, layers, loss
        self.rows, self.weighted = rows, weighted

    def described(self):
        """The layers and the loss for the oracle."""
        layers = [describe(kind, **_with_regularizers(describe, arguments)) for kind, arguments in self.layers]
        return layers, self.loss if isinstance(self.loss, str) else describe(self.loss[0], **self.loss[1])

    def built(self, library, **common):
        """The layers and the loss of a library that is named as Keras is; `common` are arguments of every layer."""

        def regularizer(kind, **arguments):
            return getattr(library.regularizers, kind)(**arguments)

        layers = [
            getattr(library.layers, kind)(**_with_regularizers(regularizer, arguments), **common)
            for kind, arguments in self.layers
        ]
        if isinstance(self.loss, str):
            return layers, self.loss
        return layers, getattr(library.losses, self.loss[0])(**self.loss[1])

    def oracle(self, seed=5):
        """A network with random weights that float32 holds exactly."""
        return NaiveNetwork(self.described()[0], self.input_shape).draw(np.random.default_rng(seed))

    def batches(self, dtype=np.float64, seed=11):
        """Random `(x, y, sample_weight)` that float32 holds exactly; the weights are None unless the case has them."""
        rng, output = np.random.default_rng(seed), self.oracle().output_shape
        for rows in self.rows:
            x = rng.normal(0.3, 1.2, (rows, *self.input_shape)).astype(np.float32)
            y = self._targets(rng, (rows, *output))
            weight = rng.uniform(0.2, 2, rows).astype(np.float32).astype(dtype) if self.weighted else None
            yield x.astype(dtype), y.astype(dtype) if y.dtype.kind == "f" else y, weight

    def _targets(self, rng, shape):
        name = self.loss if isinstance(self.loss, str) else self.loss[0]
        if name.lower().startswith("sparse"):
            return rng.integers(shape[-1], size=shape[:-1])
        if name.lower().startswith("categorical"):
            return np.eye(shape[-1], dtype=np.float32)[rng.integers(shape[-1], size=shape[:-1])]
        if name.lower().startswith("binary"):
            return rng.integers(2, size=shape).astype(np.float32)
        return rng.normal(0.2, 1.5, shape).astype(np.float32)


def _with_regularizers(make, arguments):
    """The arguments, with regularisers made of their `(kind, arguments)`."""
    return {k: make(v[0], **v[1]) if k.endswith("_regularizer") else v for k, v in arguments.items()}


# Layers as `(kind, arguments)`


def dense(units, activation=None, **arguments):
    return "Dense", {"units": units, "activation": activation, **arguments}


def conv(filters, kernel_size=3, **arguments):
    return "Conv2D", {"filters": filters, "kernel_size": kernel_size, **arguments}


def depthwise(kernel_size=3, **arguments):
    return "DepthwiseConv2D", {"kernel_size": kernel_size, **arguments}


def transposed(filters, kernel_size=3, **arguments):
    return "Conv2DTranspose", {"filters": filters, "kernel_size": kernel_size, **arguments}


def norm(**arguments):
    return "BatchNormalization", {"momentum": 0.9, **arguments}


def layer_norm(**arguments):
    return "LayerNormalization", arguments


def group_norm(groups, **arguments):
    return "GroupNormalization", {"groups": groups, **arguments}


def activation(name):
    return "Activation", {"activation": name}


def max_pool(pool_size=2, strides=None, padding="valid"):
    return "MaxPooling2D", {"pool_size": pool_size, "strides": strides, "padding": padding}


def average_pool(pool_size=2, strides=None, padding="valid"):
    return "AveragePooling2D", {"pool_size": pool_size, "strides": strides, "padding": padding}


RELU, SOFTMAX, FLAT, HEAD = activation("relu"), activation("softmax"), ("Flatten", {}), dense(3, "softmax")
ACTIVATIONS = [
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax", "softsign",
    "mish",
]  # fmt: skip
ACTIVATION_LAYERS = {
    "relu": ("ReLU", {}),
    "relu, most": ("ReLU", {"max_value": 0.8}),
    "relu, slope": ("ReLU", {"negative_slope": 0.15}),
    "relu, threshold": ("ReLU", {"threshold": 0.4}),
    "relu, all": ("ReLU", {"max_value": 1.25, "negative_slope": 0.25, "threshold": 0.5}),
    "relu, most and slope": ("ReLU", {"max_value": 6.0, "negative_slope": 0.25}),
    "leaky relu": ("LeakyReLU", {}),
    "leaky relu, slope": ("LeakyReLU", {"negative_slope": 0.05}),
    "elu": ("ELU", {}),
    "elu, alpha": ("ELU", {"alpha": 0.6}),
    "softmax": ("Softmax", {}),
}


def vector(*layers, rows=(33, 33, 17), **case):
    """37 features, the layers, 3 classes."""
    return Case((37,), [*layers, HEAD], rows=rows, **case)


def image(*layers, input_shape=IMAGE, **case):
    """5 x 7 images of 3 channels, the layers, 3 classes."""
    return Case(input_shape, [*layers, FLAT, HEAD], **case)


def normed(layer, **case):
    """An image layer with batch norm and relu behind it."""
    return image(layer, norm(), RELU, **case)


NETWORKS = {
    # Dense
    "dense": vector(dense(19, "relu")),
    "dense, no bias": vector(dense(19, "relu", use_bias=False), dense(10, use_bias=False)),
    "dense, norm": vector(dense(19, use_bias=False), norm(), RELU),
    "dense, norm of a bias": vector(dense(24), norm(), RELU, dense(17), norm(), RELU, rows=(65, 65, 64)),
    "dense, norm behind": vector(dense(19, "relu"), norm()),
    "dense, norm in front": vector(norm(), dense(19, "relu"), norm(), rows=(2, 3, 2)),
    "dense, wide rows": vector(dense(130, "relu"), norm(), rows=(5, 5, 4)),
    "dense, sequence": Case((6, 10), [dense(17), norm(), RELU, dense(5, "tanh"), FLAT, HEAD]),
    "dense, sequence, axis 1": Case((6, 10), [dense(17), norm(axis=1), RELU, FLAT, HEAD]),
    "dense, sequence, axis -2": Case((6, 10), [dense(6), norm(axis=-2), RELU, FLAT, HEAD]),
    "dense, image": image(dense(10, "relu"), norm()),
    "dense, four axes": Case((3, 2, 4, 5), [dense(6), norm(axis=2), RELU, FLAT, HEAD]),
    # Batch norm
    "norm, no scale": vector(dense(19), norm(scale=False), RELU),
    "norm, no center": vector(dense(19), norm(center=False), RELU),
    "norm, neither": vector(dense(19), norm(scale=False, center=False), RELU),
    "norm, defaults": vector(dense(19), ("BatchNormalization", {}), RELU),
    "norm, momentum and epsilon": vector(dense(19), norm(momentum=0.6, epsilon=0.1), RELU),
    "norm, frozen": vector(dense(19), norm(trainable=False), RELU, dense(10), norm()),
    "norm, frozen dense": vector(dense(19, trainable=False), norm(), RELU, dense(10)),
    "norm, axis 1": image(conv(6), norm(axis=1), RELU),
    "norm, axis 2": image(conv(10, padding="same"), norm(axis=2), RELU),
    "norm, axis -3": image(conv(17), norm(axis=-3)),
    "norm, axis 1 and no scale": image(norm(axis=1, scale=False), conv(6)),
    "norm, axis 2 and no center": image(norm(axis=2, center=False), conv(6)),
    "norm, image without scale": image(conv(10), norm(scale=False), RELU),
    "norm, image without center": image(conv(17), norm(center=False), RELU),
    "norm, image, neither": image(conv(24), norm(scale=False, center=False)),
    "norm, frozen image": image(conv(6), norm(trainable=False), RELU, conv(10, 2), norm()),
    "norm, twice": image(conv(6), norm(), norm(center=False), RELU),
    # Convolution
    "conv": image(conv(6, activation="relu")),
    "conv, no bias": image(conv(10, use_bias=False, padding="same")),
    "conv, valid": normed(conv(17)),
    "conv, same": normed(conv(24, padding="same")),
    "conv, same, even kernel": normed(conv(6, (2, 4), padding="same")),
    "conv, kernel 1": normed(conv(24, 1)),
    "conv, kernel 1, strides 2": normed(conv(10, 1, strides=2)),
    "conv, kernel as large as the image": normed(conv(10, (5, 7)), rows=(17, 17, 12)),
    "conv, kernel larger than the image": normed(conv(6, 9, padding="same")),
    "conv, strides 2": normed(conv(10, strides=2)),
    "conv, strides 2, same": normed(conv(17, strides=2, padding="same")),
    "conv, strides (1, 2)": normed(conv(6, strides=(1, 2))),
    "conv, strides (1, 2), same": normed(conv(24, strides=(1, 2), padding="same")),
    "conv, strides (3, 2), same": normed(conv(6, (2, 3), strides=(3, 2), padding="same")),
    "conv, strides 3, kernel 2": normed(conv(6, 2, strides=3)),
    "conv, dilation 2": normed(conv(6, dilation_rate=2)),
    "conv, dilation 2, same": normed(conv(17, dilation_rate=2, padding="same")),
    "conv, dilation (1, 2)": normed(conv(10, (3, 2), dilation_rate=(1, 2), padding="same")),
    "conv, groups of one": normed(conv(6, groups=3)),
    "conv, groups": image(conv(10), norm(), RELU, conv(24, groups=2, padding="same"), norm(), RELU),
    "conv, groups and strides": image(conv(6, 2), conv(15, groups=3, strides=2, padding="same", activation="relu")),
    "conv, one channel": normed(conv(6), input_shape=(5, 7, 1)),
    "conv, many channels": normed(conv(10, (2, 3)), input_shape=(3, 4, 24)),
    "conv, deep": image(
        conv(6, padding="same", use_bias=False), norm(), RELU, conv(10, padding="same", use_bias=False), norm(), RELU,
        conv(17, strides=2), norm(), RELU,
    ),
    "conv, one row more": normed(conv(6), rows=(17, 33, 2)),
    "depthwise": normed(depthwise()),
    "depthwise, same": normed(depthwise(padding="same", use_bias=False)),
    "depthwise, multiplier 2": normed(depthwise(depth_multiplier=2, activation="relu")),
    "depthwise, multiplier 2, strides 2": image(conv(6), depthwise(depth_multiplier=2, strides=2, padding="same"), norm()),
    "depthwise, multiplier 3, even kernel": normed(depthwise((4, 2), depth_multiplier=3, padding="same")),
    "depthwise, dilation 2": image(conv(17, 1), depthwise(dilation_rate=2, padding="same"), norm(), RELU),
    "separable": image(conv(10), norm(), RELU, depthwise(padding="same"), norm(), RELU, conv(24, 1), norm(), RELU),
    "transposed": normed(transposed(6, activation="relu")),
    "transposed, strides 2": image(conv(10), transposed(6, strides=2), norm(), RELU),
    "transposed, strides 2, same": image(conv(10), transposed(17, strides=2, padding="same"), norm(), RELU),
    "transposed, no bias": image(transposed(10, 2, strides=2, use_bias=False), norm(), RELU),
    "transposed, strides (1, 2)": image(conv(6), transposed(10, (3, 4), strides=(1, 2), padding="same"), norm()),
    "transposed, kernel 5, same": normed(transposed(6, 5, strides=2, padding="same")),
    "transposed, kernel 2 below strides 3": image(conv(6), transposed(10, 2, strides=3), norm(), RELU),
    "transposed, kernel 2 below strides 3, same": image(conv(6), transposed(10, 2, strides=3, padding="same"), norm()),
    "transposed, output padding": image(conv(6), transposed(10, strides=2, output_padding=1), norm(), RELU),
    "transposed, output padding, same": image(
        conv(6), transposed(10, strides=2, padding="same", output_padding=(1, 0)), norm(), RELU
    ),
    "transposed, output padding 0, even kernel": image(
        conv(6), transposed(10, 4, strides=3, padding="same", output_padding=0), norm(), RELU
    ),
    # Layer and group norm
    "layer norm, dense": vector(dense(19), layer_norm(), RELU),
    "layer norm, no scale": vector(dense(19), layer_norm(scale=False), RELU),
    "layer norm, no center": vector(dense(19), layer_norm(center=False, epsilon=0.1), RELU),
    "layer norm, neither": vector(dense(24), layer_norm(scale=False, center=False)),
    "layer norm, image": image(conv(17), layer_norm(), RELU),
    "layer norm, axis 1": image(conv(6), layer_norm(axis=1), RELU),
    "layer norm, axes": image(conv(10), layer_norm(axis=[1, 2, 3]), RELU),
    "layer norm, axes 1 and 2": image(conv(10), layer_norm(axis=[1, 2]), RELU),
    "layer norm, sequence": Case((6, 10), [dense(17), layer_norm(axis=[1, 2]), RELU, FLAT, HEAD]),
    "layer norm, frozen": vector(dense(19), layer_norm(trainable=False), RELU),
    "group norm": image(conv(24), group_norm(6), RELU),
    "group norm, one group": image(conv(10), group_norm(1), RELU),
    "group norm, one channel each": image(conv(17), group_norm(-1), RELU),
    "group norm, defaults": image(conv(32, 2), ("GroupNormalization", {}), RELU),
    "group norm, no scale": image(conv(6), group_norm(2, scale=False), RELU),
    "group norm, no center": image(conv(6), group_norm(3, center=False, epsilon=0.1), RELU),
    "group norm, axis 2": image(conv(6, (3, 2)), group_norm(3, axis=2), RELU),
    "group norm, dense": vector(dense(24), group_norm(4), RELU),
    # Pooling and shapes
    "max pool": image(conv(6), norm(), RELU, max_pool()),
    "max pool, same": image(conv(10, padding="same"), max_pool(padding="same"), norm()),
    "max pool, overlapping": image(conv(17, padding="same"), norm(), RELU, max_pool(3, 2)),
    "max pool, overlapping, same": image(conv(24, padding="same"), max_pool(3, 2, "same"), norm(), RELU),
    "max pool, strides 1": image(conv(6), max_pool((2, 3), 1, "same")),
    "max pool, strides 3": image(conv(6, padding="same"), max_pool(2, 3)),
    "max pool of equal cells": image(conv(6, padding="same", activation="relu"), norm(), max_pool(3, (1, 2))),
    "max pool of the input": image(max_pool((3, 2)), conv(6, 1)),
    "average pool": image(conv(6), norm(), RELU, average_pool()),
    "average pool, same": image(conv(10, padding="same"), average_pool(padding="same"), norm()),
    "average pool, overlapping": image(conv(17, padding="same"), norm(), RELU, average_pool(3, 2)),
    "average pool, overlapping, same": image(conv(24, padding="same"), average_pool(3, (2, 1), "same"), norm()),
    "average pool, strides 1": image(conv(6), average_pool((2, 3), 1, "same")),
    "global average": Case(IMAGE, [conv(17), norm(), RELU, ("GlobalAveragePooling2D", {}), HEAD]),
    "global average, keepdims": image(conv(17), ("GlobalAveragePooling2D", {"keepdims": True}), conv(10, 1)),
    "global max": Case(IMAGE, [conv(10), norm(), ("GlobalMaxPooling2D", {}), HEAD]),
    "global max, keepdims": image(conv(6), ("GlobalMaxPooling2D", {"keepdims": True}), conv(10, 1)),
    "zero padding": image(("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}), conv(6), norm(), RELU),
    "zero padding inside": image(conv(6), norm(), ("ZeroPadding2D", {"padding": (2, 1)}), conv(10), ("ZeroPadding2D", {})),
    "reshape": vector(dense(24), ("Reshape", {"target_shape": (2, 4, 3)}), conv(6, 2), norm(), RELU, FLAT),
    "reshape, one size to find": image(conv(6), ("Reshape", {"target_shape": (-1, 6)}), dense(5), norm(), RELU),
    "flatten first": image(FLAT, dense(24), norm(), RELU),
    # Losses
    "loss, logits": Case((37,), [dense(19, "relu"), dense(3)], ("SparseCategoricalCrossentropy", {"from_logits": True})),
    "loss, not softmax": Case((37,), [dense(19, "relu"), dense(3, "sigmoid")]),
    "loss, categorical": vector(dense(19), norm(), RELU, loss="categorical_crossentropy"),
    "loss, categorical, smooth": vector(dense(19, "relu"), loss=("CategoricalCrossentropy", {"label_smoothing": 0.1})),
    "loss, categorical, logits": Case((37,), [dense(3)], ("CategoricalCrossentropy", {"from_logits": True})),
    "loss, binary": Case((37,), [dense(19), norm(), RELU, dense(1, "sigmoid")], "binary_crossentropy"),
    "loss, binary, many": Case((37,), [dense(19, "relu"), dense(4, "sigmoid")], "binary_crossentropy"),
    "loss, binary, logits": Case((37,), [dense(4)], ("BinaryCrossentropy", {"from_logits": True})),
    "loss, squares": Case((37,), [dense(19), norm(), RELU, dense(2)], "mean_squared_error"),
    "loss, squares of one": Case((37,), [dense(19, "relu"), dense(1)], "mse"),
    "loss, absolute": Case((37,), [dense(19, "relu"), dense(2)], "mae"),
    "loss, huber": Case((37,), [dense(19, "relu"), dense(2)], ("Huber", {"delta": 0.7})),
    "loss, log cosh": Case((37,), [dense(19, "relu"), dense(2)], "log_cosh"),
    "loss, pixels": Case(IMAGE, [conv(6, padding="same"), norm(), RELU, conv(4, 1, activation="softmax")]),
    "loss, squares of pixels": Case(IMAGE, [conv(6), norm(), RELU, transposed(3)], "mse"),
    "loss, weights": vector(dense(19), norm(), RELU, weighted=True),
    "loss, weights, squares": Case((37,), [dense(19, "relu"), dense(2)], "mse", weighted=True),
    "loss, weights, binary": Case((37,), [dense(1, "sigmoid")], "binary_crossentropy", weighted=True),
    "loss, weights, image": normed(conv(6), weighted=True),
    "loss, penalties": image(
        conv(6, kernel_regularizer=("L2", {"l2": 0.05}), bias_regularizer=("L1", {"l1": 0.02})), norm(), RELU, FLAT,
        dense(10, kernel_regularizer=("L1L2", {"l1": 0.01, "l2": 0.03})),
        dense(6, trainable=False, kernel_regularizer=("L2", {"l2": 0.05})),
        ("Reshape", {"target_shape": (1, 2, 3)}),
        depthwise(1, depthwise_regularizer=("L2", {"l2": 0.05})),
        weighted=True,
    ),
}  # fmt: skip
NETWORKS.update({f"activation, {name}": vector(dense(19, name), norm(), activation(name)) for name in ACTIVATIONS})
NETWORKS.update(
    {f"activation, {name}, image": image(conv(10), norm(), activation(name), rows=(5, 5, 4)) for name in ACTIVATIONS}
)
NETWORKS.update(
    {f"layer {name}": vector(dense(19), norm(), layer, dense(10), layer) for name, layer in ACTIVATION_LAYERS.items()}
)
NETWORKS.update({"layer softmax, axis 1": image(conv(6), norm(), ("Softmax", {"axis": 1}))})

# Small enough that no network here saturates in three steps: see `test_networks_are_tame`.
SGD = "SGD", {"learning_rate": 0.02}
OPTIMIZERS = {
    "sgd": ("SGD", {"learning_rate": 0.1}),
    "momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.8}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.8, "nesterov": True}),
    "nesterov without momentum": ("SGD", {"learning_rate": 0.1, "nesterov": True}),
    "sgd, decay": ("SGD", {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.01}),
    "rmsprop, large epsilon": ("RMSprop", {"learning_rate": 0.1, "rho": 0.7, "epsilon": 0.01}),
    "rmsprop, momentum": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.8}),
    "rmsprop, centered": ("RMSprop", {"learning_rate": 0.01, "centered": True, "momentum": 0.3, "epsilon": 1e-4}),
    "adam": ("Adam", {"learning_rate": 0.01}),
    "adam, defaults": ("Adam", {}),
    "adam, other betas": ("Adam", {"learning_rate": 0.1, "beta_1": 0.6, "beta_2": 0.8, "epsilon": 0.01}),
    "adam, amsgrad": ("Adam", {"learning_rate": 0.01, "amsgrad": True, "beta_2": 0.3}),
    "adam, decay": ("Adam", {"learning_rate": 0.01, "weight_decay": 0.3}),
    "adamw": ("AdamW", {"learning_rate": 0.02, "epsilon": 1e-4}),
    "adamw, decay": ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.3}),
    "clipnorm": ("SGD", {"learning_rate": 0.1, "momentum": 0.8, "clipnorm": 0.05}),
    "clipnorm, adamw": ("AdamW", {"learning_rate": 0.01, "epsilon": 0.01, "clipnorm": 0.05}),
    "global clipnorm": ("SGD", {"learning_rate": 0.1, "global_clipnorm": 0.1}),
    "clipvalue": ("SGD", {"learning_rate": 0.1, "clipvalue": 0.01}),
    "accumulation": ("SGD", {"learning_rate": 0.1, "momentum": 0.8, "gradient_accumulation_steps": 2}),
    "accumulation, adam": ("Adam", {"learning_rate": 0.01, "gradient_accumulation_steps": 2, "clipnorm": 0.05}),
}
# Five steps, so that a pair of accumulated gradients is left incomplete.
# No bias stands in front of a batch norm: its gradient is zero but for rounding, which Adam would blow up to whole steps.
OPTIMIZED = image(
    conv(6, kernel_regularizer=("L2", {"l2": 0.05}), use_bias=False), norm(), RELU, FLAT, dense(10, "tanh"), norm(),
    rows=(9, 9, 6, 9, 5),
)  # fmt: skip

cases = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)


def trained(case, optimizer):
    """The oracle after one step per batch, and the losses."""
    oracle, loss = case.oracle(), case.described()[1]
    naive = NaiveOptimizer(describe(optimizer[0], **optimizer[1]))
    return oracle, [oracle.train_step(x, y, loss, naive, weight) for x, y, weight in case.batches()]


# The oracle itself


@cases
def test_networks_are_tame(case):
    """They learn visibly, and no probability comes near the bounds where Keras's backends clip it or do not."""
    oracle, losses = trained(case, SGD)
    start = case.oracle()
    changes = [np.abs(new - old).max() for new, old in zip(oracle.get_weights(), start.get_weights())]
    assert 1e-3 < max(changes) < 2
    assert np.isfinite(losses).all()
    if case.layers[-1][1].get("activation") in ("softmax", "sigmoid"):
        for network in (start, oracle):
            for x, _, _ in case.batches():
                p = network.forward(x, training=True)
                assert p.min() > 1e-5
                assert p.max() < 1 - 1e-5


def assert_slope(function, array, gradient, rng, h=1e-6):
    """`gradient` is that of `function` by `array`: central differences along random directions of every coordinate.

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
        bound = 1e-6 * np.sqrt((gradient**2).sum() * (direction**2).sum()) + 1e-14 * max(abs(ends[0]), 1) / h
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
    shape, axis = {"dense": ((9, 4), -1), "image": ((4, 5, 7, 3), -1), "axis 1": ((4, 5, 7, 3), 1)}[kind]
    network = NaiveNetwork([describe("BatchNormalization", axis=axis)], shape[1:]).draw(rng)
    network.forward(rng.normal(3, 2, shape), training=True)
    dx, _ = network.backward(rng.normal(size=shape))
    assert np.abs(dx).max() > 0.1
    np.testing.assert_allclose(np.moveaxis(dx, axis, -1).reshape(-1, shape[axis]).sum(axis=0), 0, atol=1e-12)


def run(kind, x, weights=None, **arguments):
    """Output of one layer for one image of one channel, as a matrix."""
    x = np.array(x, dtype=float)[None, :, :, None]
    network = NaiveNetwork([describe(kind, **arguments)], x.shape[1:], None if weights is None else [weights])
    return network.forward(x)[0, ..., 0]


def test_values_by_hand():
    """Which cells a window has where the padding is uneven, and which part of a transposed map is kept."""
    row = [[1.0, 2.0, 4.0, 8.0, 16.0]]
    ones = {"kernel": np.ones((1, 3, 1, 1)), "bias": np.full(1, 0.5)}
    window = {"kernel_size": (1, 3), "filters": 1, "padding": "same"}
    np.testing.assert_array_equal(run("Conv2D", row, ones, **window, strides=(1, 2)), [[3.5, 14.5, 24.5]])
    np.testing.assert_array_equal(run("Conv2D", [row[0][:4]], ones, **window, strides=(1, 2)), [[7.5, 12.5]])
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
        optimizer, arrays, seen = NaiveOptimizer(describe(kind, **arguments)), {"p": np.full(1, 10.0)}, []
        for _ in range(2):
            optimizer.update(arrays, {"p": arrays["p"].copy()})
            seen.append(arrays["p"][0])
        return seen

    assert steps("SGD", learning_rate=0.1, momentum=0.5) == pytest.approx([9, 7.6])
    assert steps("SGD", learning_rate=0.1, momentum=0.5, nesterov=True) == pytest.approx([8.5, 6.975])
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
        # Keras takes the type of a result of two float64 arrays for float32, and normalises and multiplies in that.
        patch.setattr("keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE", {})
        assert keras.backend.result_type("float64", "float32") == "float64"
        yield keras
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


def compare_with_keras(keras, case, optimizer):
    """The same weights and batches: inference output, losses, all arrays after the steps, and inference again."""
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
        owner = next(m for m in (keras.layers, keras.losses, keras.optimizers, keras.regularizers) if hasattr(m, kind))
        parameters = inspect.signature(getattr(owner, kind)).parameters
        for name, ours in defaults.items():
            theirs = parameters[name].default if name in parameters else inspect.Parameter.empty
            if theirs is not inspect.Parameter.empty:
                once = theirs[0] if isinstance(theirs, tuple) and len(set(theirs)) == 1 else theirs
                assert once == ours, (kind, name)
