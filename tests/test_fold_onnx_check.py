"""The numeric check of ONNX folds.

What it runs, what it compares, and wrong folds that it must catch.
"""

import os
import sys

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402
from onnx_graphs import Builder, small  # noqa: E402

import nbbn  # noqa: E402
from nbbn import FoldCheckFailed  # noqa: E402
from nbbn.formats.onnx import check as onnx_fold_check  # noqa: E402
from nbbn.formats.onnx import feeds as onnx_fold_feeds  # noqa: E402
from nbbn.formats.onnx import file as models  # noqa: E402
from nbbn.formats.onnx import rebuild as onnx_fold_rebuild  # noqa: E402
from nbbn.formats.onnx import run as onnx_fold_run  # noqa: E402
from nbbn.interop.onnx_fold import fold_onnx, fold_onnx_file  # noqa: E402


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(small(), path)
    return path


def break_fold(monkeypatch, factor):
    """Folded kernels off by a factor."""
    right = onnx_fold_rebuild.folded_kernel
    monkeypatch.setattr(
        onnx_fold_rebuild,
        "folded_kernel",
        lambda linear, dtype: (factor * right(linear, dtype)).astype(dtype),
    )


@pytest.mark.parametrize("factor", [1.001, -1, 0])
def test_a_wrong_fold_is_caught(monkeypatch, saved, factor):
    break_fold(monkeypatch, factor)
    with pytest.raises(
        FoldCheckFailed,
        match=r"differs by .* on 64 rows, where rounding explains .* \(largest gain",
    ):
        fold_onnx(small())
    with pytest.raises(FoldCheckFailed, match="do not use it"):
        fold_onnx_file(saved, saved.with_name("folded.onnx"))
    assert os.listdir(saved.parent) == ["model.onnx"]


def test_a_wrong_fold_of_dead_units_shows_on_the_rows_given(monkeypatch):
    g = Builder()
    x = g.add("Gemm", g.input("x", "n", 2), g.tensor(np.ones((2, 1))), g.tensor([-100.0]))
    g.add("Relu", g.norm(x, 1, positive=True))
    model = g.model()
    model.graph.initializer[4].CopyFrom(
        numpy_helper.from_array(np.zeros(1, np.float32), g.tensors[4].name)
    )
    model.graph.initializer[3].CopyFrom(
        numpy_helper.from_array(np.zeros(1, np.float32), g.tensors[3].name)
    )
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
    monkeypatch.setattr(
        onnx_fold_run, "_on_reference", lambda path: opened.append(path) or reference(path)
    )
    report = fold_onnx(g.model(), strict=True)[1]
    assert 0 < report.max_abs_error <= report.bound == pytest.approx(ref.bound, rel=0.5)
    assert report.rows_checked == 64 and len(opened) == 2 + 2 * 4


def test_without_onnx(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError, match=r"folding ONNX models needs the package onnx: pip install 'nbbn\[onnx\]'"
    ):
        fold_onnx_file(saved, saved.with_name("folded.onnx"))


def test_models_only():
    with pytest.raises(TypeError, match=r"model must be an onnx\.ModelProto, got GraphProto"):
        fold_onnx(small().graph)
    with pytest.raises(
        TypeError, match=r"fold takes a fitted .*, or an onnx\.ModelProto, got GraphProto"
    ):
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
        (
            ValueError,
            {"a": np.ones((3, 4))},
            r"check must hold an array for each input, \['a', 'b'\]; got \['a'\]",
        ),
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
        (
            TypeError,
            {"a": np.ones((3, 4)), "b": np.full((3, 4), "x")},
            "check must hold real numbers for 'b'",
        ),
        (
            FoldCheckFailed,
            {"a": np.ones((3, 4)), "b": np.ones((2, 4))},
            "cannot be run on the rows given as check",
        ),
    ],
)
def test_rows_that_do_not_fit(error, check, message):
    with pytest.raises(error, match=message):
        fold_onnx(two_inputs(), check=check)


def test_rows_that_fit():
    _, report = fold_onnx(
        two_inputs(), check={"a": np.ones((3, 4)), "b": np.ones((3, 4), np.uint8)}
    )
    assert report.rows_checked == 67
    assert (
        fold_onnx(two_inputs(), check={"a": np.ones((0, 4)), "b": np.ones((0, 4))})[1].rows_checked
        == 64
    )


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
    model.graph.output.append(
        helper.make_tensor_value_info("index", onnx.TensorProto.INT64, ["n", 1])
    )
    assert fold_onnx(model, strict=True)[1].bound > 0
    del model.graph.output[0]
    folded, report = fold_onnx(model, strict=True)
    assert report.bound > 0 and [output.name for output in folded.graph.output] == ["index"]


BEHIND = {
    "argmax": ("ArgMax", {"axis": 1}, 7),
    "cast": ("Cast", {"to": 2}, 2),
    "flag": ("IsNaN", {}, 9),
    "rounded": ("Round", {}, 1),
    "foreign": ("Riddle", {"domain": "nowhere"}, 1),
    "foreign, floats declared as whole": ("Riddle", {"domain": "nowhere"}, 6),
}


def classified(operator, attributes, element):
    """A convolution with a batch norm, and an operator whose output cannot be compared."""
    g = Builder()
    y = g.conv(g.input("x", "n", 4, 5, 5), 4, 3, 3, 3)
    y = g.norm(y, 3)
    y = g.add(operator, g.add("Relu", y), **attributes)
    g.output(g.add("Identity", y), "n", "c", "h", "w", element=element)
    return g.model()


