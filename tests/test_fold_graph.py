"""The fold engine on its graph: what a batch norm goes through, who takes it in, and who must not.

Against the oracle.
"""

from collections import Counter
from dataclasses import dataclass

import naive_layers as naive
import numpy as np
import pytest

import nbbn
from nbbn import operations as op
from nbbn.fallback import NumpyBlocks
from nbbn.fold import FoldRefused, fold_checked, fold_network
from nbbn.fold import passes as carries
from nbbn.fold.arithmetic import Affine, compose
from nbbn.fold.engine import fold_graph, folded_bias, folded_kernel
from nbbn.fold.graph import Graph, Linear, Node, Norm, Pass
from nbbn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    LayerNormalization,
    MaxPooling2D,
    ReLU,
    Reshape,
    UpSampling2D,
    ZeroPadding2D,
)
from nbbn.network import Network
from nbbn.predictor import Predictor

IMAGE = (7, 6, 4)
BN = BatchNormalization()
RELU = Activation("relu")


def make(layers, row=IMAGE, seed=0, gains=None):
    """A float64 network; `gains` "positive" makes all of its batch norms increasing."""
    net = naive.NaiveNetwork(layers, row).draw(np.random.default_rng(seed))
    for arrays in net.weights:
        if "gamma" in arrays:
            arrays["gamma"] *= (
                np.where(np.arange(arrays["gamma"].size) % 2, -1, 1) if gains is None else 1
            )
            arrays["gamma"] = np.abs(arrays["gamma"]) if gains == "positive" else arrays["gamma"]
    return Network(tuple(layers), row, net.weights, np.dtype(float))


def outputs(network, rows=5):
    x = np.random.default_rng(1).normal(size=(rows, *network.input_shape))
    return naive.NaiveNetwork(network.layers, network.input_shape, network.weights).forward(
        x, False
    )


def assert_folds(network, *into):
    """All batch norms go, into these layers and directions, and the outputs stay."""
    folded, report = fold_network(network, strict=True)
    assert [(e.into, e.direction) for e in report.entries] == list(into)
    assert not any(isinstance(layer, BatchNormalization) for layer in folded.check().layers)
    ref = outputs(network)
    np.testing.assert_allclose(outputs(folded), ref, rtol=0, atol=1e-12 * np.abs(ref).max())
    return folded


