"""Folding ONNX graphs.

Every operator and every trap, each against the unfolded graph on an independent evaluator.
"""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import Builder, ops, run  # noqa: E402

import nbbn  # noqa: E402
from nbbn.interop.onnx_fold import fold_onnx  # noqa: E402

NORM = "BatchNormalization"
IMAGE = ("n", 4, 7, 6)


def rows_for(model, n=3, seed=1):
    """Random numbers for the first input."""
    value = model.graph.input[0]
    shape = [d.dim_value or n for d in value.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def assert_folds(model, into=None, tolerance=2e-6, **options):
    """All batch norms go, the outputs stay, the source too; returns the folded model."""
    before = model.SerializeToString(deterministic=True)
    folded, report = fold_onnx(model, strict=True, **options)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(folded, full_check=True)
    assert NORM not in ops(folded) and report.n_folded == report.n_total == ops(model).count(NORM)
    assert [v.name for v in folded.graph.output] == [v.name for v in model.graph.output]
    if into is not None:
        assert [(e.into, e.direction) for e in report.entries] == [into]
    x = rows_for(model)
    for ref, got in zip(run(model, x), run(folded, x), strict=True):
        np.testing.assert_allclose(got, ref, rtol=0, atol=tolerance * np.abs(ref).max())
    read = {name for node in folded.graph.node for name in node.input}
    assert {t.name for t in folded.graph.initializer} <= read
    return folded


def assert_stays(model, reason, left=1):
    """The batch norms stay, with the reason in the report, and the model is the same function."""
    folded, report = fold_onnx(model)
    onnx.checker.check_model(folded, full_check=True)
    assert reason in " ".join(entry.reason for entry in report.entries)
    assert ops(folded).count(NORM) == left
    x = rows_for(model)
    for ref, got in zip(run(model, x), run(folded, x), strict=True):
        np.testing.assert_allclose(got, ref, rtol=0, atol=2e-6 * np.abs(ref).max())
    with pytest.raises(nbbn.FoldRefused, match="batch norms cannot be folded"):
        fold_onnx(model, strict=True)
    return folded


# Backward into every linear operator

CONVOLUTIONS = {
    "1-D": (("n", 4, 9), {"channels_out": 6, "window": (3,), "pads": [1, 1]}),
    "2-D": (
        IMAGE,
        {"channels_out": 6, "window": (3, 2), "strides": [2, 1], "auto_pad": "SAME_UPPER"},
    ),
    "3-D": (("n", 4, 3, 4, 3), {"channels_out": 3, "window": (2, 2, 2)}),
    "grouped": (IMAGE, {"channels_out": 6, "window": (3, 3), "groups": 2, "pads": [1, 0, 1, 0]}),
    "depthwise, multiplier 2": (IMAGE, {"channels_out": 8, "window": (3, 3), "groups": 4}),
    "dilated": (IMAGE, {"channels_out": 3, "window": (2, 2), "dilations": [2, 3]}),
    "transposed, in > out": (
        IMAGE,
        {
            "channels_out": 3, "window": (3, 2), "transposed": True, "strides": [2, 2],
            "pads": [1] * 4,
        },
    ),
    "transposed, in < out": (
        IMAGE,
        {
            "channels_out": 10, "window": (2, 2), "transposed": True, "output_padding": [1, 0],
            "strides": [2] * 2,
        },
    ),
    "transposed, in == out": (IMAGE, {"channels_out": 4, "window": (2, 2), "transposed": True}),
    "transposed, 2 groups": (
        IMAGE,
        {"channels_out": 6, "window": (3, 2), "transposed": True, "groups": 2, "strides": [2, 1]},
    ),
    "transposed, a group for each channel": (
        IMAGE,
        {"channels_out": 8, "window": (2, 2), "transposed": True, "groups": 4},
    ),
    "transposed, 1-D": (
        ("n", 4, 5),
        {"channels_out": 6, "window": (3,), "transposed": True, "groups": 2},
    ),
    "transposed, 3-D": (
        ("n", 4, 2, 3, 2),
        {"channels_out": 2, "window": (2, 1, 2), "transposed": True},
    ),
}


@pytest.mark.parametrize(("shape", "arguments"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_convolutions(shape, arguments, bias):
    g, arguments = Builder(), dict(arguments)
    window, channels = arguments.pop("window"), arguments["channels_out"]
    x = g.conv(
        g.input("x", *shape), shape[1], arguments.pop("channels_out"), *window, bias=bias,
        **arguments,
    )
    g.add("Relu", g.norm(x, channels))
    folded = assert_folds(g.model(), (g.nodes[0].name, "backward"))
    assert len(folded.graph.node) == 2 and len(folded.graph.initializer) == 2


BIASES = {
    "none": None, "row": (6,), "one row": (1, 6), "number": (), "one": (1,), "one by one": (1, 1),
}


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize(("turn_a", "turn_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(bias, turn_a, turn_b):
    """alpha and beta scale what the batch norm scales and shifts."""
    g = Builder()
    x = g.input("x", *((4, 5) if turn_a else ("n", 4)))
    inputs = [x, g.weights(*((6, 4) if turn_b else (4, 6)))]
    inputs += [] if bias is None else [g.tensor(g.rng.normal(size=bias))]
    more = {"transA": turn_a, "transB": turn_b, "alpha": 0.5, "beta": -2.0}
    g.norm(g.add("Gemm", *inputs, **{k: v for k, v in more.items() if v}), 6)
    assert_folds(g.model(), ("gemm0", "backward"))


def test_gemm_whose_bias_is_not_one_row():
    g = Builder()
    g.norm(g.add("Gemm", g.input("x", 3, 4), g.weights(4, 6), g.weights(3, 6)), 6)
    assert_stays(g.model(), "the bias of gemm0 has shape (3, 6), not one value per channel")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_mat_mul(bias, order):
    """A product takes its bias from the addition behind it, and gains one where there is none."""
    g = Builder()
    x = g.add("MatMul", g.input("x", "n", 4), g.weights(4, 6))
    if bias is not None:
        x = g.add("Add", *[x, g.tensor(g.rng.normal(size=bias))][::order])
    g.add("Relu", g.norm(x, 6))
    assert ops(assert_folds(g.model(), ("matmul0", "backward"))) == ["MatMul", "Add", "Relu"]


@pytest.mark.parametrize("bias", [(6, 1, 1), (1, 6, 1, 1), ()], ids=str)
@pytest.mark.parametrize("own", [True, False], ids=["bias of its own", "none"])
def test_convolution_and_an_addition(bias, own):
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 6, 3, 3, bias=own)
    g.norm(g.add("Add", x, g.tensor(g.rng.normal(size=bias))), 6)
    assert ops(assert_folds(g.model(), ("conv0", "backward"))) == ["Conv"]


@pytest.mark.parametrize("shape", [(6, 5, 1), (1, 4), (2, 1, 1, 6, 1, 1)], ids=str)
def test_an_addition_that_is_no_bias(shape):
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 6, 3, 3)
    y = g.add("Add", x, g.tensor(g.rng.normal(size=shape)))
    if len(shape) == 6:
        y = g.add("Reshape", y, g.tensor([-1, 6, 5, 4], dtype=np.int64))
    g.norm(y, 6)
    assert_stays(g.model(), "is an Add")


@pytest.mark.parametrize(
    ("opset", "ir_version"), [(7, 3), (8, 3), (9, 4), (13, 7), (14, 7), (15, 8), (21, 10)]
)
def test_opsets(opset, ir_version):
    """momentum is nothing in inference; what names the versions is kept."""
    g = Builder(opset, ir_version)
    x = g.norm(
        g.conv(g.input("x", *IMAGE), 4, 6, 3, 3), 6, momentum=0.8,
        **({"spatial": 1} if opset < 9 else {}),
    )
    g.norm(g.add("Relu", x), 6)
    g.conv(g.nodes[-1].output[0], 6, 2, 2, 2)
    model = g.model()
    model.metadata_props.add(key="who", value="tests")
    model.doc_string = "words"
    folded = assert_folds(model)
    assert (folded.ir_version, folded.opset_import, folded.producer_name) == (
        ir_version, model.opset_import, "tests",
    )
    assert (folded.metadata_props, folded.doc_string, folded.graph.name) == (
        model.metadata_props, "words", "graph",
    )
    assert [v.name for v in folded.graph.input][:1] == ["x"]
    extra = {v.name for v in folded.graph.input} - {"x"}
    assert extra == ({t.name for t in folded.graph.initializer} if ir_version < 4 else set())


def test_the_newest_opset():
    """Nothing depends on a list of versions."""
    g = Builder(onnx.defs.onnx_opset_version(), onnx.IR_VERSION)
    x = g.add("Relu", g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 3, 3), 6))
    g.conv(g.add("GlobalAveragePool", g.norm(x, 6)), 6, 2, 1, 1)
    folded, report = fold_onnx(g.model(), strict=True)
    assert (report.n_folded, ops(folded)) == (2, ["Conv", "Relu", "GlobalAveragePool", "Conv"])
    assert folded.opset_import[0].version == onnx.defs.onnx_opset_version()


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_variance_near_zero(epsilon):
    """epsilon is the node's own and stands inside the root; the report names the channels."""
    g = Builder()
    g.norm(g.conv(g.input("x", *IMAGE), 4, 3, 2, 2), 3, epsilon=epsilon)
    model = g.model()
    model.graph.initializer[-1].CopyFrom(
        numpy_helper.from_array(np.array([1e-14, 1, 0], np.float32), g.tensors[-1].name)
    )
    assert_folds(model, tolerance=1e-5)
    report = fold_onnx(model)[1]
    assert {c.channel for c in report.suspicious_channels} == {0, 2}
    gamma = np.abs(numpy_helper.to_array(model.graph.initializer[2]).astype(float))
    assert report.largest_gain == pytest.approx(
        max(gamma[0], gamma[2]) / np.sqrt(epsilon), rel=1e-6
    )


def test_default_epsilon():
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 3, 2, 2)
    g.add(NORM, x, *(g.tensor(a) for a in ([1, 2, 3], [0, 1, 2], [1, 1, 1], [1e-5, 1e-4, 1])))
    assert_folds(g.model(), tolerance=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype):
    """float64 has no convolution on ONNX Runtime: the check runs on onnx's evaluator there."""
    g = Builder(dtype=dtype)
    x = g.add("Relu", g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 3, 3), 6))
    x = g.add("Flatten", g.norm(x, 6))
    g.norm(g.add("Gemm", x, g.weights(120, 3)), 3)
    model = g.model()
    folded = assert_folds(model, tolerance={2: 5e-3, 4: 2e-6, 8: 1e-13}[np.dtype(dtype).itemsize])
    assert {t.data_type for t in folded.graph.initializer} == {g.element}
    report = fold_onnx(model)[1]
    assert (
        0
        < report.max_abs_error
        <= report.bound
        < {2: 4, 4: 1e-3, 8: 1e-12}[np.dtype(dtype).itemsize]
    )


