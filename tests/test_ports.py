"""Several inputs and outputs, each for itself and under its name: in ONNX, in C, in files."""

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace

import graph_networks
import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn.fallback import NumpyBlocks
from nbbn.folded_model import FoldedModel
from nbbn.formats.csource import to_c
from nbbn.formats.ports import ports_of
from nbbn.network import apart, beside

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def two_of_each():
    image, table = L.Input((3, 4, 2), name="image"), L.Input((5,), name="tab-le")
    x = L.Flatten()(L.BatchNormalization()(L.Conv2D(3, 2)(image)))
    x = L.Concatenate()([x, L.Dense(4, "tanh")(table)])
    h = L.Dense(6, "relu", name="h")(x)
    ends = [L.Dense(3, "softmax", name="kind")(h), L.Dense(1, name="1st value")(h), h]
    return nbbn.Model([image, table], ends)


def named(network, inputs=(), outputs=()):
    graph = replace(network.graph, input_names=tuple(inputs), output_names=tuple(outputs))
    return replace(network, graph=graph)


def rows(network, n=4):
    return apart(graph_networks.rows_of(network, n), network.graph.inputs)


def test_names_are_the_model_s():
    ports = ports_of(two_of_each().network())
    assert [port.name for port in ports.inputs] == ["image", "tab_le"]
    assert [port.name for port in ports.outputs] == ["kind", "output_1st_value", "h"]


@pytest.mark.parametrize(("names", "wanted"), [
    ((), ["x1", "x2"]), (("a", "A"), ["a", "A_2"]), (("\xe9", "\xfc"), ["x", "x_2"]),
    (("_", "3"), ["x", "x_3"]), (("v1", "c0"), ["v1", "c0"]),
])
def test_names_become_identifiers_of_their_own(names, wanted):
    network = named(graph_networks.network("wide_and_deep"), names)
    assert [port.name for port in ports_of(network).inputs] == wanted


def test_one_input_and_one_output_are_called_as_ever():
    ports = ports_of(graph_networks.network("resnet"))
    assert [port.name for port in (*ports.inputs, *ports.outputs)] == ["x", "output"]


def test_names_are_kept_in_files_and_by_folds(tmp_path):
    folded = two_of_each().fold()
    folded.save(tmp_path / "m.safetensors")
    graph = nbbn.load(tmp_path / "m.safetensors").network.graph
    assert graph == folded.network.graph
    assert graph.input_names == ("image", "tab-le")
    assert graph.output_names == ("kind", "1st value", "h")
    with pytest.raises(nbbn.layers.LayerError, match=r"\['a'\] are no names of 2 inputs"):
        type(graph).from_config({**graph.config(), "input_names": ["a"]})


def test_folded_models_take_inputs_by_name():
    model = two_of_each()
    xs, folded = rows(model.network()), model.fold()
    ref, got = model.predict(xs), folded.predict({"tab-le": xs[1], "image": xs[0]})
    for one, other in zip(got, ref, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-6)
    with pytest.raises(ValueError, match="X must have the keys image, tab-le, got image"):
        folded.predict({"image": xs[0]})
    single = nbbn.Sequential([L.Dense(2, input_shape=(3,))]).fold()
    with pytest.raises(ValueError, match="X must be no dict, got x"):
        single.predict({"x": np.zeros((1, 3))})


# -- ONNX


@pytest.mark.parametrize("names", [("image", "table"), ("v1", "c0")])
def test_onnx(names):
    pytest.importorskip("onnx")
    from onnx_graphs import run

    from nbbn.formats.onnx.write import write
    from nbbn.interop import from_onnx

    network = named(two_of_each().network(), names, ("kind", "1st value", "h"))
    written, xs = write(network), rows(network)
    assert [v.name for v in written.graph.input] == [*names]
    assert [v.name for v in written.graph.output] == ["kind", "output_1st_value", "h"]
    answers = NumpyBlocks(network).run(beside(xs, network.dtype))
    shapes = network.graph.output_shapes(network.layers)
    for got, ref in zip(run(written, *xs), apart(answers, shapes), strict=True):
        assert got.shape == ref.shape
        np.testing.assert_allclose(got, ref, rtol=0, atol=3e-6)
    read = from_onnx(written)
    assert read.network().graph.input_names == names
    for got, ref in zip(read.predict(dict(zip(names, xs))), apart(answers, shapes), strict=True):
        np.testing.assert_allclose(got, ref, rtol=0, atol=3e-6)