BACKWARD = {
    "dense": (Dense(5), (4,)),
    "dense on images": (Dense(5), IMAGE),
    "convolution": (Conv2D(6, (3, 2), strides=(2, 1), padding="same"), IMAGE),
    "grouped": (Conv2D(6, 2, groups=2), IMAGE),
    "depthwise": (DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same"), IMAGE),
    "transposed, in != out": (Conv2DTranspose(3, (3, 2), strides=2, padding="same"), IMAGE),
    "transposed, in == out": (Conv2DTranspose(4, 2), IMAGE),
}


@pytest.mark.parametrize(("layer", "row"), BACKWARD.values(), ids=BACKWARD)
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
def test_into_the_layer_before(layer, row, use_bias):
    """The axis of the output channels differs; an old bias is scaled as well as shifted."""
    layer = type(layer)(**{**vars_of(layer), "use_bias": use_bias})
    assert_folds(make([layer, BN, RELU], row), (name_of(layer), "backward"))


def vars_of(layer):
    return {
        name: value for name, value in vars(layer).items() if name not in ("input_shape", "name")
    }


def name_of(layer):
    return {
        "Conv2D": "conv2d", "DepthwiseConv2D": "depthwise_conv2d",
        "Conv2DTranspose": "conv2d_transpose", "Dense": "dense",
    }[type(layer).__name__]


FORWARD = {
    "dense": ([Dense(5)], (4,), "dense"),
    "convolution": ([Conv2D(6, (3, 2), strides=2)], IMAGE, "conv2d"),
    "dilated": ([Conv2D(6, 2, dilation_rate=2)], IMAGE, "conv2d"),
    "grouped": ([Conv2D(6, 2, groups=2)], IMAGE, "conv2d"),
    "depthwise": ([DepthwiseConv2D(2, depth_multiplier=2)], IMAGE, "depthwise_conv2d"),
    "same padding that pads nothing": ([Conv2D(6, 1, padding="same")], IMAGE, "conv2d"),
    "flatten": ([Flatten(), Dense(5)], IMAGE, "dense"),
    "dropout and flatten": ([Dropout(0.5), Flatten(), Dropout(0.5), Dense(5)], IMAGE, "dense"),
    "reshape that keeps the channels": ([Reshape((42, 4)), Dense(5)], IMAGE, "dense"),
    "reshape to rows": ([Reshape((168,)), Dense(5)], IMAGE, "dense"),
    "average pooling": ([AveragePooling2D(2), Conv2D(3, 2)], IMAGE, "conv2d"),
    "average pooling over the border": (
        [AveragePooling2D(3, strides=2, padding="same"), Conv2D(3, 2)], IMAGE, "conv2d",
    ),
    "global average": ([GlobalAveragePooling2D(), Dense(3)], IMAGE, "dense"),
    "global average that keeps the axes": (
        [GlobalAveragePooling2D(keepdims=True), Conv2D(3, 1)], IMAGE, "conv2d",
    ),
    "all of it": (
        [AveragePooling2D(2), GlobalAveragePooling2D(keepdims=True), Flatten(), Dense(3)],
        IMAGE,
        "dense",
    ),
}


@pytest.mark.parametrize(("layers", "row", "into"), FORWARD.values(), ids=FORWARD)
def test_into_a_layer_behind(layers, row, into):
    """Past what an affine map changes places with.

    The channels of every second gain are negative.
    """
    assert_folds(make([RELU, BN, *layers, RELU], row), (into, "forward"))


@pytest.mark.parametrize(
    "pool",
    [
        MaxPooling2D(2),
        MaxPooling2D(3, strides=2, padding="same"),
        GlobalMaxPooling2D(keepdims=True),
    ],
)
def test_maxima_let_gains_through_that_are_not_negative(pool):
    network = make([RELU, BN, pool, Conv2D(3, 1)], gains="positive")
    network.weights[1]["gamma"][1] = 0
    assert_folds(network, ("conv2d", "forward"))


def test_maxima_stop_a_negative_gain():
    """max(-x) is -min(x): the channels are named."""
    folded, report = fold_network(make([RELU, BN, MaxPooling2D(2), Conv2D(3, 1)]))
    assert (
        "max_pooling2d takes maxima, and the gain of 2 channels (1, 3) is negative"
        in report.entries[0].reason
    )
    assert folded.layers[1] == BN


def test_a_batch_norm_behind_a_pool_takes_in_the_one_before():
    network = make([RELU, BN, AveragePooling2D(2), BN, Conv2D(3, 2)])
    assert_folds(network, ("conv2d", "forward"), ("conv2d", "forward"))
    folded, report = fold_network(make([RELU, BN, AveragePooling2D(2), BN, RELU]))
    assert [(e.into, e.direction) for e in report.entries] == [
        ("batch_normalization_1", "merged"),
        (None, None),
    ]
    network = make([RELU, BN, AveragePooling2D(2), BN, RELU])
    np.testing.assert_allclose(outputs(folded), outputs(network), atol=1e-12)


def test_runs_to_a_fixpoint():
    """conv, BN, BN, ReLU, BN, pool, BN, flatten, BN, dense, BN: seven become none."""
    layers = [
        Conv2D(4, 2), BN, BN, RELU, BN, AveragePooling2D(2), BN, Flatten(), BN, Dense(3), BN, RELU,
        BN, Dense(2),
    ]
    assert_folds(
        make(layers), *[("conv2d", "backward")] * 2, *[("dense", "forward")] * 3,
        ("dense", "backward"), ("dense_1", "forward"),
    )


# What must stay, and the reason
STAY = {
    "conv, relu, bn: not backwards across the relu": (
        [Conv2D(4, 2), RELU, BN], IMAGE, "activation is relu, which is not linear",
    ),
    "conv with an activation of its own": (
        [Conv2D(4, 2, activation="relu"), BN], IMAGE, "conv2d ends in relu, which is not",
    ),
    "bn, padded convolution": (
        [BN, Conv2D(4, 3, padding="same")],
        IMAGE,
        "conv2d pads with zeros, which the batch norm would",
    ),
    "bn, padded depthwise": (
        [BN, DepthwiseConv2D(2, padding="same")], IMAGE, "depthwise_conv2d pads with zeros",
    ),
    "bn, zero padding": (
        [BN, ZeroPadding2D(1), Conv2D(4, 2)],
        IMAGE,
        "zero_padding2d pads with zeros, which the batch norm",
    ),
    "bn, transposed": (
        [BN, Conv2DTranspose(4, 2)], IMAGE, "is a transposed convolution, whose border sees fewer",
    ),
    "bn over another axis": (
        [Conv2D(6, 2), BatchNormalization(axis=1)],
        IMAGE,
        "normalises axis 1, conv2d acts on axis 3",
    ),
    "the same, and sizes match": (
        [Dense(6), BatchNormalization(axis=-2)],
        IMAGE,
        "it normalises axis 2, dense acts on axis 3",
    ),
    "a pool over the axis of the bn": (
        [BatchNormalization(axis=2), AveragePooling2D(2), Conv2D(2, 1)],
        IMAGE,
        "average_pooling2d reduces axis 2",
    ),
    "a reshape that mixes the channels": (
        [BN, Reshape((12, 14)), Dense(2)], IMAGE, "leaves no axis of channels",
    ),
    "a layer without a rule": (
        [BN, ReLU()], IMAGE, "re_lu is a ReLU, which takes in no batch norm",
    ),
}


@pytest.mark.parametrize(("layers", "row", "reason"), STAY.values(), ids=STAY)
def test_stays_with_the_reason(layers, row, reason):
    network = make(layers, row)
    folded, report = fold_network(network)
    assert report.n_folded == 0 and reason in report.entries[0].reason
    np.testing.assert_array_equal(outputs(folded), outputs(network))
    with pytest.raises(FoldRefused, match="1 of 1 batch norms cannot be folded"):
        fold_network(network, strict=True)


def test_a_reshape_may_carry_a_batch_norm_over_another_axis():
    """Each flattened value knows its row of the image, so the batch norm need not be over the last
    axis.
    """
    assert_folds(
        make([RELU, BatchNormalization(axis=1), Flatten(), Dense(3)]), ("dense", "forward")
    )


@dataclass(frozen=True)
class Permuted(Layer):
    """Axis `k` of what comes out is axis `order[k]` of a row."""

    order: tuple[int, ...] = ()

    def operations(self, input_shape, *others):
        if len(input_shape) != len(self.order):
            raise self.error(f"needs rows of {len(self.order)} axes")
        return [op.Permute(self.order)]


@dataclass(frozen=True)
class Repeated(Layer):
    """Each number along one axis several times."""

    times: int = 2
    axis: int = -1

    def operations(self, input_shape, *others):
        times = [1] * len(input_shape)
        times[self.axis] = self.times
        return [op.Repeat(tuple(times))]


MOVES = {
    "dense, reshape, bn": ([Dense(12), Reshape((2, 3, 2)), BN, RELU], (5,), ("dense", "backward")),
    "dense, reshape, bn over another axis": (
        [Dense(12), Reshape((2, 3, 2)), BatchNormalization(axis=2), RELU],
        (5,),
        ("dense", "backward"),
    ),
    "conv, flatten of one pixel, bn": (
        [Conv2D(5, (7, 6)), Flatten(), BN], IMAGE, ("conv2d", "backward"),
    ),
    "dense, permute, bn": (
        [Dense(5), Permuted((2, 0, 1)), BatchNormalization(axis=1), RELU],
        IMAGE,
        ("dense", "backward"),
    ),
    "permutes and reshapes": (
        [Dense(6), Permuted((1, 2, 0)), Reshape((6, 2, 3, 7)), BatchNormalization(axis=3)],
        IMAGE,
        ("dense", "backward"),
    ),
    "permutes and reshapes, of another axis": (
        [Dense(6), Permuted((1, 2, 0)), Reshape((2, 3, 6, 7)), BatchNormalization(axis=2)],
        IMAGE,
        None,
    ),
    "bn, permute, dense": (
        [RELU, BatchNormalization(axis=1), Permuted((1, 2, 0)), Dense(3)],
        IMAGE,
        ("dense", "forward"),
    ),
    "rows of five axes": (
        [RELU, BatchNormalization(axis=2), Reshape((4, 3, 10)), Permuted((0, 2, 1)), Dense(3)],
        (2, 2, 3, 5, 2),
        None,
    ),
    "rows of five axes, and it goes": (
        [RELU, BatchNormalization(axis=4), Reshape((12, 5, 2)), Permuted((0, 2, 1)), Dense(3)],
        (2, 2, 3, 5, 2),
        ("dense", "forward"),
    ),
    "bn, repeat, dense": ([RELU, BN, Repeated(3), Dense(3)], (4,), ("dense", "forward")),
    "bn over rows, repeat, dense": (
        [RELU, BatchNormalization(axis=1), Repeated(3), Flatten(), Dense(3)],
        (5, 4),
        ("dense", "forward"),
    ),
    "conv, up sampling, bn": (
        [Conv2D(5, 2), UpSampling2D((1, 3)), BN, RELU], IMAGE, ("conv2d", "backward"),
    ),
    "bn, up sampling, conv": (
        [RELU, BN, UpSampling2D(), Conv2D(3, 2)], IMAGE, ("conv2d", "forward"),
    ),
    "bn over rows, repeat of rows, dense": (
        [RELU, BatchNormalization(axis=1), Repeated(3, 0), Permuted((1, 0)), Dense(3)],
        (5, 4),
        ("dense", "forward"),
    ),
    "dense, repeat of what is normalised": ([Dense(4), Repeated(2), BN], (3,), None),
    "two over one axis of many": (
        [RELU, BatchNormalization(axis=3), BatchNormalization(axis=3), RELU], (2, 2, 3, 5, 2),
        ("batch_normalization_1", "merged"), None,
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name):
    """Norms over any axis go through what moves values, in both directions."""
    layers, row, *where = MOVES[name]
    network = make_any(layers, row)
    folded, report = fold_network(network)
    found = [(e.into, e.direction) if e.into else None for e in report.entries]
    assert found == where
    assert [e.folded for e in report.entries] == [into is not None for into in where]
    ref = on_numpy(network)
    np.testing.assert_allclose(
        on_numpy(folded.check()), ref, rtol=0, atol=1e-12 * np.abs(ref).max()
    )


def make_any(layers, row, seed=0):
    """A float64 network of any layers, which the oracle need not know; some gains are negative."""
    rng, weights, shape = np.random.default_rng(seed), [], row
    for layer in layers:
        weights.append({})
        for name, size in layer.weight_shapes(shape).items():
            spread = 1 / np.sqrt(max(np.prod(size[:-1]), 1)) if name == "kernel" else 0.3
            array = rng.uniform(0.5, 2, size) if name == "var" else rng.normal(0, spread, size)
            array = (1 + array) * rng.choice((-1, 1), size) if name == "gamma" else array
            weights[-1][name] = array
        shape = layer.output_shape(shape)
    return Network(tuple(layers), row, weights, np.dtype(float)).check()


def on_numpy(network, rows=5):
    x = np.random.default_rng(1).normal(size=(rows, *network.input_shape))
    return NumpyBlocks(network).run(x)


def test_a_flatten_mixes_what_a_batch_norm_behind_it_tells_apart():
    network = make([Conv2D(4, 2), Flatten(), BN])
    _, report = fold_network(network)
    reason = "before it: flatten reshapes (120,) to (6, 5, 4), which leaves no axis of channels"
    assert reason in report.entries[0].reason


@dataclass(frozen=True)
class NormOfParts(BatchNormalization):
    """A batch norm of rows that it leaves in another shape."""

    def operations(self, input_shape, *others):
        return [*super().operations(input_shape), op.Reshape((*input_shape, 1))]


@dataclass(frozen=True)
class Twice(Dense):
    """Its kernel is read twice."""

    def operations(self, input_shape, *others):
        return super().operations(input_shape) * 2


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([Dense(4), NormOfParts()], "norm_of_parts does more than to normalise"),
        ([Twice(4), BN], "before it: twice reads its arrays 2 times"),
        ([BN, Twice(4)], "after it: twice reads its arrays 2 times"),
    ],
)
def test_what_a_layer_cannot_be_without_stays(layers, reason):
    network = make_any(layers, (4,))
    folded, report = fold_network(network)
    assert report.n_folded == 0 and reason in report.entries[0].reason
    np.testing.assert_array_equal(on_numpy(folded), on_numpy(network))


