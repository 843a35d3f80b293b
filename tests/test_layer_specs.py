"""The layers' specifications: arguments, shapes, weights, saved form.

The expected shapes are Keras 3's.
"""

import copy
import inspect
import json
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from nbbn import constraints, initializers, layers, regularizers
from nbbn.layers import (
    ACTIVATIONS,
    ELU,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    Input,
    Layer,
    LayerError,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    ReLU,
    Reshape,
    Softmax,
    UpSampling2D,
    ZeroPadding2D,
    activation_name,
    layer_from_config,
)

# Layer, row that goes in, row that comes out, shape of each array.
IMAGE = (7, 8, 4)
SHAPES = [
    (Input((3, 4)), (3, 4), (3, 4), {}),
    (Dense(3), (5,), (3,), {"kernel": (5, 3), "bias": (3,)}),
    (Dense(3, use_bias=False), (7, 8, 5), (7, 8, 3), {"kernel": (5, 3)}),
    (Activation("gelu"), (2, 3), (2, 3), {}),
    (ReLU(6), (2, 3), (2, 3), {}),
    (LeakyReLU(), IMAGE, IMAGE, {}),
    (ELU(), (3,), (3,), {}),
    (Softmax(1), (3, 4), (3, 4), {}),
    (Softmax((1, -1)), (3, 4), (3, 4), {}),
    (Conv2D(6, 3), IMAGE, (5, 6, 6), {"kernel": (3, 3, 4, 6), "bias": (6,)}),
    (Conv2D(6, (3, 5), padding="same"), IMAGE, (7, 8, 6), {"kernel": (3, 5, 4, 6), "bias": (6,)}),
    (Conv2D(6, 3, 2), IMAGE, (3, 3, 6), {"kernel": (3, 3, 4, 6), "bias": (6,)}),
    (Conv2D(6, 3, (3, 2), "same"), IMAGE, (3, 4, 6), {"kernel": (3, 3, 4, 6), "bias": (6,)}),
    (Conv2D(6, 3, dilation_rate=(3, 2)), IMAGE, (1, 4, 6), {"kernel": (3, 3, 4, 6), "bias": (6,)}),
    (Conv2D(6, 3, groups=2, use_bias=False), IMAGE, (5, 6, 6), {"kernel": (3, 3, 2, 6)}),
    (Conv2D(6, (7, 8)), IMAGE, (1, 1, 6), {"kernel": (7, 8, 4, 6), "bias": (6,)}),
    (DepthwiseConv2D(3), IMAGE, (5, 6, 4), {"kernel": (3, 3, 4, 1), "bias": (4,)}),
    (
        DepthwiseConv2D((3, 2), 2, "same", 2), IMAGE, (4, 4, 8),
        {"kernel": (3, 2, 4, 2), "bias": (8,)},
    ),
    (
        DepthwiseConv2D(2, depth_multiplier=3, use_bias=False), IMAGE, (6, 7, 12),
        {"kernel": (2, 2, 4, 3)},
    ),
    (Conv2DTranspose(5, 3), IMAGE, (9, 10, 5), {"kernel": (3, 3, 5, 4), "bias": (5,)}),
    (Conv2DTranspose(5, 3, 2), IMAGE, (15, 17, 5), {"kernel": (3, 3, 5, 4), "bias": (5,)}),
    (Conv2DTranspose(5, 2, 3), IMAGE, (21, 24, 5), {"kernel": (2, 2, 5, 4), "bias": (5,)}),
    (Conv2DTranspose(5, 3, 2, "same"), IMAGE, (14, 16, 5), {"kernel": (3, 3, 5, 4), "bias": (5,)}),
    (
        Conv2DTranspose(5, 3, 2, "same", 1), IMAGE, (14, 16, 5),
        {"kernel": (3, 3, 5, 4), "bias": (5,)},
    ),
    (
        Conv2DTranspose(5, 3, 2, "same", (0, 1)), IMAGE, (13, 16, 5),
        {"kernel": (3, 3, 5, 4), "bias": (5,)},
    ),
    (
        Conv2DTranspose(5, 4, 2, "same", 1), IMAGE, (13, 15, 5),
        {"kernel": (4, 4, 5, 4), "bias": (5,)},
    ),
    (
        Conv2DTranspose(5, 3, 2, "valid", 1), IMAGE, (16, 18, 5),
        {"kernel": (3, 3, 5, 4), "bias": (5,)},
    ),
    (
        Conv2DTranspose(5, 3, dilation_rate=2, use_bias=False), IMAGE, (11, 12, 5),
        {"kernel": (3, 3, 5, 4)},
    ),
    (MaxPooling2D(), IMAGE, (3, 4, 4), {}),
    (MaxPooling2D(3, 2, "same"), IMAGE, (4, 4, 4), {}),
    (MaxPooling2D((2, 3), (1, 2)), IMAGE, (6, 3, 4), {}),
    (AveragePooling2D(2), IMAGE, (3, 4, 4), {}),
    (AveragePooling2D((7, 8), padding="same"), IMAGE, (1, 1, 4), {}),
    (GlobalAveragePooling2D(), IMAGE, (4,), {}),
    (GlobalAveragePooling2D(keepdims=True), IMAGE, (1, 1, 4), {}),
    (GlobalMaxPooling2D(), IMAGE, (4,), {}),
    (GlobalMaxPooling2D(keepdims=True), IMAGE, (1, 1, 4), {}),
    (BatchNormalization(), IMAGE, IMAGE, {"gamma": (4,), "beta": (4,), "mean": (4,), "var": (4,)}),
    (BatchNormalization(1, scale=False), IMAGE, IMAGE, {"beta": (7,), "mean": (7,), "var": (7,)}),
    (
        BatchNormalization([-2], center=False), IMAGE, IMAGE,
        {"gamma": (8,), "mean": (8,), "var": (8,)},
    ),
    (LayerNormalization(), IMAGE, IMAGE, {"gamma": (4,), "beta": (4,)}),
    (LayerNormalization((3, 2)), IMAGE, IMAGE, {"gamma": (8, 4), "beta": (8, 4)}),
    (LayerNormalization([1, -1], center=False), IMAGE, IMAGE, {"gamma": (7, 4)}),
    (GroupNormalization(2), IMAGE, IMAGE, {"gamma": (4,), "beta": (4,)}),
    (GroupNormalization(-1, 2, scale=False), IMAGE, IMAGE, {"beta": (8,)}),
    (GroupNormalization(3), (6,), (6,), {"gamma": (6,), "beta": (6,)}),
    (layers.PReLU(), IMAGE, IMAGE, {"alpha": IMAGE}),
    (layers.PReLU(shared_axes=[1, 2]), IMAGE, IMAGE, {"alpha": (1, 1, 4)}),
    (layers.PReLU(shared_axes=1), (3,), (3,), {"alpha": (1,)}),
    (layers.Rescaling(1 / 255, [0.5, 0.25, 0.0, 1.0]), IMAGE, IMAGE, {}),
    (layers.Normalization(mean=0.5, variance=2.0), IMAGE, IMAGE, {}),
    (layers.Normalization((1, -1), [[0.5, 1.0]], [[2.0, 1.0]], True), (3, 2), (3, 2), {}),
    (layers.Normalization(None, 0, 1), (2, 1, 2, 3), (2, 1, 2, 3), {}),
    (layers.Embedding(9, 3), (5,), (5, 3), {"embeddings": (9, 3)}),
    (layers.Embedding(9, 3), (4, 5), (4, 5, 3), {"embeddings": (9, 3)}),
    (Flatten(), IMAGE, (224,), {}),
    (Flatten(), (), (1,), {}),
    (Reshape((4, -1)), IMAGE, (4, 56), {}),
    (Reshape(224), IMAGE, (224,), {}),
    (Reshape((28, 28, 1)), (784,), (28, 28, 1), {}),
    (UpSampling2D(), IMAGE, (14, 16, 4), {}),
    (UpSampling2D((3, 1), interpolation="nearest"), IMAGE, (21, 8, 4), {}),
    (ZeroPadding2D(), IMAGE, (9, 10, 4), {}),
    (ZeroPadding2D((1, 3)), IMAGE, (9, 14, 4), {}),
    (ZeroPadding2D(((1, 2), (0, 4))), IMAGE, (10, 12, 4), {}),
    (
        layers.SeparableConv2D(6, 3), IMAGE, (5, 6, 6),
        {"depthwise_kernel": (3, 3, 4, 1), "pointwise_kernel": (1, 1, 4, 6), "bias": (6,)},
    ),
    (
        layers.SeparableConv2D(6, (3, 2), 2, "same", depth_multiplier=2, use_bias=False), IMAGE,
        (4, 4, 6), {"depthwise_kernel": (3, 2, 4, 2), "pointwise_kernel": (1, 1, 8, 6)},
    ),
    (layers.Conv1D(6, 3), (9, 4), (7, 6), {"kernel": (3, 4, 6), "bias": (6,)}),
    (layers.Conv1D(6, 3, 2, "same"), (9, 4), (5, 6), {"kernel": (3, 4, 6), "bias": (6,)}),
    (
        layers.Conv1D(6, 3, padding="causal", dilation_rate=4, groups=2, use_bias=False), (9, 4),
        (9, 6), {"kernel": (3, 2, 6)},
    ),
    (layers.Conv1D(6, 3, 4, "causal"), (9, 4), (3, 6), {"kernel": (3, 4, 6), "bias": (6,)}),
    (
        layers.DepthwiseConv1D(3, depth_multiplier=2), (9, 4), (7, 8),
        {"kernel": (3, 4, 2), "bias": (8,)},
    ),
    (layers.Conv1DTranspose(5, 3, 2), (9, 4), (19, 5), {"kernel": (3, 5, 4), "bias": (5,)}),
    (
        layers.Conv1DTranspose(5, 3, 2, "same", 0), (9, 4), (17, 5),
        {"kernel": (3, 5, 4), "bias": (5,)},
    ),
    (
        layers.SeparableConv1D(6, 3, 2, "same", depth_multiplier=3), (9, 4), (5, 6),
        {"depthwise_kernel": (3, 4, 3), "pointwise_kernel": (1, 12, 6), "bias": (6,)},
    ),
    (layers.MaxPooling1D(), (9, 4), (4, 4), {}),
    (layers.MaxPooling1D(3, 2, "same"), (9, 4), (5, 4), {}),
    (layers.AveragePooling1D(2), (9, 4), (4, 4), {}),
    (layers.GlobalAveragePooling1D(), (9, 4), (4,), {}),
    (layers.GlobalAveragePooling1D(keepdims=True), (9, 4), (1, 4), {}),
    (layers.GlobalMaxPooling1D(), (9, 4), (4,), {}),
    (layers.UpSampling1D(3), (9, 4), (27, 4), {}),
    (layers.UpSampling1D(1), (9, 4), (9, 4), {}),
    (layers.ZeroPadding1D(), (9, 4), (11, 4), {}),
    (layers.ZeroPadding1D((2, 0)), (9, 4), (11, 4), {}),
    (layers.ZeroPadding1D(0), (9, 4), (9, 4), {}),
    (layers.Cropping1D(), (9, 4), (7, 4), {}),
    (layers.Cropping1D((0, 3)), (9, 4), (6, 4), {}),
    (layers.Cropping2D(), IMAGE, IMAGE, {}),
    (layers.Cropping2D((1, 3)), IMAGE, (5, 2, 4), {}),
    (layers.Cropping2D(((1, 2), (0, 4))), IMAGE, (4, 4, 4), {}),
    (layers.Permute((2, 1)), (9, 4), (4, 9), {}),
    (layers.Permute((3, 1, 2)), IMAGE, (4, 7, 8), {}),
    (layers.Permute((3, 1, 4, 2)), (2, 3, 4, 5), (4, 2, 5, 3), {}),
    (layers.Permute((1,)), (9,), (9,), {}),
    (layers.RepeatVector(3), (4,), (3, 4), {}),
    (layers.RepeatVector(1), (4,), (1, 4), {}),
    (layers.SpatialDropout1D(0.5), (9, 4), (9, 4), {}),
    (layers.SpatialDropout2D(0.5), IMAGE, IMAGE, {}),
    (Dropout(0.5), IMAGE, IMAGE, {}),
    (Dropout(0.5, (None, 1, None, 4)), IMAGE, IMAGE, {}),
    (GaussianNoise(0.1), (3,), (3,), {}),
]
# Layers of several tensors: the rows of each, and what comes out.
MERGING = [
    (layers.Add(), [(3,), (3,)], (3,)), (layers.Add(), [IMAGE, (1, 1, 4), (4,)], IMAGE),
    (layers.Subtract(), [(2, 3), (2, 1)], (2, 3)), (layers.Multiply(), [IMAGE, (7, 1, 4)], IMAGE),
    (layers.Average(), [(2, 3, 4, 5)] * 3, (2, 3, 4, 5)), (layers.Maximum(), [(1, 4), (3, 4)], (3, 4)),
    (layers.Dot(-1), [(3,), (3,)], (1,)), (layers.Dot(1), [(3,), (3,)], (1,)),
    (layers.Dot(2), [(5, 3), (4, 3)], (5, 4)), (layers.Dot((1, 2)), [(3,), (4, 3)], (4,)),
    (layers.Minimum(), [(3,), (3,), (1,)], (3,)), (layers.Concatenate(), [(3,), (4,)], (7,)),
    (layers.Concatenate(1), [(2, 3), (5, 3)], (7, 3)), (layers.Concatenate(-1), [IMAGE], IMAGE),
]
NAMES = [f"{i}-{type(layer).__name__}" for i, (layer, *_) in enumerate(SHAPES)]


