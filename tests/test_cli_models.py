"""The commands on model files: fold, verify, inspect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, works

import nbbn
from nbbn.commands import models as models_of

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.usefixtures("command_name"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def test_fold_saves_the_same_function_and_prints_the_report(models, tmp_path, capsys):
    out = tmp_path / "new" / "folded.safetensors"
    text = works(capsys, "fold", models / "digits.safetensors", out, "--check", models / "rows.npy")
    assert "2 of 2 batch norms folded" in text and "464 rows" in text
    X = np.load(models / "rows.npy")
    ref, got = nbbn.load(models / "digits.safetensors"), nbbn.load(out)
    assert isinstance(got, nbbn.FoldedModel)
    np.testing.assert_allclose(got.predict_proba(X), ref.predict_proba(X), atol=2e-6)
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_fold_report_as_json(models, tmp_path, capsys):
    out = tmp_path / "folded.safetensors"
    report = json.loads(
        works(capsys, "fold", models / "digits.safetensors", out, "--report", "json")
    )
    assert report["out"] == str(out)
    assert [entry["folded"] for entry in report["entries"]] == [True, True]
    assert report["max_abs_error"] <= report["bound"]


def test_fold_to_onnx(models, tmp_path, capsys):
    ort = pytest.importorskip("onnxruntime")
    out = tmp_path / "model.onnx"
    works(capsys, "fold", models / "digits.safetensors", out)
    X = np.load(models / "rows.npy")
    label, proba = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"]).run(
        None, {"x": X}
    )
    ref = nbbn.load(models / "digits.safetensors")
    np.testing.assert_allclose(proba, ref.predict_proba(X), atol=5e-6)
    np.testing.assert_array_equal(label, ref.predict(X))


def test_fold_refuses_to_overwrite_its_input(models, tmp_path, capsys):
    source = tmp_path / "m.safetensors"
    source.write_bytes((models / "digits.safetensors").read_bytes())
    (tmp_path / "link.safetensors").symlink_to(source)
    for out in (
        source, tmp_path / "link.safetensors", tmp_path / ".." / tmp_path.name / "m.safetensors",
    ):
        assert "is the input itself" in fails(capsys, 2, "fold", source, out)
    assert source.read_bytes() == (models / "digits.safetensors").read_bytes()


def test_fold_strict_fails_where_a_batch_norm_stays(tmp_path, capsys, digits, monkeypatch):
    def refuse(*args, **kwargs):
        raise nbbn.FoldRefused("1 of 2 batch norms could not be folded: ...")

    X, y = digits
    nbbn.MLPClassifier((4,), max_iter=1, random_state=0).fit(X, y).save(tmp_path / "m.safetensors")
    monkeypatch.setattr("nbbn.loading.fold", refuse)
    line = fails(
        capsys, 1, "fold", tmp_path / "m.safetensors", tmp_path / "o.safetensors", "--strict"
    )
    assert "could not be folded" in line
    assert not (tmp_path / "o.safetensors").exists()


def test_verify_accepts_a_fold_and_refuses_another_model(models, tmp_path, capsys, digits):
    text = works(
        capsys, "verify", models / "digits.safetensors", models / "folded.safetensors", "--data",
        models / "rows.csv",
    )
    assert "same: the models agree" in text and "400 of 400 rows" in text
    X, y = digits
    other = nbbn.MLPClassifier((16, 8), max_iter=1, random_state=1).fit(X.astype(np.float32), y)
    other.save(tmp_path / "other.safetensors")
    assert "differ by" in fails(
        capsys, 1, "verify", models / "digits.safetensors", tmp_path / "other.safetensors"
    )
    line = fails(capsys, 2, "verify", models / "digits.safetensors", models / "number.safetensors")
    assert "output_shape: (10,) and (1,)" in line


def test_inspect_counts_parameters_and_names_suspicious_channels(tmp_path, capsys, digits):
    X, y = digits
    model = nbbn.MLPClassifier((5,), max_iter=2, batch_size=32, random_state=0).fit(X, y)
    model.running_vars_[0][3] = 1e-9
    model.save(tmp_path / "m.safetensors")
    text = works(capsys, "inspect", tmp_path / "m.safetensors")
    assert f"{64 * 5 + 4 * 5 + 5 * 10 + 10:,} parameters" in text
    assert "10 classes: 0, 1, 2" in text and "1 (3)" in text and "BatchNormalization" in text
    model.fold().save(tmp_path / "f.safetensors")
    assert "no batch norms" in works(capsys, "inspect", tmp_path / "f.safetensors")


def test_inspect_as_json(models, tmp_path, capsys):
    facts = json.loads(works(capsys, "inspect", models / "digits.safetensors", "--json"))
    assert facts["model"] == "MLPClassifier" and facts["classes"] == list(range(10))
    assert facts["input_shape"] == [64] and facts["output_shape"] == [10]
    assert [layer["kind"] for layer in facts["layers"]][:3] == [
        "Dense", "BatchNormalization", "Activation",
    ]
    assert facts["layers"][2]["activation"] == "relu"
    assert facts["parameters"] == sum(layer["parameters"] for layer in facts["layers"])
    norms = facts["batch_norms"]
    assert (
        [norm["layer"] for norm in norms] == [1, 4]
        and norms[0]["momentum"] == 0.9
        and norms[0]["epsilon"] == 1e-5
    )
    model = nbbn.load(models / "digits.safetensors")
    gain = np.abs(model.gammas_[0]) / np.sqrt(model.running_vars_[0] + 1e-5)
    assert norms[0]["largest_gain"] == pytest.approx(gain.max(), rel=1e-6)


def test_inspect_a_graph_that_is_no_chain(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    helper, rng = onnx.helper, np.random.default_rng(0)
    gamma, beta, mean, var = (
        rng.normal(size=4), np.zeros(4), np.zeros(4), np.array([0.5, 1e-7, 2, 3]),
    )
    arrays = {"w": rng.normal(size=(4, 4)), "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node(
            "BatchNormalization", ["h", "gamma", "beta", "mean", "var"], ["n"], "norm", epsilon=1e-3
        ),
        helper.make_node("Sin", ["n"], ["s"], "wave"),  # which nbbn cannot read
        helper.make_node("Add", ["x", "s"], ["y"], "sum"),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")
    ]
    weights = [
        onnx.numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in arrays.items()
    ]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]),
        tmp_path / "model.onnx",
    )
    facts = json.loads(works(capsys, "inspect", tmp_path / "model.onnx", "--json"))
    assert (
        facts["inputs"] == {"x": [None, 4]}
        and facts["outputs"] == {"y": [None, 4]}
        and facts["parameters"] == 32
    )
    assert [(layer["kind"], layer["parameters"]) for layer in facts["layers"]] == [
        ("MatMul", 16), ("BatchNormalization", 16), ("Sin", 0), ("Add", 0)
    ]  # fmt: skip
    (norm,) = facts["batch_norms"]
    assert norm["suspicious_channels"] == [1] and norm["epsilon"] == pytest.approx(1e-3)
    assert norm["largest_gain"] == pytest.approx(
        np.abs(gamma / np.sqrt(var + 1e-3)).max(), rel=1e-6
    )
    text = works(capsys, "inspect", tmp_path / "model.onnx")
    assert "x (?, 4) to y (?, 4), 32 parameters" in text and "1 (1)" in text


# -- C


def test_fold_to_c(models, tmp_path, capsys):
    out = tmp_path / "my-model.c"
    text = works(capsys, "fold", models / "digits.safetensors", out)
    assert "2 of 2 batch norms folded" in text and "bound" in text
    source = out.read_text()
    assert "void my_model_predict(const my_model_real *x" in source and "void my_model_classify(" in source
    assert [p.name for p in tmp_path.iterdir()] == ["my-model.c"]


# -- formats of other programs


def test_onnx_to_onnx_folds_the_graph(models, tmp_path, capsys, monkeypatch):
    calls = []

    def fold_onnx_file(in_path, out_path, *, strict, check):
        calls.append((in_path.name, strict, None if check is None else check.shape))
        out_path.write_bytes(b"folded")
        return nbbn.FoldReport()

    module = types.ModuleType("nbbn.formats.onnx.fold")
    module.fold_onnx_file = fold_onnx_file
    monkeypatch.setitem(sys.modules, "nbbn.formats.onnx.fold", module)
    (tmp_path / "a.onnx").write_bytes(b"")
    out = tmp_path / "b.onnx"
    assert "0 of 0 batch norms" in works(capsys, "fold", tmp_path / "a.onnx", out)
    works(capsys, "fold", tmp_path / "a.onnx", out, "--strict", "--check", models / "rows.npy")
    assert (
        calls == [("a.onnx", False, None), ("a.onnx", True, (400, 64))]
        and out.read_bytes() == b"folded"
    )


def test_fold_of_another_programs_model(models, tmp_path, capsys, monkeypatch):
    load = nbbn.load
    monkeypatch.setitem(
        vars(nbbn.interop), "open_model", lambda path: load(models / "digits.safetensors")
    )
    for name, out in (("m.keras", "o.safetensors"), ("m.onnx", "o.c"), ("m.h5", "o.safetensors")):
        assert "2 of 2 batch norms" in works(capsys, "fold", tmp_path / name, tmp_path / out)
    assert "MLPClassifier" in works(capsys, "inspect", models / "digits.safetensors")


@pytest.fixture
def graph(models, tmp_path, capsys):
    """The digits' classifier as an ONNX file, run by ONNX Runtime."""
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
    pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
    )
    works(capsys, "fold", models / "digits.safetensors", tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_verify_between_formats(models, graph, tmp_path, capsys):
    for pair in ((graph, models / "digits.safetensors"), (models / "folded.safetensors", graph)):
        text = works(capsys, "verify", *pair, "--data", models / "rows.npy")
        assert (
            f"{graph} is run by ONNX Runtime" in text
            and "400 of 400 rows" in text
            and "gains" in text
        )
    text = works(capsys, "verify", graph, graph)
    assert "largest difference 0 " in text and "256 of 256 rows" in text
    line = fails(capsys, 2, "verify", graph, models / "number.safetensors")
    assert "differ in" in line


def test_verify_finds_a_wrong_file_of_another_format(models, graph, tmp_path, capsys):
    model = nbbn.load(models / "folded.safetensors")
    arrays = [dict(arrays) for arrays in model.network.weights]
    arrays[-2] = {"kernel": arrays[-2]["kernel"] * np.float32(1.01), "bias": arrays[-2]["bias"]}
    network = nbbn.Network(model.network.layers, (64,), arrays, model.network.dtype)
    nbbn.FoldedModel(network, kind="classifier", classes=model.classes_).save(
        tmp_path / "wrong.safetensors"
    )
    for pair in ((graph, tmp_path / "wrong.safetensors"), (tmp_path / "wrong.safetensors", graph)):
        assert "the bound is" in fails(capsys, 1, "verify", *pair)
    assert "as given" in works(
        capsys, "verify", graph, tmp_path / "wrong.safetensors", "--tolerance", "0.1"
    )


def test_verify_refuses_files_that_are_no_onnx(models, tmp_path, capsys):
    pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
    )
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    line = fails(capsys, 2, "verify", tmp_path / "m.onnx", models / "digits.safetensors")
    assert "ONNX Runtime cannot open it" in line
    assert "does not exist" in fails(
        capsys, 2, "verify", tmp_path / "none.onnx", models / "digits.safetensors"
    )


