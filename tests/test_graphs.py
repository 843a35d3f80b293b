"""Networks that are graphs: the same numbers by every way, gradients, bits, races, files."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import replace

import graph_networks
import numpy as np
import pytest
from graph_networks import NAMES, network, rows_of
from races import races

import nbbn
from nbbn import layers as L
from nbbn import recalibration
from nbbn.fallback import NumpyBlocks
from nbbn.fold.network import fold_network
from nbbn.formats import native
from nbbn.formats.csource import to_c
from nbbn.layers import LayerError
from nbbn.network import Call, Graph, Network, apart
from nbbn.optimizers import SGD, Adam
from nbbn.predictor import Predictor
from nbbn.program.inference import InferenceProgram
from nbbn.program.splits import split
from nbbn.program.training import lower_training
from nbbn.trainer import Trainer

F32, ROWS = np.dtype("float32"), 9


def trainer(net, optimizer=None):
    """A trainer of the mean squared error."""
    made = Trainer(net.computation(training=True), net.dtype, net.dtype, ROWS,
                   "mean_squared_error", optimizer or SGD(0.0))
    made.upload(net.weights)
    return made


def step(made, net, rate):
    """One step; its loss."""
    x, order = rows_of(net, ROWS), np.arange(ROWS)
    y = np.random.default_rng(4).normal(size=(ROWS, int(np.prod(net.output_shape))))
    return made.epoch(x, y.astype(net.dtype), order, np.array([0, ROWS]),
                      np.array([rate])).mean_loss


def changed(net, layer, name, array):
    weights = [dict(arrays) for arrays in net.weights]
    weights[layer][name] = array
    return replace(net, weights=weights)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_central_differences(name):
    """Of every array that a step trains; of a bias before a batch norm the gradient is 0."""
    net, h = network(name), 1e-6
    made, rng = trainer(net), np.random.default_rng(7)
    step(made, net, 1.0)
    for i, (before, after) in enumerate(zip(net.weights, made.download())):
        for array in before.keys() - {"mean", "var"}:
            direction = rng.normal(size=before[array].shape)
            got = float(((before[array] - after[array]) * direction).sum())
            losses = []
            for sign in (1, -1):
                other = changed(net, i, array, before[array] + sign * h * direction)
                losses.append(step(trainer(other), other, 0.0))
            ref = (losses[0] - losses[1]) / (2 * h)
            assert got == pytest.approx(ref, rel=2e-6, abs=2e-8), (i, array)


def naive(net, x):
    """Outputs in inference, layer by layer and each by itself, one row's values at a time."""
    graph, of_value = net.graph, {}
    first = 0
    for k, shape in enumerate(graph.inputs, 1):
        size = int(np.prod(shape))
        of_value[-k] = x[:, first : first + size].reshape(len(x), *shape)
        first += size
    for i, call in enumerate(graph.calls):
        layer, xs = net.layers[call.layer], [of_value[source] for source in call.sources]
        of_value[i] = MERGED[type(layer)](layer, *xs) if type(layer) in MERGED else alone(
            layer, net.weights[call.layer], xs[0])
    return np.concatenate([of_value[k].reshape(len(x), -1) for k in graph.outputs], 1)


def alone(layer, arrays, x):
    """A layer of one source, by a network of it alone."""
    single = Network((layer,), x.shape[1:], [arrays], x.dtype)
    return NumpyBlocks(single).run(x).reshape(len(x), *single.output_shape)


def pairwise(function):
    def merged(layer, *xs):
        out = xs[0]
        for x in xs[1:]:
            out = function(out, x)
        return out
    return merged


def dot(layer, x, y):
    """Row by row, vector by vector."""
    def length(v):
        return v / max(np.sqrt((v * v).sum()), 1e-7) if layer.normalize else v

    out = [[[length(v) @ length(w) for w in b.reshape(-1, b.shape[-1])]
            for v in a.reshape(-1, a.shape[-1])] for a, b in zip(x, y)]
    return np.array(out).reshape(len(x), *layer.output_shape(x.shape[1:], y.shape[1:]))


