"""The networks of the tests.

Small ones of all layers, losses and optimisers, for every test that goes over them all.

A `Case` is described by names and numbers alone, so that the oracle, the library and Keras each
build it for themselves.
"""

from __future__ import annotations

import numpy as np
from naive_layers import NaiveNetwork, describe

IMAGE = (5, 7, 3)


class Case:
    """A small network, its loss, and the rows of its batches.

    Layers, loss and optimiser are `(kind, arguments)`.
    """

    def __init__(
        self, input_shape, layers, loss="sparse_categorical_crossentropy", rows=(9, 9, 6),
        weighted=False, integers=0,
    ):
        self.input_shape, self.layers, self.loss = input_shape, layers, loss
        self.rows, self.weighted, self.integers = rows, weighted, integers

    def described(self):
        """The layers and the loss for the oracle."""
        layers = [
            describe(kind, **_with_regularizers(describe, arguments))
            for kind, arguments in self.layers
        ]
        return layers, self.loss if isinstance(self.loss, str) else describe(
            self.loss[0], **self.loss[1]
        )

    def built(self, library, **common):
        """The layers and the loss of a library that is named as Keras is.

        `common` are arguments of every layer.
        """

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
        """Random `(x, y, sample_weight)` that float32 holds exactly.

        The weights are None unless the case has them.
        """
        rng, output = np.random.default_rng(seed), self.oracle().output_shape
        for rows in self.rows:
            x = rng.normal(0.3, 1.2, (rows, *self.input_shape)).astype(np.float32)
            if self.integers:
                x = rng.integers(self.integers, size=x.shape).astype(np.float32)
            y = self._targets(rng, (rows, *output))
            weight = (
                rng.uniform(0.2, 2, rows).astype(np.float32).astype(dtype)
                if self.weighted
                else None
            )
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
    return {
        k: make(v[0], **v[1]) if k.endswith("_regularizer") else v for k, v in arguments.items()
    }


# Layers as `(kind, arguments)`


def dense(units, activation=None, **arguments):
    return "Dense", {"units": units, "activation": activation, **arguments}


def conv(filters, kernel_size=3, **arguments):
    return "Conv2D", {"filters": filters, "kernel_size": kernel_size, **arguments}


def depthwise(kernel_size=3, **arguments):
    return "DepthwiseConv2D", {"kernel_size": kernel_size, **arguments}


def transposed(filters, kernel_size=3, **arguments):
    return "Conv2DTranspose", {"filters": filters, "kernel_size": kernel_size, **arguments}


def separable(filters, kernel_size=3, **arguments):
    return "SeparableConv2D", {"filters": filters, "kernel_size": kernel_size, **arguments}


def conv1d(filters, kernel_size=3, **arguments):
    return "Conv1D", {"filters": filters, "kernel_size": kernel_size, **arguments}


def depthwise1d(kernel_size=3, **arguments):
    return "DepthwiseConv1D", {"kernel_size": kernel_size, **arguments}


def transposed1d(filters, kernel_size=3, **arguments):
    return "Conv1DTranspose", {"filters": filters, "kernel_size": kernel_size, **arguments}


def separable1d(filters, kernel_size=3, **arguments):
    return "SeparableConv1D", {"filters": filters, "kernel_size": kernel_size, **arguments}


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