# -- C


def compiled(source, folder):
    (folder / "m.c").write_text(source)
    warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
    subprocess.run(["cc", "-std=c99", "-O1", "-fPIC", "-shared", *warnings, "m.c", "-o", "m.so",
                    "-lm"], check=True, cwd=folder)
    return ctypes.CDLL(str(folder / "m.so"))


def called(function, arrays, n):
    function(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays), ctypes.c_size_t(n))


@needs_compiler
def test_c(tmp_path):
    network = two_of_each().network().astype("float64")
    source = to_c(network, name="net")
    assert ("void net_predict(const net_real *x_image, const net_real *x_tab_le, net_real *out_kind"
            ", net_real *out_output_1st_value, net_real *out_h, size_t rows);") in source
    assert {"#define NET_X_TAB_LE 5", "#define NET_OUT_KIND 3"} <= {*source.splitlines()}
    xs, outs = rows(network), [np.full((5, n), 7.0) for n in (3, 1, 6)]
    called(compiled(source, tmp_path).net_predict, [*xs, *outs], 4)
    answers = NumpyBlocks(network).run(beside(xs, network.dtype))
    np.testing.assert_allclose(np.concatenate(outs, 1)[:4], answers, rtol=0, atol=1e-12)
    assert all((out[4] == 7).all() for out in outs)  # past the end


@needs_compiler
def test_c_of_outputs_that_stand_where_others_do(tmp_path):
    """An input, a value that an activation could change in place, and one in two shapes."""
    g = graph_networks.Drawing((4,), (6,))
    x = g(L.Activation("linear"), -2)
    a = g(L.Dense(6), -1)
    b = g(L.Activation("relu"), a)
    c = g(L.Reshape((2, 3)), b)
    network = g.network(a, x, b, c, g(L.Activation("tanh"), x))
    xs, outs = rows(network), [np.zeros((4, 6)) for _ in range(5)]
    library = compiled(to_c(network, name="net"), tmp_path)
    given = [x.copy() for x in xs]
    called(library.net_predict, [*given, *outs], 4)
    answers = NumpyBlocks(network).run(beside(xs, network.dtype))
    np.testing.assert_allclose(np.concatenate(outs, 1), answers, rtol=0, atol=1e-12)
    assert all(np.array_equal(x, own) for x, own in zip(xs, given))


@needs_compiler
def test_c_of_a_classifier_of_two_inputs(tmp_path):
    g = graph_networks.Drawing((4,), (3,))
    network = g.network(g(L.Dense(3, "softmax"), g(L.Concatenate(), -1, -2)))
    model = FoldedModel(network, kind="classifier", classes=["a", "b", "c"])
    xs, chosen = rows(network, 9), np.zeros(9, np.uintp)
    library = compiled(model.to_c(name="net"), tmp_path)
    called(library.net_classify, [*xs, chosen], 9)
    assert [model.classes_[k] for k in chosen] == model.predict(xs).tolist()


@needs_compiler
def test_c_of_an_input_that_nothing_reads(tmp_path):
    g = graph_networks.Drawing((4,), (3,))
    network = g.network(g(L.Dense(2), -2))
    xs, out = rows(network), np.zeros((4, 2))
    called(compiled(to_c(network, name="net"), tmp_path).net_predict, [*xs, out], 4)
    answers = NumpyBlocks(network).run(beside(xs, network.dtype))
    np.testing.assert_allclose(out, answers, rtol=0, atol=1e-12)


def test_the_comment_says_what_goes_where():
    source = to_c(two_of_each().network(), name="net")
    head = re.sub(r"\s+", " ", source[: source.index("*/")])
    assert "goes in: 24 numbers x_image, of shape 3 x 4 x 2; 5 numbers x_tab_le, of shape 5" in head
    assert "comes out: 3 numbers out_kind, of shape 3; 1 numbers out_output_1st_value" in head