MERGED = {
    L.Dot: dot,
    L.Add: pairwise(np.add), L.Subtract: pairwise(np.subtract), L.Multiply: pairwise(np.multiply),
    L.Maximum: pairwise(np.maximum), L.Minimum: pairwise(np.minimum),
    L.Average: lambda layer, *xs: sum(xs) / len(xs),
    L.Concatenate: lambda layer, *xs: np.concatenate(xs, layer.axis),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_inference(name, dtype):
    """The engine and NumPy against each layer by itself, for few rows and many."""
    net = network(name, dtype)
    for n in (1, 3, 150):
        x = rows_of(net, n)
        ref, tolerance = naive(net, x), {F32: 2e-4}.get(net.dtype, 1e-11)
        for run in (Predictor(net), NumpyBlocks(net).run):
            got = run(x.reshape(n, *net.input_shape)).reshape(n, -1)
            np.testing.assert_allclose(got, ref, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_on_any_number_of_threads(name):
    found = set()
    for threads in (1, 2):
        with nbbn.num_threads(threads):
            net = network(name, np.float32)
            made = trainer(net, Adam(0.01))
            for _ in range(3):
                step(made, net, 0.01)
            arrays = [a for arrays in made.download() for a in arrays.values()]
            found.add(b"".join(a.tobytes() for a in arrays))
    assert len(found) == 1


@pytest.mark.parametrize("name", NAMES)
def test_no_races(name):
    net = network(name)
    for optimizer in (SGD(0.01), Adam(0.01, global_clipnorm=1.0)):
        program = lower_training(net.computation(training=True), F32, 41, "mean_squared_error",
                                 optimizer).program
        assert races(program) == []
        for threads in (4, 16):
            assert races(split(program, 41, threads), teams=(3, threads)) == []
    inference = InferenceProgram(net.computation(), F32).program
    assert races(inference, rows=(41,), own_places=False) == []


@pytest.mark.parametrize("name", NAMES)
def test_folded(name):
    """The same numbers; what it says to have folded is gone."""
    net = network(name)
    folded, report = fold_network(net)
    x = rows_of(net, 20)
    np.testing.assert_allclose(NumpyBlocks(folded).run(x), NumpyBlocks(net).run(x), rtol=1e-11,
                               atol=1e-11)
    affine = (L.BatchNormalization, L.Rescaling)
    of_norms = [sum(isinstance(layer, affine) for layer in one.layers) for one in (net, folded)]
    assert of_norms[0] - of_norms[1] == len({entry.name for entry in report.entries
                                             if entry.folded})


FOLDS = {
    "residual_mlp": (1, 1), "resnet": (5, 5), "resnet_v2": (0, 1), "densenet": (0, 2),
    "inception": (4, 4), "mobilenet": (3, 3), "unet": (3, 3), "siamese": (1, 1),
    "two_inputs_two_outputs": (1, 1), "wide_and_deep": (1, 1),
}


@pytest.mark.parametrize("name", FOLDS)
def test_how_many_fold(name):
    _, report = fold_network(network(name))
    titles = {entry.name for entry in report.entries}
    assert (len({e.name for e in report.entries if e.folded}), len(titles)) == FOLDS[name]


@pytest.mark.parametrize("name", NAMES)
def test_onnx(name):
    runtime = pytest.importorskip("onnxruntime")
    from nbbn.formats.onnx.write import write

    net = network(name, np.float32)
    session = runtime.InferenceSession(write(net).SerializeToString(),
                                       providers=["CPUExecutionProvider"])
    x = rows_of(net, 5)
    names = [given.name for given in session.get_inputs()]
    got = session.run(None, dict(zip(names, apart(x, net.graph.inputs), strict=True)))
    flat = np.concatenate([rows.reshape(5, -1) for rows in got], 1)
    np.testing.assert_allclose(flat, naive(net, x), rtol=3e-4, atol=3e-4)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("name", NAMES)
def test_c(name, tmp_path):
    net, x = network(name), rows_of(network(name), 5)
    source, library = tmp_path / "m.c", tmp_path / "m.so"
    to_c(net, source)
    warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
    subprocess.run(["cc", "-std=c99", "-O1", "-fPIC", "-shared", *warnings, str(source), "-o",
                    str(library), "-lm"], check=True)
    outs = [np.zeros((5, *shape)) for shape in net.graph.output_shapes(net.layers)]
    arrays, real = [*apart(x, net.graph.inputs), *outs], ctypes.POINTER(ctypes.c_double)
    ctypes.CDLL(str(library)).m_predict(*(array.ctypes.data_as(real) for array in arrays),
                                        ctypes.c_size_t(5))
    flat = np.concatenate([out.reshape(5, -1) for out in outs], 1)
    np.testing.assert_allclose(flat, naive(net, x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layer", [L.BatchNormalization(), L.Activation("tanh")])
def test_a_flattened_input_that_several_read(layer):
    """What is done in place leaves it as it is for the others."""
    g = graph_networks.Drawing((3, 5))
    flat = g(L.Flatten(), -1)
    net = g.network(g(L.Concatenate(), g(layer, flat), flat))
    x = rows_of(net, 5)
    np.testing.assert_allclose(Predictor(net)(x), naive(net, x), rtol=0, atol=1e-12)
    made = trainer(net)
    step(made, net, 0.0)
    np.testing.assert_allclose(Predictor(net)(x), naive(net, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_files(name, tmp_path):
    net = network(name, np.float32)
    native.save(tmp_path / "m.safetensors", net, {})
    again, _, _ = native.load(tmp_path / "m.safetensors")
    assert again.graph == net.graph and again.layers == net.layers
    x = rows_of(net, 4)
    np.testing.assert_array_equal(NumpyBlocks(again).run(x), NumpyBlocks(net).run(x))


@pytest.mark.parametrize(("layer", "shapes", "message"), [
    (L.Add(), [(3,)], r"Add: takes a list of at least 2 tensors, got 1"),
    (L.Subtract(), [(3,)] * 3, r"Subtract: takes a list of 2 tensors, got 3"),
    (L.Add(), [(3,), (4,)], r"Add: .*the same shape.*\(3,\) and \(4,\)"),
    (L.Multiply(), [(2, 3, 4, 5), (1, 1, 1, 5)], r"Multiply: rows of more than three axes"),
    (L.Concatenate(), [(2, 3), (3, 3)], r"Concatenate: .*alike but for axis -1, got \(2, 3\)"),
    (L.Concatenate(0), [(2, 3), (2, 3)], r"Concatenate: axis 0 is not an axis of rows"),
])
def test_what_does_not_fit_is_refused(layer, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer.output_shape(*shapes)


@pytest.mark.parametrize(("config", "message"), [
    ({"calls": [[0, 1]], "inputs": [[3]], "outputs": [0]}, r"call 0 .* takes from \[1\]"),
    ({"calls": [[0, -2]], "inputs": [[3]], "outputs": [0]}, r"call 0 .* there are 1 inputs"),
    ({"calls": [[0, -1]], "inputs": [[3]], "outputs": [1]}, r"gives out \[1\] of its 1 calls"),
    ({"calls": [[0, -1]], "inputs": [[3]], "outputs": []}, r"gives out \[\]"),
])
def test_broken_graphs_are_refused(config, message):
    with pytest.raises(LayerError, match=message):
        Graph.from_config(config)


def test_a_layer_on_rows_of_other_ranks_is_refused():
    g = graph_networks.Drawing((4,), (3, 4))
    a, b = g(L.Dense(4), -1), g.again(0, -2)
    net = g.network(g(L.Dense(1), g(L.Add(), a, g(L.Dense(4), g(L.Flatten(), b)))))
    assert isinstance(net.graph.calls[0], Call)
    with pytest.raises(LayerError, match="rows of one axis and on rows of several"):
        Predictor(net)


@pytest.mark.parametrize("name", ["resnet", "wide_and_deep", "densenet"])
def test_recalibrates_the_same_from_norm_to_norm(name, monkeypatch):
    """What norms read is computed from what those before read, or from the rows: the same bits."""
    net = network(name, np.float32)
    x = rows_of(net, 9).reshape(9, *net.input_shape)
    carried = recalibration.recalibrated(net, x)
    monkeypatch.setattr(recalibration, "_CARRIED", -1)
    anew = recalibration.recalibrated(net, x)
    assert carried.keys() == anew.keys() != set()
    for i, arrays in anew.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(carried[i][key], array)
