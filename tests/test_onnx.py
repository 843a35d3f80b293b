"""ONNX models against a plain float64 forward pass, on onnxruntime."""

import os
import sys

import numpy as np
import pytest

from nbbn.fold import fold_network
from nbbn.interop.files import FileError
from nbbn.interop.onnx import IR_VERSION, OPSET, to_onnx
from nbbn.layers import Activation, BatchNormalization, Dense, Layer, LayerError
from nbbn.network import Network

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
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
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x"]
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


def operators(model):
    return [node.op_type for node in model.graph.node]


BN = BatchNormalization()
BODY = [
    Dense(6, use_bias=False),
    BN,
    Activation("relu"),
    Dense(4, "tanh"),
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
    np.testing.assert_allclose(got["output"], ref, rtol=0, atol=TOLERANCES[dtype] * np.abs(ref).max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "layers", [lambda a: [Dense(4, a)], lambda a: [Dense(4), Activation(a)], lambda a: [Activation(a)]]
)
def test_every_activation(layers, dtype, activation):
    network = make(layers(activation), dtype=dtype)
    got = run(to_onnx(network), rows(network))["output"]
    np.testing.assert_allclose(got, forward(network, rows(network)), rtol=0, atol=10 * TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_epsilon_is_kept_in_the_networks_precision(dtype):
    """The operator's epsilon is a float32: 1e-3 is off by 5e-8 there, which float64 must not show."""
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
    (None, [0, 1, 2], np.int64),
    (np.array([0, 1, 2]), [0, 1, 2], np.int64),
    (np.array([7, -2, 2**40]), [7, -2, 2**40], np.int64),
    (np.array([7, 5, 9], np.uint8), [7, 5, 9], np.int64),
    (np.array([7, np.int64(5), 9], object), [7, 5, 9], np.int64),
    (np.array(["b", "\N{SNOWMAN}", ""]), ["b", "\N{SNOWMAN}", ""], object),
    (np.array(["b", "a", "c"], object), ["b", "a", "c"], object),
    (["b", "a", "c"], ["b", "a", "c"], object),
    (np.array([0.5, 1.5, 2.5]), [0, 1, 2], np.int64),
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
    np.testing.assert_allclose(got["probabilities"], np.stack([1 - p, p], axis=1), rtol=0, atol=3 * TOLERANCES[dtype])
    assert got["label"].tolist() == [labels[int(q > 0.5)] for q in p]
    assert len(set(got["label"].tolist())) == 2


def test_binary_tie_goes_to_the_first_class():
    network = make([Dense(1, "sigmoid")])
    network.weights[0]["kernel"][:] = network.weights[0]["bias"][:] = 0
    got = run(to_onnx(network, kind="classifier"), rows(network, 2))
    assert got["label"].tolist() == [0, 0]
    np.testing.assert_array_equal(got["probabilities"], np.full((2, 2), 0.5))


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


class Unknown(Layer):
    pass


@pytest.mark.parametrize(
    ("layers", "changes", "message"),
    [
        (
            [Dense(2)],
            {"kind": "clusterer"},
            "kind must be one of None, classifier, .*, got 'clusterer'",
        ),
        ([Unknown()], {}, "to_onnx cannot write Unknown; it writes Dense, Activation, BatchNormalization"),
        ([Dense(3)], {"kind": "classifier"}, "a classifier ends in a softmax .*; got linear of 3"),
        ([Dense(3, "sigmoid")], {"kind": "classifier"}, "got sigmoid of 3; use kind=None"),
        ([Dense(1, "softmax")], {"kind": "classifier"}, "got softmax of 1"),
        ([Dense(3, "softmax"), BN], {"kind": "classifier"}, "got linear of 3"),
        ([Dense(3, "softmax")], {"kind": "multilabel"}, "a multilabel network ends in a sigmoid, got softmax"),
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


def test_refuses_rows_of_more_axes():
    network = make([Activation("relu")])
    with pytest.raises(ValueError, match=r"rows of one axis, got rows of shape \(3, 2\)"):
        to_onnx(Network(network.layers, (3, 2), [{}], network.dtype))


def test_refuses_a_network_that_does_not_fit():
    network = make([Dense(2)])
    network.weights[0]["bias"][0] = np.inf
    with pytest.raises(LayerError, match="bias holds NaN or infinity"):
        to_onnx(network)


def test_refuses_what_a_protobuf_cannot_hold(monkeypatch):
    monkeypatch.setattr("nbbn.interop.onnx._MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"an ONNX file holds at most 100 bytes, this model \d+; use save"):
        to_onnx(make([Dense(2)]))


def test_without_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'nbbn\[onnx\]'"):
        to_onnx(make([Dense(2)]))
