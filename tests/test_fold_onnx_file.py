"""Folding ONNX files, the numeric check of it, and what it must refuse: damaged files, foreign ones, wrong folds."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402
from onnx_graphs import Builder, ops, run  # noqa: E402

import nbbn  # noqa: E402
from nbbn import FileError, FoldCheckFailed, FoldRefused  # noqa: E402
from nbbn.interop import onnx_fold_check, onnx_fold_feeds, onnx_fold_model, onnx_fold_rebuild, onnx_fold_run  # noqa: E402
from nbbn.interop.onnx_fold import fold_onnx, fold_onnx_file  # noqa: E402


def small():
    """conv, BN, ReLU, BN, pool, dense, BN: all of it folds."""
    g = Builder()
    x = g.add("Relu", g.norm(g.conv(g.input("x", "n", 3, 6, 6), 3, 8, 3, 3), 8))
    x = g.add("Flatten", g.add("AveragePool", g.norm(x, 8), kernel_shape=[2, 2]))
    g.norm(g.add("Gemm", x, g.weights(5, 72), g.weights(5), transB=1), 5)
    return g.model()


def relu_first():
    g = Builder()
    g.norm(g.add("Relu", g.input("x", "n", 4)), 4)
    return g.model()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(small(), path)
    return path


def fold_file(path, **options):
    """The report, and the folded model read again."""
    out = Path(path).with_name("folded.onnx")
    report = fold_onnx_file(path, out, **options)
    return report, onnx.load(out)


def refused(path, message, error=FileError):
    """The file is refused in one line, and nothing is written."""
    out = Path(path).with_name("folded.onnx")
    there = sorted(os.listdir(Path(path).parent))
    with pytest.raises(error, match=message) as caught:
        fold_onnx_file(path, out)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert sorted(os.listdir(Path(path).parent)) == there


# From file to file


def test_file_to_file(saved):
    before = saved.read_bytes()
    report, folded = fold_file(saved, strict=True)
    onnx.checker.check_model(folded, full_check=True)
    assert (report.n_folded, report.n_total, ops(folded)) == (3, 3, ["Conv", "Relu", "AveragePool", "Flatten", "Gemm"])
    assert saved.read_bytes() == before
    assert sorted(os.listdir(saved.parent)) == ["folded.onnx", "model.onnx"]
    x = np.random.default_rng(0).normal(size=(4, 3, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(run(folded, x)[0], run(onnx.load(saved), x)[0], atol=1e-5)


def test_a_file_is_what_memory_is(saved):
    folded, report = fold_onnx(onnx.load(saved))
    from_file, written = fold_file(saved)
    assert from_file == report
    named = {t.name: t for t in written.graph.initializer}
    for tensor in folded.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(named[tensor.name]))
    del folded.graph.initializer[:], written.graph.initializer[:]
    assert folded == written


def test_an_existing_file_is_replaced_only_by_a_good_one(saved):
    out = saved.with_name("folded.onnx")
    out.write_bytes(b"old")
    onnx.save(relu_first(), saved)
    with pytest.raises(FoldRefused, match="1 of 1 batch norms cannot be folded"):
        fold_onnx_file(saved, out, strict=True)
    assert out.read_bytes() == b"old"
    fold_onnx_file(saved, out)
    assert out.read_bytes() != b"old"


def test_fields_that_are_not_known_are_kept(saved):
    """Of a newer format: what a message of this one does not name."""
    extra = b"\xfa\x3f\x03abc"  # field 1023 of the model
    saved.write_bytes(saved.read_bytes() + extra)
    fold_file(saved)
    assert extra in saved.with_name("folded.onnx").read_bytes()


@pytest.mark.parametrize("what", ["all", "large", "one file each"])
def test_external_data(tmp_path, what):
    path = tmp_path / "model.onnx"
    onnx.save(
        small(), path, save_as_external_data=True, all_tensors_to_one_file=what != "one file each", location="data",
        size_threshold=1000 if what == "large" else 0, convert_attribute=True,
    )  # fmt: skip
    assert len(os.listdir(tmp_path)) > 1
    report, folded = fold_file(path, strict=True)
    assert all(t.data_location == t.DEFAULT for t in folded.graph.initializer)
    ref = fold_onnx(small())[0]
    x = np.ones((2, 3, 6, 6), np.float32)
    np.testing.assert_array_equal(run(folded, x)[0], run(ref, x)[0])


def test_external_data_of_constant_nodes(tmp_path):
    g = Builder()
    kernel = g.add("Constant", value=numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "k"))
    g.norm(g.add("MatMul", g.input("x", "n", 4), kernel), 3)
    path = tmp_path / "model.onnx"
    onnx.save(g.model(), path, save_as_external_data=True, location="data", size_threshold=0, convert_attribute=True)
    _, folded = fold_file(path, strict=True)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(run(folded, x)[0], run(g.model(), x)[0], atol=1e-4)


def external(tmp_path, **told):
    """A model whose kernel is said to be in another file."""
    model = small()
    tensor = model.graph.initializer[0]
    (tmp_path / "data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in told.items():
        tensor.external_data.add(key=key, value=value)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


OUTSIDE = {
    "above": "../data",
    "absolute": "/etc/hostname",
    "the folder itself": ".",
    "around": "sub/../../data",
}


@pytest.mark.parametrize("location", OUTSIDE.values(), ids=OUTSIDE)
def test_external_data_outside_the_folder(tmp_path, location):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "data").write_bytes(bytes(10000))
    refused(external(folder, location=location), "outside the model's folder, which is not read")


def test_external_data_through_a_link(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(10000))
    path = external(folder, location="link")
    (folder / "link").symlink_to(tmp_path / "secret")
    refused(path, "outside the model's folder")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"location": "gone"}, "'gone', which does not exist; put it beside the model"),
        ({"location": "data", "length": str(1 << 60)}, f"which has 864 bytes, not the {1 << 60} from byte 0"),
        ({"location": "data", "offset": str(1 << 60)}, "which has 864 bytes, not the"),
        ({"location": "data", "offset": "-8"}, "which has 864 bytes, not the"),
        ({"location": "data", "length": "many"}, "at a place that is no number"),
        ({"location": "data", "length": "860"}, r"of shape \(8, 3, 3, 3\) has 860 bytes"),
    ],
)
def test_external_data_that_is_not_there(tmp_path, told, message):
    refused(external(tmp_path, **told), message)


def test_external_data_in_memory_only():
    """A model in memory does not say in which folder its data are."""
    model = small()
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ValueError, match=r"model keeps 't0' in another file; load it with onnx\.load"):
        fold_onnx(model)


# Files that are none


def foreign():
    from google.protobuf import descriptor_pb2

    return descriptor_pb2.FileDescriptorProto(name="a.proto", package="b", dependency=["c"]).SerializeToString()


FOREIGN = {
    "empty": b"",
    "text": b"# not a model\n",
    "random": np.random.default_rng(0).bytes(5000),
    "zeros": bytes(100),
    "another protobuf": foreign(),
    "a tensor": numpy_helper.from_array(np.ones(5)).SerializeToString(),
    "safetensors": (64).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(14),
    "a field that promises 2^60 bytes": b"\x3a" + b"\x80" * 8 + b"\x10" + b"abc",
    "a graph of no nodes and no version": b"\x3a\x02\x12\x00",
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refused(path, "is no ONNX model, or a damaged one|is no valid ONNX model")


def test_truncated_files(saved):
    """At a hundred places: none folds, none breaks off with another error."""
    data = saved.read_bytes()
    for end in np.linspace(1, len(data) - 1, 100).astype(int):
        saved.write_bytes(data[:end])
        with pytest.raises(FileError, match="model"):
            fold_onnx_file(saved, saved.with_name("folded.onnx"))
    assert os.listdir(saved.parent) == ["model.onnx"]


def test_files_with_wrong_bytes(saved):
    """Each fold either is checked as any other, or is refused in one line."""
    data, rng = saved.read_bytes(), np.random.default_rng(0)
    places = np.flatnonzero(~_within_weights(data))
    outcomes = set()
    for _ in range(100):
        damaged = bytearray(data)
        damaged[rng.choice(places)] = rng.integers(256)
        saved.write_bytes(damaged)
        try:
            fold_onnx_file(saved, saved.with_name("folded.onnx"))
            outcomes.add("done")
        except (FileError, FoldCheckFailed) as err:
            assert "\n" not in str(err)
            outcomes.add(type(err).__name__)
    assert "FileError" in outcomes


def _within_weights(data):
    within = np.zeros(len(data), bool)
    for tensor in onnx.ModelProto.FromString(data).graph.initializer:
        at = data.find(tensor.raw_data)
        within[at : at + len(tensor.raw_data)] = len(tensor.raw_data) > 40
    return within


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([1 << 30, 1 << 30], "has 864 bytes of data"),
        ([8, 3, 3, 4], "has 864 bytes of data"),
        ([-8, 3, 3, -3], "has 864 bytes of data"),
    ],
)
def test_tensors_that_do_not_fit_their_shape(saved, dims, message):
    model = small()
    model.graph.initializer[0].dims[:] = dims
    saved.write_bytes(model.SerializeToString())
    refused(saved, message)


def test_numbers_that_are_no_raw_bytes(saved):
    """Old exporters write lists of floats."""
    model = small()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).reshape(-1).tolist()
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values))
    saved.write_bytes(model.SerializeToString())
    assert fold_file(saved, strict=True)[0].n_folded == 3
    del model.graph.initializer[0].float_data[5:]
    saved.write_bytes(model.SerializeToString())
    refused(saved, "the tensor 't0'")


@pytest.mark.parametrize(("path", "message"), [("gone.onnx", "does not exist"), (".", "is no file")])
def test_no_file(tmp_path, path, message):
    with pytest.raises(FileError, match=message):
        fold_onnx_file(tmp_path / path, tmp_path / "folded.onnx")


def test_no_folder_to_write_to(saved):
    with pytest.raises(FileError, match=r"the folder .* does not exist"):
        fold_onnx_file(saved, saved.parent / "gone" / "folded.onnx")


def test_an_input_too_large_to_make_up(tmp_path):
    g = Builder()
    g.norm(g.conv(g.input("x", 1 << 20, 4, 1 << 38), 4, 4, 1), 4)
    path = tmp_path / "model.onnx"
    onnx.save(g.model(), path)
    with pytest.raises(FoldCheckFailed, match="too large to check the fold on"):
        fold_onnx_file(path, tmp_path / "folded.onnx")
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_more_than_a_protobuf_file_holds(saved, monkeypatch):
    monkeypatch.setattr(onnx_fold_model, "_MOST_BYTES", 1000)
    refused(saved, "the folded model takes .* GB, and a protobuf file holds no more")


MEMORY = r"""
    import re, sys
    import onnx, onnxruntime, nbbn
    from nbbn.interop import onnx_fold_check, onnx_fold_graph, onnx_fold_rebuild
    from nbbn.interop.onnx_fold import fold_onnx_file
    # Not ru_maxrss, in which the parent counts until the child is another program.
    peak = lambda: 1024 * int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
    fold_onnx_file(sys.argv[1], sys.argv[3])
    before = peak()
    report = fold_onnx_file(sys.argv[2], sys.argv[3], strict=True)
    print(report.n_folded, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_is_bounded(tmp_path, saved):
    """A file of 21 MB in twenty kernels: what it takes beside the imports stays under three times the file."""
    g = Builder()
    x = g.input("x", "n", 512)
    for _ in range(20):
        kernel = g.tensor(np.random.default_rng(0).random((512, 512), np.float32) / 512)
        x = g.add("Relu", g.norm(g.add("Gemm", x, kernel), 512))
    path = tmp_path / "large.onnx"
    onnx.save(g.model(), path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), str(saved), str(path), str(tmp_path / "folded.onnx")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    folded, grown = map(int, done.stdout.split())
    assert folded == 20
    assert grown < 3 * path.stat().st_size


# The check


def break_fold(monkeypatch, factor):
    """Folded kernels off by a factor."""
    right = onnx_fold_rebuild.folded_kernel
    monkeypatch.setattr(
        onnx_fold_rebuild, "folded_kernel", lambda linear, dtype: (factor * right(linear, dtype)).astype(dtype)
    )


@pytest.mark.parametrize("factor", [1.001, -1, 0])
def test_a_wrong_fold_is_caught(monkeypatch, saved, factor):
    break_fold(monkeypatch, factor)
    with pytest.raises(FoldCheckFailed, match=r"differs by .* on 64 rows, where rounding explains .* \(largest gain"):
        fold_onnx(small())
    with pytest.raises(FoldCheckFailed, match="do not use it"):
        fold_onnx_file(saved, saved.with_name("folded.onnx"))
    assert os.listdir(saved.parent) == ["model.onnx"]


def test_a_wrong_fold_of_dead_units_shows_on_the_rows_given(monkeypatch):
    g = Builder()
    x = g.add("Gemm", g.input("x", "n", 2), g.tensor(np.ones((2, 1))), g.tensor([-100.0]))
    g.add("Relu", g.norm(x, 1, positive=True))
    model = g.model()
    model.graph.initializer[4].CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), g.tensors[4].name))
    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), g.tensors[3].name))
    break_fold(monkeypatch, 0.5)
    fold_onnx(model)
    with pytest.raises(FoldCheckFailed, match="on 66 rows"):
        fold_onnx(model, check=np.full((2, 2), 200))