def test_what_does_nothing_is_left_out():
    layers = [
        Dropout(0.5), Dense(4), ZeroPadding2D(0), Activation("linear"), Flatten(), Flatten(), RELU
    ]  # fmt: skip
    folded, _ = fold_network(make(layers))
    assert [type(layer) for layer in folded.check().layers] == [Dense, Flatten, Activation]


def test_layers_of_one_name_are_told_apart():
    folded, report = fold_network(
        make([Dense(4, name="a"), BatchNormalization(name="a"), Dense(3, name="a_1")], (4,))
    )
    assert [(e.name, e.into) for e in report.entries] == [("a_1", "a")]
    assert len(folded.layers) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_of_images_folds_on_the_engine(dtype):
    layers = [
        Conv2D(6, 3, activation="relu"), BN, AveragePooling2D(2), Flatten(), Dense(8), BN, RELU, BN,
        Dense(3, "softmax"),
    ]
    network = make(layers)
    network = Network(
        network.layers, IMAGE,
        [{k: a.astype(dtype) for k, a in w.items()} for w in network.weights], np.dtype(dtype),
    )
    folded, report = fold_checked(network, strict=True, run=Predictor)
    assert (report.n_folded, report.rows_checked) == (3, 64)
    assert 0 < report.max_abs_error <= report.bound
    assert nbbn.folded_model.FoldedModel(folded).predict(np.ones((2, *IMAGE), dtype)).shape == (
        2,
        3,
    )