@pytest.mark.parametrize("what", BEHIND)
def test_the_last_numbers_before_what_jumps_are_compared(what, monkeypatch):
    model = classified(*BEHIND[what])
    folded, report = fold_onnx(model, strict=True)
    assert (report.n_folded, report.n_total) == (1, 1) and 0 < report.max_abs_error <= report.bound
    assert [node.op_type for node in folded.graph.node][-2:] == [BEHIND[what][0], "Identity"]
    assert [output.name for output in folded.graph.output] == [model.graph.output[0].name]
    break_fold(monkeypatch, 1.001)
    with pytest.raises(FoldCheckFailed, match=r"differs by .* where rounding explains"):
        fold_onnx(model)


def test_outputs_without_a_shape():
    model = small()
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    folded, report = fold_onnx(model, strict=True)
    assert report.bound > 0 and folded.graph.output == model.graph.output


def test_a_batch_norm_that_no_number_tells_of():
    """Behind a foreign operator nothing can be computed; a dead end needs no check."""
    g = Builder()
    seen = g.norm(g.conv(g.input("x", "n", 4, 5, 5), 4, 3, 3, 3), 3)
    hidden = g.norm(g.conv(g.add("Riddle", seen, domain="nowhere"), 3, 2, 3, 3), 2)
    g.output(g.add("Relu", hidden), "n", 2, 1, 1)
    with pytest.raises(FoldCheckFailed, match="no floating-point numbers behind node"):
        fold_onnx(g.model())
    model = g.model()
    del model.graph.output[0]
    model.graph.output.append(helper.make_tensor_value_info(seen, 1, ["n", 3, 3, 3]))
    assert fold_onnx(model)[1].bound > 0


def test_what_is_folded_behind_a_jump_shows_in_the_outputs(monkeypatch):
    """Rounded first, normalised later: the output itself is compared."""
    g = Builder()
    x = g.add("Round", g.input("x", "n", 4, 5, 5))
    g.output(g.norm(g.conv(x, 4, 3, 3, 3), 3), "n", 3, 3, 3)
    assert fold_onnx(g.model(), strict=True)[1].bound > 0
    break_fold(monkeypatch, 1.001)
    with pytest.raises(FoldCheckFailed, match=r"differs by"):
        fold_onnx(g.model())


def test_outputs_that_are_no_arrays():
    """As classifiers of other tools have: a sequence beside the array."""
    g = Builder()
    y = g.norm(g.add("MatMul", g.input("x", "n", 4), g.weights(4, 3)), 3)
    sequence = g.add("SequenceConstruct", y, y)
    model = g.model(y)
    model.graph.output.insert(
        0, helper.make_tensor_sequence_value_info(sequence, onnx.TensorProto.FLOAT, None)
    )
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
    """Where the source gives infinity, the folded model must give it too.

    And something must be finite.
    """
    g = Builder()
    y = g.norm(g.add("MatMul", g.input("x", "n", 4), g.weights(4, 3)), 3)
    g.add("Log", g.add("Relu", y))
    assert fold_onnx(g.model())[1].max_abs_error > 0
    g.add("Div", g.nodes[-1].output[0], g.tensor(0.0))
    g.add("Mul", g.nodes[-1].output[0], g.tensor(0.0))
    with pytest.raises(FoldCheckFailed, match="no output is finite, so the fold cannot be checked"):
        fold_onnx(g.model())


@pytest.mark.parametrize(
    ("ref", "got", "message"),
    [
        ([1.0, 2.0], [1.0], "differ in shape or in what is not finite"),
        ([1.0, np.inf], [1.0, -np.inf], "differ in shape or in what is not finite"),
        ([1.0, np.nan], [1.0, 2.0], "differ in shape or in what is not finite"),
        (
            [1.0, 2.0],
            [1.0, np.nan],
            "outputs of the folded model are not finite where the source's are",
        ),
        ([np.nan], [np.nan], "no output is finite"),
    ],
)
def test_differences_that_are_no_numbers(ref, got, message):
    with pytest.raises(FoldCheckFailed, match=message):
        onnx_fold_check._difference(np.array(ref), np.array(got))


def test_differences():
    assert (
        onnx_fold_check._difference(
            np.array([1.0, np.nan, np.inf]), np.array([1.5, np.nan, np.inf])
        )
        == 0.5
    )
    assert onnx_fold_check._difference(np.zeros(0), np.zeros(0)) == 0


def test_a_model_that_does_not_run():
    g = Builder()
    x = g.add("Reshape", g.input("x", "n", 4), g.tensor([7, 9], dtype=np.int64))
    g.norm(g.add("MatMul", x, g.weights(9, 3)), 3)
    with pytest.raises(
        FoldCheckFailed, match=r"cannot be run on random numbers .* pass rows that suit it as check"
    ):
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
    with pytest.raises(FoldCheckFailed, match="no floating-point numbers behind node"):
        fold_onnx(g.model())


def test_where_nothing_folds_nothing_is_checked():
    """Of a model without batch norms it does not matter whether it runs."""
    g = Builder()
    g.output(
        g.add("ArgMax", g.add("Reshape", g.input("x", "n", 4), g.tensor([7, 9], dtype=np.int64))),
        1, 9, element=7,
    )
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
    model = models.from_proto(g.model())
    moved = models.to_proto(onnx_fold_check._perturbed(model, np.random.default_rng(0)))
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