RELU, SOFTMAX, FLAT, HEAD = (
    activation("relu"), activation("softmax"), ("Flatten", {}), dense(3, "softmax"),
)
RELU_LAYER = "ReLU", {}
ACTIVATIONS = [
    "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh",
    "softmax", "softsign", "mish", "relu6", "hard_sigmoid", "hard_silu", "hard_tanh",
    "hard_shrink", "soft_shrink", "tanh_shrink", "log_sigmoid", "sparse_plus", "sparse_sigmoid",
    "squareplus", "log_softmax",
]
ACTIVATION_LAYERS = {
    "relu": ("ReLU", {}), "relu, most": ("ReLU", {"max_value": 0.8}),
    "relu, slope": ("ReLU", {"negative_slope": 0.15}),
    "relu, threshold": ("ReLU", {"threshold": 0.4}),
    "relu, all": ("ReLU", {"max_value": 1.25, "negative_slope": 0.25, "threshold": 0.5}),
    "relu, most and slope": ("ReLU", {"max_value": 6.0, "negative_slope": 0.25}),
    "leaky relu": ("LeakyReLU", {}), "leaky relu, slope": ("LeakyReLU", {"negative_slope": 0.05}),
    "elu": ("ELU", {}), "elu, alpha": ("ELU", {"alpha": 0.6}), "softmax": ("Softmax", {}),
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


def sequence(*layers, input_shape=(12, 3), **case):
    """12 steps of 3 channels, the layers, 3 classes."""
    return Case(input_shape, [*layers, FLAT, HEAD], **case)


def picture(*layers, input_shape=(7, 6, 3)):
    """7 x 6 images of 3 channels, the layers, 5 classes."""
    return Case(input_shape, [*layers, FLAT, dense(5, "softmax")])


# Kernels behind each other in one layer, and layers over steps.
OF_STEPS = {
    "separable, one layer": image(separable(10, activation="relu"), norm(), RELU),
    "separable, multiplier 2, strides 2, same": normed(
        separable(17, depth_multiplier=2, strides=2, padding="same", use_bias=False)
    ),
    "separable, dilation (1, 2)": normed(separable(6, (3, 2), dilation_rate=(1, 2))),
    "separable, norm in front": image(norm(), separable(6, 2, depth_multiplier=2), conv(5, 1)),
    "separable, penalties": image(
        separable(
            6, 2, depthwise_regularizer=("L2", {"l2": 0.05}),
            pointwise_regularizer=("L1", {"l1": 0.01}), bias_regularizer=("L2", {"l2": 0.03}),
        ),
        RELU,
    ),
    "separable, frozen": image(separable(6, 2, trainable=False), norm(), separable(5, 2)),
    "conv1d": sequence(conv1d(6, activation="relu"), norm(), RELU, conv1d(17, 2), norm(), RELU),
    "conv1d, same, strides 2": sequence(
        conv1d(10, 4, strides=2, padding="same", use_bias=False), norm(), RELU
    ),
    "conv1d, causal": sequence(
        conv1d(6, 2, padding="causal"), norm(), RELU,
        conv1d(10, 3, padding="causal", dilation_rate=2, activation="relu"), norm(),
    ),
    "conv1d, causal, strides 3": sequence(conv1d(6, padding="causal", strides=3), norm(), RELU),
    "conv1d, dilation 3": sequence(conv1d(17, dilation_rate=3), norm(), RELU),
    "conv1d, groups": sequence(
        conv1d(6, groups=3), norm(), conv1d(24, 2, groups=2, padding="same"), norm(), RELU
    ),
    "conv1d, one channel": sequence(conv1d(6, 5), norm(), RELU, input_shape=(16, 1)),
    "conv1d, kernel 1": sequence(conv1d(24, 1), norm(), RELU, conv1d(6, 1)),
    "conv1d, pools": sequence(
        conv1d(10, padding="same"), norm(), RELU, ("MaxPooling1D", {}), conv1d(17, 2), RELU,
        ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}), norm(),
    ),
    "conv1d, average pools": sequence(
        conv1d(10), norm(), ("AveragePooling1D", {"pool_size": 2}),
        ("AveragePooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}), conv1d(6, 1),
    ),
    "conv1d, global average": Case(
        (12, 3), [conv1d(17), norm(), RELU, ("GlobalAveragePooling1D", {}), HEAD]
    ),
    "conv1d, global max, keepdims": sequence(
        conv1d(6), ("GlobalMaxPooling1D", {"keepdims": True}), conv1d(10, 1)
    ),
    "conv1d, global average, keepdims": sequence(
        conv1d(6), ("GlobalAveragePooling1D", {"keepdims": True}), dense(10)
    ),
    "conv1d, global max": Case((12, 3), [conv1d(10), ("GlobalMaxPooling1D", {}), HEAD]),
    "conv1d and layers of sequences": sequence(
        dense(5, "relu"), conv1d(6, 2), layer_norm(), RELU, conv1d(4, 2), norm(axis=1),
        conv1d(8, 2), group_norm(2), activation("softmax"), layer_norm(axis=[1, 2]),
    ),
    "conv1d, a row of one axis": vector(
        dense(24), ("Reshape", {"target_shape": (8, 3)}), conv1d(6, 2), norm(), RELU, FLAT
    ),
    "conv1d among images": image(
        conv(6), ("Reshape", {"target_shape": (15, 6)}), conv1d(5, 2), norm(),
        ("Reshape", {"target_shape": (1, 14, 5)}), conv(4, (1, 2)),
        ("Reshape", {"target_shape": (13, 1, 4)}), conv(3, (2, 1)),
    ),
    "conv1d, penalties": sequence(
        conv1d(6, kernel_regularizer=("L2", {"l2": 0.05}), bias_regularizer=("L1", {"l1": 0.02})),
        RELU, weighted=True,
    ),
    "depthwise1d": sequence(depthwise1d(), norm(), RELU),
    "depthwise1d, multiplier 2, strides 2": sequence(
        conv1d(6), depthwise1d(4, depth_multiplier=2, strides=2, padding="same"), norm()
    ),
    "depthwise1d, dilation 2": sequence(
        depthwise1d(dilation_rate=2, use_bias=False, activation="relu"), norm()
    ),
    "separable1d": sequence(separable1d(10, activation="relu"), norm(), RELU),
    "separable1d, multiplier 2, same": sequence(
        conv1d(6), separable1d(17, 4, depth_multiplier=2, strides=2, padding="same"), norm(), RELU
    ),
    "separable1d, dilation 2": sequence(
        separable1d(6, 2, dilation_rate=2, use_bias=False), norm(), RELU
    ),
    "transposed1d": sequence(transposed1d(6, activation="relu"), norm(), RELU),
    "transposed1d, strides 2": sequence(conv1d(10), transposed1d(6, strides=2), norm(), RELU),
    "transposed1d, strides 2, same": sequence(
        transposed1d(17, 4, strides=2, padding="same", use_bias=False), norm(), RELU
    ),
    "transposed1d, output padding": sequence(
        transposed1d(6, strides=3, output_padding=2), transposed1d(5, 2, padding="same"), norm()
    ),
    "transposed1d, kernel 2 below strides 3": sequence(
        conv1d(6), transposed1d(10, 2, strides=3), norm(), RELU
    ),
    "up sampling of steps": sequence(
        ("UpSampling1D", {}), conv1d(6), norm(), ("UpSampling1D", {"size": 3})
    ),
    "zeros around steps": sequence(
        conv1d(6), ("ZeroPadding1D", {}), norm(), ("ZeroPadding1D", {"padding": (2, 0)}), conv1d(5)
    ),
    "cropped steps": sequence(
        ("Cropping1D", {"cropping": (0, 2)}), conv1d(6), norm(), ("Cropping1D", {}), conv1d(5)
    ),
    "cropped images": image(
        ("Cropping2D", {"cropping": ((0, 1), (2, 0))}), conv(6, 2), norm(), RELU,
        ("Cropping2D", {"cropping": (1, 0)}), conv(10, 1), ("Cropping2D", {}),
        input_shape=(6, 7, 3),
    ),
    "cropped and padded images": image(
        conv(6, 2), ("Cropping2D", {"cropping": 1}), ("ZeroPadding2D", {}), norm(), conv(5, 2)
    ),
    "permuted steps": sequence(
        conv1d(6), ("Permute", {"dims": (2, 1)}), conv1d(5, 2), norm(), ("Permute", {"dims": (1, 2)})
    ),
    "permuted images": image(
        ("Permute", {"dims": (3, 1, 2)}), conv(6, 2), norm(), ("Permute", {"dims": (2, 1, 3)}),
        conv(5, 2),
    ),
    "permuted, four axes": Case(
        (3, 2, 4, 5), [dense(6), ("Permute", {"dims": (3, 1, 4, 2)}), dense(5), norm(), FLAT, HEAD]
    ),
    "repeated vector": vector(
        dense(5, "relu"), ("RepeatVector", {"n": 3}), conv1d(6, 2), norm(), RELU, FLAT
    ),
    "repeated once": vector(dense(5), ("RepeatVector", {"n": 1}), dense(6), norm(), FLAT),
    "loss, squares of steps": Case(
        (12, 3), [conv1d(6, padding="same"), norm(), RELU, conv1d(4, 1)], "mse"
    ),
}
NETWORKS = {
    **OF_STEPS,
    # Dense
    "dense": vector(dense(19, "relu")),
    "dense, no bias": vector(dense(19, "relu", use_bias=False), dense(10, use_bias=False)),
    "dense, norm": vector(dense(19, use_bias=False), norm(), RELU),
    "dense, norm of a bias": vector(
        dense(24), norm(), RELU, dense(17), norm(), RELU, rows=(65, 65, 64)
    ),
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
    "conv, groups and strides": image(
        conv(6, 2), conv(15, groups=3, strides=2, padding="same", activation="relu")
    ),
    "conv, one channel": normed(conv(6), input_shape=(5, 7, 1)),
    "conv, many channels": normed(conv(10, (2, 3)), input_shape=(3, 4, 24)),
    "conv, deep": image(
        conv(6, padding="same", use_bias=False), norm(), RELU,
        conv(10, padding="same", use_bias=False), norm(), RELU, conv(17, strides=2), norm(), RELU,
    ),
    "conv, one row more": normed(conv(6), rows=(17, 33, 2)),
    "conv, many filters on short lines": image(
        conv(64, (2, 3), padding="same"), norm(), RELU, conv(72, strides=2, padding="same"), norm(),
        rows=(9, 17, 5),
    ),
    "conv, many filters, dilation 2": image(
        conv(64, dilation_rate=2, padding="same"), norm(), RELU, rows=(9, 17, 5)
    ),
    "depthwise": normed(depthwise()),
    "depthwise, wide lines": image(
        depthwise((3, 2), padding="same", activation="relu"), norm(), input_shape=(4, 23, 3)
    ),
    "depthwise, wide lines, strides 2": image(
        depthwise(padding="same", strides=2), norm(), input_shape=(5, 21, 3)
    ),
    "depthwise, same": normed(depthwise(padding="same", use_bias=False)),
    "depthwise, multiplier 2": normed(depthwise(depth_multiplier=2, activation="relu")),
    "depthwise, multiplier 2, strides 2": image(
        conv(6), depthwise(depth_multiplier=2, strides=2, padding="same"), norm()
    ),
    "depthwise, multiplier 3, even kernel": normed(
        depthwise((4, 2), depth_multiplier=3, padding="same")
    ),
    "depthwise, dilation 2": image(
        conv(17, 1), depthwise(dilation_rate=2, padding="same"), norm(), RELU
    ),
    "separable": image(
        conv(10), norm(), RELU, depthwise(padding="same"), norm(), RELU, conv(24, 1), norm(), RELU
    ),
    "transposed": normed(transposed(6, activation="relu")),
    "transposed, strides 2": image(conv(10), transposed(6, strides=2), norm(), RELU),
    "transposed, strides 2, same": image(
        conv(10), transposed(17, strides=2, padding="same"), norm(), RELU
    ),
    "transposed, no bias": image(transposed(10, 2, strides=2, use_bias=False), norm(), RELU),
    "transposed, strides (1, 2)": image(
        conv(6), transposed(10, (3, 4), strides=(1, 2), padding="same"), norm()
    ),
    "transposed, kernel 5, same": normed(transposed(6, 5, strides=2, padding="same")),
    "transposed, kernel 2 below strides 3": image(
        conv(6), transposed(10, 2, strides=3), norm(), RELU
    ),
    "transposed, kernel 2 below strides 3, same": image(
        conv(6), transposed(10, 2, strides=3, padding="same"), norm()
    ),
    "transposed, output padding": image(
        conv(6), transposed(10, strides=2, output_padding=1), norm(), RELU
    ),
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
    "max pool, overlapping, same": image(
        conv(24, padding="same"), max_pool(3, 2, "same"), norm(), RELU
    ),
    "max pool, strides 1": image(conv(6), max_pool((2, 3), 1, "same")),
    "max pool, strides 3": image(conv(6, padding="same"), max_pool(2, 3)),
    "max pool of equal cells": image(
        conv(6, padding="same", activation="relu"), norm(), max_pool(3, (1, 2))
    ),
    "max pool of the input": image(max_pool((3, 2)), conv(6, 1)),
    "average pool": image(conv(6), norm(), RELU, average_pool()),
    "average pool, same": image(conv(10, padding="same"), average_pool(padding="same"), norm()),
    "average pool, overlapping": image(conv(17, padding="same"), norm(), RELU, average_pool(3, 2)),
    "average pool, overlapping, same": image(
        conv(24, padding="same"), average_pool(3, (2, 1), "same"), norm()
    ),
    "average pool, strides 1": image(conv(6), average_pool((2, 3), 1, "same")),
    "global average": Case(IMAGE, [conv(17), norm(), RELU, ("GlobalAveragePooling2D", {}), HEAD]),
    "global average, keepdims": image(
        conv(17), ("GlobalAveragePooling2D", {"keepdims": True}), conv(10, 1)
    ),
    "global max": Case(IMAGE, [conv(10), norm(), ("GlobalMaxPooling2D", {}), HEAD]),
    "global max, keepdims": image(conv(6), ("GlobalMaxPooling2D", {"keepdims": True}), conv(10, 1)),
    "zero padding": image(("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}), conv(6), norm(), RELU),
    "conv with a relu, norm, pool": image(
        conv(6, activation="relu"), norm(), max_pool(2), conv(4, 1), rows=(6, 8, 3)
    ),
    "up sampling": image(("UpSampling2D", {}), conv(6), norm(), RELU, rows=(3, 4, 3)),
    "up sampling inside": image(
        conv(6), norm(), ("UpSampling2D", {"size": (3, 1)}), conv(10),
        ("UpSampling2D", {"size": (1, 2)}),
    ),
    "zero padding inside": image(
        conv(6), norm(), ("ZeroPadding2D", {"padding": (2, 1)}), conv(10), ("ZeroPadding2D", {})
    ),
    "reshape": vector(
        dense(24), ("Reshape", {"target_shape": (2, 4, 3)}), conv(6, 2), norm(), RELU, FLAT
    ),
    "reshape, one size to find": image(
        conv(6), ("Reshape", {"target_shape": (-1, 6)}), dense(5), norm(), RELU
    ),
    "flatten first": image(FLAT, dense(24), norm(), RELU),
    # Layers behind each other that programs join, or must not
    "conv, norm, no bias": picture(conv(17, use_bias=False), norm(), RELU),
    "conv, twice": picture(conv(6), norm(), RELU_LAYER, conv(24, (2, 3)), norm(), RELU_LAYER),
    "conv, same, twice": picture(
        conv(6, padding="same"), norm(), RELU_LAYER, conv(5, (2, 3), padding="same")
    ),
    "conv, strides twice": picture(conv(6, strides=2, padding="same"), conv(5, 2, strides=(1, 2))),
    "conv, dilation behind same": picture(
        conv(6, padding="same"), conv(5, 2, dilation_rate=2, activation="relu")
    ),
    "conv, groups behind same": picture(conv(6, padding="same"), conv(9, groups=3, padding="same")),
    "conv and pool": picture(conv(6, 2), max_pool(), conv(5, 2)),
    "norm and pool": picture(
        conv(6, 2), norm(), RELU_LAYER, max_pool(), conv(20, 2), norm(scale=False),
        max_pool((1, 2)), input_shape=(9, 8, 3),
    ),
    "norm and pool, frozen": picture(
        conv(6, 2), norm(), max_pool((4, 3)), conv(4, 1), norm(trainable=False), RELU_LAYER,
        max_pool(1),
    ),
    "conv, overlapping pools": picture(
        conv(6, 2), max_pool((3, 2), (1, 2), "same"), average_pool(2, 1, "same")
    ),
    "conv, global average": Case(
        (7, 6, 3), [conv(6, 2), ("GlobalAveragePooling2D", {}), dense(5, "softmax")]
    ),
    "conv, global max": Case(
        (7, 6, 3), [conv(6, 2), ("GlobalMaxPooling2D", {}), dense(5, "softmax")]
    ),
    "conv and depthwise": picture(
        conv(4, 1),
        depthwise((2, 3), depth_multiplier=2, padding="same", strides=2, activation="relu"),
        norm(),
    ),
    "transposed, twice": picture(
        transposed(4, 3, strides=2, padding="same"), norm(), RELU_LAYER, transposed(5, (2, 3))
    ),
    "transposed, output padding behind strides": picture(
        conv(4, 1), transposed(6, 3, strides=(2, 3)), transposed(2, 2, strides=2, output_padding=1),
        input_shape=(4, 5, 3),
    ),
    "conv, norm over columns": picture(conv(6, 2), norm(axis=2, scale=False)),
    "conv, layer norm": picture(conv(6, 2), layer_norm()),
    "activations": picture(
        conv(6, 2, activation="elu"), conv(6, 2, activation="gelu"),
        conv(6, 2, activation="softplus"), conv(6, 1, activation="sigmoid"),
        conv(6, 1, activation="silu"),
    ),
    "activations, layers": picture(
        conv(6, 2), ("LeakyReLU", {}), conv(6, 2, activation="selu"),
        ("ReLU", {"max_value": 0.5, "negative_slope": 0.1, "threshold": 0.1}),
    ),
    "activations of features": Case(
        (12,),
        [
            dense(9, "gelu"), dense(8, "selu"), dense(7), ("LeakyReLU", {}), dense(7, "sigmoid"),
            norm(), dense(5, "softmax"),
        ],
    ),
    "conv, zero padding": picture(
        conv(6, 2), ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}), conv(4)
    ),
    "dense, reshape, conv": picture(
        dense(24), ("Reshape", {"target_shape": (2, 3, 4)}), conv(4, 2), input_shape=(12,)
    ),
    "conv, sequence": picture(
        conv(6, 2), ("Reshape", {"target_shape": (10, 18)}), dense(5, "relu"), norm()
    ),
    "conv, frozen norm": picture(conv(6, 2), norm(trainable=False)),
    "frozen conv": picture(conv(6, 2, trainable=False), norm(), conv(3, 2)),
    "norm, conv": picture(norm(), conv(6, 2)),
    "a view that is masked": Case(
        (5, 5, 3), [conv(16, 2, activation="relu"), FLAT, norm(), dense(5, "softmax")]
    ),
    # Numbers with a slope, an offset, or a place in a table
    "prelu": vector(dense(19), ("PReLU", {}), norm()),
    "prelu, channels": image(conv(6), norm(), ("PReLU", {"shared_axes": [1, 2]}), conv(3, 2)),
    "prelu, pixels": image(
        conv(10, 2), ("PReLU", {"alpha_regularizer": ("L2", {"l2": 0.05})}), norm()
    ),
    "prelu, lines": image(
        conv(6), ("PReLU", {"shared_axes": [2]}), ("PReLU", {"shared_axes": [1, 3]}),
        ("PReLU", {"shared_axes": [1, 2, 3], "trainable": False}),
    ),
    "prelu, sequence": Case((6, 10), [dense(5), ("PReLU", {"shared_axes": [1]}), FLAT, HEAD]),
    "prelu, four axes": Case((3, 2, 4, 5), [("PReLU", {}), dense(3), FLAT, HEAD]),
    "rescaling": image(("Rescaling", {"scale": 0.5, "offset": -0.25}), conv(6), RELU),
    "rescaling, channels": image(
        conv(10, 2), ("Rescaling", {"scale": np.linspace(0.5, 2, 10).tolist()}), norm()
    ),
    "normalization": image(
        ("Normalization", {"mean": [0.5, -1.0, 2.0], "variance": [2.0, 0.25, 4.0]}), conv(6), RELU
    ),
    "normalization, axes": image(
        conv(4, 2), ("Normalization", {"axis": (1, 3), "mean": [0.5, 0.0, -1.0, 2.0],
                                       "variance": np.linspace(0.5, 4, 16).reshape(4, 4).tolist()}),
    ),
    "normalization, one for all": Case(
        (37,), [dense(19), ("Normalization", {"axis": None, "mean": 0.5, "variance": 4.0}), HEAD]
    ),
    "normalization, inverted": Case(
        (6, 10), [dense(5), ("Normalization", {"axis": 1, "mean": 0.5, "invert": True,
                                               "variance": np.linspace(0, 2, 6).tolist()}),
                  FLAT, HEAD]
    ),
    "embedding": Case(
        (5,), [("Embedding", {"input_dim": 11, "output_dim": 6}), norm(), RELU, FLAT, HEAD],
        integers=11,
    ),
    "embedding, image": Case(
        (3, 4), [("Embedding", {"input_dim": 7, "output_dim": 17, "embeddings_regularizer":
                                ("L2", {"l2": 0.05})}), conv(4, 2), FLAT, HEAD], integers=7,
    ),
    "embedding, frozen": Case(
        (5,), [("Reshape", {"target_shape": (5, 1)}),
               ("Embedding", {"input_dim": 3, "output_dim": 4, "trainable": False}), FLAT, HEAD],
        integers=3,
    ),
    # Losses
    "loss, logits": Case(
        (37,),
        [dense(19, "relu"), dense(3)],
        ("SparseCategoricalCrossentropy", {"from_logits": True}),
    ),
    "loss, tanh": Case((37,), [dense(3, "tanh")]),
    "loss, not softmax": Case((37,), [dense(19, "relu"), dense(3, "sigmoid")]),
    "loss, categorical": vector(dense(19), norm(), RELU, loss="categorical_crossentropy"),
    "loss, categorical, smooth": vector(
        dense(19, "relu"), loss=("CategoricalCrossentropy", {"label_smoothing": 0.1})
    ),
    "loss, categorical, logits": Case(
        (37,), [dense(3)], ("CategoricalCrossentropy", {"from_logits": True})
    ),
    "loss, binary": Case(
        (37,), [dense(19), norm(), RELU, dense(1, "sigmoid")], "binary_crossentropy"
    ),
    "loss, binary, many": Case(
        (37,), [dense(19, "relu"), dense(4, "sigmoid")], "binary_crossentropy"
    ),
    "loss, binary, logits": Case((37,), [dense(4)], ("BinaryCrossentropy", {"from_logits": True})),
    "loss, squares": Case((37,), [dense(19), norm(), RELU, dense(2)], "mean_squared_error"),
    "loss, squares of one": Case((37,), [dense(19, "relu"), dense(1)], "mse"),
    "loss, absolute": Case((37,), [dense(19, "relu"), dense(2)], "mae"),
    "loss, huber": Case((37,), [dense(19, "relu"), dense(2)], ("Huber", {"delta": 0.7})),
    "loss, log cosh": Case((37,), [dense(19, "relu"), dense(2)], "log_cosh"),
    "loss, pixels": Case(
        IMAGE, [conv(6, padding="same"), norm(), RELU, conv(4, 1, activation="softmax")]
    ),
    "loss, pixels, one-hot": Case(
        IMAGE, [norm(), conv(11, activation="softmax")],
        ("CategoricalCrossentropy", {"label_smoothing": 0.2}), weighted=True,
    ),
    "loss, pixels, logits": Case(
        IMAGE, [conv(5, activation="relu")],
        ("SparseCategoricalCrossentropy", {"from_logits": True}),
    ),
    "loss, pixels, sigmoid": Case(
        IMAGE, [conv(3), norm(), ("Activation", {"activation": "sigmoid"})], "binary_crossentropy",
        weighted=True,
    ),
    "loss, pooled": Case(
        IMAGE, [conv(4), ("GlobalAveragePooling2D", {}), ("Activation", {"activation": "softmax"})],
        weighted=True,
    ),
    "loss, pooled, logits": Case(
        IMAGE, [conv(4), ("GlobalMaxPooling2D", {})],
        ("CategoricalCrossentropy", {"from_logits": True}),
    ),
    "loss, normed": Case((37,), [dense(19), norm(), ("Softmax", {})]),
    "loss, normed, relu": Case(
        (37,), [dense(19), norm(), RELU], ("SparseCategoricalCrossentropy", {"from_logits": True})
    ),
    "loss, sigmoid, reshaped": Case(
        (37,), [dense(12, "sigmoid"), ("Reshape", {"target_shape": (3, 4)}), FLAT],
        "binary_crossentropy",
    ),
    "loss, softmax, pooled": Case(
        IMAGE, [conv(4, activation="softmax"), ("GlobalAveragePooling2D", {})],
        "categorical_crossentropy", weighted=True,
    ),
    "loss, binary of softmax": Case((37,), [dense(2, "softmax")], "binary_crossentropy"),
    "loss, squares of pixels": Case(IMAGE, [conv(6), norm(), RELU, transposed(3)], "mse"),
    "loss, weights": vector(dense(19), norm(), RELU, weighted=True),
    "loss, weights, squares": Case((37,), [dense(19, "relu"), dense(2)], "mse", weighted=True),
    "loss, weights, binary": Case(
        (37,), [dense(1, "sigmoid")], "binary_crossentropy", weighted=True
    ),
    "loss, weights, image": normed(conv(6), weighted=True),
    "loss, penalties": image(
        conv(6, kernel_regularizer=("L2", {"l2": 0.05}), bias_regularizer=("L1", {"l1": 0.02})),
        norm(), RELU, FLAT, dense(10, kernel_regularizer=("L1L2", {"l1": 0.01, "l2": 0.03})),
        dense(6, trainable=False, kernel_regularizer=("L2", {"l2": 0.05})),
        ("Reshape", {"target_shape": (1, 2, 3)}),
        depthwise(1, depthwise_regularizer=("L2", {"l2": 0.05})), weighted=True,
    ),
}
NETWORKS.update(
    {
        f"activation, {name}": vector(dense(19, name), norm(), activation(name))
        for name in ACTIVATIONS
    }
)
NETWORKS.update(
    {
        f"activation, {name}, image": image(conv(10), norm(), activation(name), rows=(5, 5, 4))
        for name in ACTIVATIONS
    }
)
NETWORKS.update(
    {
        f"layer {name}": vector(dense(19), norm(), layer, dense(10), layer)
        for name, layer in ACTIVATION_LAYERS.items()
    }
)
# Whose values are far from 0, where the head would saturate.
NETWORKS["activation, log_softmax, image"] = image(
    conv(10), norm(), activation("log_softmax"), norm(), rows=(5, 5, 4)
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
    "rmsprop, centered": (
        "RMSprop",
        {"learning_rate": 0.01, "centered": True, "momentum": 0.3, "epsilon": 1e-4},
    ),
    "adam": ("Adam", {"learning_rate": 0.01}),
    "adam, defaults": ("Adam", {}),
    "adam, other betas": (
        "Adam",
        {"learning_rate": 0.1, "beta_1": 0.6, "beta_2": 0.8, "epsilon": 0.01},
    ),
    "adam, amsgrad": ("Adam", {"learning_rate": 0.01, "amsgrad": True, "beta_2": 0.3}),
    "adam, decay": ("Adam", {"learning_rate": 0.01, "weight_decay": 0.3}),
    "adamw": ("AdamW", {"learning_rate": 0.02, "epsilon": 1e-4}),
    "adamw, decay": ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.3}),
    "nadam": ("Nadam", {"learning_rate": 0.01}),
    "nadam, decay": ("Nadam", {"learning_rate": 0.02, "beta_1": 0.7, "weight_decay": 0.3}),
    "adamax": ("Adamax", {"learning_rate": 0.01, "beta_2": 0.6}),
    "adagrad": ("Adagrad", {"learning_rate": 0.05}),
    "adadelta": ("Adadelta", {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-4}),
    "lion": ("Lion", {"learning_rate": 0.01, "beta_1": 0.8}),
    "ftrl": ("Ftrl", {"learning_rate": 0.1, "l1_regularization_strength": 0.01,
                      "l2_regularization_strength": 0.03, "beta": 0.2,
                      "l2_shrinkage_regularization_strength": 0.02}),
    "clipnorm": ("SGD", {"learning_rate": 0.1, "momentum": 0.8, "clipnorm": 0.05}),
    "clipnorm, adamw": ("AdamW", {"learning_rate": 0.01, "epsilon": 0.01, "clipnorm": 0.05}),
    "global clipnorm": ("SGD", {"learning_rate": 0.1, "global_clipnorm": 0.1}),
    "clipvalue": ("SGD", {"learning_rate": 0.1, "clipvalue": 0.01}),
    "accumulation": (
        "SGD",
        {"learning_rate": 0.1, "momentum": 0.8, "gradient_accumulation_steps": 2},
    ),
    "accumulation, adam": (
        "Adam",
        {"learning_rate": 0.01, "gradient_accumulation_steps": 2, "clipnorm": 0.05},
    ),
}
# Five steps, so that a pair of accumulated gradients is left incomplete. No bias stands in front of
# a batch norm: its gradient is zero but for rounding, which Adam would blow up to whole steps.
OPTIMIZED = image(
    conv(6, kernel_regularizer=("L2", {"l2": 0.05}), use_bias=False), norm(), RELU, FLAT,
    dense(10, "tanh"), norm(), rows=(9, 9, 6, 9, 5),
)