@pytest.mark.parametrize("opset", [7, 9, 13, 14, 17])
def test_without_the_runtime(monkeypatch, opset):
    """onnx's own evaluator stands in, whose batch norms of old opsets are no inference."""
    g = Builder(opset)
    g.add("Relu", g.norm(g.conv(g.input("x", "n", 3, 6, 6), 3, 8, 3, 3), 8))
    ref = fold_onnx(g.model(), strict=True)[1]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    opened = []
    reference = onnx_fold_run._on_reference
    monkeypatch.setattr(onnx_fold_run, "_on_reference", lambda path: opened.append(path) or reference(path))
    report = fold_onnx(g.model(), strict=True)[1]
    assert 0 < report.max_abs_error <= report.bound == pytest.approx(ref.bound, rel=0.5)
    assert report.rows_checked == 64 and len(opened) == 2 + 2 * 4


def test_without_onnx(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"folding ONNX models needs the package onnx: pip install 'nbbn\[onnx\]'"):
        fold_onnx_file(saved, saved.with_name("folded.onnx"))


def test_models_only():
    with pytest.raises(TypeError, match=r"model must be an onnx\.ModelProto, got GraphProto"):
        fold_onnx(small().graph)
    with pytest.raises(TypeError, match=r"fold takes a fitted .*, or an onnx\.ModelProto, got GraphProto"):
        nbbn.fold(small().graph)
    with pytest.raises(ValueError, match="model is no valid ONNX model"):
        fold_onnx(onnx.ModelProto())