# Where weights come from


def test_constant_nodes():
    g = Builder()
    x = g.input("x", *IMAGE)
    arrays = [g.rng.normal(size=s) for s in [(6, 4, 2, 2), (6,), (6,), (6,), (6,)]] + [
        g.rng.uniform(0.5, 2, 6)
    ]
    names = [g.add("Constant", value=numpy_helper.from_array(a.astype(np.float32))) for a in arrays]
    g.add(NORM, g.add("Conv", x, *names[:2]), *names[2:])
    folded = assert_folds(g.model())
    assert ops(folded) == ["Conv"] and len(folded.graph.initializer) == 2


def test_constants_of_lists_and_numbers():
    """A bias as a list, an axis as a list of whole numbers."""
    g = Builder(18)
    x = g.norm(g.add("Relu", g.input("x", "n", 6, 7, 6)), 6)
    x = g.add("ReduceMean", x, g.add("Constant", value_ints=[2, 3]), keepdims=0)
    x = g.add(
        "Add", g.add("MatMul", x, g.weights(6, 3)), g.add("Constant", value_floats=[1.0, -2.0, 3.0])
    )
    x = g.norm(x, 3)
    x = g.add("MatMul", x, g.weights(3, 3))
    g.norm(g.add("Add", x, g.add("Constant", value_float=0.5)), 3)
    assert ops(assert_folds(g.model())).count("Constant") == 1


def test_weights_under_another_name_and_transposed():
    """As exporters write tied weights, and a dense layer's kernel."""
    g = Builder()
    tied = g.weights(6, 4)
    x = g.add(
        "MatMul", g.input("x", "n", 4), g.add("Transpose", g.add("Identity", tied), perm=[1, 0])
    )
    scale = g.add("Identity", g.tensor(np.arange(1.0, 7)))
    arrays = [
        g.tensor(a) for a in (g.rng.normal(size=6), g.rng.normal(size=6), g.rng.uniform(0.5, 1, 6))
    ]
    x = g.add(NORM, x, scale, *arrays)
    g.add("MatMul", x, tied)
    folded = assert_folds(g.model())
    assert ops(folded) == ["MatMul", "Add", "MatMul"]
    np.testing.assert_array_equal(named(folded, tied), named(g, tied))


def named(model, name):
    tensors = model.tensors if isinstance(model, Builder) else model.graph.initializer
    return numpy_helper.to_array(next(t for t in tensors if t.name == name))


def test_a_kernel_used_twice_is_copied():
    """Once with a batch norm behind it, once without."""
    g = Builder()
    x, kernel, bias = g.input("x", *IMAGE), g.weights(4, 4, 1, 1), g.weights(4)
    y = g.norm(g.add("Conv", x, kernel, bias), 4)
    z = g.norm(g.add("Conv", y, kernel, bias), 4)
    g.add("Conv", z, kernel, bias)
    folded = assert_folds(g.model())
    assert ops(folded) == ["Conv"] * 3 and len(folded.graph.initializer) == 6
    np.testing.assert_array_equal(named(folded, kernel), named(g, kernel))


def test_a_batch_norms_arrays_used_twice():
    g = Builder()
    x = g.norm(g.conv(g.input("x", *IMAGE), 4, 4, 1, 1), 4)
    g.add(NORM, g.conv(g.add("Relu", x), 4, 4, 1, 1), *g.nodes[1].input[1:], epsilon=0.1)
    assert_folds(g.model())


def test_a_kernel_that_is_also_an_output():
    g = Builder()
    kernel = g.weights(6, 4, 2, 2, name="kernel")
    y = g.norm(g.add("Conv", g.input("x", *IMAGE), kernel), 6)
    g.output("kernel", 6, 4, 2, 2)
    folded = assert_folds_with_output(g.model(y))
    np.testing.assert_array_equal(named(folded, "kernel"), named(g, "kernel"))


def assert_folds_with_output(model):
    folded, report = fold_onnx(model, strict=True)
    onnx.checker.check_model(folded, full_check=True)
    x = rows_for(model)
    for ref, got in zip(run(model, x), run(folded, x), strict=True):
        np.testing.assert_allclose(got, ref, rtol=0, atol=2e-6 * np.abs(ref).max())
    return folded


# Identity, Dropout and residual graphs


@pytest.mark.parametrize(("opset", "more"), [(7, {"ratio": 0.5}), (11, {"ratio": 0.5}), (13, {})])
def test_through_what_does_nothing(opset, more):
    g = Builder(opset)
    x = g.add("Identity", g.conv(g.input("x", *IMAGE), 4, 6, 2, 2))
    x = g.norm(g.add("Dropout", x, **more), 6)
    x = g.norm(g.add("Identity", g.add("Relu", x)), 6)
    x = g.conv(g.add("Dropout", x, **more), 6, 3, 1, 1)
    g.add("Identity", x)
    assert ops(assert_folds(g.model())) == ["Conv", "Relu", "Dropout", "Conv", "Identity"]


def test_a_dropout_in_training_is_no_identity():
    g = Builder(13)
    x = g.conv(g.input("x", *IMAGE), 4, 6, 2, 2)
    x = g.add("Dropout", x, g.tensor(0.0), g.tensor(True, dtype=bool))
    g.norm(x, 6)
    assert_stays(g.model(), "dropout1 is a Dropout, which takes in no batch norm")


def test_a_dropout_whose_mask_is_read():
    g = Builder(13)
    x = g.conv(g.input("x", *IMAGE), 4, 6, 2, 2)
    g.output(g.norm(g.add("Dropout", x, n_outputs=2), 6), "n", 6, 6, 5)
    g.output("v1_1", "n", 6, 6, 5, element=onnx.TensorProto.BOOL)
    assert_stays(g.model(), "is a Dropout")