@pytest.mark.parametrize(("layer", "row", "out", "weights"), SHAPES, ids=NAMES)
def test_shapes(layer, row, out, weights):
    assert layer.output_shape(row) == out
    assert list(layer.weight_shapes(row).items()) == list(weights.items())
    assert layer.output_shape(list(row)) == out


@pytest.mark.parametrize(("layer", "rows", "out"), MERGING, ids=repr)
def test_shapes_of_several(layer, rows, out):
    assert layer.output_shape(*rows) == out and layer.weight_shapes(*rows) == {}
    assert layer_from_config(layer.config()) == layer


# Keras 3's argument names, in order, of what can be given by position.
CONV = (
    "strides padding {} data_format dilation_rate {} activation use_bias {}_initializer bias_initializer "
    "{}_regularizer bias_regularizer activity_regularizer {}_constraint bias_constraint"
)
NORM = (
    "epsilon center scale beta_initializer gamma_initializer {} beta_regularizer gamma_regularizer "
    "beta_constraint gamma_constraint"
)
ARGUMENTS = {
    Input: "shape batch_size",
    Dense: "units activation use_bias kernel_initializer bias_initializer kernel_regularizer bias_regularizer "
    "activity_regularizer kernel_constraint bias_constraint",
    Activation: "activation",
    ReLU: "max_value negative_slope threshold",
    LeakyReLU: "negative_slope",
    ELU: "alpha",
    Softmax: "axis",
    Conv2D: "filters kernel_size " + CONV.format("", "groups", *["kernel"] * 3),
    DepthwiseConv2D: "kernel_size " + CONV.format("depth_multiplier", "", *["depthwise"] * 3),
    Conv2DTranspose: "filters kernel_size " + CONV.format("output_padding", "", *["kernel"] * 3),
    layers.Conv1D: "filters kernel_size " + CONV.format("", "groups", *["kernel"] * 3),
    layers.DepthwiseConv1D: "kernel_size "
    + CONV.format("depth_multiplier", "", *["depthwise"] * 3),
    layers.Conv1DTranspose: "filters kernel_size "
    + CONV.format("output_padding", "", *["kernel"] * 3),
    **dict.fromkeys(
        (layers.SeparableConv1D, layers.SeparableConv2D),
        "filters kernel_size "
        + CONV.format("", "depth_multiplier", *["depthwise"] * 3).replace(
            "depthwise_initializer", "depthwise_initializer pointwise_initializer"
        ).replace("depthwise_regularizer", "depthwise_regularizer pointwise_regularizer").replace(
            "depthwise_constraint", "depthwise_constraint pointwise_constraint"
        ),
    ),
    layers.MaxPooling1D: "pool_size strides padding data_format",
    layers.AveragePooling1D: "pool_size strides padding data_format",
    layers.GlobalAveragePooling1D: "data_format keepdims",
    layers.GlobalMaxPooling1D: "data_format keepdims",
    layers.ZeroPadding1D: "padding data_format",
    layers.UpSampling1D: "size",
    layers.Cropping1D: "cropping",
    layers.Cropping2D: "cropping data_format",
    layers.Permute: "dims",
    layers.RepeatVector: "n",
    layers.SpatialDropout1D: "rate seed",
    layers.SpatialDropout2D: "rate data_format seed",
    MaxPooling2D: "pool_size strides padding data_format",
    **dict.fromkeys((layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum,
                     layers.Minimum), ""),
    layers.Concatenate: "axis", layers.Dot: "axes normalize",
    layers.PReLU: "alpha_initializer alpha_regularizer alpha_constraint shared_axes",
    layers.Rescaling: "scale offset", layers.Normalization: "axis mean variance invert",
    layers.Embedding: "input_dim output_dim embeddings_initializer embeddings_regularizer "
    "embeddings_constraint mask_zero weights lora_rank lora_alpha quantization_config",
    AveragePooling2D: "pool_size strides padding data_format",
    GlobalAveragePooling2D: "data_format keepdims",
    GlobalMaxPooling2D: "data_format keepdims",
    BatchNormalization: "axis momentum "
    + NORM.format("moving_mean_initializer moving_variance_initializer")
    + " renorm",
    LayerNormalization: "axis " + NORM.format(""),
    GroupNormalization: "groups axis " + NORM.format(""),
    Flatten: "data_format",
    Reshape: "target_shape",
    ZeroPadding2D: "padding data_format",
    UpSampling2D: "size data_format interpolation",
    Dropout: "rate noise_shape seed",
    GaussianNoise: "stddev seed",
}