def binary(folder, kind):
    """A binary model of one output, as a plain network or as a classifier of two columns."""
    layers = (nbbn.layers.BatchNormalization(), nbbn.layers.Dense(1, "sigmoid"))
    weights = [
        {"gamma": np.ones(3), "beta": np.ones(3), "mean": np.full(3, 1e4), "var": np.full(3, 4.0)},
        {"kernel": np.ones((3, 1)), "bias": np.ones(1)},
    ]
    weights = [
        {name: array.astype(np.float32) for name, array in arrays.items()} for arrays in weights
    ]
    classes = None if kind is None else np.array(["no", "yes"])
    model = nbbn.FoldedModel(
        nbbn.Network(layers, (3,), weights, np.dtype("f4")), kind=kind, classes=classes
    )
    model.save(folder / f"{kind}.safetensors")
    return folder / f"{kind}.safetensors"


def test_verify_of_a_binary_classifier_and_its_network(tmp_path, capsys):
    """Random rows follow the batch norm at the entrance: around 0 both would be constant."""
    text = works(capsys, "verify", binary(tmp_path, None), binary(tmp_path, "classifier"))
    assert "largest difference 0 (relative 0) on 256 rows" in text


def test_images_are_turned():
    """ONNX files of other programs take images channels first."""
    first, last = (3, 5, 7), (5, 7, 3)
    assert models_of.are_turned(first, last) and models_of.are_turned(last, first)
    for other in (last, (7, 5, 3), (5, 3, 7), (105,)):
        assert not models_of.are_turned(last, other)
    rows = np.arange(210.0).reshape(2, *last)
    np.testing.assert_array_equal(models_of.turned(rows, first), np.moveaxis(rows, 3, 1))
    np.testing.assert_array_equal(models_of.turned(np.moveaxis(rows, 3, 1), last), rows)
    assert models_of.turned(rows, last) is rows