# The graph itself: readers, outputs, copies


def affine(seed, channels=3):
    rng = np.random.default_rng(seed)
    return Affine(
        rng.normal(1, 0.5, channels), rng.normal(size=channels), rng.normal(size=channels)
    )


def norm(name, x, y, **more):
    return Norm(name, (x,), (y,), affine=affine(0), axis=1, var=np.ones(3), epsilon=1e-3, **more)


def dense(name, x, y, kernel=None, **more):
    kernel = np.eye(3) if kernel is None else kernel
    return Linear(
        name, (x,), (y,), axis_in=1, axis_out=1, channels_in=3, channels_out=3,
        kernel=lambda: kernel, bias=np.zeros(3), **more,
    )


def test_several_readers_each_take_in_a_copy():
    """A batch norm read by two layers leaves if both take it in.

    A kernel that they share is not written.
    """
    kernel = np.random.default_rng(3).normal(size=(3, 3))
    kernel.setflags(write=False)
    graph = Graph(
        [norm("bn", "x", "y"), dense("a", "y", "p", kernel), dense("b", "y", "q", kernel)],
        ["p", "q"],
    )
    report = fold_graph(graph, strict=True)
    assert (report.entries[0].into, report.entries[0].direction) == ("a, b", "forward")
    for name in "ab":
        assert graph.nodes[name].inputs == ("x",)
        gain, mean, offset = affine(0)
        np.testing.assert_allclose(folded_kernel(graph.nodes[name]), kernel * gain[:, None])
        np.testing.assert_allclose(folded_bias(graph.nodes[name]), (offset - mean * gain) @ kernel)