@pytest.mark.parametrize("cls", ARGUMENTS, ids=lambda cls: cls.__name__)
def test_arguments_come_in_keras_order(cls):
    parameters = inspect.signature(cls).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ARGUMENTS[
        cls
    ].split()
    assert {"name", "trainable", "input_shape", "dtype"} <= {
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY
    }


def test_every_layer_is_exported_and_tested():
    found = {
        cls for cls in vars(layers).values() if isinstance(cls, type) and issubclass(cls, Layer)
    } - {Layer}
    assert found == set(ARGUMENTS) == {type(layer) for layer, *_ in (*SHAPES, *MERGING)}
    assert set(layers.__all__) >= {cls.__name__ for cls in found}


def test_defaults():
    dense, conv, norm = Dense(2), Conv2D(2, 3), BatchNormalization()
    assert (dense.activation, dense.use_bias) == ("linear", True)
    assert dense.kernel_initializer == initializers.GlorotUniform()
    assert dense.bias_initializer == initializers.Zeros()
    assert dense.kernel_regularizer is None
    assert (conv.strides, conv.padding, conv.dilation_rate, conv.groups) == (
        (1, 1), "valid", (1, 1), 1,
    )
    assert conv.data_format == "channels_last"
    assert (norm.axis, norm.momentum, norm.epsilon, norm.center, norm.scale) == (
        -1, 0.99, 1e-3, True, True,
    )
    assert (norm.gamma_initializer, norm.moving_variance_initializer) == (initializers.Ones(),) * 2
    assert (norm.beta_initializer, norm.moving_mean_initializer) == (initializers.Zeros(),) * 2
    assert (LayerNormalization().axis, LayerNormalization().epsilon) == (-1, 1e-3)
    assert (GroupNormalization().groups, GroupNormalization().epsilon) == (32, 1e-3)
    assert (LeakyReLU().negative_slope, ELU().alpha, Softmax().axis) == (0.3, 1.0, -1)
    assert (ReLU().max_value, ReLU().negative_slope, ReLU().threshold) == (None, 0.0, 0.0)
    assert (MaxPooling2D().pool_size, MaxPooling2D(3).strides) == ((2, 2), (3, 3))
    assert ZeroPadding2D().padding == ((1, 1), (1, 1))
    assert (dense.name, dense.trainable, dense.input_shape, dense.dtype) == (None, True, None, None)