def two_inputs():
    g = Builder()
    a, b = g.input("a", "n", 4), g.input("b", "n", 4)
    g.norm(g.add("MatMul", g.add("Add", a, b), g.weights(4, 3)), 3)
    return g.model()


@pytest.mark.parametrize(
    ("error", "check", "message"),
    [
        (
            ValueError,
            np.ones((3, 4)),
            r"check must be a mapping from input name to array: the model has the inputs \['a', 'b'\]",
        ),
        (ValueError, {"a": np.ones((3, 4))}, r"check must hold an array for each input, \['a', 'b'\]; got \['a'\]"),
        (
            ValueError,
            {"a": np.ones((3, 4)), "b": np.ones((3, 5))},
            r"check must have shape \(n, 4\) for 'b', got \(3, 5\)",
        ),
        (
            ValueError,
            {"a": np.ones((3, 4)), "b": np.full((3, 4), np.nan)},
            "check holds NaN, infinity or values beyond float32 for 'b'",
        ),
        (TypeError, {"a": np.ones((3, 4)), "b": np.full((3, 4), "x")}, "check must hold real numbers for 'b'"),
        (FoldCheckFailed, {"a": np.ones((3, 4)), "b": np.ones((2, 4))}, "cannot be run on the rows given as check"),
    ],
)
def test_rows_that_do_not_fit(error, check, message):
    with pytest.raises(error, match=message):
        fold_onnx(two_inputs(), check=check)