def test_a_residual_block():
    g = Builder()
    x = g.add("Relu", g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 3, 3, pads=[1] * 4, bias=False), 6))
    y = g.add("Relu", g.norm(g.conv(x, 6, 6, 3, 3, pads=[1] * 4, bias=False), 6))
    y = g.norm(g.conv(y, 6, 6, 3, 3, pads=[1] * 4, bias=False), 6)
    x = g.add("Relu", g.add("Add", y, g.norm(g.conv(x, 6, 6, 1, 1), 6)))
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    g.add("Gemm", x, g.weights(3, 6), g.weights(3), transB=1)
    assert ops(assert_folds(g.model())).count("Conv") == 4


@pytest.mark.parametrize("where", ["second reader", "output", "output under another name"])
def test_an_output_that_others_read_too(where):
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 6, 1, 1)
    other = x if where == "output" else g.add("Neg" if where == "second reader" else "Identity", x)
    y = g.norm(x, 6)
    outputs = [g.add("Add", y, other)] if where == "second reader" else [other, y]
    reason = (
        "the output of conv0 is also read by neg1"
        if where == "second reader"
        else "the output of conv0 is an output of"
    )
    assert_stays(g.model(*outputs), reason)


# Forward


def scales(g, *numbers):
    return g.tensor(numbers, dtype=np.float32)