def test_what_is_given_is_kept_in_one_form():
    conv = Conv2D(
        np.int64(8), 3, [2, 1], "SAME", "channels_last", activation="swish",
        kernel_initializer="he_normal",
    )
    assert conv == Conv2D(
        8, (3, 3), (2, 1), "same", activation="silu", kernel_initializer=initializers.HeNormal()
    )
    assert type(conv.filters) is int
    assert Dense(2, kernel_initializer=None, bias_initializer=initializers.Ones) == Dense(
        2, bias_initializer="ones"
    )
    assert Dense(2, kernel_regularizer="l2").kernel_regularizer == regularizers.L2(0.01)
    assert Dense(2, input_shape=[5], dtype=np.float64) == Dense(2, input_dim=5, dtype="float64")
    assert Dense(2, input_shape=5).input_shape == (5,)
    assert Softmax([1]) == Softmax(1)
    assert LayerNormalization([1, 2]).axis == (1, 2)
    assert ZeroPadding2D([[1, 2], 3]).padding == ((1, 2), (3, 3))
    assert ReLU(6).max_value == 6.0
    assert LeakyReLU(alpha=0.2) == LeakyReLU(0.2)
    assert Dense(2, kernel_constraint=None, activity_regularizer=None) == Dense(2)
    assert BatchNormalization(renorm=False, synchronized=False) == BatchNormalization()


def test_input():
    assert (
        Input(shape=(28, 28, 1))
        == Input((28, 28, 1), batch_size=32)
        == Input(input_shape=(28, 28, 1))
    )
    assert Input([4], name="x").input_shape == Input(4).shape == (4,)
    with pytest.raises(
        LayerError, match=r"Input: needs rows of shape \(4,\), got rows of shape \(5,\)"
    ):
        Input(4).output_shape((5,))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_names(name):
    assert activation_name(name) == Activation(name).activation == Dense(1, name).activation == name


def test_activation_synonyms():
    others = (None, "identity", "logistic", "swish", "exp", "celu", "hard_swish")
    assert {a: activation_name(a) for a in others} == {
        None: "linear", "exp": "exponential", "identity": "linear", "logistic": "sigmoid",
        "swish": "silu", "celu": "elu", "hard_swish": "hard_silu",
    }
    assert set(ACTIVATIONS) == {
        *(
            "linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid",
            "tanh", "softmax", "softsign", "mish", "exponential", "relu6", "hard_sigmoid",
            "hard_silu", "hard_tanh", "hard_shrink", "soft_shrink", "tanh_shrink", "log_sigmoid",
            "sparse_plus", "sparse_sigmoid", "squareplus", "log_softmax",
        )
    }