def test_one_reader_that_refuses_keeps_it():
    graph = Graph(
        [norm("bn", "x", "y"), dense("a", "y", "p"), Node("add", ("y", "p"), ("z",), "is an Add")],
        ["z"],
    )
    report = fold_graph(graph)
    assert report.entries[0].reason == "before it: there is no layer; after it: add is an Add"
    assert not graph.nodes["a"].changed and graph.nodes["bn"].outputs == ("y",)


REFUSED = {
    "a second reader": (
        [dense("a", "x", "y"), norm("bn", "y", "z"), Node("add", ("y", "z"), ("o",), "is an Add")],
        ["o"],
        "the output of a is also read by add",
    ),
    "an output of the graph": (
        [dense("a", "x", "y"), norm("bn", "y", "z")], ["y", "z"], "the output of a is an output",
    ),
    "an output behind": (
        [norm("bn", "x", "y"), dense("a", "y", "z")],
        ["y", "z"],
        "the output of bn is an output of the graph",
    ),
    "weights that are fixed": (
        [dense("a", "x", "y", obstacle="quantised"), norm("bn", "y", "z")], ["z"], "quantised",
    ),
    "an axis that is not known": (
        [Linear("a", ("x",), ("y",), channels_out=3), norm("bn", "y", "z")],
        ["z"],
        "number of axes of the input of a is not known",
    ),
    "another number of channels": (
        [Linear("a", ("x",), ("y",), axis_out=1, channels_out=4), norm("bn", "y", "z")],
        ["z"],
        "normalises 3 channels, a has 4",
    ),
    "two batch norms of other lengths": (
        [
            norm("bn", "x", "y"),
            Norm("bn2", ("y",), ("z",), affine=affine(0, 4), axis=1, var=np.ones(4)),
        ],
        ["z"],
        "it normalises 3 channels, bn2 has 4",
    ),
    "two batch norms over other axes, and a pool between": (
        [
            norm("bn", "x", "y"),
            Pass("pool", ("y",), ("p",), carry=lambda a, axis: (a, 2)),
            norm("bn2", "p", "z"),
        ],
        ["z"],
        "behind pool it normalises axis 2, bn2 axis 1",
    ),
    "training": (
        [dense("a", "x", "y"), norm("bn", "y", "z", obstacle="it is in training mode")],
        ["z"],
        "in training mode",
    ),
    "a second batch norm in training": (
        [norm("bn", "x", "y"), norm("bn2", "y", "z", obstacle="it is in training mode")],
        ["z"],
        "bn2 stays: it is in training mode",
    ),
}


