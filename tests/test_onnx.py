"""ONNX models on onnxruntime, against the engine and plain float64 forward passes."""

import os
import sys

import numpy as np
import pytest
from naive_layers import ELEMENTWISE, NaiveNetwork
from networks import OF_STEPS

import nbbn
from nbbn import operations as op
from nbbn.fold import fold_network
from nbbn.folded_model import FoldedModel
from nbbn.formats.files import FileError
from nbbn.formats.onnx.write import IR_VERSION, OPSET
from nbbn.formats.onnx.write import write as to_onnx
from nbbn.formats.onnx.write_operations import WRITE
from nbbn.layers import (
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
)
from nbbn.network import Network
from nbbn.predictor import Predictor

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
)

ACTIVATIONS = {
    "linear": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True),
}
TOLERANCES = {np.float32: 2e-6, np.float64: 1e-12}


def forward(network, x):
    """The network in float64, layer by layer from the formulas."""
    x = np.asarray(x, np.float64)
    for layer, arrays in zip(network.layers, network.weights, strict=True):
        w = {name: array.astype(np.float64) for name, array in arrays.items()}
        if isinstance(layer, BatchNormalization):
            gain = w.get("gamma", 1.0) / np.sqrt(w["var"] + layer.epsilon)
            x = gain * (x - w["mean"]) + w.get("beta", 0.0)
            continue
        if isinstance(layer, Dense):
            x = x @ w["kernel"] + (w["bias"] if layer.use_bias else 0)
        x = ACTIVATIONS[layer.activation](x)
    return x


def make(layers, features=5, dtype=np.float32):
    rng = np.random.default_rng(3)
    weights, shape = [], (features,)
    for layer in layers:
        shapes = layer.weight_shapes(shape)
        weights.append({name: rng.normal(size=s).astype(dtype) for name, s in shapes.items()})
        if isinstance(layer, BatchNormalization):
            weights[-1]["var"] = rng.uniform(0.2, 3, shape).astype(dtype)
        shape = layer.output_shape(shape)
    return Network(tuple(layers), (features,), weights, np.dtype(dtype))


def rows(network, n=50):
    return np.random.default_rng(4).normal(size=(n, *network.input_shape)).astype(network.dtype)