# Windows


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (2, 1), (3, 1), (5, 1), (3, 2)])
def test_windows_fit_the_padded_row(size, dilation, stride, padding):
    dilation = dilation if stride == 1 else 1
    for n in range(5, 12):
        conv = Conv2D(1, (size, 1), (stride, 1), padding, dilation_rate=(dilation, 1))
        (before, after), sides = conv.pads((n, 1, 1))
        count, span = conv.output_shape((n, 1, 1))[0], (size - 1) * dilation + 1
        starts = range(0, before + n + after - span + 1, stride)
        assert len(starts) == count and sides == (0, 0)
        assert count == -(-n // stride) if padding == "same" else (before, after) == (0, 0)
        assert after - before in (0, 1)
        if dilation == 1:
            pool = MaxPooling2D((size, 1), (stride, 1), padding)
            assert (
                pool.pads((n, 1, 1))[0] == (before, after)
                and pool.output_shape((n, 1, 1))[0] == count
            )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_transposed_same_is_the_transpose_of_same(size, stride):
    for n in range(1, 5):
        transposed = Conv2DTranspose(1, (size, 1), (stride, 1), "same")
        out = transposed.output_shape((n, 1, 1))
        conv = Conv2D(1, (size, 1), (stride, 1), "same")
        assert conv.output_shape(out)[0] == n
        (before, after), _ = transposed.crops((n, 1, 1))
        # Where the stride is longer than the kernel, outputs that no input reaches stand at the
        # end.
        assert (before, max(after, 0)) == conv.pads(out)[0]
        assert (n - 1) * stride + size - before - after == out[0]


@pytest.mark.parametrize(
    ("layer", "n", "crops"),
    [
        (Conv2DTranspose(1, 3, 2), 3, (0, 0)),
        (Conv2DTranspose(1, 2, 3), 3, (0, -1)),
        (Conv2DTranspose(1, 3, 2, "valid", 1), 3, (0, -1)),
        (Conv2DTranspose(1, 3, 2, "same"), 3, (0, 1)),
        (Conv2DTranspose(1, 5, 2, "same"), 3, (1, 2)),
        (Conv2DTranspose(1, 5, 2, "same", 0), 3, (2, 2)),
        (Conv2DTranspose(1, 5, 2, "same", 1), 3, (1, 2)),
        (Conv2DTranspose(1, 3, 1, "same", dilation_rate=2), 3, (2, 2)),
    ],
)
def test_crops(layer, n, crops):
    assert layer.crops((n, n, 1)) == (crops, crops)


# Batch norm's switches


@pytest.mark.parametrize(
    ("arguments", "uses", "updates"),
    [
        ({}, False, True), ({"trainable": False}, True, False),
        ({"trainable": False, "use_running": False}, False, False),
        ({"trainable": False, "update_running": True}, True, True),
        ({"use_running": True}, True, True), ({"update_running": False}, False, False),
    ],
)
def test_batch_norm_switches(arguments, uses, updates):
    norm = BatchNormalization(**arguments)
    assert (norm.uses_running, norm.updates_running) == (uses, updates)
    assert norm.trainable_names((3,)) == (
        ("gamma", "beta") if arguments.get("trainable", True) else ()
    )


def test_low_momentum_warns_where_it_is_declared():
    with pytest.warns(
        UserWarning, match=r"weight of the old .* got 0.1; PyTorch's .* 0.1 is momentum=0.9 here"
    ) as caught:
        norm = BatchNormalization(momentum=0.1)
    assert [w.filename for w in caught] == [__file__]
    with pytest.warns(UserWarning, match="got 0.1") as caught:
        replace(norm, epsilon=0.5)
    assert [w.filename for w in caught] == [__file__]
    # None of these may warn: warnings are errors here.
    assert layer_from_config(norm.config()) == norm
    assert copy.deepcopy(norm) == pickle.loads(pickle.dumps(norm)) == norm
    BatchNormalization(momentum=0.5)
    assert BatchNormalization(momentum=None).momentum is None


def test_group_count():
    assert GroupNormalization(2).group_count((3, 4, 6)) == 2
    assert GroupNormalization(-1).group_count((3, 4, 6)) == 6
    assert GroupNormalization(1, axis=1).group_count((3, 4, 6)) == 1


def test_axes():
    assert LayerNormalization((-1, 1)).axes((5, 6, 7)) == (0, 2)
    assert Softmax(-2).axes((5, 6, 7)) == (1,)


# Weights


def test_initial_weights():
    conv = Conv2D(6, 3, kernel_initializer="he_normal", bias_initializer=initializers.Constant(0.5))
    got = conv.initial_weights((8, 8, 4), np.random.default_rng(3), np.float32)
    ref = initializers.HeNormal()((3, 3, 4, 6), np.random.default_rng(3), np.float32)
    assert list(got) == ["kernel", "bias"] and all(a.dtype == np.float32 for a in got.values())
    np.testing.assert_array_equal(got["kernel"], ref)
    np.testing.assert_array_equal(got["bias"], np.full(6, 0.5, np.float32))


@pytest.mark.parametrize(("layer", "row", "out", "weights"), SHAPES, ids=NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_initial_weights_of_every_layer(layer, row, out, weights, dtype):
    got = layer.initial_weights(row, np.random.default_rng(0), dtype)
    again = layer.initial_weights(row, np.random.default_rng(0), dtype)
    assert {name: array.shape for name, array in got.items()} == weights
    for name, array in got.items():
        assert array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
        np.testing.assert_array_equal(array, again[name])
        if not name.endswith("kernel") and name != "embeddings":
            assert (array == (name in ("gamma", "var"))).all()


def test_each_array_has_its_own_initializer():
    constants = {
        f"{name}_initializer": initializers.Constant(i) for i, name in enumerate(["gamma", "beta"])
    }
    norm = BatchNormalization(
        moving_mean_initializer=initializers.Constant(2),
        moving_variance_initializer=initializers.Constant(3),
        **constants,
    )
    got = norm.initial_weights((2,), np.random.default_rng(0), np.float64)
    assert {name: array.tolist() for name, array in got.items()} == {
        "gamma": [0, 0], "beta": [1, 1], "mean": [2, 2], "var": [3, 3],
    }
    depthwise = DepthwiseConv2D(
        2, depthwise_initializer="ones", bias_initializer=initializers.Constant(4)
    )
    got = depthwise.initial_weights((3, 3, 1), np.random.default_rng(0), np.float64)
    assert (got["kernel"] == 1).all() and (got["bias"] == 4).all()


def test_a_layers_kernels_differ_unless_the_initializer_is_seeded():
    rng = np.random.default_rng(0)
    free, seeded = Dense(3), Dense(3, kernel_initializer=initializers.GlorotUniform(seed=1))
    assert (
        free.initial_weights((4,), rng, "f8")["kernel"]
        != free.initial_weights((4,), rng, "f8")["kernel"]
    ).any()
    kernels = [seeded.initial_weights((4,), rng, "f8")["kernel"] for _ in range(2)]
    np.testing.assert_array_equal(*kernels)


def test_trainable_names():
    assert Dense(2).trainable_names((3,)) == ("kernel", "bias")
    assert Dense(2, trainable=False).trainable_names((3,)) == ()
    assert BatchNormalization(center=False).trainable_names((3,)) == ("gamma",)
    assert Flatten().trainable_names((3,)) == ()


def test_regularizers():
    l2 = regularizers.L2(0.5)
    assert Dense(2, kernel_regularizer=l2).regularizers((3,)) == {"kernel": l2}
    assert Dense(2, kernel_regularizer=l2, trainable=False).regularizers((3,)) == {}
    assert DepthwiseConv2D(
        2, depthwise_regularizer="l1", use_bias=False, bias_regularizer=l2
    ).regularizers((3, 3, 1)) == {"kernel": regularizers.L1()}
    assert BatchNormalization(gamma_regularizer=l2, beta_regularizer="l1").regularizers((3,)) == {
        "gamma": l2,
        "beta": regularizers.L1(),
    }


# The saved form

GIVEN = [
    Dense(
        3, "relu", False, "he_normal", "ones", "l2", regularizers.L1L2(0.1, 0.2), name="d",
        trainable=False,
    ),
    Dense(3, kernel_initializer=initializers.Orthogonal(2.0, seed=7), input_dim=4, dtype="float64"),
    Conv2D(
        6, (3, 5), 2, "same", groups=2, activation="selu", kernel_regularizer=regularizers.L1(0.25)
    ),
    Conv2DTranspose(4, 3, (2, 3), "same", (1, 2)),
    DepthwiseConv2D(
        (2, 3), 1, "valid", 2, None, (2, 3), depthwise_initializer=initializers.RandomUniform(-1, 1)
    ),
    BatchNormalization(
        [1], None, 1e-5, False, use_running=True, update_running=False, trainable=False
    ),
    LayerNormalization((1, 2), gamma_initializer=initializers.Constant(2)),
    GroupNormalization(-1, name="instance"),
    Dense(3, kernel_constraint=constraints.MaxNorm(3, [0]), bias_constraint="non_neg"),
    BatchNormalization(gamma_constraint=constraints.MinMaxNorm(0.5, 2.0, axis=None)),
    Softmax((1, 2)),
    Dropout(0.25, (None, 1, 3), 5),
    ZeroPadding2D(((1, 2), (3, 4))),
    Reshape((-1, 2)),
    Input((2, 3), name="x", dtype="float32"),
    MaxPooling2D((2, 3), (1, 2), "same"),
    layers.Conv1D(6, [3], (2,), "CAUSAL", activation="relu", kernel_regularizer="l2"),
    layers.SeparableConv2D(
        6, 3, (1, 2), "same", depth_multiplier=2, pointwise_initializer="he_normal",
        depthwise_regularizer=regularizers.L1(0.25),
    ),
    layers.Conv1DTranspose(4, 3, 3, "same", 2),
]


@pytest.mark.parametrize("layer", [*GIVEN, *(layer for layer, *_ in SHAPES)], ids=repr)
def test_saved_form(layer):
    text = json.dumps(layer.config())
    assert layer_from_config(json.loads(text)) == layer
    assert json.dumps(layer_from_config(json.loads(text)).config()) == text


def test_saved_form_of_the_first_version():
    assert Dense(4).config() == {
        "layer": "Dense", "units": 4, "activation": "linear", "use_bias": True,
    }
    assert Activation("relu").config() == {"layer": "Activation", "activation": "relu"}
    assert BatchNormalization().config() == {
        "layer": "BatchNormalization", "axis": -1, "momentum": 0.99, "epsilon": 1e-3,
        "center": True, "scale": True,
    }


def test_saved_form_holds_what_is_not_a_default():
    assert Conv2D(8, 3, padding="same", name="c").config() == {
        "layer": "Conv2D", "filters": 8, "kernel_size": [3, 3], "padding": "same", "name": "c",
    }
    config = Dense(1, kernel_initializer=initializers.HeNormal(seed=3)).config()
    assert config["kernel_initializer"] == {"class_name": "HeNormal", "config": {"seed": 3}}


def test_layer_from_config_leaves_the_config_alone():
    config = Conv2D(8, 3).config()
    before = copy.deepcopy(config)
    layer_from_config(config)
    assert config == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"layer": "Lambda"},
            "unknown layer 'Lambda'; known layers: Activation, Add, Average, AveragePooling1D, ",
        ),
        ({"layer": ["Dense"]}, r"unknown layer \['Dense'\]"),
        ({}, "unknown layer None"),
        ({"layer": "Dense", "units": 3, "code": 1}, "Dense does not take code"),
        ({"layer": "Dense", "units": 3, "input_dim": 1}, "Dense does not take input_dim"),
        ({"layer": "Conv2D", "filters": 3}, "Conv2D needs kernel_size"),
        (
            {"layer": "Dense", "units": 3, "kernel_initializer": {"class_name": "exec"}},
            "unknown initializer 'exec'",
        ),
        (
            {
                "layer": "Dense",
                "units": 3,
                "kernel_initializer": {"class_name": "Zeros", "config": {"a": 1}},
            },
            "not take a",
        ),
        (
            {"layer": "Dense", "units": 3, "kernel_regularizer": {"class_name": "L3"}},
            "unknown regularizer 'L3'",
        ),
    ],
)
def test_layer_from_config_refuses(config, message):
    with pytest.raises(LayerError, match=message):
        layer_from_config(config)