@pytest.mark.parametrize(("nodes", "outs", "reason"), REFUSED.values(), ids=REFUSED)
def test_refuses_on_graphs(nodes, outs, reason):
    graph = Graph(nodes, outs)
    report = fold_graph(graph)
    assert report.n_folded == 0 and reason in report.entries[0].reason
    assert list(graph.nodes) == [node.name for node in nodes]


def test_a_batch_norm_that_two_others_take_in():
    """One of them goes on into a layer, the other stays and holds both."""
    nodes = [norm("bn", "x", "y"), norm("b1", "y", "p"), dense("a", "p", "q"), norm("b2", "y", "r")]
    graph = Graph(nodes, ["q", "r"])
    report = fold_graph(graph)
    assert [(e.into, e.direction, e.folded) for e in report.entries] == [
        ("a, b2", "merged", True), ("a", "forward", True), (None, None, False)
    ]  # fmt: skip
    assert graph.nodes["a"].inputs == graph.nodes["b2"].inputs == ("x",)
    for held in (graph.nodes["a"].before, graph.nodes["b2"].affine):
        np.testing.assert_allclose(held.gain, affine(0).gain ** 2)


def test_pools_with_several_readers():
    """Behind a pool the map branches: a dense layer and another pool."""
    pools = [
        Pass("p1", ("y",), ("p",), carry=lambda a, axis: (a, axis)),
        Pass("p2", ("p",), ("q",), carry=lambda a, axis: (a, axis)),
    ]
    graph = Graph(
        [norm("bn", "x", "y"), *pools, dense("a", "p", "r"), dense("b", "q", "s")], ["r", "s"]
    )
    assert fold_graph(graph, strict=True).entries[0].into == "a, b"
    graph = Graph(
        [norm("bn", "x", "y"), *pools, dense("a", "p", "r"), dense("b", "q", "s")], ["r", "s", "p"]
    )
    assert "the output of p1 is an output of the graph" in fold_graph(graph).entries[0].reason


# Arithmetic of carrying


def test_compose_is_one_after_the_other():
    first, second = affine(1), affine(2)
    x = np.random.default_rng(0).normal(size=(5, 3))
    ref = (
        ((x - first.mean) * first.gain + first.offset) - second.mean
    ) * second.gain + second.offset
    both = compose(first, second)
    np.testing.assert_allclose((x - both.mean) * both.gain + both.offset, ref, atol=1e-14)
    assert compose(None, second) is second and compose(first, None) is first


@pytest.mark.parametrize(
    ("before", "after", "axis"),
    [
        ((3, 4, 5), (60,), 1), ((3, 4, 5), (60,), 2), ((3, 4, 5), (60,), 3),
        ((3, 4, 5), (12, 5), 3), ((3, 4, 5), (3, 20), 1), ((3, 4, 5), (12, 5), 1),
        ((3, 1, 1), (3,), 1), ((6,), (6, 1, 1), 1), ((3, 4, 5), (1, 3, 4, 5), 2),
    ],
)
def test_reshape_carries_each_value(before, after, axis):
    a, x = affine(1, before[axis - 1]), np.random.default_rng(0).normal(size=(2, *before))
    found, to = carries.reshaped(before, after, "r")(a, axis)
    ref = spread(a, x, axis).reshape(2, *after)
    np.testing.assert_array_equal(spread(found, x.reshape(2, *after), to), ref)