def test_rows_that_fit():
    _, report = fold_onnx(two_inputs(), check={"a": np.ones((3, 4)), "b": np.ones((3, 4), np.uint8)})
    assert report.rows_checked == 67
    assert fold_onnx(two_inputs(), check={"a": np.ones((0, 4)), "b": np.ones((0, 4))})[1].rows_checked == 64


def test_a_fixed_number_of_rows():
    """Several runs on random rows, and the given ones in as many runs as it takes."""
    g = Builder()
    g.norm(g.add("MatMul", g.input("x", 2, 4), g.weights(4, 3)), 3)
    assert fold_onnx(g.model(), check=np.ones((6, 4)))[1].rows_checked == 16 + 6
    with pytest.raises(ValueError, match=r"check must have shape \(2, 4\) for 'x', got \(3, 4\)"):
        fold_onnx(g.model(), check=np.ones((3, 4)))


def test_sizes_that_are_not_fixed():
    """Small ones are tried first; here a pool and strides need 64."""
    g = Builder()
    x = g.conv(g.input("x", "n", 3, "height", "width"), 3, 4, 3, 3, strides=[3, 3])
    g.norm(g.add("AveragePool", x, kernel_shape=[20, 20]), 4)
    g.norm(g.conv(g.nodes[-1].output[0], 4, 2, 1, 1), 2)
    model = g.model()
    _, report = fold_onnx(model)
    assert report.n_folded == 2 and report.max_abs_error is not None