def channels_first(folder, layers, weights):
    """A convolution with or without a batch norm as an ONNX file of images channels first, and as
    nbbn's file.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
    pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
    )
    network = nbbn.Network(layers, (6, 5, 3), weights, np.dtype("f4"))
    nbbn.FoldedModel(network).save(folder / "net.safetensors")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    kernel = onnx.numpy_helper.from_array(weights[0]["kernel"].transpose(3, 2, 0, 1).copy(), "w")
    bias = onnx.numpy_helper.from_array(weights[0]["bias"], "b")
    values = [
        make.make_tensor_value_info("x", kind, ["n", 3, 6, 5]),
        make.make_tensor_value_info("y", kind, ["n", 2, 4, 3]),
    ]
    graph = make.make_graph(
        [make.make_node("Conv", ["x", "w", "b"], ["y"])], "g", values[:1], values[1:],
        [kernel, bias],
    )
    onnx.save(
        make.make_model(graph, ir_version=8, opset_imports=[make.make_opsetid("", 13)]),
        folder / "net.onnx",
    )
    return folder / "net.onnx", folder / "net.safetensors"


def test_verify_of_images_channels_first_and_last(tmp_path, capsys):
    rng = np.random.default_rng(2)
    weights = {
        "kernel": rng.normal(size=(3, 3, 3, 2)).astype("f4"),
        "bias": rng.normal(size=2).astype("f4"),
    }
    graph, own = channels_first(tmp_path, (nbbn.layers.Conv2D(2, 3),), [weights])
    for pair in ((graph, own), (own, graph)):
        text = works(capsys, "verify", *pair)
        assert "same: the models agree" in text and "gains" in text
    np.save(tmp_path / "x.npy", rng.normal(size=(4, 6, 5, 3)))
    for pair in ((graph, own), (own, graph)):
        assert "on 260 rows" in works(capsys, "verify", *pair, "--data", tmp_path / "x.npy")
    weights["kernel"] = weights["kernel"] * np.float32(1.001)
    nbbn.FoldedModel(
        nbbn.Network((nbbn.layers.Conv2D(2, 3),), (6, 5, 3), [weights], np.dtype("f4"))
    ).save(own)
    assert "the bound is" in fails(capsys, 1, "verify", graph, own)


def test_verify_refuses_rows_of_another_shape(models, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    line = fails(
        capsys, 2, "verify", models / "digits.safetensors", models / "folded.safetensors", "--data",
        tmp_path / "x.npy",
    )
    assert "holds rows of shape (3,), the models take (64,)" in line


def onnx_file(path, node, inputs, output):
    """An ONNX file of one node; values are `(name, kind, shape)`."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
    pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
    )
    make = onnx.helper
    values = [
        make.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)
        for name, kind, shape in [*inputs, output]
    ]
    made = make.make_node(node[0], node[1], [output[0]], **node[2])
    graph = make.make_graph([made], "g", values[:-1], values[-1:])
    onnx.save(make.make_model(graph, ir_version=8, opset_imports=[make.make_opsetid("", 13)]), path)
    return path


