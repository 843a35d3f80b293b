"""ONNX graphs whose layers read each other in any way, read: against onnxruntime, and refused."""

import graph_networks
import numpy as np
import pytest

import nbbn
from nbbn.formats.onnx.write import write as network_to_onnx
from nbbn.interop import from_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
)

from onnx_graphs import Builder  # noqa: E402
from onnx_graphs import run as run_onnx  # noqa: E402

IMAGE = (3, 8, 6)


def channels_last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim > 2 else x


def check(model, *, tolerance=5e-6):
    """What is read computes what onnxruntime does, images turned; the model read."""
    read, rng = from_onnx(model), np.random.default_rng(7)
    tensors = {t.name for t in model.graph.initializer}
    given = [v for v in model.graph.input if v.name not in tensors]
    shapes = [[d.dim_value or 3 for d in v.type.tensor_type.shape.dim] for v in given]
    xs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    refs = run_onnx(model, *xs)
    wanted = read.input_shape if isinstance(read.input_shape, list) else [read.input_shape]
    own = [x if shape[1:] == x.shape[1:] else channels_last(x)
           for x, shape in zip(xs, wanted, strict=True)]
    got = read.predict(own[0] if len(own) == 1 else own)
    for ref, one in zip(refs, got if isinstance(got, list) else [got], strict=True):
        # Images come out channels last where they went in channels first.
        one = np.moveaxis(one, -1, 1) if one.shape != ref.shape else one
        assert one.shape == ref.shape
        np.testing.assert_allclose(one, ref, rtol=0, atol=tolerance * max(1, np.abs(ref).max()))
    return read


def kinds(model):
    return [type(layer.specification).__name__ for layer in model.layers]


# -- the forms that exporters give


def graph(*row, **options):
    g = Builder(**options)
    return g, g.input("x", "n", *row)