def run(model, x):
    """All outputs by name, in order."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert [i.name for i in session.get_inputs()] == ["x"]
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


def operators(model):
    return [node.op_type for node in model.graph.node]


BN = BatchNormalization()
BODY = [
    Dense(6, use_bias=False), BN, Activation("relu"), Dense(4, "tanh"),
    BatchNormalization(scale=False, center=False),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [None, "regressor"])
@pytest.mark.parametrize("units", [1, 3])
def test_plain(dtype, kind, units):
    network = make([*BODY, Dense(units)], dtype=dtype)
    got = run(to_onnx(network, kind=kind), rows(network))
    ref = forward(network, rows(network))
    assert list(got) == ["output"]
    assert got["output"].dtype == dtype
    np.testing.assert_allclose(
        got["output"], ref, rtol=0, atol=TOLERANCES[dtype] * np.abs(ref).max()
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "layers",
    [lambda a: [Dense(4, a)], lambda a: [Dense(4), Activation(a)], lambda a: [Activation(a)]],
)
def test_every_activation(layers, dtype, activation):
    network = make(layers(activation), dtype=dtype)
    got = run(to_onnx(network), rows(network))["output"]
    np.testing.assert_allclose(
        got, forward(network, rows(network)), rtol=0, atol=10 * TOLERANCES[dtype]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_epsilon_is_kept_in_the_networks_precision(dtype):
    """The operator's epsilon is a float32.

    1e-3 is off by 5e-8 there, which float64 must not show.
    """
    network = make([BN], dtype=dtype)
    network.weights[0]["var"][:] = [0, 1e-14, 1e-5, 1e-3, 1]
    got = run(to_onnx(network), rows(network))["output"]
    ref = forward(network, rows(network))
    np.testing.assert_allclose(got, ref, rtol=0, atol=TOLERANCES[dtype] * np.abs(ref).max())


def test_folded_and_unfolded_models_agree():
    network = make([*BODY, Dense(3, "softmax")])
    folded, _ = fold_network(network, strict=True)
    before, after = to_onnx(network, kind="classifier"), to_onnx(folded, kind="classifier")
    assert operators(before).count("BatchNormalization") == 2
    assert operators(after).count("BatchNormalization") == 0
    got, ref = run(after, rows(network)), run(before, rows(network))
    np.testing.assert_allclose(got["probabilities"], ref["probabilities"], atol=5e-6)


CLASSES = [
    (None, [0, 1, 2], np.int64), (np.array([0, 1, 2]), [0, 1, 2], np.int64),
    (np.array([7, -2, 2**40]), [7, -2, 2**40], np.int64),
    (np.array([7, 5, 9], np.uint8), [7, 5, 9], np.int64),
    (np.array([7, np.int64(5), 9], object), [7, 5, 9], np.int64),
    (np.array(["b", "\N{SNOWMAN}", ""]), ["b", "\N{SNOWMAN}", ""], object),
    (np.array(["b", "a", "c"], object), ["b", "a", "c"], object),
    (["b", "a", "c"], ["b", "a", "c"], object), (np.array([0.5, 1.5, 2.5]), [0, 1, 2], np.int64),
    (np.array([2**64 - 1, 1, 2], np.uint64), [0, 1, 2], np.int64),
]


@pytest.mark.parametrize(("classes", "labels", "dtype"), CLASSES)
def test_classifier(classes, labels, dtype):
    network = make([Dense(6), BN, Activation("tanh"), Dense(3), Activation("softmax")])
    got = run(to_onnx(network, classes=classes, kind="classifier"), rows(network))
    ref = forward(network, rows(network))
    assert list(got) == ["label", "probabilities"]
    np.testing.assert_allclose(got["probabilities"], ref, rtol=0, atol=5e-6)
    assert got["label"].dtype == dtype
    assert got["label"].tolist() == [labels[i] for i in ref.argmax(axis=1)]
    assert len(set(got["label"].tolist())) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("classes", "labels"), [(None, [0, 1]), (["no", "yes"], ["no", "yes"]), ([False, True], [0, 1])]
)
def test_binary_classifier(dtype, classes, labels):
    network = make([*BODY, Dense(1, "sigmoid")], dtype=dtype)
    got = run(to_onnx(network, classes=classes, kind="classifier"), rows(network))
    p = forward(network, rows(network))[:, 0]
    assert list(got) == ["label", "probabilities"]
    assert got["probabilities"].dtype == dtype
    np.testing.assert_allclose(
        got["probabilities"], np.stack([1 - p, p], axis=1), rtol=0, atol=3 * TOLERANCES[dtype]
    )
    assert got["label"].tolist() == [labels[int(q > 0.5)] for q in p]
    assert len(set(got["label"].tolist())) == 2


def of_scores(scores, activation, dtype):
    """A network that gives one activation of these scores for the rows of an identity matrix."""
    scores = np.asarray(scores, dtype)
    network = make([Dense(scores.shape[1], activation, use_bias=False)], len(scores), dtype)
    network.weights[0]["kernel"][:] = scores
    return network, np.eye(len(scores), dtype=dtype)


TINY = 1e-6
TIES = [
    ("classifier", "sigmoid", [[0.0], [-TINY], [TINY], [-0.0]], [0, 0, 1, 0]),
    (
        "classifier", "softmax", [[1, 1, 1], [0, 2, 2], [2, 0, 2], [-3, -3, -4], [0, 1, 1 + TINY]],
        [0, 1, 0, 0, 2],
    ),
    ("multilabel", "sigmoid", [[0.0, 1], [-TINY, TINY], [1, -0.0]], [[0, 1], [0, 1], [1, 0]]),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "activation", "scores", "labels"), TIES)
def test_ties_go_to_the_first_class(kind, activation, scores, labels, dtype):
    """In ONNX Runtime, in the folded model, and in what is read from the file.

    One half is not yet the second class.
    """
    network, x = of_scores(scores, activation, dtype)
    classes = None if kind == "multilabel" else np.array(["b", "c", "a"][: max(2, len(scores[0]))])
    want = labels if classes is None else classes[labels].tolist()
    model = to_onnx(network, kind=kind, classes=classes)
    assert run(model, x)["label"].tolist() == want
    for answers in (
        FoldedModel(network, kind=kind, classes=classes),
        nbbn.interop.from_onnx(model),
    ):
        assert answers.predict(x).tolist() == want


def test_a_tie_of_one_sigmoid_has_two_halves():
    network, x = of_scores([[0.0], [0.0]], "sigmoid", np.float32)
    np.testing.assert_array_equal(
        run(to_onnx(network, kind="classifier"), x)["probabilities"], np.full((2, 2), 0.5)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("units", [1, 3])
def test_multilabel(dtype, units):
    network = make([*BODY, Dense(units), Activation("sigmoid")], dtype=dtype)
    got = run(to_onnx(network, kind="multilabel"), rows(network))
    ref = forward(network, rows(network))
    assert list(got) == ["label", "probabilities"]
    np.testing.assert_allclose(got["probabilities"], ref, rtol=0, atol=3 * TOLERANCES[dtype])
    assert got["label"].dtype == np.int64
    np.testing.assert_array_equal(got["label"], ref > 0.5)
    assert 0 < got["label"].mean() < 1


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_any_number_of_rows(n):
    network = make([*BODY, Dense(3, "softmax")])
    got = run(to_onnx(network, kind="classifier"), rows(network, n))
    assert got["label"].shape == (n,)
    assert got["probabilities"].shape == (n, 3)


def test_versions_that_old_runtimes_read():
    model = to_onnx(make(BODY))
    assert (OPSET, IR_VERSION) == (13, 8)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    assert model.ir_version == 8


def test_writes_the_file(tmp_path):
    network = make([*BODY, Dense(2, "softmax")])
    network.weights[0]["kernel"] = np.asfortranarray(network.weights[0]["kernel"])
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    model = to_onnx(network, path, kind="classifier")
    assert os.listdir(tmp_path) == ["model.onnx"]
    assert onnx.load(path) == model
    got = run(onnx.load(path), rows(network))["probabilities"]
    np.testing.assert_allclose(got, forward(network, rows(network)), atol=5e-6)


def test_writes_nothing_where_it_fails(tmp_path):
    with pytest.raises(ValueError, match="a classifier ends in"):
        to_onnx(make([Dense(2)]), tmp_path / "f", kind="classifier")
    with pytest.raises(FileError, match="does not exist; create it first"):
        to_onnx(make([Dense(2)]), tmp_path / "none" / "f")
    assert os.listdir(tmp_path) == []


class Unknown(op.Operation):
    pass


class Puzzle(Layer):
    def operations(self, input_shape, *others):
        return [Unknown()]


@pytest.mark.parametrize(
    ("layers", "changes", "message"),
    [
        (
            [Dense(2)],
            {"kind": "clusterer"},
            "kind must be one of None, classifier, .*, got 'clusterer'",
        ),
        (
            [Puzzle()],
            {},
            "to_onnx cannot write Unknown; it writes Dense, Convolve, ConvolveTransposed, ",
        ),
        ([Dense(3)], {"kind": "classifier"}, "a classifier ends in a softmax .*; got linear of 3"),
        ([Dense(3, "sigmoid")], {"kind": "classifier"}, "got sigmoid of 3; use kind=None"),
        ([Dense(1, "softmax")], {"kind": "classifier"}, "got softmax of 1"),
        ([Dense(3, "softmax"), BN], {"kind": "classifier"}, "got linear of 3"),
        (
            [Dense(4), Reshape((2, 2)), Softmax(), Flatten()],
            {"kind": "classifier"},
            "got linear of 4",
        ),
        (
            [Dense(3, "softmax")],
            {"kind": "multilabel"},
            "a multilabel network ends in a sigmoid, got softmax",
        ),
        (
            [Dense(3, "softmax")],
            {"kind": "classifier", "classes": [1, 2]},
            r"must have shape \(3,\), .* got \(2,\)",
        ),
        (
            [Dense(1, "sigmoid")],
            {"kind": "classifier", "classes": [1]},
            r"must have shape \(2,\), .* got \(1,\)",
        ),
    ],
)
def test_refuses(layers, changes, message):
    with pytest.raises(ValueError, match=message):
        to_onnx(make(layers), **changes)


def test_refuses_heads_on_outputs_of_more_axes():
    network = drawn((5, 7, 3), [Conv2D(2, 3, activation="sigmoid")])
    for kind, what in (("classifier", "classifier"), ("multilabel", "multilabel network")):
        with pytest.raises(
            ValueError, match=rf"a {what} has outputs of one axis, got .* \(3, 5, 2\); add Flatten"
        ):
            to_onnx(network, kind=kind)


def test_an_unknown_layer_is_named():
    network = drawn((5, 7, 3), [Conv2D(2, 3), Puzzle(name="mine")])
    with pytest.raises(
        LayerError, match=r"^layer 1 'mine': to_onnx cannot write Unknown; it writes Dense, "
    ):
        to_onnx(network)


def test_refuses_a_network_that_does_not_fit():
    network = make([Dense(2)])
    network.weights[0]["bias"][0] = np.inf
    with pytest.raises(LayerError, match="bias holds NaN or infinity"):
        to_onnx(network)


def test_refuses_what_a_protobuf_cannot_hold(monkeypatch):
    monkeypatch.setattr("nbbn.formats.onnx.write._MAX_BYTES", 100)
    with pytest.raises(
        ValueError, match=r"an ONNX file holds at most 100 bytes, this model \d+; use save"
    ):
        to_onnx(make([Dense(2)]))


def test_without_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'nbbn\[onnx\]'"):
        to_onnx(make([Dense(2)]))


# Networks of any layers


IMAGE = (5, 7, 3)
POOLS = [MaxPooling2D, AveragePooling2D]
GLOBAL_POOLS = [GlobalAveragePooling2D, GlobalMaxPooling2D]
NAMES = [name for name in nbbn.layers.ACTIVATIONS if "softmax" not in name]
CONV = Conv2D(6, 2)
norm = BatchNormalization


def windows(padding):
    """Every layer that slides a window: sizes, strides, dilations."""
    p = {"padding": padding}
    for stride in (1, 2, (3, 2)):
        for size in (1, 2, 3, (2, 3)):
            yield Conv2D(6, size, stride, **p)
            yield DepthwiseConv2D(size, stride, depth_multiplier=2, activation="tanh", **p)
            yield Conv2DTranspose(6, size, stride, activation="relu", use_bias=False, **p)
            yield from (pool(size, stride, **p) for pool in POOLS)
    for dilation in (2, (1, 3)):
        yield Conv2D(17, 2, dilation_rate=dilation, **p)
        yield DepthwiseConv2D(2, dilation_rate=dilation, use_bias=False, **p)
    for size, stride, extra in [
        (3, 2, 1), (2, 2, 0), (2, (3, 2), (2, 1)), ((4, 1), (3, 2), (0, 1)), (5, 4, 3),
    ]:
        yield Conv2DTranspose(6, size, stride, output_padding=extra, **p)


MOBILE = [
    Conv2D(6, 3, padding="same", use_bias=False), norm(), ReLU(6), DepthwiseConv2D(3, 2, "same"),
    norm(), ReLU(), MaxPooling2D(2, padding="same"), AveragePooling2D(2, 1, "same"),
    Conv2DTranspose(10, 3, 2, "same"), ELU(), Conv2D(17, 2, activation="silu"), Dropout(0.2),
    Flatten(), Dense(17, "selu"), norm(), Dense(10, "softmax"),
]
# Computed by the engine and by the oracle.
NETWORKS = [
    *((IMAGE, [layer]) for padding in ("valid", "same") for layer in windows(padding)),
    ((5, 7, 6), [Conv2D(10, 3, groups=2)]),
    ((5, 7, 6), [Conv2D(6, 3, groups=6, padding="same"), Conv2D(9, 1, groups=3)]),
    *((IMAGE, [Conv2D(6, 2, activation=name)]) for name in ELEMENTWISE),
    *((shape, [Activation(name)]) for name in ELEMENTWISE for shape in ((5,), (4, 5))),
    *(
        (shape, [layer])
        for shape in (IMAGE, (6,))
        for layer in (
            ReLU(), ReLU(6), ReLU(0.5), ReLU(None, 0.2), ReLU(0.7, 0.2), ReLU(1.0, 0.3, 0.2),
            ReLU(None, 0, 0.4), ReLU(0.5, 0, 0.4), LeakyReLU(), LeakyReLU(1.7), LeakyReLU(0), ELU(),
            ELU(0.4),
        )
    ),
    ((5,), [Dense(3), Softmax(), Dropout(0.3)]),
    *(
        (IMAGE, [*before, norm(axis=axis, **k)])
        for axis in (1, 2, 3)
        for before, k in (
            ([], {}), ([CONV], {"scale": False}), ([CONV], {"center": False}),
        )
    ),
    ((4, 6), [norm()]),
    ((4, 6), [norm(axis=1)]),
    *(
        (shape, [layer])
        for shape in ((6,), (4, 6), (5, 7, 6))
        for layer in (
            LayerNormalization(), LayerNormalization(scale=False), LayerNormalization(center=False),
            GroupNormalization(3), GroupNormalization(1, center=False),
            GroupNormalization(-1, scale=False),
        )
    ),
    (IMAGE, [CONV, LayerNormalization(), Conv2D(7, 2)]),
    (IMAGE, [CONV, GroupNormalization(2), Conv2D(7, 2)]),
    *(
        (IMAGE, [*before, pool(keepdims=keep), *after])
        for pool in GLOBAL_POOLS
        for keep in (False, True)
        for before, after in (
            ([], []), ([CONV], []), ([CONV], [Dense(3)]), ([CONV], [Flatten(), Dense(3)]),
        )
    ),
    *(
        (IMAGE, [*before, ZeroPadding2D(padding)])
        for before in ([], [CONV])
        for padding in (1, (1, 2), ((1, 0), (2, 3)))
    ),
    *(
        (IMAGE, [*before, UpSampling2D(size), *after])
        for size in (2, (3, 1), (1, 4))
        for before, after in (
            ([], []), ([CONV], [CONV]), ([], [Flatten()]),
        )
    ),
    (IMAGE, [Flatten()]),
    (IMAGE, [Flatten(), Dense(4)]),
    (IMAGE, [CONV, Flatten()]),
    *(
        (IMAGE, [CONV, Flatten(), layer, Dense(10)])
        for layer in (
            norm(), ReLU(), LayerNormalization(), GroupNormalization(12), Activation("softmax"),
            Reshape((12, 12)), Flatten(),
        )
    ),
    (IMAGE, [CONV, Flatten(), Reshape((4, 6, 6)), Conv2D(3, 2)]),
    (IMAGE, [Reshape((7, -1)), Dense(6, "relu"), Dense(2, use_bias=False)]),
    ((105,), [Reshape(IMAGE), CONV]),
    ((35,), [Reshape((5, 7, 1)), CONV]),
    (IMAGE, [Conv2D(1, 2), Flatten(), Dense(6)]),
    (IMAGE, [Conv2D(1, 2), Reshape((6, 4)), Dense(3)]),
    (IMAGE, [Conv2D(6, (5, 7)), Flatten(), Dense(6)]),
    (IMAGE, [Conv2D(6, (5, 7))]),
    ((1, 1, 4), [Conv2D(3, 1)]),
    ((5, 7, 1), [Conv2D(1, 3), Conv2D(5, 1)]),
    (IMAGE, [Dense(6, "relu"), CONV, Dense(5, "tanh", use_bias=False), Conv2D(3, 2)]),
    (IMAGE, [GaussianNoise(0.1), Dropout(0.5), CONV]),
    *(
        (IMAGE, [*before, UpSampling2D(size), *after])
        for size in (2, (1, 3), (2, 1))
        for before, after in (
            ([], []), ([CONV], [CONV]), ([], [Flatten(), Dense(3)]),
        )
    ),
    ((16,), [Reshape((2, 8)), Softmax((1, 2)), Softmax(1), LayerNormalization((1, 2)), Softmax()]),
    (
        (7, 2),
        [
            Activation("softmax"), Flatten(), Softmax(), Reshape((2, 7)), GroupNormalization(7),
            Softmax(),
        ],
    ),
    ((9, 11, 3), MOBILE),
    *((case.input_shape, case.built(nbbn)[0]) for case in OF_STEPS.values()),
]
AXES = (1, 2, 3, (1, 2), (1, 3), (2, 3), (1, 2, 3))
# Axes that the engine does not compute over: against the oracle alone.
OTHER_AXES = [
    *(
        (IMAGE, [*before, LayerNormalization(axis=axis)])
        for axis in AXES
        for before in ([], [CONV])
    ),
    *((IMAGE, [*before, Softmax(axis=axis)]) for axis in AXES for before in ([], [CONV])),
    *(((6, 6, 6), [GroupNormalization(3, axis=axis)]) for axis in (1, 2)),
    *(((7, 7, 6), [CONV, GroupNormalization(3, axis=axis)]) for axis in (1, 2)),
    ((4, 6), [GroupNormalization(2, axis=1)]),
    (IMAGE, [Activation("softmax")]),
    (IMAGE, [Conv2D(4, 2, activation="softmax"), Conv2D(3, 2)]),
    ((4, 5), [Dense(3, "softmax")]),
    (IMAGE, [CONV, ZeroPadding2D(0), Conv2D(7, 2)]),
    (
        (2, 3, 4, 5),
        [
            Dense(6), norm(axis=2), LayerNormalization((1, 3)), GroupNormalization(2),
            Softmax((1, 2)), Flatten(),
        ],
    ),
]


def drawn(shape, layers, dtype=np.float32):
    """A network with random weights.

    The layers may come before or after one that the oracle does not know.
    """
    rng, weights, row = np.random.default_rng(3), [], shape
    for layer in layers:
        weights.append({})
        for name, size in layer.weight_shapes(row).items():
            scale = 1 / np.sqrt(max(np.prod(size[:-1]), 2)) if name == "kernel" else 0.4
            array = (
                rng.normal(name == "gamma", scale, size)
                if name != "var"
                else rng.uniform(0.5, 2, size)
            )
            weights[-1][name] = array.astype(dtype)
        row = layer.output_shape(row)
    return Network(tuple(layers), tuple(shape), weights, np.dtype(dtype))


def run_anywhere(model, x):
    """The model's output on onnxruntime, or where that has no float64 kernel on onnx's slow
    reference.
    """
    try:
        return run(model, x)["output"]
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        assert x.dtype == np.float64
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, {"x": x})[0]


def identify(case):
    shape, layers = case
    return f"{'x'.join(map(str, shape))}-{'-'.join(map(repr, layers)) if len(layers) < 6 else len(layers)}"


def check(case, dtype, *, engine):
    network = drawn(*case, dtype)
    x = rows(network, 5)
    got = run_anywhere(to_onnx(network), x)
    ref = NaiveNetwork(network.layers, network.input_shape, network.weights).forward(x)
    assert got.dtype == dtype
    assert got.shape == (5, *network.output_shape)
    # The reference's erf is that of float32.
    exact = dtype == np.float64 and "gelu" not in str(case)
    tolerance = (1e-13 if exact else 3e-6) * max(1, np.abs(ref).max())
    np.testing.assert_allclose(got, ref, rtol=0, atol=tolerance)
    if engine:
        np.testing.assert_allclose(
            got, Predictor(network)(x).reshape(ref.shape), rtol=0, atol=tolerance
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", NETWORKS, ids=identify)
def test_the_engine_and_the_oracle_agree(case, dtype):
    check(case, dtype, engine=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", OTHER_AXES, ids=identify)
def test_the_oracle_agrees_over_other_axes(case, dtype):
    check(case, dtype, engine=False)


def test_every_operation_is_written():
    assert set(WRITE) == set(op.OPERATIONS)


def test_an_input_layer_adds_nothing():
    assert operators(to_onnx(drawn((5,), [Input((5,)), Dense(2)]))) == ["Gemm", "Identity"]


RELUS = [
    ReLU(*arguments)
    for arguments in (
        (1.5,), (None, 0.2), (1.5, 0.2), (1.5, 0.2, 0.5), (1.5, 0, 0.5), (0.5, 0.2, 1.5),
    )
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", [*RELUS, ELU(), LeakyReLU(2), *map(Activation, NAMES)], ids=repr)
def test_activations_at_their_corners(layer, dtype):
    network = drawn((9,), [layer], dtype)
    x = np.array([[-200, -1e-6, -0.0, 0, 1e-6, 0.5, 1, 1.5, 80]], dtype)
    got, ref = run_anywhere(to_onnx(network), x), Predictor(network)(x)
    # ONNX Runtime's operators take 1 from exp(x) in float32, of which near 0 but the digits of 1
    # are left.
    subtracts = dtype == np.float32 and (
        isinstance(layer, ELU) or getattr(layer, "activation", "") in ("elu", "selu")
    )
    near = np.abs(x) < 1e-3 if subtracts else np.zeros(x.shape, bool)
    np.testing.assert_allclose(got[near], ref[near], rtol=0, atol=np.finfo(np.float32).eps)
    rtol = 2e-6 if "gelu" in repr(layer) or dtype == np.float32 else 1e-13
    np.testing.assert_allclose(got[~near], ref[~near], rtol=rtol, atol=1e-12)


# Layouts


HEAD = ["Gemm", "Relu", "Gemm", "Softmax", "Identity"]


def classic(bn, filters=6):
    """A convolutional classifier, with batch norm or as it is once folded."""
    conv = Conv2D(filters, 3, use_bias=not bn, activation=None if bn else "relu")
    middle = [norm(), Activation("relu")] if bn else []
    return [conv, *middle, MaxPooling2D(), Flatten(), Dense(17, "relu"), Dense(10, "softmax")]


@pytest.mark.parametrize(("channels", "first"), [(1, "Reshape"), (3, "Transpose")])
def test_images_are_turned_once(channels, first):
    shape = (9, 11, channels)
    folded = operators(to_onnx(drawn(shape, classic(bn=False))))
    assert folded == [first, "Conv", "Relu", "MaxPool", "Flatten", *HEAD]
    unfolded = operators(to_onnx(drawn(shape, classic(bn=True))))
    assert unfolded == [first, "Conv", "BatchNormalization", "Relu", "MaxPool", "Flatten", *HEAD]


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([Flatten(), Dense(4)], ["Flatten", "Gemm"]),
        ([ReLU(), Dense(4)], ["Relu", "MatMul", "Add"]),
        (
            [CONV, ReLU(6), Dropout(0.5), Dense(4), CONV],
            ["Transpose", "Conv", "Clip", "Conv", "Conv", "Transpose"],
        ),
        (
            [CONV, ZeroPadding2D(), MaxPooling2D()],
            ["Transpose", "Conv", "Pad", "MaxPool", "Transpose"],
        ),
        (
            [CONV, GlobalAveragePooling2D(), Dense(4)],
            ["Transpose", "Conv", "GlobalAveragePool", "Flatten", "Gemm"],
        ),
        ([GlobalAveragePooling2D(), Dense(4)], ["ReduceMean", "Flatten", "Gemm"]),
        (
            [CONV, Flatten(), norm(), Dense(4)],
            ["Transpose", "Conv", "Flatten", "BatchNormalization", "Gemm"],
        ),
        ([CONV, Flatten()], ["Transpose", "Conv", "Transpose", "Flatten"]),
        ([Conv2D(6, (5, 7)), Flatten()], ["Transpose", "Conv", "Flatten"]),
        ([CONV, LayerNormalization()], ["Transpose", "Conv", "Transpose", "LayerNormalization"]),
    ],
    ids=str,
)
def test_layouts_change_where_they_must(layers, names):
    assert operators(to_onnx(drawn(IMAGE, layers))) == [*names, "Identity"]


def test_what_needs_a_newer_opset():
    """A layer norm does, and a hard swish."""
    seen = set()
    for shape, layers in NETWORKS:
        network = drawn(shape, layers)
        steps = network.computation().steps
        norms = any(step.operation == op.RowNorm(1, step.input_shape[-1], 1e-3) for step in steps)
        swishes = any(step.operation == op.Elementwise("hard_silu") for step in steps)
        version = to_onnx(network).opset_import[0].version
        assert version == (17 if norms else 14 if swishes else 13), layers
        assert norms or not any(isinstance(x, LayerNormalization) for x in layers)
        seen.add(version)
    assert seen == {13, 14, 17}


def test_a_folded_convolution_agrees():
    network = drawn((9, 11, 3), classic(bn=True, filters=10))
    folded, _ = fold_network(network, strict=True)
    model = FoldedModel(folded, kind="classifier", classes=np.arange(10) + 3).to_onnx()
    assert "BatchNormalization" not in operators(model)
    got, x = run(model, rows(network)), rows(network)
    np.testing.assert_allclose(got["probabilities"], Predictor(network)(x), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(got["label"], Predictor(network)(x).argmax(axis=1) + 3)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ([Dense(3), Softmax()], "classifier"),
        ([Dense(3, "softmax"), Dropout(0.5), Reshape((3,)), Activation("linear")], "classifier"),
        ([Dense(2, "softmax"), Activation("linear")], "classifier"),
        ([Dense(4), Reshape((1, 4)), Softmax(), Flatten()], "classifier"),
        ([Dense(1), Activation("sigmoid"), Flatten()], "classifier"),
        ([Dense(3, "sigmoid"), GaussianNoise(1)], "multilabel"),
    ],
)
def test_heads_see_through_what_does_nothing(end, kind):
    network = drawn(IMAGE, [CONV, Flatten(), *end])
    got, x = run(to_onnx(network, kind=kind), rows(network)), rows(network)
    np.testing.assert_allclose(
        got["probabilities"][:, -1], Predictor(network)(x)[:, -1], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("n", [0, 1, 130])
def test_any_number_of_images(n):
    network = drawn(
        IMAGE,
        [
            Reshape((7, 5, 3)), CONV, GroupNormalization(2), GlobalMaxPooling2D(keepdims=True),
            Dense(3),
        ],
    )
    got = run(to_onnx(network), rows(network, n))["output"]
    assert got.shape == (n, 1, 1, 3)
    if n:
        np.testing.assert_allclose(
            got.reshape(n, 3), Predictor(network)(rows(network, n)), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(
    ("shape", "layer"),
    [((6,), LayerNormalization()), ((4, 6), GroupNormalization(2)), ((4, 6), norm(axis=2))],
)
def test_epsilon_is_kept_in_float64_by_every_norm(shape, layer):
    """With an epsilon in float32, which a runtime's fused operator has, results of small variances
    differ by 1e-8.
    """
    network = drawn(shape, [layer], np.float64)
    network.weights[0].update(
        {name: array * 1e-4 for name, array in network.weights[0].items() if name == "var"}
    )
    x = rows(network) * 1e-2
    ref = NaiveNetwork(network.layers, network.input_shape, network.weights).forward(x)
    np.testing.assert_allclose(
        run(to_onnx(network), x)["output"], ref, rtol=0, atol=1e-13 * np.abs(ref).max()
    )


# -- in another number type


def float64_model():
    layers = [Dense(6, "tanh"), BatchNormalization(), Dense(3, "softmax")]
    return FoldedModel(drawn((5,), layers, np.float64), kind="classifier", classes=["a", "b", "c"])


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize(("dtype", "shown"), [
    (None, "tensor(double)"), ("float64", "tensor(double)"), ("float32", "tensor(float)"),
    (np.float32, "tensor(float)"),
])
def test_the_input_is_of_the_dtype_that_is_asked_for(dtype, shown, fold):
    source = float64_model()
    model = nbbn.interop.to_onnx(source, fold=fold, dtype=dtype)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (given,) = session.get_inputs()
    assert given.type == shown and session.get_outputs()[1].type == shown
    x = np.random.default_rng(0).standard_normal((20, 5))
    kind = np.float32 if shown == "tensor(float)" else np.float64
    label, probabilities = session.run(None, {"x": x.astype(kind)})
    np.testing.assert_allclose(probabilities, source.predict_proba(x), atol=TOLERANCES[kind])
    np.testing.assert_array_equal(label, source.predict(x))
    assert source.network.dtype == np.float64


def test_a_float32_model_is_written_in_float64():
    network = drawn((5,), [Dense(4, "relu")], np.float32)
    model = FoldedModel(network).to_onnx(dtype="float64")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.random.default_rng(0).standard_normal((20, 5))
    weights = {name: array.astype(np.float64) for name, array in network.weights[0].items()}
    (got,) = session.run(None, {"x": x})
    np.testing.assert_allclose(got, np.maximum(x @ weights["kernel"] + weights["bias"], 0),
                               rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("write", [
    lambda model, dtype: nbbn.interop.to_onnx(model, dtype=dtype),
    lambda model, dtype: model.to_onnx(dtype=dtype), lambda model, dtype: model.to_c(dtype=dtype),
])
@pytest.mark.parametrize("dtype", ["float16", "nonsense", int, 32])
def test_another_dtype_is_refused(write, dtype):
    with pytest.raises(ValueError, match="dtype must be None, 'float32' or 'float64', got "):
        write(float64_model(), dtype)


def test_numbers_that_float32_does_not_hold_are_refused():
    network = drawn((5,), [Dense(4)], np.float64)
    network.weights[0]["kernel"][2, 1] = 1e300
    with pytest.raises(LayerError, match=r"layer 0 \(Dense\): kernel holds NaN or infinity"):
        FoldedModel(network).to_onnx(dtype="float32")