# What is refused

ODD_ARGUMENTS = [
    (lambda: Dense(0), "Dense: units must be a whole number of at least 1, got 0"),
    (lambda: Dense(2.0), "Dense: units must be a whole number of at least 1, got 2.0"),
    (lambda: Dense(True), "Dense: units must be a whole number"),
    (
        lambda: Dense(2, "rellu"),
        "Dense: activation: unknown activation 'rellu'; did you mean 'relu'",
    ),
    (
        lambda: Dense(2, "maxout"),
        "Dense: activation: unknown activation 'maxout'; choose one of linear, relu, ",
    ),
    (
        lambda: Dense(2, ReLU),
        "an activation is given by name, got .*ReLU.*add ReLU, .* as a layer of its own",
    ),
    (lambda: Dense(2, use_bias="yes"), "Dense: use_bias must be True or False, got 'yes'"),
    (
        lambda: Dense(2, kernel_initializer="he_norm"),
        "Dense: kernel_initializer: .* did you mean 'he_normal'",
    ),
    (lambda: Dense(2, kernel_initializer=3), "Dense: kernel_initializer: an initializer is a name"),
    (
        lambda: Dense(2, kernel_regularizer=0.1),
        "Dense: kernel_regularizer: a regularizer is a name",
    ),
    (
        lambda: Dense(2, activity_regularizer=max),
        "Dense: activity_regularizer: not supported, got .* leave it out",
    ),
    (lambda: Dense(2, name=""), "Dense: name must be None or a string that is not empty, got ''"),
    (lambda: Dense(2, trainable=1), "Dense: trainable must be True or False, got 1"),
    (
        lambda: Dense(2, dtype="float16"),
        "Dense: dtype must be None, 'float32' or 'float64', got 'float16'",
    ),
    (lambda: Dense(2, dtype="mixed_float16"), "Dense: dtype must be"),
    (
        lambda: Dense(2, input_shape=(None, 3)),
        r"Dense: input_shape must be the shape of one row, .* got \(None, 3\)",
    ),
    (lambda: Dense(2, input_dim=0), r"Dense: input_shape must be .* got \(0,\)"),
    (lambda: Input(), "Input: shape must be given"),
    (lambda: Input((2,), input_shape=(3,)), r"Input: shape \(2,\) and input_shape \(3,\) differ"),
    (lambda: Activation("relu_"), "did you mean 'relu'"),
    (lambda: ReLU(-1), "ReLU: max_value must be None or a finite number of at least 0, got -1"),
    (
        lambda: ReLU(negative_slope=None),
        "ReLU: negative_slope must be a finite number of at least 0, got None",
    ),
    (lambda: ReLU(threshold=-0.5), "ReLU: threshold must be"),
    (
        lambda: LeakyReLU(float("nan")),
        "LeakyReLU: negative_slope must be a finite number of at least 0, got nan",
    ),
    (lambda: ELU(-1), "ELU: alpha must be"),
    (lambda: Softmax("last"), "Softmax: axis must be a whole number or a list of them, got 'last'"),
    (lambda: Softmax(()), r"Softmax: axis must be .* got \(\)"),
    (lambda: Conv2D(0, 3), "Conv2D: filters must be a whole number of at least 1, got 0"),
    (
        lambda: Conv2D(4, (3, 3, 3)),
        r"Conv2D: kernel_size must be a whole number .* or two of them, .* got \(3, 3, 3\)",
    ),
    (lambda: Conv2D(4, "33"), "Conv2D: kernel_size must be .* got '33'"),
    (lambda: Conv2D(4, 3, 0), "Conv2D: strides must be .* got 0"),
    (lambda: Conv2D(4, 3, padding="full"), "Conv2D: padding must be 'valid' or 'same', got 'full'"),
    (
        lambda: Conv2D(4, 3, data_format="channels_first"),
        "Conv2D: data_format must be None or 'channels_last' .*transpose",
    ),
    (
        lambda: Conv2D(4, 3, strides=2, dilation_rate=2),
        "Conv2D: strides and dilation_rate cannot both be above 1",
    ),
    (
        lambda: Conv2D(4, 3, groups=3),
        "Conv2D: filters must be a multiple of groups, got filters 4 and groups 3",
    ),
    (
        lambda: DepthwiseConv2D(3, 2, dilation_rate=2),
        "DepthwiseConv2D: strides and dilation_rate cannot both",
    ),
    (lambda: DepthwiseConv2D(3, depth_multiplier=0), "DepthwiseConv2D: depth_multiplier must be"),
    (
        lambda: Conv2DTranspose(4, 3, 2, output_padding=2),
        r"output_padding must lie below strides, got \(2, 2\) and \(2, 2\)",
    ),
    (
        lambda: Conv2DTranspose(4, 3, 2, output_padding=-1),
        "Conv2DTranspose: output_padding must be None, a whole number",
    ),
    (lambda: MaxPooling2D(0), "MaxPooling2D: pool_size must be"),
    (
        lambda: AveragePooling2D(2, 0),
        "AveragePooling2D: strides must be None, a whole number of at least 1",
    ),
    (lambda: GlobalMaxPooling2D("channels_first"), "GlobalMaxPooling2D: data_format must be"),
    (lambda: Flatten("channels_first"), "Flatten: data_format must be"),
    (
        lambda: BatchNormalization(1.5),
        "BatchNormalization: axis must be a whole number, or a list of one, got 1.5",
    ),
    (lambda: BatchNormalization([1, 2]), r"BatchNormalization: axis must be .* got \[1, 2\]"),
    (
        lambda: BatchNormalization(momentum=1.5),
        r"momentum must be None or lie in \[0, 1\], got 1.5",
    ),
    (
        lambda: BatchNormalization(epsilon=0),
        "BatchNormalization: epsilon must be a finite number above 0, got 0",
    ),
    (lambda: BatchNormalization(epsilon=None), "BatchNormalization: epsilon must be .* got None"),
    (
        lambda: BatchNormalization(renorm=True),
        "BatchNormalization: renorm: not supported, got True",
    ),
    (lambda: BatchNormalization(use_running=1), "use_running must be True, False or None, got 1"),
    (lambda: LayerNormalization(None), "LayerNormalization: axis must be"),
    (
        lambda: GroupNormalization(0),
        "GroupNormalization: groups must be a whole number of at least 1, or -1 .* got 0",
    ),
    (
        lambda: Reshape((-1, -1)),
        r"Reshape: target_shape must be .* at most one of them -1, got \(-1, -1\)",
    ),
    (lambda: Reshape((3, 0)), "Reshape: target_shape must be"),
    (
        lambda: UpSampling2D(0),
        r"UpSampling2D: size must be a whole number of at least 1 or two of them, .* got 0",
    ),
    (
        lambda: UpSampling2D(2, interpolation="bilinear"),
        r"UpSampling2D: interpolation must be 'nearest' .* got 'bilinear'",
    ),
    (
        lambda: ZeroPadding2D(-1),
        "ZeroPadding2D: padding must be a whole number of at least 0, .* got -1",
    ),
    (lambda: ZeroPadding2D(((1, 2, 3), 1)), "ZeroPadding2D: padding must be"),
    (
        lambda: layers.Conv1D(2, (3, 3)),
        r"Conv1D: kernel_size must be a whole number of at least 1, or a list of one, got \(3, 3\)",
    ),
    (
        lambda: layers.Conv1D(2, 3, padding="full"),
        "Conv1D: padding must be 'valid', 'same' or 'causal', got 'full'",
    ),
    (
        lambda: layers.SeparableConv1D(2, 3, padding="causal"),
        "SeparableConv1D: padding must be 'valid' or 'same', got 'causal'",
    ),
    (
        lambda: layers.Conv1D(2, 3, data_format="channels_first"),
        r"Conv1D: data_format must be None or 'channels_last' .*\(rows, steps, channels\)",
    ),
    (
        lambda: layers.Conv1D(4, 3, 2, dilation_rate=[2]),
        "Conv1D: strides and dilation_rate cannot both be above 1, got 2 and 2",
    ),
    (
        lambda: layers.Conv1D(4, 3, groups=3),
        "Conv1D: filters must be a multiple of groups, got filters 4 and groups 3",
    ),
    (
        lambda: layers.SeparableConv2D(4, 3, (1, 2), dilation_rate=2),
        "SeparableConv2D: strides and dilation_rate cannot both be above 1",
    ),
    (
        lambda: layers.Conv1DTranspose(4, 3, 2, output_padding=2),
        "Conv1DTranspose: output_padding must lie below strides, got 2 and 2",
    ),
    (lambda: layers.MaxPooling1D((2, 2)), "MaxPooling1D: pool_size must be a whole number"),
    (lambda: layers.AveragePooling1D(2, 0), "AveragePooling1D: strides must be None, a whole"),
    (
        lambda: layers.ZeroPadding1D((1, -1)),
        r"ZeroPadding1D: padding must be .* two of them, \(before, after\), got \(1, -1\)",
    ),
    (lambda: layers.Cropping1D((1, 2, 3)), r"Cropping1D: cropping must be .* got \(1, 2, 3\)"),
    (lambda: layers.Cropping2D(-1), "Cropping2D: cropping must be a whole number of at least 0"),
    (lambda: layers.UpSampling1D(0), "UpSampling1D: size must be a whole number of at least 1"),
    (
        lambda: layers.Permute((0, 1)),
        r"Permute: dims must be the whole numbers from 1 on, each once, .* got \(0, 1\)",
    ),
    (lambda: layers.Permute((1, 3)), "Permute: dims must be"),
    (lambda: layers.Permute(()), "Permute: dims must be"),
    (lambda: layers.RepeatVector(0), "RepeatVector: n must be a whole number of at least 1, got 0"),
    (lambda: layers.SpatialDropout1D(1.5), "SpatialDropout1D: rate must be a number in"),
    (
        lambda: layers.SpatialDropout2D(0.5, "channels_first"),
        "SpatialDropout2D: data_format must be None",
    ),
    (lambda: Dropout(1.5), r"Dropout: rate must be a number in \[0, 1\], got 1.5"),
    (lambda: Dropout(0.5, 3), "Dropout: noise_shape must be None or a list"),
    (
        lambda: Dropout(0.5, seed=-1),
        "Dropout: seed must be None or a whole number of at least 0, got -1",
    ),
    (
        lambda: GaussianNoise(-0.1),
        "GaussianNoise: stddev must be a finite number of at least 0, got -0.1",
    ),
]