def conv(g, x, i, o, size=3, **more):
    more = {"pads": [size // 2] * 4, **more}
    return g.conv(x, i, o, size, size, **more)


def residual():
    g, x = graph(*IMAGE)
    x = g.add("Relu", conv(g, x, 3, 4))
    y = g.norm(conv(g, g.add("Relu", g.norm(conv(g, x, 4, 4), 4)), 4, 4), 4)
    x = g.add("Relu", g.add("Add", y, x))
    y = g.norm(conv(g, x, 4, 6, strides=[2, 2]), 6)
    z = g.norm(conv(g, x, 4, 6, 1, strides=[2, 2]), 6)
    x = g.add("Flatten", g.add("GlobalAveragePool", g.add("Relu", g.add("Add", z, y))))
    g.add("Gemm", x, g.weights(2, 6), g.weights(2), transB=1)
    return g


def stem():
    """A maximum over what zeros may stand around, behind a sum of ReLUs."""
    g, x = graph(*IMAGE)
    x = g.add("Add", g.add("Relu", conv(g, x, 3, 4)), g.add("Relu", conv(g, x, 3, 4)))
    g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return g


def dense_block():
    """Features that are joined again and again, the first time alone."""
    g, x = graph(*IMAGE)
    features = [conv(g, x, 3, 4)]
    for k in range(3):
        y = g.add("Concat", *features, axis=1)
        features.append(conv(g, g.add("Relu", g.norm(y, 4 + 2 * k)), 4 + 2 * k, 2))
    g.norm(g.add("Concat", *features, axis=-3), 10)
    return g


def inception():
    g, x = graph(*IMAGE)
    ways = [conv(g, x, 3, 2, 1), conv(g, conv(g, x, 3, 2, 1), 2, 3, 5)]
    pooled = g.add("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    x = g.add("Concat", *ways, conv(g, pooled, 3, 1, 1), axis=1)
    g.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    return g


def gated(kind="Sigmoid"):
    """Squeeze and excite, its gate first."""
    g, x = graph(*IMAGE)
    x = g.add("HardSwish" if kind == "HardSigmoid" else "Relu", g.norm(conv(g, x, 3, 4), 4))
    x = g.add("Relu", g.conv(x, 4, 4, 3, 3, groups=4, pads=[1] * 4))
    y = g.add("Relu", conv(g, g.add("GlobalAveragePool", x), 4, 2, 1))
    more = {"alpha": 1 / 6} if kind == "HardSigmoid" else {}
    conv(g, g.add("Mul", g.add(kind, conv(g, y, 2, 4, 1), **more), x), 4, 3, 1)
    return g


def gated_hard():
    return gated("HardSigmoid")


def gated_by_dense_layers():
    """The gate is made of features, and repeated for each pixel."""
    g, x = graph(*IMAGE)
    x = conv(g, x, 3, 4)
    y = g.add("Flatten", g.add("GlobalAveragePool", x))
    y = g.add("Sigmoid", g.add("Gemm", y, g.weights(4, 4), g.weights(4), transB=1))
    y = g.add("Reshape", y, g.tensor([-1, 4, 1, 1], dtype=np.int64))
    y = g.add("Expand", y, g.tensor([1, 4, 8, 6], dtype=np.int64))
    g.add("Mul", x, y)
    return g


def gated_by_pixels():
    g, x = graph(*IMAGE)
    x = conv(g, x, 3, 4)
    g.add("Mul", x, g.add("Sigmoid", conv(g, x, 4, 1)))
    return g


def unet():
    g, x = graph(*IMAGE)
    a = g.add("Relu", g.norm(conv(g, x, 3, 4), 4))
    b = conv(g, g.add("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 4, 5)
    scales = g.tensor([1, 1, 2, 2], dtype=np.float32)
    up = g.add("Resize", b, "", scales, mode="nearest", nearest_mode="floor",
               coordinate_transformation_mode="asymmetric")
    turned = g.conv(b, 5, 3, 2, 2, transposed=True, strides=[2, 2])
    conv(g, g.add("Concat", a, up, turned, axis=1), 12, 2)
    return g


def activations_beside_a_way():
    """Forms of several nodes, whose value others read too."""
    g, x = graph(5)
    x = g.add("Gemm", x, g.weights(6, 5), transB=1)
    silu = g.add("Mul", x, g.add("Sigmoid", x))
    one = g.add("Add", g.add("Erf", g.add("Div", x, g.tensor(np.sqrt(2)))), g.tensor(1.0))
    gelu = g.add("Mul", g.add("Mul", x, one), g.tensor(0.5))
    mish = g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))
    g.add("Sum", x, silu, gelu, mish)
    return g


def what_is_within_a_form_read_elsewhere():
    g, x = graph(5)
    gate = g.add("Sigmoid", x)
    g.add("Concat", g.add("Mul", x, gate), gate, axis=1)
    return g


def flattened_beside_features():
    """Images that are flattened channels first, joined with features and images of their own."""
    g, x = graph(*IMAGE)
    a = g.add("Flatten", conv(g, x, 3, 2, strides=[2, 2]))
    b = g.add("Flatten", g.add("GlobalMaxPool", x))
    c = g.add("Flatten", conv(g, x, 3, 2, strides=[2, 2]))
    both = g.add("Concat", g.add("Add", a, c), b, axis=1)
    g.add("Gemm", both, g.weights(3, 27), g.weights(3), transB=1)
    return g


def features_for_a_flattened_image():
    g, x = graph(*IMAGE)
    a = g.add("Flatten", conv(g, x, 3, 2, strides=[2, 2]))
    y = g.add("Flatten", g.add("GlobalAveragePool", x))
    y = g.add("Relu", g.norm(g.add("Gemm", y, g.weights(24, 3), transB=1), 24))
    g.add("Gemm", g.add("Mul", y, a), g.weights(3, 24), transB=1)
    return g


def signs():
    g, x = graph(5)
    a, b = g.add("Neg", x), g.add("Abs", x)
    c = g.add("Sub", g.tensor(np.arange(5.0)), g.add("Pow", x, g.tensor(2.0)))
    g.add("Mean", g.add("Max", a, b, c), g.add("Min", x, c), g.add("Mul", a, a))
    return g


def shared():
    """One convolution and one norm on two inputs."""
    g = Builder()
    kernel, bias = g.weights(4, 1, 3, 3), g.weights(4)
    arrays = [g.tensor(g.rng.uniform(0.5, 1.5, 4)) for _ in range(4)]
    ends = []
    for name in "ab":
        x = g.add("Conv", g.input(name, "n", 1, 6, 7), kernel, bias)
        ends.append(g.add("Relu", g.add("BatchNormalization", x, *arrays)))
    g.add("Sub", *ends)
    return g


def two_outputs():
    g, x = graph(5)
    h = g.add("Relu", g.norm(g.add("Gemm", x, g.weights(6, 5), transB=1), 6))
    classes = g.add("Softmax", g.add("Gemm", h, g.weights(3, 6), transB=1), axis=1)
    return g, classes, g.add("MatMul", h, g.weights(6, 1))


def two_inputs():
    g, x = graph(*IMAGE)
    a = g.add("Flatten", conv(g, x, 3, 2))
    b = g.add("Tanh", g.add("MatMul", g.input("y", "n", 4), g.weights(4, 6)))
    g.add("MatMul", g.add("Concat", b, a, axis=1), g.weights(102, 3))
    return g


def as_it_is_and_twice():
    """An input and a value that are outputs, one of them under two names."""
    g, x = graph(5)
    y = g.add("Relu", x)
    return g, y, g.add("Identity", y), g.add("Identity", x)


def layer_norm_turned():
    """Channels last between two transpositions, beside images channels first."""
    g, x = graph(*IMAGE)
    x = conv(g, x, 3, 4)
    y = g.add("Transpose", g.conv(x, 4, 4, 3, 3, groups=4, pads=[1] * 4), perm=[0, 2, 3, 1])
    y = g.add("LayerNormalization", y, g.weights(4), g.weights(4), axis=-1)
    y = g.add("MatMul", g.add("Relu", g.add("MatMul", y, g.weights(4, 7))), g.weights(7, 4))
    y = g.add("Transpose", g.add("Mul", g.weights(4), y), perm=[0, 3, 1, 2])
    g.add("Add", x, y)
    return g


def images_in_two_layouts():
    g, x = graph(*IMAGE)
    y = g.add("Transpose", g.add("Relu", g.input("y", "n", 3, 8, 6)), perm=[0, 2, 3, 1])
    g.add("Add", g.add("Transpose", conv(g, x, 3, 3), perm=[0, 2, 3, 1]), y)
    return g


def upsampled_by_a_transposed_convolution():
    """As PyTorch doubles images: what a Keras layer would cut off elsewhere."""
    g, x = graph(*IMAGE)
    y = g.conv(x, 3, 4, 3, 3, transposed=True, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1])
    z = g.conv(x, 3, 4, 3, 4, transposed=True, strides=[2, 2], pads=[1, 2, 1, 0],
               output_padding=[1, 0])
    g.add("Add", y, z)
    return g


def pools_about_every_place():
    """Of numbers of both signs."""
    g, x = graph(*IMAGE)
    more = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    g.add("Concat", g.add("MaxPool", x, **more), g.add("AveragePool", x, **more), axis=1)
    return g


def split_and_cut():
    g, x = graph(*IMAGE)
    x = conv(g, x, 3, 6)
    a, b = g.add("Split", x, g.tensor([2, 4], dtype=np.int64), n_outputs=2, axis=1), "v1_1"
    ints = [g.tensor(values, dtype=np.int64) for values in ([1, 0, 1], [3, 99, -1], [1, 2, 3])]
    c = g.add("Slice", b, *ints)
    d = g.add("Slice", g.add("Concat", a, b, axis=1), *(
        g.tensor(values, dtype=np.int64) for values in ([0, 1], [8, 6], [2, -1], [2, 3])))
    flat = g.add("Slice", g.add("Flatten", g.input("y", "n", 9)), *(
        g.tensor(values, dtype=np.int64) for values in ([2], [8], [1])))
    g.add("Gemm", flat, g.weights(6, 2))
    return g, c, d, g.nodes[-1].output[0]


def shuffled_channels():
    g, x = graph(*IMAGE)
    y = g.add("Reshape", conv(g, x, 3, 6), g.tensor([0, 2, 3, 8, 6], dtype=np.int64))
    y = g.add("Transpose", y, perm=[0, 2, 1, 3, 4])
    conv(g, g.add("Reshape", y, g.tensor([0, 6, 8, 6], dtype=np.int64)), 6, 2)
    return g


def steps():
    """A residual network over steps."""
    g, x = graph(3, 12)
    x = g.norm(g.conv(x, 3, 4, 5, pads=[2, 2]), 4)
    x = g.add("MaxPool", g.add("Relu", x), kernel_shape=[3], strides=[2], pads=[1, 1])
    y = g.norm(g.conv(x, 4, 4, 3, groups=4, pads=[1, 1], bias=False), 4)
    x = g.add("Add", x, g.conv(y, 4, 4, 1))
    up = g.conv(x, 4, 4, 2, transposed=True, strides=[2])
    scales = g.tensor([1, 1, 2], dtype=np.float32)
    both = g.add("Concat", g.add("Resize", x, "", scales, mode="nearest"), up, axis=1)
    y = g.add("Pad", both, g.tensor([0, 0, 2, 0, 0, 1], dtype=np.int64))
    y = g.add("AveragePool", y, kernel_shape=[3], strides=[3])
    flat, mean = g.add("Flatten", y), g.add("GlobalAveragePool", both)
    g.add("Gemm", g.add("Concat", flat, g.add("Flatten", mean), axis=1), g.weights(48, 2))
    return g


def steps_that_come_out():
    g, x = graph(5)
    x = g.add("Reshape", g.add("Gemm", x, g.weights(5, 12)), g.tensor([-1, 3, 4], dtype=np.int64))
    a = g.conv(x, 3, 2, 3, transposed=True, strides=[2], pads=[1, 1], output_padding=[1])
    g.add("Mul", a, g.add("Sigmoid", a))
    return g, a, g.add("ReduceMean", a, axes=[2], keepdims=0)


def slopes():
    """Of each channel, each number, and one below 0; and what is below 0 alone."""
    g, x = graph(*IMAGE)
    x = g.add("PRelu", conv(g, x, 3, 4), g.weights(4, 1, 1))
    y = g.add("PRelu", g.add("Min", x, g.tensor(0.0)), g.tensor([-0.5]))
    y = g.add("Flatten", g.add("Add", x, y))
    g.add("Gemm", g.add("PRelu", y, g.weights(192)), g.weights(192, 2))
    return g


DRAWN = (slopes, images_in_two_layouts, upsampled_by_a_transposed_convolution, pools_about_every_place,
         split_and_cut, shuffled_channels, steps, steps_that_come_out, residual, stem, dense_block, inception, gated, gated_hard, gated_by_dense_layers,
         gated_by_pixels, unet, activations_beside_a_way, what_is_within_a_form_read_elsewhere,
         flattened_beside_features, features_for_a_flattened_image, signs, shared, two_outputs,
         two_inputs, as_it_is_and_twice, layer_norm_turned)


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: drawn.__name__)
def test_forms(drawn):
    g, *outputs = drawn() if isinstance(drawn(), tuple) else (drawn(),)
    check(g.model(*outputs))


def test_a_residual_network_has_its_layers():
    model = check(residual().model())
    assert kinds(model).count("BatchNormalization") == 4
    assert kinds(model).count("Add") == 2
    assert nbbn.fold(model).report.n_folded == 4


def test_layers_of_the_same_weights_are_one():
    model = check(shared().model())
    assert kinds(model).count("Conv2D") == kinds(model).count("BatchNormalization") == 1


def test_norms_without_a_history_are_not_one():
    """Exporters give arrays of equal numbers once, such as those of new norms."""
    g, x = graph(4)
    ones, zeros = g.tensor(np.ones(4)), g.tensor(np.zeros(4))
    y = g.add("BatchNormalization", x, ones, zeros, zeros, ones)
    g.add("Add", x, g.add("BatchNormalization", g.add("Relu", y), ones, zeros, zeros, ones))
    assert kinds(check(g.model())).count("BatchNormalization") == 2


def test_forms_are_found_beside_other_ways():
    model = check(activations_beside_a_way().model())
    assert {layer.activation for layer in model.layers if hasattr(layer, "activation")} >= {
        "silu", "gelu", "mish"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", graph_networks.NAMES)
def test_graphs_there_and_back(name, dtype):
    network = graph_networks.network(name, dtype)
    read = from_onnx(network_to_onnx(network)).network()
    x = graph_networks.rows_of(network, 4).reshape(4, *network.input_shape)
    ref, got = (np.asarray(nbbn.folded_model.FoldedModel(one)._outputs(x)) for one in (network, read))
    tolerance = (1e-13 if dtype == np.float64 else 3e-6) * max(1, np.abs(ref).max())
    np.testing.assert_allclose(got, ref, rtol=0, atol=tolerance)


# -- what is refused


def node(operator, *inputs, rows=((5,), (5,)), **attributes):
    """A graph of one node on several inputs, and constants."""
    g = Builder()
    names = [g.input(f"x{k}", "n", *row) for k, row in enumerate(rows)]
    g.add(operator, *names, *(g.tensor(array) for array in inputs), name="it", **attributes)
    return g


REFUSED = [
    (node("Div"), r"node 'it' \(Div\): divides a value by a value; nbbn has no layer that does"),
    (node("PRelu", rows=((5, 5), (5, 5))),
     r"node 'it' \(PRelu\): takes several values, and weights must be constants; nbbn has layers "
     "that merge values for Abs, Add"),
    (node("Sum", np.ones(5)), r"node 'it' \(Sum\): merges values and a constant"),
    (node("Add", rows=((5, 5), (5,))),
     r"\(Add\): combines rows of shapes \(5, 5\) and \(5,\), whose numbers of axes differ"),
    (node("Concat", rows=((5, 5), (5,)), axis=1), "whose numbers of axes differ"),
    (node("Concat", axis=0), r"node 'it' \(Concat\): axis 0 is no axis of rows of shape \(5,\)"),
    (node("Pow", np.array(3.0), rows=((5,),)), r"\(Pow\): raises to another power than 2"),
]


@pytest.mark.parametrize(("drawn", "message"), REFUSED)
def test_refuses(drawn, message):
    inputs = [drawn.inputs, drawn.nodes, drawn.tensors]
    made = onnx.helper.make_graph(inputs[1], "g", inputs[0], [onnx.helper.make_tensor_value_info(
        "v0", 1, None)], inputs[2])
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)])
    with pytest.raises(nbbn.FileError, match=message):
        from_onnx(model)


def test_refuses_features_in_two_orders():
    g, x = graph(*IMAGE)
    a = g.add("Flatten", conv(g, x, 3, 2, strides=[2, 2]))
    g.add("Add", a, g.input("y", "n", 24))
    with pytest.raises(nbbn.FileError, match=r"\(Add\): takes features of flattened images, chann"):
        from_onnx(g.model())


def test_refuses_inputs_of_other_numbers_of_rows():
    g = Builder()
    g.add("Add", g.input("x", 2, 5), g.input("y", 1, 5))
    with pytest.raises(nbbn.FileError, match="its inputs have 2 and 1 rows; all must have as many"):
        from_onnx(g.model())