def spread(a, x, axis):
    gain, mean, offset = (
        part.reshape([-1 if i == axis else 1 for i in range(x.ndim)]) for part in a
    )
    return (x - mean) * gain + offset


@pytest.mark.parametrize(
    ("before", "after", "axis"), [((3, 4, 5), (5, 12), 1), ((4, 6), (6, 4), 2)]
)
def test_reshape_that_leaves_no_channels(before, after, axis):
    assert "leaves no axis of channels" in carries.reshaped(before, after, "r")(
        affine(1, before[axis - 1]), axis
    )


def test_carries_say_where_they_end():
    one = affine(1)
    assert carries.transposed((0, 2, 3, 1))(one, 1) == (one, 3)
    assert carries.reduced(carries.mean_of_values, (2, 3), False, "mean")(one, 1) == (one, 1)
    assert carries.reduced(carries.mean_of_values, (1, 2), False, "mean")(one, 3) == (one, 1)
    assert carries.reduced(carries.mean_of_values, (1, 2), True, "mean")(one, 3) == (one, 3)
    assert "mean reduces axis 1" in carries.reduced(carries.mean_of_values, (1, 2), True, "mean")(
        one, 1
    )
    assert "pool mixes values along axis 2" in carries.along(1, carries.mean_of_values, "pool")(
        one, 2
    )
    huge = carries.reshaped((1 << 30,), (1 << 30,), "flat")(affine(0, 3), 1)
    assert huge == "flat reshapes rows of 1073741824 values, too many to follow"


# Whatever there is


def random_layers(data):
    """A few layers of images, then of rows."""
    from hypothesis import strategies as st

    images = st.sampled_from(
        [
            BN, BN, BN, BatchNormalization(scale=False),
            BatchNormalization(center=False, epsilon=0.1), BatchNormalization(axis=1), Conv2D(4, 2),
            Conv2D(6, 1, padding="same", use_bias=False), Conv2D(4, 3, padding="same"),
            Conv2D(4, 2, activation="tanh"), DepthwiseConv2D(2),
            DepthwiseConv2D(1, depth_multiplier=2), Conv2DTranspose(3, 2, strides=2), RELU,
            Activation("linear"), AveragePooling2D(2),
            AveragePooling2D(3, strides=1, padding="same"), MaxPooling2D(2, strides=1),
            Dropout(0.5), ZeroPadding2D(1), Dense(3),
        ]
    )
    rows = st.sampled_from(
        [BN, BN, BatchNormalization(center=False), Dense(4), Dense(3, "tanh"), RELU, Dropout(0.1)]
    )
    ends = st.sampled_from(
        [Flatten(), GlobalAveragePooling2D(), GlobalMaxPooling2D(), Reshape((-1,))]
    )
    return [
        *data.draw(st.lists(images, max_size=6)),
        data.draw(ends),
        *data.draw(st.lists(rows, max_size=5)),
    ]


@pytest.mark.slow
def test_random_networks():
    """The function stays, reasons are given for what stays, and a second fold finds nothing more."""
    from hypothesis import assume, given, settings
    from hypothesis import strategies as st

    seen = set()

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def check(data):
        layers = random_layers(data)
        try:
            network = make(
                layers, (9, 8, 4), seed=data.draw(st.integers(0, 9)),
                gains=data.draw(st.sampled_from([None, "positive"])),
            )
            network.check()
        except (ValueError, IndexError):  # too small an image for the layers
            assume(False)
        folded, report = fold_network(network)
        ref = outputs(network, rows=2)
        np.testing.assert_allclose(
            outputs(folded.check(), rows=2), ref, rtol=0, atol=1e-11 * max(1, np.abs(ref).max())
        )
        stay = [entry for entry in report.entries if not entry.folded]
        assert all(entry.reason for entry in stay)
        assert sum(isinstance(layer, BatchNormalization) for layer in folded.layers) == len(stay)
        assert fold_network(folded)[1].n_folded == 0
        seen.update(entry.direction for entry in report.entries)

    check()
    assert seen == {"backward", "forward", "merged", None}


# Random chains of whatever moves, on the operations of NumPy