@pytest.mark.parametrize(("make", "message"), ODD_ARGUMENTS, ids=[m[:40] for _, m in ODD_ARGUMENTS])
def test_refuses_arguments(make, message):
    with pytest.raises(LayerError, match=message):
        make()


ODD_ROWS = [
    (Dense(2), (), r"Dense: needs rows of one axis or more, got rows of shape \(\)"),
    (
        Conv2D(2, 3),
        (8,),
        r"Conv2D: needs rows of shape \(height, width, channels\), got rows of shape \(8,\)",
    ),
    (Conv2D(2, 3, name="stem"), (8, 8), "Conv2D 'stem': needs rows of shape"),
    (
        Conv2D(2, 3),
        (8, 2, 1),
        r"needs rows of height 3 and width 3 at least, got rows of shape \(8, 2, 1\); use padding",
    ),
    (Conv2D(2, 3, dilation_rate=4), (8, 9, 1), "needs rows of height 9 and width 9 at least"),
    (
        Conv2D(4, 3, groups=2),
        (8, 8, 3),
        r"channels that is a multiple of groups 2, got rows of shape \(8, 8, 3\)",
    ),
    (DepthwiseConv2D(3), (2, 2, 1), "DepthwiseConv2D: needs rows of height 3"),
    (
        Conv2DTranspose(2, 2, 2, "same", 0),
        (1, 4, 3),
        r"Conv2DTranspose: rows of shape \(1, 4, 3\) leave no output",
    ),
    (Conv2DTranspose(2, 2), (4, 3), "Conv2DTranspose: needs rows of shape"),
    (MaxPooling2D(3), (2, 8, 1), "MaxPooling2D: needs rows of height 3 and width 3 at least"),
    (AveragePooling2D(), (8, 8), "AveragePooling2D: needs rows of shape"),
    (GlobalAveragePooling2D(), (8,), "GlobalAveragePooling2D: needs rows of shape"),
    (GlobalMaxPooling2D(), (8,), "GlobalMaxPooling2D: needs rows of shape"),
    (
        BatchNormalization(2),
        (8,),
        r"BatchNormalization: axis 2 is not an axis of rows of shape \(8,\)",
    ),
    (BatchNormalization(0), (8,), r"axis 0 is not an axis .*axis 0 is the batch"),
    (LayerNormalization((1, 3)), (8, 4), "LayerNormalization: axis 3 is not an axis"),
    (
        LayerNormalization((1, -2)),
        (8, 4),
        r"LayerNormalization: axis \(1, -2\) names an axis of rows .* twice",
    ),
    (Softmax(0), (8,), "Softmax: axis 0 is not an axis"),
    (
        GroupNormalization(),
        (8, 8, 16),
        "GroupNormalization: needs .* multiple of groups 32, got 16 channels",
    ),
    (
        Reshape((3, 3)),
        (8,),
        r"Reshape: needs rows that fill \(3, 3\), got rows of shape \(8,\) with 8 values",
    ),
    (Reshape((3, -1)), (8,), "Reshape: needs rows that fill"),
    (Reshape((2, 2)), (8,), "Reshape: needs rows that fill"),
    (UpSampling2D(), (8,), "UpSampling2D: needs rows of shape"),
    (ZeroPadding2D(), (8,), "ZeroPadding2D: needs rows of shape"),
    (
        layers.Conv1D(2, 3), (8,),
        r"Conv1D: needs rows of shape \(steps, channels\), got rows of shape \(8,\)",
    ),
    (
        layers.Conv1D(2, 3, dilation_rate=2), (4, 3),
        r"Conv1D: needs rows of 5 steps at least, got rows of shape \(4, 3\); use padding='same'",
    ),
    (layers.Conv1D(2, 3, groups=2), (8, 3), "Conv1D: needs a number of channels that is a multiple"),
    (layers.Conv1D(2, 3), (8, 8, 3), r"Conv1D: needs rows of shape \(steps, channels\)"),
    (layers.Conv1DTranspose(2, 2, 2, "same", 0), (1, 3), "Conv1DTranspose: .* leave no output"),
    (layers.SeparableConv1D(2, 3), (2, 3), "SeparableConv1D: needs rows of 3 steps at least"),
    (layers.SeparableConv2D(2, 3), (8, 3), "SeparableConv2D: needs rows of shape"),
    (layers.DepthwiseConv1D(3), (2, 3), "DepthwiseConv1D: needs rows of 3 steps at least"),
    (layers.MaxPooling1D(3), (2, 3), "MaxPooling1D: needs rows of 3 steps at least"),
    (layers.AveragePooling1D(3), (8, 8, 3), "AveragePooling1D: needs rows of shape"),
    (layers.GlobalMaxPooling1D(), (8,), "GlobalMaxPooling1D: needs rows of shape"),
    (layers.GlobalAveragePooling1D(), (8, 8, 3), "GlobalAveragePooling1D: needs rows of shape"),
    (
        layers.Cropping1D((3, 5)), (8, 3),
        r"Cropping1D: cropping \(3, 5\) leaves nothing of rows of shape \(8, 3\)",
    ),
    (
        layers.Cropping2D(2), (4, 8, 3),
        r"Cropping2D: cropping \(\(2, 2\), \(2, 2\)\) leaves nothing of rows",
    ),
    (layers.ZeroPadding1D(), (8,), "ZeroPadding1D: needs rows of shape"),
    (layers.UpSampling1D(), (8,), "UpSampling1D: needs rows of shape"),
    (
        layers.Permute((2, 1)), (8,),
        r"Permute: dims \(2, 1\) are of rows of 2 axes, got rows of shape \(8,\)",
    ),
    (layers.RepeatVector(2), (8, 3), "RepeatVector: needs rows of one axis, got"),
    (layers.SpatialDropout1D(0.5), (8,), "SpatialDropout1D: needs rows of shape"),
    (layers.SpatialDropout2D(0.5), (8, 3), "SpatialDropout2D: needs rows of shape"),
    (Dropout(0.5, (None, 2)), (8,), r"Dropout: noise_shape \(None, 2\) does not fit"),
    (Dropout(0.5, (None, 1, 1)), (8,), "Dropout: noise_shape .* does not fit"),
]