WAYS = {
    "conv": lambda g, x: g.conv(x, 6, 3, 2, 2, strides=[2, 1]),
    "grouped": lambda g, x: g.conv(x, 6, 4, 2, 2, groups=2),
    "depthwise": lambda g, x: g.conv(x, 6, 12, 2, 2, groups=6),
    "valid": lambda g, x: g.conv(x, 6, 3, 2, 2, auto_pad="VALID"),
    "same, which pads nothing": lambda g, x: g.conv(x, 6, 3, 1, 1, auto_pad="SAME_UPPER"),
    "flatten": lambda g, x: g.add("Gemm", g.add("Flatten", x), g.weights(252, 3)),
    "reshape": lambda g, x: g.add(
        "MatMul", g.add("Reshape", x, g.tensor([0, -1], dtype=np.int64)), g.weights(252, 3)
    ),
    "reshape to -1": lambda g, x: g.add(
        "MatMul", g.add("Reshape", x, g.tensor([-1, 252], dtype=np.int64)), g.weights(252, 3)
    ),
    "squeeze": lambda g, x: g.add(
        "Gemm", g.add("Squeeze", g.add("GlobalAveragePool", x), g.tensor([2, 3], dtype=np.int64)),
        g.weights(3, 6), transB=1,
    ),
    "transpose": lambda g, x: g.add(
        "MatMul", g.add("Transpose", x, perm=[0, 2, 3, 1]), g.weights(6, 3)
    ),
    "transpose, flatten": lambda g, x: g.add(
        "Gemm", g.add("Flatten", g.add("Transpose", x, perm=[0, 2, 3, 1])), g.weights(252, 3)
    ),
    "average": lambda g, x: g.conv(g.add("AveragePool", x, kernel_shape=[2, 2]), 6, 3, 2, 2),
    "average over the border": lambda g, x: g.conv(
        g.add("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), 6, 3, 2, 2
    ),
    "average that counts no zeros": lambda g, x: g.conv(
        g.add("AveragePool", x, kernel_shape=[2, 2], count_include_pad=1), 6, 3, 1, 1
    ),
    "global average": lambda g, x: g.conv(g.add("GlobalAveragePool", x), 6, 3, 1, 1),
    "nearest of a larger image": lambda g, x: g.conv(
        g.add("Resize", x, "", scales(g, 1, 1, 2, 3), mode="nearest"), 6, 3, 2, 2
    ),
    "between the pixels": lambda g, x: g.conv(
        g.add("Resize", x, "", scales(g, 1, 1, 1.5, 2), mode="linear"), 6, 3, 2, 2
    ),
    "mean": lambda g, x: g.add(
        "MatMul", g.add("ReduceMean", x, axes=[2, -1], keepdims=0), g.weights(6, 3)
    ),
    "two pools": lambda g, x: g.conv(
        g.add("AveragePool", g.add("AveragePool", x, kernel_shape=[2, 2]), kernel_shape=[2, 2]), 6,
        3, 1, 1,
    ),
    "batch norm behind a pool": lambda g, x: g.conv(
        g.norm(g.add("AveragePool", x, kernel_shape=[2, 2]), 6), 6, 3, 1, 1
    ),
    "two readers": lambda g, x: g.add(
        "Concat", g.conv(x, 6, 2, 1, 1), g.conv(x, 6, 3, 1, 1), axis=1
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_forward(way):
    g = Builder()
    way(g, g.norm(g.add("Relu", g.input("x", "n", 6, 7, 6)), 6))
    assert_folds(g.model())


def test_resized_to_a_size():
    g = Builder(18)
    x = g.norm(g.add("Relu", g.input("x", "n", 6, 7, 6)), 6)
    g.conv(
        g.add("Resize", x, "", "", g.tensor([5, 12], dtype=np.int64), axes=[2, 3], mode="linear"),
        6, 3, 2, 2,
    )
    assert_folds(g.model())


@pytest.mark.parametrize(("opset", "axes"), [(17, "attribute"), (18, "input")])
def test_mean_axes(opset, axes):
    g = Builder(opset)
    x = g.norm(g.add("Relu", g.input("x", "n", 6, 7, 6)), 6)
    more = (
        [[], {"axes": [2, 3]}] if axes == "attribute" else [[g.tensor([2, 3], dtype=np.int64)], {}]
    )
    x = g.add("ReduceMean", x, *more[0], keepdims=1, **more[1])
    g.conv(x, 6, 3, 1, 1)
    assert_folds(g.model())


MAXIMA = {
    "pool": lambda g, x: g.add("MaxPool", x, kernel_shape=[2, 2], pads=[1, 0, 1, 0]),
    "global": lambda g, x: g.add("GlobalMaxPool", x),
    "reduction": lambda g, x: g.add("ReduceMax", x, axes=[2, 3]),
}


@pytest.mark.parametrize("pool", MAXIMA.values(), ids=MAXIMA)
@pytest.mark.parametrize("positive", [True, False], ids=["rising", "falling"])
def test_maxima(pool, positive):
    """Increasing maps go through, a negative gain does not."""
    g = Builder(seed=3)
    g.conv(
        pool(g, g.norm(g.add("Relu", g.input("x", "n", 6, 7, 6)), 6, positive=positive)), 6, 3, 1, 1
    )
    assert_folds(g.model()) if positive else assert_stays(
        g.model(), "takes maxima, and the gain of"
    )


def test_batch_norms_in_a_row_that_stay_are_one():
    g = Builder()
    x = g.norm(g.norm(g.norm(g.add("Relu", g.input("x", *IMAGE)), 4), 4, epsilon=0.1), 4)
    g.add("Relu", x)
    folded = assert_stays(g.model(), "relu4 is a Relu, which is not linear")
    report = fold_onnx(g.model())[1]
    assert [(e.direction, e.folded) for e in report.entries] == [
        ("merged", True), ("merged", True), (None, False),
    ]
    assert len(folded.graph.initializer) == 4


def test_a_model_that_begins_with_a_batch_norm_is_run_near_its_statistics():
    """Means of 1e5 against deviations of 1: on numbers around 0 only the means would count."""
    g = Builder()
    g.conv(g.norm(g.input("x", *IMAGE), 4), 4, 6, 2, 2)
    model = g.model()
    for i, value in ((2, 1e3), (3, 1.0)):
        model.graph.initializer[i].CopyFrom(
            numpy_helper.from_array(np.full(4, value, np.float32), g.tensors[i].name)
        )
    _, report = fold_onnx(model, strict=True)
    assert report.max_abs_error / report.max_rel_error < 100


# What must stay


def pools(op, **more):
    return lambda g, x: g.conv(g.add(op, x, **more), 6, 3, 1, 1)


REFUSALS = {
    "padded convolution": (
        lambda g, x: g.conv(x, 6, 3, 3, 3, pads=[1, 1, 1, 1]),
        "pads with zeros, which the batch",
    ),
    "padding of a kind": (
        lambda g, x: g.conv(x, 6, 3, 2, 2, auto_pad="SAME_LOWER"),
        "pads with zeros, which the batch",
    ),
    "pad": (
        lambda g, x: g.conv(
            g.add("Pad", x, g.tensor([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64)), 6, 3, 2, 2
        ),
        "pads with values that the batch norm would have shifted",
    ),
    "transposed": (
        lambda g, x: g.conv(x, 6, 3, 2, 2, transposed=True),
        "is a transposed convolution, whose border sees fewer",
    ),
    "average with zeros": (
        pools("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        "counts zeros over the border",
    ),
    "relu": (lambda g, x: g.conv(g.add("Relu", x), 6, 3, 1, 1), "is a Relu, which is not linear"),
    "one of two readers": (
        lambda g, x: g.add("Concat", g.conv(x, 6, 2, 1, 1), g.add("Neg", x), axis=1),
        "is a Neg, which takes in no batch norm",
    ),
    "mean over the channels": (
        lambda g, x: g.add("MatMul", g.add("ReduceMean", x, axes=[1]), g.weights(6, 2)),
        "reduces axis 1, which the batch norm",
    ),
    "mean over everything": (lambda g, x: g.add("ReduceMean", x, keepdims=0), "is a ReduceMean"),
    "dense over another axis": (
        lambda g, x: g.add("MatMul", x, g.weights(6, 2)),
        "axis 1, matmul2 acts on axis 3",
    ),
    "pool over another axis": (
        lambda g, x: g.add(
            "AveragePool", g.add("Transpose", x, perm=[0, 2, 1, 3]), kernel_shape=[2, 2]
        ),
        "mixes values along axis 2",
    ),
    "more channels": (
        lambda g, x: g.conv(g.add("Resize", x, "", scales(g, 1, 2, 1, 1)), 12, 3, 1, 1),
        "is a Resize, which takes in no batch",
    ),
    "part of an image": (
        lambda g, x: g.conv(
            g.add(
                "Resize", x, g.tensor([0, 0, 0, 0, 1, 1, 2, 2]), scales(g, 1, 1, 2, 2),
                extrapolation_value=5.0, coordinate_transformation_mode="tf_crop_and_resize",
            ),
            6,
            3,
            1,
            1,
        ),
        "is a Resize, which takes in no batch norm",
    ),
    "output": (lambda g, x: x, "after it: there is no layer"),
    "local response": (
        lambda g, x: g.add("LRN", x, size=3),
        "is a LRN, which takes in no batch norm",
    ),
}


@pytest.mark.parametrize(("way", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_stays_with_the_reason(way, reason):
    g = Builder()
    way(g, g.norm(g.add("Relu", g.input("x", "n", 6, 6, 6)), 6))
    assert_stays(g.model(), reason)


def test_conv_relu_norm_is_not_folded_backward():
    g = Builder()
    g.norm(g.add("Relu", g.conv(g.input("x", *IMAGE), 4, 6, 2, 2)), 6)
    assert_stays(g.model(), "before it: relu1 is a Relu, which is not linear")


def test_dense_on_three_axes_and_a_batch_norm_over_the_middle():
    """The sizes match: only the axes tell."""
    g = Builder()
    x = g.add("Add", g.add("MatMul", g.input("x", "n", 6, 4), g.weights(4, 6)), g.weights(6))
    g.norm(x, 6)
    assert_stays(g.model(), "it normalises axis 1, matmul0 acts on axis 2")


def test_dense_on_an_unknown_number_of_axes():
    g = Builder()
    shape = g.input("shape", "k", element=onnx.TensorProto.INT64)
    x = g.add("Reshape", g.input("x", "n", 4), shape)
    g.norm(g.add("MatMul", x, g.weights(4, 6)), 6)
    g.output(g.nodes[-1].output[0], "n", "c")
    model = g.model()
    folded, report = fold_onnx(model, check={"x": np.ones((3, 4)), "shape": [-1, 4]})
    assert "the number of axes of the input of matmul1 is not known" in report.entries[0].reason
    assert ops(folded) == ops(model)


TRAINING = {
    "mode of opset 14": (15, {"training_mode": 1, "n_outputs": 3}),
    "outputs of opset 9": (9, {"n_outputs": 5}),
}


@pytest.mark.parametrize(("opset", "more"), TRAINING.values(), ids=TRAINING)
def test_training_mode(opset, more):
    g = Builder(opset)
    y = g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 2, 2), 6, **more)
    g.norm(g.conv(y, 6, 3, 1, 1), 3)
    model = g.model(*([] if opset > 9 else [g.nodes[-1].output[0]]))
    _, report = fold_onnx(model)
    assert report.n_folded == 1
    assert report.entries[0].reason.startswith(
        "it is in training mode, where it normalises with the statistics of the batch"
    )


def test_statistics_for_each_position():
    """spatial=0 of opset 7."""
    g = Builder(7)
    x = g.input("x", "n", 4, 2, 2)
    arrays = [g.tensor(g.rng.uniform(1, 2, (4, 2, 2))) for _ in range(4)]
    g.add(NORM, g.conv(x, 4, 4, 1, 1), *arrays, spatial=0)
    report = unchecked(g)
    assert report.entries[0].reason == "it has statistics of its own for each position (spatial=0)"


def test_an_old_opset():
    g = Builder(6)
    x = g.input("x", *IMAGE)
    g.add(NORM, g.conv(x, 4, 3, 1, 1), *(g.tensor(np.ones(3)) for _ in range(4)), is_test=1)
    report = unchecked(g)
    assert "it is of opset 6; convert the model to 7 or newer" in report.entries[0].reason


@pytest.mark.parametrize("which", ["scale", "kernel", "bias"])
def test_weights_that_are_computed(which):
    g = Builder()
    x = g.input("x", *IMAGE)
    names = {"kernel": g.weights(6, 4, 1, 1), "bias": g.weights(6), "scale": g.tensor(np.ones(6))}
    shape = g.tensors[["kernel", "bias", "scale"].index(which)].dims
    names[which] = g.add("Mul", names[which], g.input("factor", *shape))
    y = g.add("Conv", x, names["kernel"], names["bias"])
    g.add(NORM, y, names["scale"], *(g.tensor(np.ones(6)) for _ in range(3)))
    folded, report = fold_onnx(g.model())
    what = f"{which}{'' if which == 'scale' else ' of ' + g.nodes[-2].name}, {names[which]}"
    assert f"{what}, is not a constant" in report.entries[0].reason and NORM in ops(folded)


def test_a_first_output_that_is_left_out():
    """As recurrent nodes have where the last state alone is read; empty inputs stay empty."""
    g = Builder()
    x = g.norm(g.conv(g.input("x", 3, 4, 5), 4, 6, 1), 6)
    x = g.add("Transpose", x, perm=[2, 0, 1])
    weights = g.weights(1, 16, 6), g.weights(1, 16, 4)
    start = g.tensor(g.rng.normal(size=(1, 3, 4)))
    inputs = [x, *weights, "", "", start]
    g.nodes.append(helper.make_node("LSTM", inputs, ["", "h"], hidden_size=4, name="lstm"))
    g.output("h", 1, 3, 4)
    node = assert_folds(g.model()).graph.node[-1]
    assert list(node.output) == ["", "h"] and list(node.input)[3:5] == ["", ""]


# Batch norms that are written as products and sums


def arithmetic(g, x, *operators, shape=(6, 1, 1)):
    for operator in operators:
        x = g.add(operator, x, g.tensor(g.rng.uniform(0.5, 1.5, shape)))
    return x


def assert_fewer(g, *left, folds=1, outputs=()):
    """What is left of a graph that gives the same; the report tells of what went."""
    model = g.model(*outputs)
    folded, report = fold_onnx(model, strict=True)
    onnx.checker.check_model(folded, full_check=True)
    assert ops(folded) == [*left] and report.n_folded == report.n_total == folds
    x = rows_for(model)
    for ref, got in zip(run(model, x), run(folded, x), strict=True):
        np.testing.assert_allclose(got, ref, rtol=0, atol=2e-6 * np.abs(ref).max())
    return report


CHAINS = [["Mul", "Add"], ["Sub", "Div", "Mul", "Add"], ["Add", "Mul"], ["Mul"], ["Div", "Sub"]]


@pytest.mark.parametrize("operators", CHAINS, ids=" ".join)
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (), (1,), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_sums_behind_a_convolution(operators, shape, bias):
    g = Builder()
    y = g.conv(g.input("x", *IMAGE), 4, 6, 2, 2, bias=bias)
    g.add("Relu", arithmetic(g, y, *operators, shape=shape))
    report = assert_fewer(g, "Conv", "Relu")
    first = next(node.name for node in g.nodes if node.op_type in operators)
    assert f"'{first}'" in report.entries[0].name or operators[0] == "Add"
    assert (report.entries[0].into, report.entries[0].direction) == ("conv0", "backward")


@pytest.mark.parametrize("operators", CHAINS, ids=" ".join)
@pytest.mark.parametrize("kind", ["MatMul", "MatMul of tokens", "Gemm", "MatMul, Add"])
def test_products_and_sums_behind_a_dense_layer(operators, kind):
    g = Builder()
    x = g.input("x", *(("n", 5, 4) if "tokens" in kind else ("n", 4)))
    y = g.add(kind.split()[0].strip(","), x, g.weights(4, 6))
    if kind.endswith("Add"):
        y = g.add("Add", g.weights(6), y)
    g.add("Relu", arithmetic(g, y, *operators, shape=(6,)))
    gains = kind != "Gemm" and (kind.endswith("Add") or operators != ["Mul"])
    assert_fewer(g, kind.split()[0].strip(","), *(["Add"] if gains else []), "Relu")


def test_products_and_sums_through_what_they_may_pass_and_before_convolutions():
    g = Builder()
    y = g.add("AveragePool", conv6(g), kernel_shape=[2, 2])
    y = g.add("Relu", arithmetic(g, y, "Mul", "Add"))
    y = g.conv(arithmetic(g, y, "Sub", "Div"), 6, 3, 2, 2)
    g.add("Relu", g.add("Transpose", y, perm=[0, 2, 3, 1]))
    assert_fewer(g, "Conv", "AveragePool", "Relu", "Conv", "Transpose", "Relu", folds=2)


def test_a_batch_norm_and_a_scale_of_its_own():
    """As Caffe writes them; either order, and one whose batch norm stays."""
    for first in (True, False):
        g = Builder()
        y = conv6(g)
        y = arithmetic(g, g.norm(y, 6), "Mul", "Add") if first else g.norm(
            arithmetic(g, y, "Mul", "Add"), 6
        )
        g.add("Relu", y)
        assert_fewer(g, "Conv", "Relu", folds=2)
    g = Builder()
    g.add("Relu", arithmetic(g, g.norm(g.add("Relu", g.input("x", *IMAGE)), 4), "Mul", shape=(4, 1, 1)))
    model = g.model()
    folded, report = fold_onnx(model)
    assert ops(folded) == ["Relu", "BatchNormalization", "Relu"]
    assert [(e.into, e.direction) for e in report.entries] == [
        (None, None), ("batchnormalization1", "merged")
    ]  # fmt: skip
    x = rows_for(model)
    np.testing.assert_allclose(run(folded, x)[0], run(model, x)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("what", ["a value", "two axes", "more axes", "only sums", "in turn", "rows"])
def test_other_products_and_sums_stay(what):
    g = Builder()
    y = conv6(g)
    if what == "a value":
        y = g.add("Add", g.add("Mul", y, y), g.tensor(1.0))
    elif what == "two axes":
        y = arithmetic(g, y, "Mul", "Add", shape=(6, 6, 1))
    elif what == "more axes":
        y = arithmetic(g, y, "Mul", "Add", shape=(2, 1, 6, 1, 1))
    elif what == "only sums":
        y = arithmetic(g, y, "Sub", "Sub")
    elif what == "in turn":
        y = g.add("Div", g.tensor(1.5), y)
    else:
        y = arithmetic(g, g.add("Relu", y), "Mul", "Add")
    y = g.add("Sigmoid", y)
    g.add("Concat", y, y, axis=0)
    kept = [node.op_type for node in g.nodes]
    model = g.model()
    folded, report = fold_onnx(model, strict=True)
    assert report.n_total == 0 and ops(folded) == kept


def test_products_do_not_become_sums_elsewhere():
    """A scale before products without biases stays where it is: each would need a sum instead."""
    g = Builder()
    y = arithmetic(g, g.add("Relu", g.input("x", "n", 5, 6)), "Mul", "Add", shape=(6,))
    y = g.add("Add", g.add("MatMul", y, g.weights(6, 3)), g.add("MatMul", y, g.weights(6, 3)))
    assert_fewer(g, "Relu", "Mul", "Add", "MatMul", "MatMul", "Add", folds=0)
    g = Builder()
    y = arithmetic(g, g.add("Relu", g.input("x", "n", 5, 6)), "Mul", shape=(6,))
    y = g.add("Add", g.add("MatMul", y, g.weights(6, 3)), g.add("MatMul", y, g.weights(6, 3)))
    assert_fewer(g, "Relu", "MatMul", "MatMul", "Add", folds=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axis", [-1, 2])
def test_a_layer_norms_scale_goes_into_the_next_dense_layers(bias, axis):
    g = Builder()
    x = g.input("x", "n", 5, 6)
    arrays = [g.tensor(g.rng.uniform(0.5, 1.5, 6)) for _ in range(1 + bias)]
    y = g.add("LayerNormalization", x, *arrays, axis=axis)
    first, second = (
        g.add("Add", g.add("MatMul", y, g.weights(6, 3)), g.weights(3)) for _ in range(2)
    )
    g.add("Mul", first, second)
    assert_fewer(g, "LayerNormalization", "MatMul", "Add", "MatMul", "Add", "Mul")
    folded = fold_onnx(g.model())[0]
    assert len(folded.graph.node[0].input) == 2
    np.testing.assert_array_equal(named(folded, folded.graph.node[0].input[1]), 1)


def test_a_layer_norms_scale_stays_where_something_else_reads_it():
    g = Builder()
    arrays = [g.tensor(g.rng.uniform(0.5, 1.5, 6)) for _ in range(2)]
    y = g.add("LayerNormalization", g.input("x", "n", 5, 6), *arrays)
    z = g.add("Add", g.add("MatMul", y, g.weights(6, 6)), g.weights(6))
    g.add("Concat", y, z, axis=1)
    assert_fewer(g, "LayerNormalization", "MatMul", "Add", "Concat", folds=0)
    g = Builder()  # and as an output of the graph
    arrays = [g.tensor(g.rng.uniform(0.5, 1.5, 6)) for _ in range(2)]
    y = g.add("LayerNormalization", g.input("x", "n", 5, 6), *arrays)
    assert_fewer(g, "LayerNormalization", folds=0)


# Backward through what an affine map may pass


def conv6(g):
    return g.conv(g.input("x", *IMAGE), 4, 6, 2, 2)


def dense6(g, *shape):
    return g.add("MatMul", g.input("x", *shape, 4), g.weights(4, 6))


def resized(g, x):
    scales = g.tensor([1, 1, 2, 3])
    return g.add("Resize", x, "", scales, mode="linear")


# What stands between a linear node with 6 channels and its batch norm.
BETWEEN = {
    "transposed": lambda g: g.add("Transpose", dense6(g, "n", 7), perm=[0, 2, 1]),
    "transposed, all axes": lambda g: g.add("Transpose", dense6(g, 3, 7), perm=[1, 2, 0]),
    "to images": lambda g: g.add(
        "Reshape", g.add("Gemm", g.input("x", "n", 4), g.weights(4, 24)), integers(g, -1, 6, 2, 2)
    ),
    "to a batch of tokens": lambda g: g.add("Reshape", dense6(g, "n", 5), integers(g, -1, 6)),
    "to one row of a token each": lambda g: g.add(
        "Reshape", dense6(g, "n", 5), integers(g, -1, 6, 1)
    ),
    "unsqueezed": lambda g: g.add("Unsqueeze", dense6(g, "n"), integers(g, 2, 3)),
    "squeezed": lambda g: g.add(
        "Squeeze", g.conv(g.input("x", "n", 4, 1, 1), 4, 6, 1, 1), integers(g, 3)
    ),
    "flattened": lambda g: g.add(
        "Flatten", g.conv(g.input("x", "n", 4, 1, 1), 4, 6, 1, 1)
    ),
    "sliced channels": lambda g: g.add(
        "Slice", g.conv(g.input("x", *IMAGE), 4, 9, 2, 2), integers(g, 1), integers(g, 7),
        integers(g, 1),
    ),
    "every second channel": lambda g: g.add(
        "Slice", g.conv(g.input("x", *IMAGE), 4, 12, 2, 2), integers(g, 1), integers(g, 1 << 40),
        integers(g, -3), integers(g, 2),
    ),
    "sliced rows": lambda g: g.add(
        "Slice", conv6(g), integers(g, -2), integers(g, 9), integers(g, 2)
    ),
    "resized": lambda g: resized(g, conv6(g)),
    "average pool": lambda g: g.add("AveragePool", conv6(g), kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
    "global average pool": lambda g: g.add("GlobalAveragePool", conv6(g)),
    "mean": lambda g: g.add("ReduceMean", conv6(g), axes=[2, 3], keepdims=0),
    "mean of height": lambda g: g.add("ReduceMean", conv6(g), axes=[-2], keepdims=1),
    "mean of tokens": lambda g: g.add("ReduceMean", dense6(g, "n", 5), axes=[1], keepdims=0),
    "several": lambda g: g.add(
        "Flatten", g.add("GlobalAveragePool", resized(g, conv6(g)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("last", [True, False], ids=["an output", "read on"])
def test_backward_through(between, last):
    g = Builder()
    BETWEEN[between](g)
    nodes = [node.op_type for node in g.nodes]
    before = g.nodes[-1].output[0]
    y = g.norm(before, 6)
    if not last:
        g.add("Relu", y)
        nodes.append("Relu")
    if "MatMul" in nodes:
        nodes.insert(nodes.index("MatMul") + 1, "Add")
    assert ops(assert_folds(g.model())) == nodes


def test_backward_through_a_max_pool_with_gains_above_zero():
    for positive in (True, False):
        g = Builder()
        x = g.add("MaxPool", conv6(g), kernel_shape=[2, 2], pads=[1, 1, 0, 0])
        g.norm(x, 6, positive=positive)
        if positive:
            assert ops(assert_folds(g.model())) == ["Conv", "MaxPool"]
        else:
            assert_stays(g.model(), "would make them minima")


@pytest.mark.parametrize("free", ["starts", "ends", "axes", "steps"])
def test_a_slice_whose_place_is_not_known(free):
    """Which channels it takes, or along which axis, only the caller knows."""
    g = Builder()
    x = g.conv(g.input("x", "n", 4, 9, 9), 4, 9, 1, 1)
    given = {"starts": [2], "ends": [9], "axes": [2], "steps": [1]}
    values = [
        g.input(name, 1, element=TensorProto.INT64) if name == free else integers(g, *given[name])
        for name in given
    ]
    g.add("Relu", g.norm(g.add("Slice", x, *values), 9))
    g.output(g.nodes[-1].output[0], "n", "c", "h", "w")
    check = {"x": np.random.default_rng(0).normal(size=(3, 4, 9, 9)), free: np.array(given[free])}
    folded, report = fold_onnx(g.model(), check=check)
    assert report.n_folded == 0 and "is a Slice" in report.entries[0].reason


def test_shapes_may_be_read_beside():
    """As exporters write `reshape_as`: flat rows of tokens are normalised, and shaped back."""
    g = Builder()
    x = dense6(g, "n", 5)
    y = g.norm(g.add("Reshape", x, integers(g, -1, 6)), 6)
    g.add("Reshape", y, g.add("Shape", x))
    folded = assert_folds(g.model())
    assert ops(folded) == ["MatMul", "Add", "Reshape", "Shape", "Reshape"]
    g = Builder()
    x = conv6(g)
    g.add("Reshape", g.add("Relu", g.norm(x, 6)), g.add("Shape", x))
    assert ops(assert_folds(g.model())) == ["Conv", "Relu", "Shape", "Reshape"]


@pytest.mark.parametrize("reason", ["also read by", "is an output", "counts zeros", "reduces"])
def test_backward_through_is_refused(reason):
    g = Builder()
    x = conv6(g)
    pads = {"pads": [1, 1, 0, 0], "count_include_pad": 1} if reason == "counts zeros" else {}
    y = g.add("AveragePool", x, kernel_shape=[2, 2], **pads)
    if reason == "reduces":
        y = g.add("ReduceMean", y, axes=[1], keepdims=1)
        y = g.norm(y, 1)
    else:
        y = g.norm(y, 6)
    outputs = [y]
    if reason == "also read by":
        outputs.append(g.add("Relu", x))
    elif reason == "is an output":
        outputs.append(x)
    assert_stays(g.model(*outputs), "has one value" if reason == "reduces" else reason)


def integers(g, *values):
    return g.tensor(values, dtype=np.int64)


def weight_norm(g, v):
    """`gain * v / ||v||`, as exporters write it."""
    size = g.add("Sqrt", g.add("ReduceSum", g.add("Mul", v, v), integers(g, 1, 2, 3), keepdims=1))
    return g.add("Mul", g.add("Div", v, size), g.weights(6, 1, 1, 1))


# Of a kernel (6, 4, 3, 3); a weight of another form, and what makes the kernel of it.
KERNELS = {
    "weight norm": lambda g: weight_norm(g, g.weights(6, 4, 3, 3)),
    "cast": lambda g: g.add("Cast", g.tensor(g.rng.normal(size=(6, 4, 3, 3)), dtype="f2"), to=1),
    "cast from float64": lambda g: g.add(
        "Cast", g.tensor(g.rng.normal(size=(6, 4, 3, 3)), dtype="f8"), to=1
    ),
    "reshaped": lambda g: g.add("Reshape", g.weights(24, 9), integers(g, 6, 4, 3, 3)),
    "reshaped, a size left open": lambda g: g.add(
        "Reshape", g.weights(6, 36), integers(g, 6, -1, 3, 3)
    ),
    "squeezed": lambda g: g.add("Squeeze", g.weights(6, 1, 4, 3, 3), integers(g, 1)),
    "unsqueezed": lambda g: g.add(
        "Expand", g.add("Unsqueeze", g.weights(6, 4), integers(g, 2, 3)), integers(g, 6, 4, 3, 3)
    ),
    "expanded": lambda g: g.add("Expand", g.weights(6, 4, 1, 3), integers(g, 1, 1, 3, 1)),
    "filled": lambda g: g.add(
        "ConstantOfShape", integers(g, 6, 4, 3, 3), value=numpy_helper.from_array(np.float32([0.1]))
    ),
    "turned": lambda g: g.add("Transpose", g.weights(3, 3, 4, 6), perm=[3, 2, 0, 1]),
    "joined": lambda g: g.add("Concat", g.weights(2, 4, 3, 3), g.weights(4, 4, 3, 3), axis=0),
    "cut": lambda g: g.add("Slice", g.weights(9, 4, 3, 3), integers(g, 1), integers(g, 7)),
    "gathered": lambda g: g.add("Gather", g.weights(9, 4, 3, 3), integers(g, 3, 1, 4, 0, 5, 8)),
    "split": lambda g: g.add("Split", g.weights(12, 4, 3, 3), n_outputs=2),
    "added": lambda g: g.add("Add", g.weights(6, 4, 3, 3), g.weights(6, 4, 3, 3)),
    "scaled": lambda g: g.add("Div", g.weights(6, 4, 3, 3), g.tensor(7.0)),
    "padded": lambda g: g.add(
        "Pad", g.weights(6, 4, 1, 1), integers(g, 0, 0, 1, 1, 0, 0, 1, 1)
    ),
    "chosen": lambda g: g.add(
        "Where", g.tensor(g.rng.random((6, 4, 1, 1)) > 0.3, dtype=bool), g.weights(6, 4, 3, 3),
        g.weights(6, 1, 3, 3),
    ),
}


@pytest.mark.parametrize("form", KERNELS)
def test_a_kernel_that_is_a_constant_expression(form):
    g = Builder()
    y = g.add("Conv", g.input("x", *IMAGE), KERNELS[form](g))
    g.add("Relu", g.norm(y, 6))
    assert ops(assert_folds(g.model())) == ["Conv", "Relu"]


# Of 6 numbers.
VECTORS = {
    "reshaped": lambda g, v: g.add("Reshape", g.tensor(v[:, None]), integers(g, 6)),
    "squeezed": lambda g, v: g.add("Squeeze", g.tensor(v[None])),
    "expanded": lambda g, v: g.add("Expand", g.tensor(v[:1]), integers(g, 6)),
    "filled": lambda g, v: g.add(
        "ConstantOfShape", integers(g, 6), value=numpy_helper.from_array(np.float32([0.7]))
    ),
    "cast": lambda g, v: g.add("Cast", g.tensor(v, dtype="f8"), to=1),
    "computed": lambda g, v: g.add("Exp", g.add("Log", g.tensor(v))),
    "handed on": lambda g, v: g.add("Identity", g.add("Identity", g.tensor(v))),
}


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("form", VECTORS)
def test_a_vector_that_is_a_constant_expression(form, which):
    """A bias, or the scale, shift, mean or variance of the batch norm."""
    g = Builder()
    arrays = [g.tensor(g.rng.uniform(0.5, 1.5, 6)) for _ in range(5)]
    arrays[which] = VECTORS[form](g, g.rng.uniform(0.5, 1.5, 6))
    y = g.add("Conv", g.input("x", *IMAGE), g.weights(6, 4, 2, 2), arrays[0])
    g.add(NORM, y, *arrays[1:])
    assert ops(assert_folds(g.model())) == ["Conv"]


@pytest.mark.parametrize("operator", ["MatMul", "Gemm", "ConvTranspose"])
def test_other_kernels_that_are_constant_expressions(operator):
    g = Builder()
    size = (4, 6) if operator != "ConvTranspose" else (4, 6, 2, 2)
    x = g.input("x", *(("n", 4) if operator != "ConvTranspose" else IMAGE))
    kernel = g.add("Mul", g.weights(*size), g.tensor(2.5))
    assert ops(assert_folds(g.model(g.norm(g.add(operator, x, kernel), 6)))) == (
        ["MatMul", "Add"] if operator == "MatMul" else [operator]
    )


def test_expressions_that_are_not_the_same_in_every_run_stay():
    g = Builder()
    kernel = g.add("Add", g.weights(6, 4, 2, 2), g.add("RandomNormal", shape=[1]))
    g.norm(g.add("Conv", g.input("x", *IMAGE), kernel), 6)
    report = fold_onnx(g.model())[1]
    assert "is not a constant" in report.entries[0].reason and report.n_folded == 0


def test_quantised_kernels_stay_small():
    g = Builder()
    kernel = g.tensor(g.rng.integers(-9, 9, (6, 4, 2, 2)), dtype=np.int8)
    kernel = g.add("DequantizeLinear", kernel, g.tensor(np.float32(0.1)))
    g.norm(g.add("Conv", g.input("x", *IMAGE), kernel), 6)
    assert_stays(g.model(), "is not a constant")


def test_no_expression_grows_beyond_the_weights():
    """A few bytes that ask for megabytes are left as they are."""
    g = Builder()
    y = g.add("Conv", g.input("x", *IMAGE), g.weights(6, 4, 2, 2))
    g.add("ConstantOfShape", integers(g, 1 << 11, 1 << 9))
    g.add("Relu", g.norm(y, 6))
    g.nodes.append(g.nodes.pop(1))  # and gives what nobody reads
    assert ops(assert_folds(g.model(g.nodes[-2].output[0])))[:2] == ["Conv", "Relu"]


def test_casts_to_the_same_type_and_masks_that_nobody_reads():
    g = Builder(13)
    y = g.add("Cast", g.conv(g.input("x", *IMAGE), 4, 6, 2, 2), to=1)
    g.add("Relu", g.norm(g.add("Dropout", y, n_outputs=2), 6))
    assert ops(assert_folds(g.model())) == ["Conv", "Relu"]


@pytest.mark.parametrize("which", [0, 3])
def test_weights_that_a_caller_may_replace(which):
    """From version 4 of the format on an initialiser that is an input too is a default."""
    g = Builder()
    g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 1, 1), 6)
    t = g.tensors[which]
    g.inputs.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
    free = g.weights(2, name="free")  # is not folded, and stays a default
    g.inputs.append(helper.make_tensor_value_info("free", 1, (2,)))
    y = g.nodes[-1].output[0]
    folded = assert_folds(g.model(y, g.add("Neg", free)))
    assert [v.name for v in folded.graph.input] == ["x", "free"]


def unchecked(g):
    """The report on a model that no runtime takes."""
    from nbbn.formats.onnx.file import from_proto
    from nbbn.formats.onnx.fold import _folded

    return _folded(from_proto(g.model()), False)[1]


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_statistics_that_are_not_usable(bad):
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 3, 1, 1)
    g.add(NORM, x, *(g.tensor(a) for a in (np.ones(3), np.ones(3), np.ones(3), [1, bad, 1])))
    report = unchecked(g)
    if bad == np.inf:  # a gain of exactly 0 folds
        assert report.n_folded == 1
    else:
        assert "its statistics are not usable" in report.entries[0].reason


def test_arrays_of_different_lengths():
    g = Builder()
    g.output(
        g.add(NORM, g.input("x", *IMAGE), *(g.tensor(np.ones(n)) for n in (4, 4, 3, 4))), *IMAGE
    )
    assert unchecked(g).entries[0].reason == "its scale, bias, mean and variance differ in shape"


def test_bfloat16():
    """NumPy has no such type, and nothing is rounded to one."""
    g = Builder(15)
    g.element = onnx.TensorProto.BFLOAT16
    x = g.add("MatMul", g.input("x", "n", 4), g.weights(4, 3))
    g.norm(x, 3)
    for i, tensor in enumerate(g.tensors):
        g.tensors[i] = helper.make_tensor(
            tensor.name, g.element, tensor.dims, numpy_helper.to_array(tensor).reshape(-1).tolist()
        )
    folded, report = fold_onnx(g.model())
    assert report.entries[0].reason == "its scale, t1, is not float16, float32 or float64"
    assert ops(folded) == ["MatMul", NORM]


def test_weights_that_do_not_fit_the_dtype():
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 3, 1, 1)
    g.add(
        NORM,
        x,
        *(g.tensor(a) for a in (np.full(3, 1e38), np.ones(3), np.ones(3), np.full(3, 1e-10))),
        epsilon=1e-10,
    )
    with pytest.raises(
        ValueError, match=r"(kernel|bias) of conv0 is not finite in float32 after folding"
    ):
        fold_onnx(g.model())


def test_another_domain():
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 6, 1, 1)
    x = g.add("Gelu", x, domain="com.microsoft")
    g.output(g.norm(x, 6), "n", 6, 7, 6)
    model = g.model()
    assert_stays(model, "gelu1 is a Gelu of com.microsoft, which takes in no batch norm")


# Graphs within


def branches(g, inner, flag):
    """An If whose branches are one node each."""
    graphs = [
        helper.make_graph(
            [node], "branch", [], [helper.make_tensor_value_info(node.output[0], g.element, None)]
        )
        for node in inner
    ]
    return g.add("If", flag, then_branch=graphs[0], else_branch=graphs[1])


def test_a_graph_within_is_left_alone():
    """A batch norm in it stays, one whose input it reads from outside too, and the kernel that it
    reads is not written.
    """
    g = Builder()
    x, flag = g.input("x", *IMAGE), g.input("flag", element=onnx.TensorProto.BOOL)
    kernel = g.weights(4, 4, 1, 1, name="kernel")
    y = g.add("Conv", x, kernel)
    captured = g.norm(y, 4)
    z = g.norm(g.add("Conv", captured, kernel), 4)
    arrays = [g.tensor(a) for a in (np.ones(4), np.ones(4), np.ones(4), np.full(4, 2.0))]
    inner = [
        helper.make_node(NORM, [y, *arrays], ["b0"], name="inner"),
        helper.make_node("Conv", [y, kernel], ["b1"]),
    ]
    g.output(g.add("Add", z, branches(g, inner, flag)), "n", 4, 7, 6)
    model = g.model()
    folded, report = fold_onnx(model)
    onnx.checker.check_model(folded, full_check=True)
    assert [e.folded for e in report.entries] == [True, True, False]
    # Backward the graph within reads what the batch norm would change.
    assert report.entries[0].direction == "forward"
    assert report.entries[2].name == "inner" and "stands within if" in report.entries[2].reason
    np.testing.assert_array_equal(named(folded, "kernel"), named(g, "kernel"))
    for flag in (True, False):
        ref, got = (run(m, rows_for(model), np.array(flag))[0] for m in (model, folded))
        np.testing.assert_allclose(got, ref, rtol=0, atol=3e-6 * np.abs(ref).max())


def test_a_function_is_left_alone():
    g = Builder()
    x = g.conv(g.input("x", *IMAGE), 4, 4, 1, 1)
    arrays = [g.tensor(a) for a in (np.ones(4), np.ones(4), np.ones(4), np.full(4, 2.0))]
    g.output(g.add("Block", x, *arrays, domain="own"), "n", 4, 7, 6)
    inner = helper.make_node(NORM, ["x", "a", "b", "c", "d"], ["y"], name="inside")
    function = helper.make_function(
        "own", "Block", ["x", "a", "b", "c", "d"], ["y"], [inner], [helper.make_opsetid("", 17)]
    )
    model = helper.make_model(
        helper.make_graph(g.nodes, "graph", g.inputs, g.outputs, g.tensors), functions=[function],
        ir_version=8, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )
    folded, report = fold_onnx(model)
    assert report.entries[0].reason == "it stands in the function Block, which is left alone"
    assert len(folded.functions) == 1


# The whole


def test_fold_of_nbbn_takes_a_model():
    g = Builder()
    g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 2, 2), 6)
    folded = nbbn.fold(g.model(), strict=True, check=np.ones((2, 4, 7, 6)))
    assert isinstance(folded, onnx.ModelProto) and ops(folded) == ["Conv"]


def test_nodes_without_names_and_with_the_same():
    g = Builder()
    x = g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 2, 2), 6)
    g.norm(g.conv(g.add("Relu", x), 6, 6, 2, 2), 6)
    for node in g.nodes:
        node.name = ""
    assert [e.name for e in fold_onnx(g.model())[1].entries] == ["v1", "v4"]
    for node in g.nodes:
        node.name = "same"
    assert [e.into for e in fold_onnx(g.model(), strict=True)[1].entries] == ["same", "same_3"]


def test_constants_that_nobody_reads_go():
    g = Builder()
    g.weights(50, 50, name="unused")
    x = g.conv(g.input("x", *IMAGE), 4, 6, 2, 2)
    g.add("Constant", value_float=1.0)
    model = g.model(x)
    folded, report = fold_onnx(model)
    assert (report.n_total, ops(folded), len(folded.graph.initializer)) == (0, ["Conv"], 2)


def test_shapes_of_values_are_kept():
    g = Builder()
    g.add("Relu", g.norm(g.conv(g.input("x", *IMAGE), 4, 6, 2, 2), 6))
    model = onnx.shape_inference.infer_shapes(g.model())
    assert {v.name for v in fold_onnx(model)[0].graph.value_info} == {g.nodes[1].output[0]}


def random_graph(data):
    """A chain of a few layers of images, and the head of a classifier."""
    from hypothesis import strategies as st

    g, channels = Builder(seed=data.draw(st.integers(0, 99))), 4
    x = g.input("x", "n", 4, 12, 12)
    size = 12
    for _ in range(data.draw(st.integers(1, 7))):
        kind = data.draw(
            st.sampled_from(
                ["norm"] * 4
                + ["conv", "conv", "relu", "average", "max", "identity", "residual", "transposed"]
            )
        )
        if kind == "norm":
            x = g.norm(x, channels, positive=data.draw(st.booleans()))
        elif kind == "conv":
            groups, pad = (
                data.draw(st.sampled_from([1, 2, channels])),
                data.draw(st.sampled_from([0, 0, 1])),
            )
            out = channels * data.draw(st.sampled_from([1, 2])) if channels < 9 else channels
            x = (
                g.conv(
                    x, channels, out, 3, 3, groups=groups, bias=data.draw(st.booleans()),
                    pads=[pad] * 4,
                )
                if size > 4
                else x
            )
            size, channels = (size - 2 + 2 * pad, out) if size > 4 else (size, channels)
        elif kind == "transposed" and size < 20:
            x = g.conv(x, channels, 4, 2, 2, groups=2, transposed=True)
            size, channels = size + 1, 4
        elif kind == "residual":
            y = g.norm(g.conv(x, channels, channels, 1, 1), channels)
            x = g.add("Add", x, y)
        elif kind in ("average", "max") and size > 3:
            x = g.add("AveragePool" if kind == "average" else "MaxPool", x, kernel_shape=[2, 2])
            size -= 1
        else:
            x = g.add("Relu" if kind == "relu" else "Identity", x)
    x = g.add("Flatten", x)
    g.norm(g.add("Gemm", x, g.weights(3, channels * size * size), transB=1), 3)
    return g.model()


@pytest.mark.slow
def test_random_graphs():
    """Whatever folds leaves the function as it was, and a second fold finds nothing more."""
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def check(data):
        model = random_graph(data)
        folded, report = fold_onnx(model)
        onnx.checker.check_model(folded, full_check=True)
        assert ops(folded).count(NORM) == report.n_total - report.n_folded
        x = rows_for(model)
        (ref,), (got,) = run(model, x), run(folded, x)
        np.testing.assert_allclose(got, ref, rtol=0, atol=2e-5 * np.abs(ref).max())
        assert fold_onnx(folded)[1].n_folded == 0

    check()


# Models of nbbn and of PyTorch


def test_what_nbbn_exports():
    """Exported with its batch norms and then folded, a network is what nbbn folds itself."""
    from naive_layers import NaiveNetwork

    from nbbn.formats.onnx.write import write as to_onnx
    from nbbn.layers import Activation, AveragePooling2D, BatchNormalization, Conv2D, Dense, Flatten
    from nbbn.network import Network

    layers = (
        Conv2D(6, 3), BatchNormalization(), Activation("relu"), BatchNormalization(scale=False),
        AveragePooling2D(2), Flatten(), Dense(5), BatchNormalization(center=False),
        Activation("relu"), Dense(3),
    )
    drawn = NaiveNetwork(layers, (7, 6, 3)).draw(np.random.default_rng(0))
    weights = [
        {name: array.astype(np.float32) for name, array in arrays.items()}
        for arrays in drawn.weights
    ]
    folded = assert_folds(to_onnx(Network(layers, (7, 6, 3), weights, np.dtype(np.float32))))
    x = np.random.default_rng(1).normal(size=(4, 7, 6, 3))
    np.testing.assert_allclose(
        run(folded, x.astype(np.float32))[0], drawn.forward(x, False), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_nbbn_exports_of_a_dead_channel(dtype):
    """Its variance is 0, from which the exporter takes what epsilon loses as a float32."""
    from nbbn.folded_model import FoldedModel
    from nbbn.formats.onnx.write import write
    from nbbn.layers import BatchNormalization, Dense
    from nbbn.network import Network

    rng = np.random.default_rng(0)
    layers = (Dense(4), BatchNormalization(), Dense(3))
    norm = {name: rng.normal(size=4) for name in ("gamma", "beta", "mean")} | {
        "var": np.array([0, 1, 0, 2])
    }
    dense = [
        {"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[1])}
        for shape in ((5, 4), (4, 3))
    ]
    weights = [
        {k: a.astype(dtype) for k, a in arrays.items()} for arrays in (dense[0], norm, dense[1])
    ]
    network = Network(layers, (5,), weights, np.dtype(dtype))
    model = write(network)
    folded, report = fold_onnx(model, strict=True)
    assert (report.n_folded, ops(folded)) == (1, ["Gemm", "Gemm", "Identity"])
    assert {channel.channel for channel in report.suspicious_channels} == {0, 2}
    own, x = nbbn.fold(FoldedModel(network)), rng.normal(size=(6, 5)).astype(dtype)
    np.testing.assert_allclose(
        run(folded, x)[0], own.predict(x), rtol=1e-4 if dtype == np.float32 else 1e-11
    )
    assert report.largest_gain == pytest.approx(own.report.largest_gain, rel=1e-7)


@pytest.mark.parametrize("opset", [9, 13, 17, 20])
def test_what_pytorch_exports(tmp_path, opset):
    """Unfolded, with its names, its shapes of values and its dynamic axis."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    import warnings

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            nn = torch.nn
            self.one = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
            self.two = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8))
            self.three = nn.Sequential(
                nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2), nn.BatchNorm2d(6), nn.ReLU()
            )
            self.four = nn.Sequential(
                nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1), nn.Dropout(), nn.Flatten(), nn.Linear(576, 5)
            )
            self.five = nn.Sequential(
                nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.BatchNorm1d(3)
            )

        def forward(self, x):
            x = torch.relu(self.one(x))
            return self.five(self.four(self.three(torch.relu(x + self.two(x)))))

    torch.manual_seed(0)
    model = Block().eval()
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(), module.running_var.uniform_(0.3, 3)
            torch.nn.init.normal_(module.weight), torch.nn.init.normal_(module.bias)
    path, x = tmp_path / "model.onnx", torch.randn(2, 3, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, x, str(path), dynamo=False, opset_version=opset,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )
    folded = assert_folds(onnx.load(path))
    assert ops(folded).count("Conv") == 3
    np.testing.assert_allclose(run(folded, x.numpy())[0], model(x).detach().numpy(), atol=1e-4)