def random_chain(rng):
    """A row's shape and up to a dozen layers that take it."""
    shape = [(6,), (4, 6), (6, 5, 4), (2, 3, 4, 3)][rng.integers(4)]
    row, layers = shape, []

    def over_any_axis():
        return BatchNormalization(axis=int(rng.integers(1, len(row) + 1)))

    def split():
        first = next((n for n in (2, 3) if row[-1] % n == 0), 1)
        return Reshape((*row[:-1], first, row[-1] // first))

    anywhere = [
        *[over_any_axis] * 4, *[lambda: Dense(int(rng.integers(2, 7)))] * 3,
        lambda: Dense(4, "tanh"), lambda: Activation(str(rng.choice(["relu", "linear", "gelu"]))),
        lambda: LayerNormalization(axis=int(rng.integers(1, len(row) + 1))), split,
        lambda: Reshape((row[0] * row[1], *row[2:])) if len(row) > 1 else Dropout(0.5),
        lambda: Repeated(2, -int(rng.integers(1, len(row) + 1))),
        lambda: Permuted(tuple(map(int, rng.permutation(min(len(row), 3))))),
    ]  # fmt: skip
    images = [
        lambda: Conv2D(4, 2), lambda: Conv2D(4, 2, padding="same", use_bias=False),
        lambda: DepthwiseConv2D(1, depth_multiplier=2), lambda: Conv2DTranspose(3, 2),
        lambda: AveragePooling2D(2, 1), lambda: MaxPooling2D(2, 1),
        lambda: GlobalAveragePooling2D(),
        lambda: ZeroPadding2D(1),
    ]  # fmt: skip
    for _ in range(int(rng.integers(4, 14))):
        makers = [*anywhere, *images] if len(row) == 3 else anywhere
        layer = makers[rng.integers(len(makers))]()
        try:
            after = layer.output_shape(row)
        except ValueError:  # too small a row for the layer
            continue
        if np.prod(after) <= 2000 and len(after) <= 5:
            layers, row = [*layers, layer], after
    return shape, layers


def test_random_chains_compute_the_same_folded():
    """Norms over any axis among moves, pools and activations: in float64 to 1e-9 of the outputs."""
    rng, directions, stayed, axes = np.random.default_rng(0), Counter(), 0, set()
    for seed in range(60):
        shape, layers = random_chain(rng)
        network = make_any(layers, shape, seed)
        folded, report = fold_network(network)
        ref, got = on_numpy(network), on_numpy(folded.check())
        largest = np.abs(ref).max(initial=1.0)
        np.testing.assert_allclose(got, ref, rtol=0, atol=1e-9 * largest, err_msg=repr(layers))
        left = sum(isinstance(layer, BatchNormalization) for layer in folded.layers)
        assert left == report.n_total - report.n_folded and fold_network(folded)[1].n_folded == 0
        directions.update(entry.direction for entry in report.entries if entry.folded)
        stayed += left
        axes |= {layer.axis for layer in layers if isinstance(layer, BatchNormalization)}
    assert min(directions[way] for way in ("backward", "forward", "merged")) >= 5
    assert stayed >= 20 and axes >= {1, 2, 3, 4}


SCALE = BatchNormalization(center=False)
BEHIND_ZEROS = {
    "a convolution": ([SCALE, ZeroPadding2D(((1, 0), (0, 2))), Conv2D(4, 2)], "conv2d"),
    "one that pads, too": (
        [SCALE, ZeroPadding2D(1), Conv2D(4, 3, padding="same")], "conv2d",
    ),
    "one of groups": ([SCALE, ZeroPadding2D(1), Conv2D(4, 3, groups=2)], "conv2d"),
    "a depthwise one": ([SCALE, ZeroPadding2D(1), DepthwiseConv2D(3)], "depthwise_conv2d"),
    "a transposed one": ([SCALE, ZeroPadding2D(1), Conv2DTranspose(4, 3)], "conv2d_transpose"),
    "a flattened image": ([SCALE, ZeroPadding2D(1), Flatten(), Dense(3)], "dense"),
}


@pytest.mark.parametrize("name", BEHIND_ZEROS)
def test_a_scale_folds_forward_through_zeros(name):
    """They stay zeros; with a mean or a beta they would not, see `STAY`."""
    layers, into = BEHIND_ZEROS[name]
    network = make(layers)
    network.weights[0]["mean"][:] = 0
    assert_folds(network, (into, "forward"))
