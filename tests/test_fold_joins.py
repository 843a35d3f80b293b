"""Batch norms of graphs: across sums, products, concatenations, pads, and layers called again."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import random_graphs
from architectures import ARCHITECTURES, draw_weights
from graph_networks import Drawing, rows_of

import nbbn
from nbbn import layers as L
from nbbn.fallback import NumpyBlocks
from nbbn.fold import fold_checked
from nbbn.fold.network import fold_network
from nbbn.formats import native
from nbbn.formats.csource import to_c
from nbbn.network import apart
from nbbn.predictor import Predictor

BN, RELU = L.BatchNormalization, L.ReLU
IMAGE = (5, 4, 3)


def outputs(network, rows=6):
    return NumpyBlocks(network).run(rows_of(network, rows))


def assert_same(folded, network):
    ref = outputs(network)
    np.testing.assert_allclose(outputs(folded.check()), ref, rtol=0,
                               atol=1e-11 * np.abs(ref).max(initial=1.0))


def with_arrays(network, **arrays):
    """The network with these values in all batch norms; a function makes them of the old ones."""
    made = [{name: arrays[name](old) if name in arrays and "gamma" in of else old
             for name, old in of.items()} for of in network.weights]
    return replace(network, weights=made)


UNSHIFTED = {"mean": np.zeros_like, "beta": np.zeros_like}
RISING, MIXED = {"gamma": np.abs}, {"gamma": lambda a: a * (-1.0) ** np.arange(a.size)}


def two_convolutions(join, *behind, more=()):
    g = Drawing(IMAGE)
    a = g(L.Conv2D(4, 2, use_bias=False), -1)
    b = g(L.Conv2D(4, 2), -1)
    c = [g(layer, -1) for layer in more]
    return g, g.chain(g(join, a, b, *c), *behind)


def sum_of(*joins):
    """A sum of sums, of which a part is repeated."""
    g = Drawing((6,))
    a, b, c = (g(L.Dense(4), -1) for _ in range(3))
    first = g(joins[0], a, b)
    return g, g.chain(g(joins[1], c, first), BN(), RELU())


def with_a_row(join, first=False):
    """An image and a number for each channel."""
    g = Drawing(IMAGE)
    image = g(L.Conv2D(4, 2), -1)
    row = g.chain(-1, L.GlobalAveragePooling2D(), L.Dense(4))
    return g, g.chain(g(join, *((row, image) if first else (image, row))), BN(), RELU())


def excited(*behind, gate="sigmoid", norm_first=False):
    """Squeeze and excite."""
    g = Drawing(IMAGE)
    x = g(L.Conv2D(4, 2), -1)
    x = g(BN(), g(RELU(), x)) if norm_first else x
    weights = g.chain(x, L.GlobalAveragePooling2D(keepdims=True), L.Conv2D(4, 1, activation=gate))
    return g, g.chain(g(L.Multiply(), x, weights), *behind)


def fork(join, *ends):
    """A batch norm that several read, which are joined."""
    g = Drawing(IMAGE)
    x = g.chain(-1, RELU(), BN())
    return g, g.chain(g(join, x, g(L.AveragePooling2D(3, 1, padding="same"), x)), *ends)


def squared_beside():
    """x and its square, which scale in two ways."""
    g = Drawing(IMAGE)
    x = g.chain(-1, RELU(), BN())
    return g, g(L.Conv2D(2, 1), g(L.Add(), x, g(L.Multiply(), x, x)))


def along_rows():
    """A scale of each row of pixels, more rows, and a dense layer on them."""
    g = Drawing(IMAGE)
    return g, g.chain(-1, RELU(), BN(axis=1), L.ZeroPadding2D(1), L.Flatten(), L.Dense(2))


def beside_another(axis):
    """What is normalised, beside what is not."""
    g = Drawing(IMAGE)
    x = g.chain(-1, RELU(), BN())
    return g, g(L.Conv2D(2, 1), g(L.Concatenate(axis), x, -1))


def along_a_grey_image(norm_first):
    """One channel goes along with four."""
    g = Drawing(IMAGE)
    grey = g.chain(-1, L.Conv2D(1, 1, activation="tanh" if norm_first else None))
    grey = g(BN(), grey) if norm_first else grey
    x = g(L.Multiply() if norm_first else L.Add(), grey, g(L.Conv2D(4, 1), -1))
    return g, g(L.Conv2D(2, 1), x) if norm_first else g.chain(x, BN(), RELU())


def tower(layers, join, *behind, inputs=((5,), (5,))):
    """Layers that are called on two inputs."""
    g = Drawing(*inputs)
    first = g.chain(-1, *layers)
    second = -2
    for k in range(len(layers)):
        second = g.again(k, second)
    return g, g.chain(g(join, first, second), *behind)


def called_again(layer, *between):
    """A layer whose calls have batch norms of their own behind them."""
    g = Drawing((4,))
    x = g.chain(-1, L.Dense(4), RELU())
    a = g.chain(g(layer, x), BN(), RELU())
    return g, g.chain(g.again(2, a), *between, BN(), RELU())


def same_padding():
    return L.Conv2D(3, 3, padding="same")


def norm_of_two():
    """One batch norm on two values, each of a layer of its own."""
    g = Drawing((5,), (3,))
    a = g.chain(-1, L.Dense(4), BN(), RELU())
    b = g(RELU(), g.again(1, g(L.Dense(4), -2)))
    return g, g(L.Add(), a, b)


def norms_behind_one_value():
    g = Drawing((5,))
    x = g(L.Dense(4), -1)
    return g, g(L.Concatenate(), g(BN(), x), g.again(1, x), -1)


def norm_of_norm():
    g = Drawing((5,))
    x = g.chain(-1, RELU(), BN())
    return g, g(L.Dense(3), g.again(1, x))


def given_out():
    """A value that is an output too."""
    g = Drawing((5,))
    a, b = g(L.Dense(4), -1), g(L.Dense(4), -1)
    return g, g.chain(g(L.Add(), a, b), BN(), RELU()), a


# Graph -> where its batch norms go, or the reason why the last stays; and their arrays.
FOLDS = {
    "behind a sum": (two_convolutions(L.Add(), BN(), RELU()), "conv2d, conv2d_1", "backward", {}),
    "behind a difference": (
        two_convolutions(L.Subtract(), BN(), RELU()), "conv2d, conv2d_1", "backward", {},
    ),
    "behind a sum of three": (
        two_convolutions(L.Add(), BN(), RELU(), more=[L.Conv2D(4, 2)]),
        "conv2d, conv2d_1, conv2d_2", "backward", {},
    ),
    "behind a mean of three": (
        two_convolutions(L.Average(), BN(), RELU(), more=[L.Conv2D(4, 2)]),
        "conv2d, conv2d_1, conv2d_2", "backward", {},
    ),
    "behind a sum and a pool": (
        two_convolutions(L.Add(), L.AveragePooling2D(2), BN(), RELU()),
        "conv2d, conv2d_1", "backward", {},
    ),
    "behind sums": (sum_of(L.Add(), L.Subtract()), "dense, dense_1, dense_2", "backward", {}),
    "behind a concatenation": (
        two_convolutions(L.Concatenate(), BN(), RELU(), more=[L.Conv2D(2, 2)]),
        "conv2d, conv2d_1, conv2d_2", "backward", MIXED,
    ),
    "behind a concatenation along another axis": (
        two_convolutions(L.Concatenate(1), BN(), RELU()), "conv2d, conv2d_1", "backward", {},
    ),
    "along the axis of a concatenation": (
        two_convolutions(L.Concatenate(1), BN(axis=1), RELU()),
        "it normalises axis 1, conv2d_1 acts on axis 3", None, {},
    ),
    "behind a maximum": (
        two_convolutions(L.Maximum(), BN(), RELU()), "conv2d, conv2d_1", "backward", RISING,
    ),
    "behind a minimum, falling": (
        two_convolutions(L.Minimum(), BN(), RELU()), "minimum compares values, whose order", None,
        MIXED,
    ),
    "behind a sum with a row": (with_a_row(L.Add()), "conv2d, dense", "backward", {}),
    "behind a row less an image": (
        with_a_row(L.Subtract(), first=True), "conv2d, dense", "backward", {},
    ),
    "behind a product": (
        with_a_row(L.Multiply()), "multiply multiplies values, whose product", None, {},
    ),
    "a scale behind a product": (
        with_a_row(L.Multiply()), "conv2d", "backward", UNSHIFTED | MIXED,
    ),
    "a scale behind a product, the row first": (
        with_a_row(L.Multiply(), first=True), "dense", "backward", UNSHIFTED,
    ),
    "a scale before squeeze and excite": (
        excited(L.Conv2D(3, 1), norm_first=True), "conv2d_1, conv2d_2", "forward",
        UNSHIFTED | MIXED,
    ),
    "before squeeze and excite": (
        excited(L.Conv2D(3, 1), norm_first=True), "multiply multiplies values", None, {},
    ),
    "behind squeeze and excite": (
        excited(BN(), RELU()), "the output of conv2d is also read by global_average_pooling2d",
        None, UNSHIFTED,
    ),
    "behind a sum, one side not linear": (
        two_convolutions(L.Add(), BN(), RELU(), more=[L.Conv2D(4, 2, activation="tanh")]),
        "conv2d_2 ends in tanh, which is not linear", None, {},
    ),
    "behind a sum that is given out": (
        given_out(), "the output of dense is also read by what joins outputs", None, {},
    ),
    "before a concatenation": (
        fork(L.Concatenate(), L.Conv2D(3, 1)), "conv2d", "forward", MIXED,
    ),
    "before a concatenation along another axis": (
        fork(L.Concatenate(2), L.Conv2D(3, 1)), "conv2d", "forward", {},
    ),
    "before both sides of a sum": (fork(L.Add(), L.Conv2D(3, 1)), "conv2d", "forward", {}),
    "before both sides of a difference": (
        fork(L.Subtract(), L.Conv2D(3, 1)), "conv2d", "forward", MIXED,
    ),
    "before both sides of a maximum": (
        fork(L.Maximum(), L.Conv2D(3, 1)), "conv2d", "forward", RISING,
    ),
    "before both sides of a maximum, falling": (
        fork(L.Maximum(), L.Conv2D(3, 1)), "maximum compares values, whose order", None, MIXED,
    ),
    "before both sides of a mean": (fork(L.Average(), L.Conv2D(3, 1)), "conv2d", "forward", {}),
    "a scale before both sides of a product": (
        fork(L.Multiply(), L.Conv2D(3, 1)), "conv2d", "forward", UNSHIFTED | MIXED,
    ),
    "a scale before a value and its square": (
        squared_beside(), "add adds to it what is not scaled alike", None, UNSHIFTED,
    ),
    "before a concatenation with another": (beside_another(-1), "conv2d", "forward", MIXED),
    "before a concatenation with another along another axis": (
        beside_another(1), "concatenate puts beside it what is not normalised alike", None, {},
    ),
    "behind a sum of one channel and four": (
        along_a_grey_image(False), "add joins rows of which one goes along with the channels",
        None, {},
    ),
    "a scale of one channel before a product with four": (
        along_a_grey_image(True), "multiply joins rows of which one goes along with the channels",
        None, UNSHIFTED,
    ),
    "a scale before zeros": (
        fork(L.Add(), L.ZeroPadding2D(1), same_padding()), "conv2d", "forward", UNSHIFTED | MIXED,
    ),
    "before zeros": (
        fork(L.Add(), L.ZeroPadding2D(1), same_padding()), "zero_padding2d pads with zeros", None,
        {},
    ),
    "a scale along an axis with zeros behind it": (
        along_rows(), "zero_padding2d pads axis 1, which the batch norm normalises", None,
        UNSHIFTED,
    ),
    "a scale before a transposed convolution": (
        fork(L.Add(), L.Conv2DTranspose(2, 3, strides=2)), "conv2d_transpose", "forward",
        UNSHIFTED,
    ),
    "a rising scale before a ReLU": (
        fork(L.Add(), L.Activation("relu"), L.Conv2D(2, 1)), "conv2d", "forward",
        UNSHIFTED | RISING,
    ),
    "a falling scale before a ReLU": (
        fork(L.Add(), L.Activation("relu"), L.Conv2D(2, 1)),
        "activation treats numbers below 0 in another way", None, UNSHIFTED | MIXED,
    ),
    "a scale behind zeros": (
        two_convolutions(L.Add(), L.ZeroPadding2D(1), BN(), L.Activation("tanh")),
        "conv2d, conv2d_1", "backward", UNSHIFTED,
    ),
    "of two that are called alike": (
        tower([L.Dense(4), BN(), RELU()], L.Subtract(), L.Dense(2)), "dense", "backward", {},
    ),
    "of two that are called alike, forward": (
        tower([RELU(), BN(), L.Dense(4)], L.Subtract(), L.Dense(2)), "dense", "forward", {},
    ),
    "of two that are called alike, and meet": (
        tower([RELU(), BN()], L.Subtract(), L.Dense(2)), "dense", "forward", MIXED,
    ),
    "of a layer that is called again": (
        called_again(L.Dense(4)),
        "dense_1 is called 2 times, and not all calls would take in the same", None, {},
    ),
    "on two values": (norm_of_two(), "dense, dense_1", "backward", {}),
    "twice on one value": (
        norms_behind_one_value(), "batch_normalization is called twice on one value", None, {},
    ),
    "on its own output": (
        norm_of_norm(), "batch_normalization reads its own output", None, {},
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_where_it_goes(name):
    (drawing, *ends), into, direction, arrays = FOLDS[name]
    network = with_arrays(drawing.network(*ends), **arrays)
    folded, report = fold_network(network)
    assert_same(folded, network)
    entry = report.entries[-1]
    if direction is None:
        assert not entry.folded and into in entry.reason
    else:
        assert (entry.into, entry.direction, entry.folded) == (into, direction, True)
        assert report.n_folded == report.n_total
        assert not any(isinstance(layer, BN) for layer in folded.layers)


# Batch norms of an architecture, and those that stay; the same of the nodes that `to_onnx` writes.
# Those of ResNet v2, DenseNet and the residual MLP stand between a sum or a concatenation, which
# others read, and a ReLU. A layer that is called on two values has two nodes with kernels of their
# own, so that more goes.
COUNTS = {
    "resnet_v1": (6, 0, 6, 0), "resnet_v2": (10, 3, 10, 3), "resnext": (7, 0, 7, 0),
    "densenet": (10, 6, 10, 6), "inception": (10, 0, 10, 0), "mobilenet_v2": (11, 0, 11, 0),
    "mobilenet_v3": (8, 0, 8, 0), "efficientnet": (8, 0, 8, 0), "unet": (7, 0, 7, 0),
    "residual_mlp": (4, 1, 4, 1), "wide_and_deep": (1, 0, 1, 0), "siamese": (1, 0, 2, 0),
    "two_outputs": (2, 1, 2, 1), "xception": (7, 0, 7, 0),
    "autoencoder": (3, 1, 4, 0),
}


def norm_nodes(model):
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


@pytest.mark.parametrize("name", COUNTS)
def test_how_many_of_an_architecture_stay(name):
    """ONNX Runtime, onnxsim and onnxslim leave as many or more: scripts/fold_counts.py."""
    model = ARCHITECTURES[name].make(nbbn)
    draw_weights(model)
    network = model.network().astype("float64")
    folded, report = fold_network(network)
    assert_same(folded, network)
    assert (report.n_total, report.n_total - report.n_folded) == COUNTS[name][:2]
    pytest.importorskip("onnx")
    from nbbn.formats.onnx import file
    from nbbn.formats.onnx.fold import _folded
    from nbbn.formats.onnx.write import write

    written = write(network.astype("float32"))
    left = file.to_proto(_folded(file.from_proto(written), False)[0])
    assert (norm_nodes(written), norm_nodes(left)) == COUNTS[name][2:]


def test_a_batch_norm_behind_a_sum_goes_into_those_that_stay_before_it():
    g = Drawing(IMAGE)
    x = g(L.Conv2D(4, 1, activation="relu"), -1)
    network = g.network(g.chain(g(L.Add(), g(BN(), x), g(L.Conv2D(4, 1), -1)), BN(), RELU()))
    folded, report = fold_network(network)
    assert [(e.into, e.direction) for e in report.entries] == [
        (None, None), ("batch_normalization, conv2d_1", "merged")
    ]  # fmt: skip
    assert_same(folded, network)


def test_batch_norms_before_a_concatenation_go_into_the_one_behind():
    g = Drawing(IMAGE)
    a, b = g.chain(-1, RELU(), BN()), g(L.Conv2D(2, 1), -1)
    network = g.network(g.chain(g(L.Concatenate(), a, b), BN(), RELU()))
    folded, report = fold_network(network)
    assert [(e.into, e.direction) for e in report.entries] == [
        ("batch_normalization_1", "merged"), (None, None)
    ]  # fmt: skip
    assert_same(folded, network)


def test_a_pure_shift_goes_into_one_side_of_a_sum():
    """The other may be what it likes."""
    g = Drawing(IMAGE)
    a, b = g(L.Conv2D(4, 1, activation="tanh"), -1), g(L.Conv2D(4, 1), -1)
    network = g.network(g.chain(g(L.Add(), a, b), BN(epsilon=1.0), RELU()))
    network = with_arrays(network, var=np.zeros_like, gamma=np.ones_like)
    folded, report = fold_network(network)
    assert (report.entries[0].into, report.entries[0].direction) == ("conv2d_1", "backward")
    assert_same(folded, network)
    g = Drawing(IMAGE)
    x = g.chain(-1, RELU(), BN(epsilon=1.0))
    network = g.network(g(L.Conv2D(2, 1), g(L.Add(), x, g(RELU(), -1))))
    network = with_arrays(network, var=np.zeros_like, gamma=np.ones_like)
    folded, report = fold_network(network)
    assert (report.entries[0].into, report.entries[0].direction) == ("conv2d", "forward")
    assert_same(folded, network)


def test_the_shift_goes_where_it_can():
    """One side of the sum has zeros around it, which a shift would not leave zeros."""
    for sides in (0, 1):
        g = Drawing(IMAGE)
        padded = g.chain(-1, L.Conv2D(4, 3), L.ZeroPadding2D(1))
        plain = g(L.Conv2D(4, 1), -1)
        ends = (padded, plain) if sides else (plain, padded)
        network = g.network(g.chain(g(L.Add(), *ends), BN(), RELU()))
        folded, report = fold_network(network)
        assert report.entries[0].into.count("conv2d") == 2
        assert_same(folded, network)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    """In float64 to 1e-9 of the outputs; what stays has a reason."""
    network = random_graphs.network(seed)
    folded, report = fold_network(network.check())
    ref, got = outputs(network), outputs(folded.check())
    np.testing.assert_allclose(got, ref, rtol=0, atol=1e-9 * np.abs(ref).max(initial=1.0))
    left = sum(isinstance(layer, BN) for layer in folded.layers)
    assert left == report.n_total - report.n_folded and fold_network(folded)[1].n_folded == 0
    assert all(entry.reason for entry in report.entries if not entry.folded)


# Random graphs that fold much, with shared layers, several outputs and joins.
MANY_FOLDS = (51, 79, 140, 193, 211)


@pytest.mark.parametrize("seed", MANY_FOLDS)
def test_random_graphs_by_every_way(seed, tmp_path):
    """Kernels, the check, files and C of folded graphs."""
    network = random_graphs.network(seed)
    ref = outputs(network)
    folded, report = fold_checked(network, run=Predictor)
    assert report.n_folded and report.rows_checked == 64
    close = {"rtol": 0, "atol": 1e-9 * np.abs(ref).max(initial=1.0)}
    x = rows_of(network, 6)
    np.testing.assert_allclose(
        Predictor(folded)(x.reshape(6, *network.input_shape)).reshape(6, -1), ref, **close)
    native.save(tmp_path / "m.safetensors", folded, {})
    again, _, _ = native.load(tmp_path / "m.safetensors")
    np.testing.assert_allclose(outputs(again), ref, **close)
    if shutil.which("cc"):
        source, library = tmp_path / "m.c", tmp_path / "m.so"
        to_c(folded, source)
        subprocess.run(["cc", "-std=c99", "-O1", "-fPIC", "-shared", str(source), "-o",
                        str(library), "-lm"], check=True)
        outs = [np.zeros((6, *shape)) for shape in folded.graph.output_shapes(folded.layers)]
        arrays, real = [*apart(x, folded.graph.inputs), *outs], ctypes.POINTER(ctypes.c_double)
        ctypes.CDLL(str(library)).m_predict(*(array.ctypes.data_as(real) for array in arrays),
                                            ctypes.c_size_t(6))
        flat = np.concatenate([out.reshape(6, -1) for out in outs], 1)
        np.testing.assert_allclose(flat, ref, **close)


@pytest.mark.parametrize("seed", [*range(8), *MANY_FOLDS])
def test_random_graphs_of_onnx(seed):
    """On ONNX Runtime without its own optimisations; as many fold as of the network itself."""
    runtime = pytest.importorskip("onnxruntime")
    import onnx

    from nbbn.formats.onnx.fold import fold_onnx
    from nbbn.formats.onnx.write import write

    network = random_graphs.network(seed).astype("float32")
    model = write(network)
    folded, report = fold_onnx(model)
    onnx.checker.check_model(folded, full_check=True)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    inputs = zip(model.graph.input, apart(rows_of(network, 4), network.graph.inputs))
    feed = {value.name: x for value, x in inputs}
    ref, got = (runtime.InferenceSession(of.SerializeToString(), options,
                                         providers=["CPUExecutionProvider"]).run(None, feed)
                for of in (model, folded))
    for a, b in zip(ref, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max(initial=1.0))
    left = sum(node.op_type == "BatchNormalization" for node in folded.graph.node)
    assert left == sum(not entry.folded for entry in report.entries)
