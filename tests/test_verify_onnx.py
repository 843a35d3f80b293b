"""`nbbn verify` of two ONNX files: every output, whatever the inputs."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from command_line import fails, works

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

from onnx import TensorProto  # noqa: E402
from onnx_graphs import Builder  # noqa: E402


def two_outputs(factor=1.0, batch="n"):
    g = Builder()
    x = g.input("x", batch, 6)
    first, second = g.weights(6, 3), g.tensor(factor * g.rng.normal(size=(6, 3)))
    g.output(g.add("MatMul", x, first), batch, 3)
    g.output(g.add("MatMul", x, second), batch, 3)
    return g.model()


def labelled(shift, operator, element, **attributes):
    """A label alone, of scores that `shift` moves."""
    g = Builder()
    y = g.add("MatMul", g.input("x", "n", 6), g.weights(6, 5))
    y = g.add("Add", y, g.tensor([shift, 0, 0, 0, 0]))
    g.output(g.add(operator, y, **attributes), "n", "k", element=element)
    return g.model()


@pytest.fixture
def pair(tmp_path):
    def save(a, b):
        (tmp_path / "a").mkdir(exist_ok=True), (tmp_path / "b").mkdir(exist_ok=True)
        paths = tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx"
        for path, model in zip(paths, (a, b)):
            onnx.save(model, path)
        return paths

    return save


def test_a_second_output_that_differs(pair, capsys):
    text = works(capsys, "verify", *pair(two_outputs(), two_outputs()))
    assert "v0: largest difference 0" in text and "v1: largest difference 0" in text
    line = fails(capsys, 1, "verify", *pair(two_outputs(), two_outputs(1.01)))
    assert "differ in v1 by more than the bound is" in line
    works(capsys, "verify", *pair(two_outputs(), two_outputs(1.01)), "--tolerance", "9")


@pytest.mark.parametrize("batches", [(1, 1), (7, 7), ("n", 3), (3, "n"), (300, "n")])
def test_a_fixed_number_of_rows(batches, pair, capsys):
    a, b = (two_outputs(batch=batch) for batch in batches)
    works(capsys, "verify", *pair(a, b))
    fails(capsys, 1, "verify", *pair(a, two_outputs(2.0, batches[1])))


def test_several_inputs_and_free_sizes(pair, capsys):
    def model(factor):
        g = Builder()
        x = g.conv(g.input("image", "n", 3, "height", "width"), 3, 4, 3, 3)
        x = g.add("Mul", x, g.input("weight", "n", 4, 1, 1))
        ids = g.add("Gather", g.weights(9, 4), g.input("ids", "n", element=TensorProto.INT64))
        y = g.add("Flatten", g.add("GlobalAveragePool", x))
        g.output(g.add("Mul", g.add("Add", y, ids), g.tensor(factor)), "n", 4)
        return g.model()

    assert "on 256 rows" in works(capsys, "verify", *pair(model(1.0), model(1.0)))
    fails(capsys, 1, "verify", *pair(model(1.0), model(1.001)))


def test_inputs_by_their_names(pair, capsys):
    def model(*names):
        g = Builder()
        for name in names:
            g.input(name, "n", 3)
        g.output(g.add("Sub", "p", "q"), "n", 3)
        return g.model()

    works(capsys, "verify", *pair(model("p", "q"), model("q", "p")))


def test_data_in_other_files(pair, capsys, monkeypatch, tmp_path):
    paths = pair(two_outputs(), two_outputs())
    for path in paths:
        onnx.save(
            onnx.load(path), path, save_as_external_data=True, location="data", size_threshold=0
        )
    newer = onnx.load(paths[1], load_external_data=False)
    newer.ir_version = onnx.IR_VERSION + 1  # than any runtime knows
    (tmp_path / "b" / "newer.onnx").write_bytes(newer.SerializeToString())
    monkeypatch.chdir(tmp_path / "a")
    works(capsys, "verify", "m.onnx", "../b/m.onnx")
    works(capsys, "verify", "m.onnx", "../b/newer.onnx")


LABELS = {
    "argmax": ("ArgMax", TensorProto.INT64, {"axis": 1}),
    "cast": ("Cast", TensorProto.UINT8, {"to": TensorProto.UINT8}),
    "foreign": ("Riddle", TensorProto.FLOAT, {"domain": "nowhere"}),
}


@pytest.mark.parametrize("what", LABELS)
def test_labels_and_foreign_operators(what, pair, capsys):
    """Of a foreign operator the numbers before it are compared; a label that rounding turns may
    differ.
    """
    operator, element, more = LABELS[what]
    same = labelled(0.0, operator, element, **more)
    text = works(capsys, "verify", *pair(same, same))
    assert "on 256 rows" in text if what == "foreign" else "0 of 256 rows differ" in text
    line = fails(capsys, 1, "verify", *pair(same, labelled(0.5, operator, element, **more)))
    assert "by more than the bound is" in line


def test_labels_that_rounding_turns_may_differ(pair, capsys):
    """Scores that are equal but for their last bits: which is the largest says nothing."""

    def model(shift):
        g = Builder()
        kernel = np.repeat(g.rng.normal(size=(6, 1)), 2, axis=1)
        y = g.add("MatMul", g.input("x", "n", 6), g.tensor(kernel))
        y = g.add("Add", y, g.tensor([0.0, shift]))
        g.output(g.add("ArgMax", y, axis=1), "n", 1, element=TensorProto.INT64)
        return g.model()

    works(capsys, "verify", *pair(model(0.0), model(1e-8)))
    fails(capsys, 1, "verify", *pair(model(0.0), model(1e-2)))


def test_labels_that_mean_something_else(pair, capsys):
    """The numbers before them agree; they themselves do not, nor does a second output of such."""

    def model(label, other):
        g = Builder()
        y = g.add("MatMul", g.input("x", "n", 6), g.weights(6, 5))
        for add, value in ((label, g.add("ArgMax", y, axis=1, keepdims=0)),
                           (other, g.input("ids", "n", element=TensorProto.INT64))):
            g.output(g.add("Add", value, g.tensor([add], dtype=np.int64)), "n",
                     element=TensorProto.INT64)
        return g.model()

    works(capsys, "verify", *pair(model(0, 0), model(0, 0)))
    assert "differ in v2 by" in fails(capsys, 1, "verify", *pair(model(0, 0), model(1, 0)))
    assert "differ in v3 by" in fails(capsys, 1, "verify", *pair(model(0, 0), model(0, 3)))
    assert "differ in v2, v3" in fails(capsys, 1, "verify", *pair(model(0, 0), model(1, 3)))


def test_whole_numbers_alone(pair, capsys):
    def model(add):
        g = Builder()
        x = g.input("x", "n", 3, element=TensorProto.INT64)
        g.output(
            g.add("Add", x, g.tensor([add], dtype=np.int64)), "n", 3, element=TensorProto.INT64
        )
        return g.model()

    works(capsys, "verify", *pair(model(1), model(1)))
    assert "differ in v0" in fails(capsys, 1, "verify", *pair(model(1), model(2)))


def test_models_that_cannot_compute_the_same(pair, capsys):
    small, other = two_outputs(), Builder()
    other.output(other.add("Relu", other.input("x", "n", 7)), "n", 7)
    assert "differ in their inputs" in fails(capsys, 2, "verify", *pair(small, other.model()))
    other = Builder()
    other.output(other.add("Relu", other.input("x", "n", 6)), "n", 6)
    assert "differ in their outputs" in fails(capsys, 2, "verify", *pair(small, other.model()))


def test_not_a_number_is_no_agreement(pair, capsys):
    def model(operator):
        g = Builder()
        x = g.add("MatMul", g.input("x", "n", 6), g.weights(6, 3))
        g.output(g.add(operator, g.add("Abs", x)), "n", 3)
        return g.model()

    nan = model("Sqrt")
    nan.graph.node[1].op_type = "Neg"
    fails(capsys, 1, "verify", *pair(model("Sqrt"), nan))
    works(capsys, "verify", *pair(nan, nan))


def test_large_rows_are_few(pair, capsys):
    """A small file may take large images."""
    g = Builder()
    x = g.conv(g.input("x", "n", 3, 512, 512), 3, 16, 3, 3)
    g.output(g.conv(x, 16, 2, 3, 3), "n", 2, 508, 508)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    works(capsys, "verify", *pair(g.model(), g.model()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kB: a gigabyte


def test_given_rows(pair, capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((9, 6)))
    text = works(capsys, "verify", *pair(two_outputs(), two_outputs()), "--data",
                 tmp_path / "x.npy")
    assert "on 265 rows" in text
    np.save(tmp_path / "x.npy", np.ones((9, 5)))
    line = fails(capsys, 2, "verify", *pair(two_outputs(), two_outputs()), "--data",
                 tmp_path / "x.npy")
    assert "must have shape" in line