X, Y = ("x", "FLOAT", ["n", 64]), ("y", "FLOAT", ["n", 64])
GRAPHS = {
    "no shape": (
        ("Identity", ["x"], {}), [("x", "FLOAT", ["n", "m"])], ("y", "FLOAT", ["n", "m"]),
        "is not fixed",
    ),
    "no columns": (
        ("Identity", ["x"], {}), [("x", "FLOAT", ["n"])], ("y", "FLOAT", ["n"]), "is not fixed",
    ),
    "two inputs": (
        ("Add", ["x", "z"], {}), [X, ("z", "FLOAT", ["n", 64])], Y,
        "must have one input of floats, has x: ",
    ),
    "whole numbers": (
        ("Identity", ["x"], {}), [("x", "INT64", ["n", 64])], ("y", "INT64", ["n", 64]),
        "one input of floats",
    ),
    "labels alone": (
        ("ArgMax", ["x"], {"axis": 1}), [X], ("y", "INT64", ["n", 1]),
        "has no output of floats to compare",
    ),
    "other outputs": (("Identity", ["x"], {}), [X], Y, "differ in"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_verify_refuses_graphs(models, tmp_path, capsys, name):
    *graph, message = GRAPHS[name]
    line = fails(
        capsys, 2, "verify", onnx_file(tmp_path / "m.onnx", *graph), models / "digits.safetensors"
    )
    assert message in line


@pytest.mark.slow
def test_fold_bn_in_a_clone(models, tmp_path):
    """The script needs nbbn's dependencies, not nbbn: no PYTHONPATH, and another folder."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    argv = [
        sys.executable, ROOT / "scripts" / "fold_bn.py", models / "digits.safetensors",
        tmp_path / "f.safetensors",
    ]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "2 of 2 batch norms folded" in done.stdout, done.stderr
    assert (tmp_path / "f.safetensors").is_file()