def test_whole_numbers_in_and_out():
    """An embedding before, an index of the largest behind: the outputs of floats are compared."""
    g = Builder()
    x = g.add("Gather", g.weights(7, 4), g.input("x", "n", element=onnx.TensorProto.INT64))
    y = g.norm(g.add("MatMul", x, g.weights(4, 3)), 3)
    model = g.model(y)
    index = helper.make_node("ArgMax", [y], ["index"], axis=1)
    model.graph.node.append(index)
    model.graph.output.append(helper.make_tensor_value_info("index", onnx.TensorProto.INT64, ["n", 1]))
    assert fold_onnx(model, strict=True)[1].bound > 0
    del model.graph.output[0]
    with pytest.raises(FoldCheckFailed, match="the model has no output of floating-point numbers"):
        fold_onnx(model)


def test_outputs_that_are_no_arrays():
    """As classifiers of other tools have: a sequence beside the array."""
    g = Builder()
    y = g.norm(g.add("MatMul", g.input("x", "n", 4), g.weights(4, 3)), 3)
    sequence = g.add("SequenceConstruct", y, y)
    model = g.model(y)
    model.graph.output.insert(0, helper.make_tensor_sequence_value_info(sequence, onnx.TensorProto.FLOAT, None))
    assert 0 < fold_onnx(model, strict=True)[1].max_abs_error


def test_a_folded_model_that_does_not_open(monkeypatch):
    """What the evaluator says of it is passed on."""
    runtime = onnx_fold_run._on_runtime

    def only_the_source(path):
        if "after" in str(path):
            raise RuntimeError("no\nkernel")
        return runtime(path)

    monkeypatch.setattr(onnx_fold_run, "_on_runtime", only_the_source)
    with pytest.raises(FoldCheckFailed, match="the folded model cannot be opened: no kernel"):
        fold_onnx(small())


def test_outputs_that_are_not_finite():
    """Where the source gives infinity, the folded model must give it too; and something must be finite."""
    g = Builder()
    y = g.norm(g.add("MatMul", g.input("x", "n", 4), g.weights(4, 3)), 3)
    g.add("Log", g.add("Relu", y))
    assert fold_onnx(g.model())[1].max_abs_error > 0
    g.add("Div", g.nodes[-1].output[0], g.tensor(0.0))
    g.add("Mul", g.nodes[-1].output[0], g.tensor(0.0))
    with pytest.raises(FoldCheckFailed, match="no output is finite, so the fold cannot be checked"):
        fold_onnx(g.model())