@pytest.mark.parametrize(
    ("layer", "row", "message"), ODD_ROWS, ids=[f"{r[0]!r}-{r[1]}" for r in ODD_ROWS]
)
def test_refuses_rows(layer, row, message):
    with pytest.raises(LayerError, match=message):
        layer.output_shape(row)


@pytest.mark.parametrize(
    ("layer", "row"),
    [(r[0], r[1]) for r in ODD_ROWS if type(r[0]).__name__.endswith("Normalization")]
    + [
        (Dense(2), ()), (Conv2D(2, 3), (8,)), (Conv2D(4, 3, groups=2), (8, 8, 3)),
        (Conv2DTranspose(2, 2), (4, 3)),
    ],
    ids=repr,
)
def test_weight_shapes_refuse_rows_too(layer, row):
    with pytest.raises(LayerError):
        layer.weight_shapes(row)


# A specification is a value


@pytest.mark.parametrize("layer", [*GIVEN, *(layer for layer, *_ in SHAPES)], ids=repr)
def test_layers_are_values(layer):
    same = pickle.loads(pickle.dumps(layer))
    assert same == layer and hash(same) == hash(layer)
    assert copy.deepcopy(layer) == replace(layer) == layer
    assert replace(layer, name="other") != layer
    with pytest.raises(FrozenInstanceError):
        layer.name = "other"


def test_repr_shows_what_is_not_a_default():
    assert repr(Dense(3, "relu", name="head")) == "Dense(units=3, activation='relu', name='head')"
    assert repr(Flatten()) == "Flatten()"
    assert repr(Input((2, 3))) == "Input(shape=(2, 3))"


def test_no_layer_holds_an_array():
    for layer, *_ in SHAPES:
        assert not any(
            isinstance(getattr(layer, f.name), np.ndarray | np.generic) for f in fields(layer)
        )