def test_a_model_that_does_not_run():
    g = Builder()
    x = g.add("Reshape", g.input("x", "n", 4), g.tensor([7, 9], dtype=np.int64))
    g.norm(g.add("MatMul", x, g.weights(9, 3)), 3)
    with pytest.raises(FoldCheckFailed, match=r"cannot be run on random numbers .* pass rows that suit it as check"):
        fold_onnx(g.model())


def test_a_model_that_runs_on_the_given_rows_alone():
    g = Builder()
    x = g.add("Reshape", g.input("x", "n", 7), g.tensor([7, 9], dtype=np.int64))
    g.norm(g.add("MatMul", x, g.weights(9, 3)), 3)
    assert fold_onnx(g.model(), check=np.ones((9, 7)))[1].rows_checked == 9


def test_a_model_that_no_evaluator_knows():
    g = Builder()
    x = g.add("Riddle", g.input("x", "n", 4), domain="nowhere")
    g.output(g.norm(g.conv(x, 4, 3, 1, 1), 3), "n", 3, 1, 1)
    with pytest.raises(FoldCheckFailed, match=r"no evaluator opens the model|cannot be run"):
        fold_onnx(g.model())


def test_where_nothing_folds_nothing_is_checked():
    """Of a model without batch norms it does not matter whether it runs."""
    g = Builder()
    g.output(g.add("ArgMax", g.add("Reshape", g.input("x", "n", 4), g.tensor([7, 9], dtype=np.int64))), 1, 9, element=7)
    folded, report = fold_onnx(g.model())
    assert (report.n_total, report.max_abs_error, folded) == (0, None, g.model())


def test_the_check_is_repeatable(saved):
    assert fold_onnx(small())[1] == fold_onnx(small())[1]


def test_large_models_are_moved_fewer_times(monkeypatch):
    monkeypatch.setattr(onnx_fold_check, "_LARGE", 100)
    _, report = fold_onnx(small())
    assert 0 < report.max_abs_error <= report.bound


def test_weights_that_are_moved():
    """Each weight by its fan-in's roundings; shapes, scales and single numbers not at all."""
    g = Builder(dtype=np.float64)
    x = g.add("Gemm", g.input("x", "n", 4), g.tensor(np.ones((6, 4))), transB=1)
    x = g.add("Add", g.add("MatMul", x, g.tensor(np.ones((6, 9)))), g.tensor(np.ones(9)))
    g.add("Pow", g.add("Reshape", x, g.tensor([-1, 9], dtype=np.int64)), g.tensor(2.0))
    model = onnx_fold_model.from_proto(g.model())
    moved = onnx_fold_model.to_proto(onnx_fold_check._perturbed(model, np.random.default_rng(0)))
    arrays = {t.name: numpy_helper.to_array(t) for t in moved.graph.initializer}
    eps = np.finfo(float).eps
    for name, fan in (("t0", 4), ("t1", 6), ("t2", 1)):
        assert set(np.round(np.abs(arrays[name] - 1) / eps / np.sqrt(fan)).reshape(-1)) == {1.0}
    assert arrays["t3"].tolist() == [-1, 9] and arrays["t4"] == 2


def test_random_inputs_are_of_the_inputs_types():
    inputs = [
        helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT16, ["n", 3]),
        helper.make_tensor_value_info("i", onnx.TensorProto.INT32, ["n", "k"]),
        helper.make_tensor_value_info("b", onnx.TensorProto.BOOL, ["k"]),
        helper.make_tensor_value_info("s", onnx.TensorProto.STRING, [2]),
    ]
    (feed, *_), _ = onnx_fold_feeds.feeds_of(inputs, lambda feed: [], None, {})
    assert {k: (v.dtype.kind, v.shape) for k, v in feed.items()} == {
        "f": ("f", (64, 3)), "i": ("i", (64, 16)), "b": ("b", (16,)), "s": ("O", (2,))
    }  # fmt: skip
    sequence = helper.make_tensor_sequence_value_info("q", onnx.TensorProto.FLOAT, None)
    with pytest.raises(FoldCheckFailed, match="the input 'q' is no tensor"):
        onnx_fold_feeds.feeds_of([sequence], lambda feed: [], None, {})
