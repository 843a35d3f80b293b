"""ONNX models read: there and back, the forms that exporters write against onnxruntime, and what is
refused.
"""

import sys

import numpy as np
import pytest
from naive_layers import NaiveNetwork
from test_onnx import NETWORKS, OTHER_AXES, drawn, identify, rows
from test_onnx_models import TARGETS, X, fitted

import nbbn
from nbbn.formats.onnx.write import write as network_to_onnx
from nbbn.interop import from_onnx, to_onnx
from nbbn.layers import (
    ELU,
    Activation,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    Permute,
    ReLU,
    Reshape,
    Softmax,
    UpSampling2D,
    ZeroPadding2D,
)

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
)

from onnx_graphs import Builder  # noqa: E402
from test_fold_onnx import IMAGE as IMAGE_AND_BATCH  # noqa: E402
from test_fold_onnx import KERNELS, VECTORS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# There and back


def forward(network, x):
    return NaiveNetwork(network.layers, network.input_shape, network.weights).forward(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [*NETWORKS, *OTHER_AXES], ids=identify)
def test_there_and_back(case, dtype):
    """By the oracle, which knows layers that the engine does not compute, too."""
    network = drawn(*case, dtype)
    read = from_onnx(network_to_onnx(network)).network()
    ref, got = forward(network, rows(network, 5)), forward(read, rows(network, 5))
    assert read.dtype == dtype
    assert read.input_shape == network.input_shape
    assert got.shape == ref.shape
    np.testing.assert_allclose(
        got, ref, rtol=0, atol=(1e-13 if dtype == np.float64 else 2e-6) * max(1, np.abs(ref).max())
    )


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((5, 7, 1), [Reshape((1, 5, 7))]),
        ((1, 5, 7), [Reshape((5, 7, 1))]),
        ((5, 7, 1), [Reshape((1, 5, 7)), Dense(3)]),
        ((5, 7, 1), [Conv2D(1, 2), Reshape((1, 4, 6)), Conv2D(2, 1)]),
        ((1, 5, 7), [Flatten(), Reshape((5, 7, 1)), Conv2D(2, 1), Flatten(), Reshape((70,))]),
        ((1, 1, 1), [Reshape((1, 1)), Dense(1)]),
    ],
    ids=str,
)
def test_axes_of_length_1(shape, layers):
    """They may change places without any number doing so."""
    network = drawn(shape, layers)
    read = from_onnx(network_to_onnx(network)).network()
    np.testing.assert_allclose(
        forward(read, rows(network)), forward(network, rows(network)), rtol=0, atol=2e-6
    )


def test_images_channels_first_at_the_end_alone():
    """A model that takes images channels last and gives them channels first turns them."""
    read = from_onnx(written((9, 11, 3), lambda w: w.add("Transpose", perm=[0, 3, 1, 2])))
    x = np.random.default_rng(3).normal(size=(2, 9, 11, 3)).astype(F)
    np.testing.assert_array_equal(read.predict(x), x.transpose(0, 3, 1, 2))


def test_the_engine_computes_what_was_written():
    network = drawn((9, 11, 3), next(layers for shape, layers in NETWORKS if shape == (9, 11, 3)))
    x = rows(network, 5)
    np.testing.assert_allclose(
        from_onnx(network_to_onnx(network)).predict(x), forward(network, x), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", TARGETS)
def test_estimators_there_and_back(tmp_path, target, dtype):
    model, x = fitted(target, dtype), X.astype(dtype)
    to_onnx(model, tmp_path / "m.onnx", fold=False)
    read = from_onnx(tmp_path / "m.onnx")
    if "regression" in target:
        assert isinstance(read, nbbn.Sequential)
        np.testing.assert_allclose(
            read.predict(x).reshape(model.predict(x).shape), model.predict(x), rtol=1e-4, atol=1e-4
        )
        return
    assert isinstance(read, nbbn.FoldedModel)
    np.testing.assert_allclose(
        read.predict_proba(x), model.predict_proba(x), rtol=0,
        atol=1e-12 if dtype == np.float64 else 5e-6,
    )
    labels = model.predict(x)
    np.testing.assert_array_equal(
        read.predict(x), labels.astype(int) if labels.dtype == bool else labels
    )
    assert (
        read.fold().kind == read.kind
        if hasattr(read, "fold")
        else nbbn.fold(read).report.n_total == 2
    )


# The forms that exporters write


class Writer:
    """A graph in the making: constants and nodes, one after the other."""

    def __init__(self, shape, *, dtype=np.float32, opset=17, batch="n"):
        self.shape, self.dtype, self.opset, self.batch = shape, dtype, opset, batch
        self.nodes, self.constants, self.rng, self.at = [], [], np.random.default_rng(5), "x"

    def constant(self, *shape, low=None):
        """Random numbers."""
        values = (
            self.rng.normal(size=shape) * 0.5
            if low is None
            else self.rng.uniform(low, low + 1.5, shape)
        )
        return self.array(values.astype(self.dtype))

    def array(self, values):
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator, *inputs, name=None, **attributes):
        """A node; `.` stands for the last node's output."""
        inputs = [
            self.at if given == "." else given
            for given in inputs or (() if operator == "Constant" else (".",))
        ]
        self.at = name or f"v{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node(operator, inputs, [self.at], name=f"at_{self.at}", **attributes)
        )
        return self.at

    def numbers(self, value):
        return self.array(np.array(value, self.dtype))

    def ints(self, *values):
        return self.array(np.array(values, np.int64))

    def conv(self, filters, channels, size=3, **attributes):
        return self.add(
            "Conv", ".", self.constant(filters, channels, size, size), self.constant(filters),
            **attributes,
        )

    def batch_norm(self, channels):
        arrays = [
            self.constant(channels), self.constant(channels), self.constant(channels),
            self.constant(channels, low=0.5),
        ]
        return self.add("BatchNormalization", ".", *arrays, epsilon=1e-5)

    def gemm(self, units, features):
        return self.add("Gemm", ".", self.constant(units, features), self.constant(units), transB=1)

    def model(self, outputs=None):
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        inputs = [onnx.helper.make_tensor_value_info("x", element, [self.batch, *self.shape])]
        results = [
            onnx.helper.make_tensor_value_info(name, element, None) for name in outputs or [self.at]
        ]
        graph = onnx.helper.make_graph(self.nodes, "g", inputs, results, initializer=self.constants)
        return onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", self.opset)], ir_version=8
        )


def written(shape, steps, **options):
    """The graph that a function writes."""
    writer = Writer(shape, **options)
    steps(writer)
    return writer.model()


def check(model, kinds=None, *, last=True):
    """The model read computes what onnxruntime does, images turned.

    Its layers are of these kinds.
    """
    options = onnxruntime.SessionOptions()
    # Its fused gelu is an approximation in some versions.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    read = from_onnx(model)
    dtype = np.float64 if "double" in given.type else np.float32
    x = np.random.default_rng(6).normal(
        size=(given.shape[0] if isinstance(given.shape[0], int) else 4, *given.shape[1:])
    )
    (ref,) = session.run(None, {"x": x.astype(dtype)})
    turned = read.input_shape[1:] != tuple(given.shape[1:])
    got = read.predict((np.moveaxis(x, 1, -1) if turned else x).astype(dtype))
    if got.ndim == 4 and last:
        got = np.moveaxis(got, -1, 1)
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, ref, rtol=0, atol=(4e-6 if dtype == np.float32 else 1e-12) * max(5, np.abs(ref).max())
    )
    if kinds is not None:
        assert [layer.__class__ for layer in read.layers] == kinds
    return read


IMAGE = (3, 9, 11)
F = np.float32


def of_torch(w):
    w.conv(4, 3, pads=[1, 1, 1, 1])
    w.batch_norm(4)
    w.add("Relu")
    w.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    w.conv(8, 1, group=4, strides=[2, 2], pads=[1, 1, 1, 1])
    w.add("Clip", ".", w.numbers(0), w.numbers(6)) if w.constants else None
    w.add("Flatten", axis=1)
    w.batch_norm(72)
    w.gemm(5, 72)
    w.add("LeakyRelu", alpha=0.2)


def of_keras(w):
    """Rows channels last, turned for each convolution and back."""
    w.add("Transpose", perm=[0, 3, 1, 2])
    w.add("Conv", ".", w.constant(4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    w.add("Transpose", perm=[0, 2, 3, 1])
    w.add("Add", ".", w.constant(4))
    w.add("Mul", ".", w.constant(4))
    w.add("Add", ".", w.constant(4))
    w.add("Relu")
    w.add("Reshape", ".", w.ints(-1, 5 * 6 * 4))
    w.add("MatMul", ".", w.constant(120, 5))
    w.add("Add", ".", w.constant(5))
    w.add("Softmax", axis=-1)


def test_as_torch_writes_it():
    check(
        written((3, 10, 11), of_torch),
        [
            Conv2D, BatchNormalization, Activation, ZeroPadding2D, MaxPooling2D, ZeroPadding2D,
            DepthwiseConv2D, ReLU, Flatten, BatchNormalization, Dense, LeakyReLU,
        ],
    )


def test_as_keras_writes_it():
    kinds = [Conv2D, BatchNormalization, Activation, Flatten, Dense, Softmax]
    assert check(written((9, 11, 3), of_keras), kinds).input_shape == (None, 9, 11, 3)


def computed_shape(w):
    """`x.view(x.size(0), -1)` as it was exported for years."""
    w.conv(4, 3)
    image, shape = w.at, w.add("Shape")
    rows_ = w.add("Unsqueeze", w.add("Gather", shape, w.array(np.int64(0)), axis=0), w.ints(0))
    joined = w.add("Concat", rows_, w.ints(-1), axis=0)
    w.add("Reshape", image, joined)
    w.gemm(2, 4 * 7 * 9)


def sliced_shape(w):
    w.conv(4, 3)
    image, shape = w.at, w.add("Shape")
    first = w.add("Slice", shape, w.ints(0), w.ints(1))
    more = w.add("Constant", value_ints=[2, 126])
    w.add("Reshape", image, w.add("Concat", w.add("Cast", first, to=7), more, axis=0))
    w.add("Reshape", ".", w.ints(0, -1))
    w.gemm(2, 252)


def decoder(w):
    w.gemm(24, 5)
    w.batch_norm(24)
    w.add("Relu")
    w.add("Reshape", ".", w.ints(-1, 2, 3, 4))
    w.add(
        "ConvTranspose", ".", w.constant(2, 3, 4, 4), w.constant(3), strides=[2, 2],
        pads=[1, 1, 1, 1],
    )
    w.add("ConvTranspose", ".", w.constant(3, 1, 2, 2), strides=[2, 2])


def pooled(w):
    w.add("Pad", ".", w.ints(0, 0, 1, 2, 0, 0, 0, 1))
    w.add("Relu")  # onnxruntime would merge the padding into the pool, and refuse the result
    w.add(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    )
    w.add("AveragePool", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    w.add("MaxPool", kernel_shape=[2, 2], strides=[1, 2])
    w.add("GlobalAveragePool")
    w.add("Squeeze", ".", w.ints(2, 3))
    w.gemm(2, 3)


def normalised(w):
    w.add("Div", w.add("Sub", ".", w.numbers(0.5)), w.numbers(0.25))
    w.conv(4, 3)
    w.add("InstanceNormalization", ".", w.constant(4), w.constant(4), epsilon=1e-4)
    w.add("GlobalMaxPool")
    w.add("Flatten")
    w.add("LayerNormalization", ".", w.constant(4), w.constant(4))


def activated(w):
    w.add("Exp")
    w.add("Sigmoid")
    w.add("Tanh")
    w.add("Softplus")
    w.add("Elu", alpha=0.7)
    w.add("Elu")
    w.add("Selu")
    w.add("ThresholdedRelu", alpha=0.3)
    w.add("PRelu", ".", w.numbers([0.1]))
    w.add("Max", ".", w.numbers(0))
    w.add("Min", ".", w.numbers(0.9))
    w.add("Dropout")
    w.add("Softmax")


def forks(w):
    """gelu, silu and softplus in the words of several exporters."""
    w.gemm(6, 5)
    for inner in ("outside", "before", "beside"):
        x = w.at
        one = w.add("Add", w.add("Erf", w.add("Div", x, w.numbers(np.sqrt(2)))), w.numbers(1))
        if inner == "outside":
            w.add("Mul", w.add("Mul", x, one), w.numbers(0.5))
        elif inner == "before":
            w.add("Mul", w.add("Mul", w.numbers(0.5), x), one)
        else:
            w.add("Mul", x, w.add("Mul", one, w.numbers(0.5)))
    w.add("Mul", w.add("Sigmoid", x := w.at), x)
    x, soft = w.at, w.add("Softplus")
    above = w.add("Greater", x, w.numbers(20))
    w.add("Where", above, x, soft)
    x = w.at
    middle = w.add("Sub", x, w.add("ReduceMean", x, axes=[-1]))
    var = w.add("ReduceMean", w.add("Pow", middle, w.numbers(2)), axes=[-1])
    w.add("Div", middle, w.add("Sqrt", w.add("Add", var, w.numbers(1e-5))))
    w.add("Add", w.constant(6), w.add("Mul", w.at, w.constant(6)))


def earlier_forms(w):
    """What `to_onnx` wrote in float64 before it wrote expressions."""
    w.gemm(6, 5)

    def elu(alpha):
        x, grown = w.at, w.add("Exp", w.add("Min", ".", w.numbers(0)))
        below = w.add("Mul", w.add("Sub", grown, w.numbers(1)), w.numbers(alpha))
        w.add("Add", w.add("Relu", x), below)

    w.add("Max", w.at, w.add("Mul", ".", w.numbers(0.3)))
    w.add("Min", w.at, w.add("Mul", ".", w.numbers(1.7)))
    elu(1)
    elu(0.4)
    elu(1.6732632423543772)
    w.add("Mul", ".", w.numbers(1.0507009873554805))
    x, small = w.at, w.add("Exp", w.add("Neg", w.add("Abs")))
    w.add("Add", w.add("Relu", x), w.add("Log", w.add("Add", small, w.numbers(1))))


def of_any_association(w):
    """Products in other orders, another condition, factors that are left over."""
    w.gemm(6, 5)
    x, one = (
        w.at,
        w.add("Add", w.numbers(1), w.add("Erf", w.add("Mul", w.numbers(np.sqrt(0.5)), w.at))),
    )
    w.add("Mul", w.add("Mul", one, x), w.numbers(1.5))
    x = w.at
    w.add("Mul", w.add("Mul", w.numbers(3), w.add("Sigmoid")), x)
    x, below = w.at, w.add("Mul", ".", w.numbers(0.3))
    w.add("Where", w.add("Greater", x, w.numbers(0)), x, below)


def enlarged(w):
    """In the words of PyTorch, of Keras's converter and of older operators."""
    w.conv(4, 3)
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    w.add("Resize", ".", "", w.array(np.array([1, 1, 2, 1], np.float32)), mode="nearest", **options)
    w.add("Resize", ".", "", w.array(np.array([1, 1, 1, 3], np.float32)), mode="nearest")
    w.conv(2, 4)
    w.add(
        "Resize", ".", "", w.array(np.array([1, 1, 2, 3], np.float32)),
        coordinate_transformation_mode="half_pixel",
    )


def means(w):
    w.conv(4, 3)
    w.add("ReduceMean", axes=[2, 3], keepdims=0)
    w.gemm(2, 4)


def bare_names(w):
    w.conv(3, 3)
    w.add("ReduceMax", axes=[2, 3], keepdims=1)
    w.add("Flatten")
    w.add("Identity")
    w.add("Transpose", perm=[0, 1])
    w.add("Unsqueeze", ".", w.ints(1))
    w.add("Squeeze", ".", w.ints(1))


FORMS = [
    (IMAGE, computed_shape, [Conv2D, Flatten, Dense]),
    (IMAGE, pooled, None),
    (
        IMAGE,
        normalised,
        [BatchNormalization, Conv2D, GroupNormalization, GlobalMaxPooling2D, LayerNormalization],
    ),
    ((5,), activated, None),
    ((5,), forks, [Dense, *[Activation] * 5, LayerNormalization]),
    ((5,), earlier_forms, [Dense, LeakyReLU, LeakyReLU, Activation, ELU, Activation, Activation]),
    (
        (5,),
        of_any_association,
        [Dense, Activation, BatchNormalization, Activation, BatchNormalization, LeakyReLU],
    ),
    (IMAGE, enlarged, [Conv2D, UpSampling2D, UpSampling2D, Conv2D, UpSampling2D]),
    (IMAGE, means, [Conv2D, GlobalAveragePooling2D, Dense]),
    (IMAGE, bare_names, None),
    (
        (5,),
        decoder,
        [Dense, BatchNormalization, Activation, Reshape, Conv2DTranspose, Conv2DTranspose],
    ),
]


@pytest.mark.parametrize(
    ("shape", "steps", "kinds"), FORMS, ids=[steps.__name__ for _, steps, _ in FORMS]
)
def test_forms(shape, steps, kinds):
    check(written(shape, steps), kinds)


def test_earlier_forms_in_float64():
    layers = check(written((5,), earlier_forms, dtype=np.float64)).network().layers
    assert [layer.negative_slope for layer in layers[1:3]] == [0.3, 1.7] and layers[4].alpha == 0.4
    assert [layers[k].activation for k in (3, 5, 6)] == ["elu", "selu", "softplus"]


# coordinate_transformation_mode -> the scales for which each nearest_mode repeats pixels of images
# up to 9 x 11.
EXACT = {
    "asymmetric": {
        "floor": "1234567", "round_prefer_floor": "12", "round_prefer_ceil": "1", "ceil": "1",
    },
    "half_pixel": {
        "floor": "1", "round_prefer_floor": "1234567", "round_prefer_ceil": "1234567", "ceil": "1",
    },
    "align_corners": {
        "floor": "1", "round_prefer_floor": "12", "round_prefer_ceil": "12", "ceil": "1",
    },
    "tf_half_pixel_for_nn": {
        "floor": "1234567", "round_prefer_floor": "1", "round_prefer_ceil": "", "ceil": "",
    },
}
EXACT |= {
    f"{name}{more}": EXACT["half_pixel"]
    for name, more in (("pytorch_", "half_pixel"), ("half_pixel", "_symmetric"))
}


@pytest.mark.parametrize("scale", range(1, 8))
@pytest.mark.parametrize("nearest", EXACT["asymmetric"])
@pytest.mark.parametrize("places", EXACT)
def test_resized_images(places, nearest, scale):
    """Read where the runtime repeats pixels, and nowhere else."""
    writer = resized(
        [1, 1, scale, scale], mode="nearest", coordinate_transformation_mode=places,
        nearest_mode=nearest,
    )
    writer.opset = 19 if places == "half_pixel_symmetric" else 13
    if str(scale) in EXACT[places][nearest]:
        check(writer.model(), [UpSampling2D] if scale > 1 else [Activation])
        return
    with pytest.raises(
        nbbn.FileError,
        match=rf"\(Resize\): .*mode {places} with nearest_mode {nearest} makes no equal blocks",
    ):
        from_onnx(writer.model())


def resized(scales, shape=IMAGE, opset=13, **attributes):
    writer = Writer(shape, opset=opset)
    writer.add("Resize", ".", "", writer.array(np.array(scales, F)), **attributes)
    return writer


@pytest.mark.parametrize("batch", ["n", 4])
def test_forms_of_resized_images(batch):
    def by_default(w):
        w.conv(4, 3)
        w.add("Resize", ".", "", w.array(np.array([1, 1, 3, 2], F)))
        w.conv(2, 4)

    def to_a_size(w):  # of the rows that there are
        shape = w.add("Shape", "x")
        w.add("Slice", shape, w.ints(0), w.ints(2))
        sizes = w.add("Concat", w.at, w.ints(27, 22), axis=0)
        w.add(
            "Resize", "x", "", "", sizes, mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
        w.conv(2, 3)

    def of_axes(w):
        w.add("Resize", ".", "", w.array(np.array([4, 2], F)), axes=[3, -2], mode="nearest")
        w.conv(2, 3)

    def turned(w):
        w.add("Transpose", perm=[0, 3, 1, 2])
        w.add("Resize", ".", "", w.array(np.array([1, 1, 2, 2], F)))
        w.add("Transpose", perm=[0, 2, 3, 1])

    def in_old_opsets(w):
        if w.opset < 9:
            w.add("Upsample", scales=[1.0, 1.0, 2.0, 3.0])
        else:
            w.add(
                "Upsample" if w.opset < 10 else "Resize", ".", w.array(np.array([1, 1, 2, 3], F)),
                mode="nearest",
            )
        w.conv(2, 3)

    check(written(IMAGE, by_default, batch=batch), [Conv2D, UpSampling2D, Conv2D])
    assert check(written(IMAGE, to_a_size, batch=batch), [UpSampling2D, Conv2D]).layers[0].size == (
        3,
        2,
    )
    assert check(written(IMAGE, of_axes, batch=batch, opset=18), [UpSampling2D, Conv2D]).layers[
        0
    ].size == (2, 4)
    check(written((9, 11, 3), turned, batch=batch), [UpSampling2D], last=False)
    for opset in (7, 8, 9, 10):
        check(written(IMAGE, in_old_opsets, batch=batch, opset=opset), [UpSampling2D, Conv2D])


@pytest.mark.parametrize(
    ("writer", "message"),
    [
        (
            resized([1, 1, 2, 2], mode="linear"),
            "mode linear is not supported; UpSampling2D is mode nearest",
        ),
        (resized([1, 1, 2, 2], mode="cubic"), "mode cubic is not supported"),
        (
            resized([1, 1, 1.5, 2]),
            r"scales \[1.0, 1.0, 1.5, 2.0\] are not supported; UpSampling2D makes height and width whole",
        ),
        (resized([1, 1, 0.5, 2]), r"scales \[1.0, 1.0, 0.5, 2.0\] are not supported"),
        (resized([1, 2, 1, 1]), r"scales \[1.0, 2.0, 1.0, 1.0\] are not supported"),
        (resized([2, 1, 1, 1]), r"scales \[2.0, 1.0, 1.0, 1.0\] are not supported"),
        (resized([1, 1, np.nan, np.inf]), r"scales \[1.0, 1.0, nan, inf\] are not supported"),
        (resized([1, 1, 2]), "its scales or sizes are no constants that fit images"),
        (resized([]), "its scales or sizes are no constants that fit images"),
        (resized([1, 1, 2**30, 1]), "are too large; at most"),
        (resized([1, 2], (5,)), "works on images"),
        (
            resized([1, 1, 2, 2], coordinate_transformation_mode="tf_crop_and_resize"),
            "mode tf_crop_and_resize with nearest_mode",
        ),
        (
            resized([1, 1, 2, 2], nearest_mode="unheard of"),
            "nearest_mode unheard of makes no equal blocks of 9 pixels times 2",
        ),
    ],
)
def test_refuses_other_resized_images(writer, message):
    with pytest.raises(nbbn.FileError, match=message):
        from_onnx(writer.model())


@pytest.mark.parametrize("batch", ["n", 4])
def test_shapes_that_a_graph_computes(batch):
    check(written(IMAGE, computed_shape, batch=batch))
    check(written(IMAGE, sliced_shape, batch=batch), [Conv2D, Permute, Reshape, Flatten, Dense])


@pytest.mark.parametrize("batch", [4, "n"])
def test_sizes_of_enlarged_images(batch):
    """Of as many rows as go in, which is a number or what the graph computes."""

    def steps(w):
        image = w.conv(4, 3)
        rows_ = w.ints(4) if batch == 4 else w.add("Slice", w.add("Shape"), w.ints(0), w.ints(1))
        w.add("Resize", image, "", "", w.add("Concat", rows_, w.ints(4, 14, 27), axis=0))

    check(written(IMAGE, steps, batch=batch), [Conv2D, UpSampling2D])
    with pytest.raises(
        nbbn.FileError, match=r"scales \[.*, 1.0, 2.0, 2.0\] are not supported; UpSampling2D makes"
    ):
        from_onnx(
            written(
                IMAGE, lambda w: w.add("Resize", ".", "", "", w.ints(5, 3, 18, 22)), batch=batch
            )
        )


def test_older_operators_that_enlarge():
    scales = np.array([1, 1, 3, 2], np.float32)
    for opset, steps in (
        (7, lambda w: w.add("Upsample", mode="nearest", scales=scales.tolist())),
        (9, lambda w: w.add("Upsample", ".", w.array(scales), mode="nearest")),
        (10, lambda w: w.add("Resize", ".", w.array(scales), mode="nearest")),
    ):
        read = from_onnx(
            written(IMAGE, lambda w, steps=steps: (w.conv(4, 3), steps(w)), opset=opset)
        )
        assert read.layers[1].specification.size == (3, 2)


def test_dropout_keeps_its_rate():
    def steps(w):
        w.add("Dropout", ".", w.numbers(0.2))
        w.gemm(2, 5)

    model = check(written((5,), steps), [Dropout, Dense])
    assert model.layers[0].rate == 0.2


def test_epsilon_and_momentum():
    def steps(w):
        w.add("BatchNormalization", ".", *[w.constant(5, low=0.5)] * 4, epsilon=1e-3, momentum=0.8)

    layer = check(written((5,), steps), [BatchNormalization]).layers[0]
    assert (layer.epsilon, layer.momentum) == (1e-3, 0.8)


def dead_channels(dtype):
    """A network of which some channels never varied.

    `to_onnx` puts into the variance what epsilon loses as a float32.
    """
    network = drawn((5,), [Dense(4), BatchNormalization(), Dense(3)], dtype)
    network.weights[1]["var"][:] = [0, 0.5, 1e-12, 2]
    model = network_to_onnx(network)
    names = next(node.input for node in model.graph.node if node.op_type == "BatchNormalization")
    return network, model, next(t for t in model.graph.initializer if t.name == names[4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_epsilon_lost_is_given_back(dtype):
    """Epsilon and variances are those of the network that was written, and so is what it computes."""
    network, model, variances = dead_channels(dtype)
    assert onnx.numpy_helper.to_array(variances)[0] == pytest.approx(-4.7497e-11, rel=1e-4)
    read = from_onnx(model).network()
    norm, arrays = read.layers[1], read.weights[1]
    assert norm.epsilon == network.layers[1].epsilon == 1e-3
    assert arrays["var"].min() == arrays["var"][0] == 0
    # The other variances keep what they had, to the rounding of 4.7e-11.
    np.testing.assert_allclose(arrays["var"], network.weights[1]["var"], rtol=1e-6, atol=1e-17)
    x = rows(network)
    ref = forward(network, x)
    np.testing.assert_allclose(
        forward(read, x), ref, rtol=0,
        atol=(2e-6 if dtype == np.float32 else 1e-13) * np.abs(ref).max(),
    )


@pytest.mark.parametrize("var", [[-0.0004, 0.1, 0, 2, 1], [-1e-9, -2e-9, 0.5, 0, 1]])
def test_variances_that_epsilon_makes_positive(var):
    """The operator takes the root of `var + epsilon` alone."""
    arrays = [np.arange(1, 6), np.arange(5), np.arange(5) - 2, var]

    def steps(w):
        w.add(
            "BatchNormalization", ".", *[w.array(np.asarray(a, np.float32)) for a in arrays],
            epsilon=1e-3,
        )

    read = check(written((5,), steps), [BatchNormalization]).network()
    np.testing.assert_allclose(
        read.weights[0]["var"] + read.layers[0].epsilon,
        np.float32(var) + np.float32(1e-3),
        rtol=1e-6,
    )
    assert read.weights[0]["var"].min() == 0


def test_variances_that_epsilon_does_not_make_positive():
    for lowest in (-1e-3 * 1.0001, -1):
        var = np.array([1, lowest, 1, 1, 1], np.float32)
        with pytest.raises(nbbn.FileError, match="a variance is negative"):
            from_onnx(
                written(
                    *node(
                        "BatchNormalization", None, *[np.ones(5, np.float32)] * 3, var, epsilon=1e-3
                    )
                )
            )


def test_group_norm_operator():
    """Its gain is one for each group until opset 21, which onnxruntime decomposes.

    Then one for each channel.
    """
    for opset, n in ((18, 2), (21, 4)):

        def steps(w, n=n):
            w.conv(4, 3)
            w.add("GroupNormalization", ".", w.constant(n), w.constant(n), num_groups=2)

        layer = check(written(IMAGE, steps, opset=opset), [Conv2D, GroupNormalization]).layers[1]
        assert layer.groups == 2


def test_external_data(tmp_path):
    model = written(IMAGE, of_torch)
    ref = from_onnx(model).get_weights()
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0,
        convert_attribute=True,
    )
    for array, own in zip(from_onnx(tmp_path / "m.onnx").get_weights(), ref, strict=True):
        np.testing.assert_array_equal(array, own)
    (tmp_path / "m.data").write_bytes((tmp_path / "m.data").read_bytes()[:100])
    with pytest.raises(
        nbbn.FileError,
        match=r"'c0' lies in 'm.data', which has 100 bytes, not the 432 from byte 0 on; fetch",
    ):
        from_onnx(tmp_path / "m.onnx")
    with pytest.raises(
        nbbn.FileError, match="lies in another file; give the path of the model instead"
    ):
        from_onnx(onnx.load(tmp_path / "m.onnx", load_external_data=False))


@pytest.mark.parametrize("location", ["../outside", "/etc/hostname", "", "link"])
def test_external_data_elsewhere(tmp_path, location):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(bytes(1000))
    (folder / "link").symlink_to(tmp_path / "outside")
    model = written(IMAGE, of_torch)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(nbbn.FileError, match="outside the model's folder; it is not opened"):
        from_onnx(folder / "m.onnx")


# What is refused


def node(operator, *inputs, shape=(5,), **attributes):
    """A graph of one node; an input that is an array is a constant."""

    def steps(w):
        w.add(
            operator,
            *["." if given is None else w.array(given) for given in inputs or (None,)],
            **attributes,
        )

    return shape, steps


def centred_alone(w):
    w.add("Sub", "x", w.add("ReduceMean", axes=[1]))


def centred_before(w):
    centred_alone(w)
    w.add("Relu")


def flat_images(w):
    w.conv(4, 3)
    w.add("Flatten")


ONES = np.ones(5, F)
REFUSED = [
    (((5,), centred_alone), "ends within a norm or a softmax"),
    (
        ((5,), centred_before),
        r"\(Relu\): follows a mean or maximum that is subtracted, which makes no norm",
    ),
    ((IMAGE, flat_images), "ends in images that are flattened or turned, channels first"),
    (
        node("LSTM", None, np.ones((1, 4, 5), F), np.ones((1, 4, 1), F)),
        r"node 'at_v0' \(LSTM\): is no operator",
    ),
    (
        node("Gemm", None, np.ones((4, 5), F)),
        r"\(Gemm\): a kernel of shape \(4, 5\) does not fit rows of shape \(5,\)",
    ),
    (
        node("Gemm", np.ones((4, 5), F), None),
        r"\(Gemm\): is no dense layer: its kernel must be a constant",
    ),
    (
        node("MatMul", np.ones((4, 5), F), None),
        r"\(MatMul\): is no dense layer: the second factor must be a constant",
    ),
    (node("Div", ONES, None), r"\(Div\): divides a constant by a value; nbbn has no layer that"),
    (
        node("Add", None, np.ones((2, 5), F)),
        r"a constant of shape \(2, 5\) does not fit rows of shape \(5,\)",
    ),
    (
        node("Add", None, np.ones((3, 1, 5), F)),
        r"a constant of shape \(3, 1, 5\) does not fit rows",
    ),
    (
        node("Mul", None, np.zeros((4, 5), F), shape=(4, 5)),
        "a constant along more than one axis of rows of shape",
    ),
    (node("Div", None, np.zeros(5, F)), r"\(Div\): divides by 0"),
    (node("Clip", None, np.array(-1, F)), r"\(Clip\): clips at -1; a ReLU clips at 0"),
    (node("Min", None, np.array(1, F)), r"\(Min\): bounds values that no ReLU gives"),
    (node("Min", None), r"\(Min\): is no bound of a ReLU"),
    (node("Max", None, np.array(1, F)), r"\(Max\): is no ReLU"),
    (node("Max", None, ONES), r"\(Max\): needs a constant of one number"),
    (
        node("Transpose", perm=[1, 0]),
        r"\(Transpose\): perm \[1, 0\] moves the batch axis or is none",
    ),
    (node("Flatten", axis=0), r"\(Flatten\): flattens from axis 0 on, which mixes rows"),
    (
        node("Reshape", None, np.array([5, -1])),
        r"\(Reshape\): the shape \[5, -1\] mixes rows of shape \(5,\)",
    ),
    (node("Reshape", None, np.array([0, 3])), "mixes rows"),
    (node("Reshape", None, np.array([0, 0, -1, -1])), "mixes rows"),
    (node("Reshape", None, np.array([0.5, 2], F)), r"\(Reshape\): the shape must be a constant"),
    (
        node("Squeeze", None, np.array([1])),
        r"axes \[1\] of rows of shape \(5,\) are not of length 1",
    ),
    (node("Unsqueeze", None, np.array([0])), r"axes \[0\] leave no axis of rows"),
    (node("Unsqueeze", None, ONES), "axes must be whole numbers"),
    (node("Cast", to=10), r"\(Cast\): casts to another type in the midst"),
    (node("Dropout", None, np.array(0.5, F), np.array(True)), "training_mode is set"),
    (
        node("Conv", None, np.ones((1, 3, 3, 3), F)),
        r"\(Conv\): works on images \(channels, height, width\)",
    ),
    (
        node("Conv", None, np.ones((1, 2, 3, 3), F), shape=IMAGE),
        r"a kernel of shape \(1, 2, 3, 3\) in 1 groups does not fit 3",
    ),
    (
        node("Conv", None, np.ones((1, 3, 3), F), shape=IMAGE),
        "is no convolution of images with a constant kernel of four axes",
    ),
    (
        node("Conv", None, np.ones((1, 3, 3, 3), F), shape=IMAGE, auto_pad="SAME_LOWER"),
        "auto_pad SAME_LOWER is not supported",
    ),
    (
        node("Conv", None, np.ones((1, 3, 3, 3), F), shape=IMAGE, pads=[1, 1]),
        r"pads \[1, 1\] are not those of an image",
    ),
    (
        node("Conv", None, np.ones((1, 3, 3, 3), F), shape=IMAGE, strides=[0, 1]),
        r"strides \[0, 1\] is not that of an image",
    ),
    (
        node("Conv", None, np.ones((1, 3, 3, 3), F), shape=IMAGE, strides=[2, 2], dilations=[2, 2]),
        r"\(Conv\): Conv2D: strides and dilation_rate cannot both be above 1",
    ),
    (
        node("Conv", None, np.ones((1, 3, 10, 3), F), shape=IMAGE),
        r"\(Conv\): Conv2D: needs rows of height 10",
    ),
    (
        node("ConvTranspose", None, np.ones((3, 1, 3, 3), F), shape=IMAGE, group=3),
        "groups, output_shape and auto_pad of",
    ),
    (node("ConvTranspose", None, np.ones((2, 1, 3, 3), F), shape=IMAGE), "does not fit 3 channels"),
    (
        node("MaxPool", shape=IMAGE, kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        "and zeros are no substitute",
    ),
    (
        node("MaxPool", shape=IMAGE, kernel_shape=[2, 2], dilations=[2, 2]),
        "dilations of a pool are not supported",
    ),
    (
        node("MaxPool", shape=IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        "ceil_mode is not supported where",
    ),
    (
        node(
            "AveragePool", shape=IMAGE, kernel_shape=[2, 2], auto_pad="SAME_UPPER",
            count_include_pad=1,
        ),
        "auto_pad with count_include_pad is not supported",
    ),
    (
        node("ReduceMean", shape=IMAGE, axes=[1]),
        "reduces other axes than height and width of images",
    ),
    (node("Pad", None, np.array([0, 1, 0, 1])), "pads other axes than height and width"),
    (node("Pad", None, np.array([0, 1, 0])), r"pads \[0, 1, 0\] do not fit rows"),
    (
        node("Pad", None, np.array([0] * 8), np.array(2, F), shape=IMAGE),
        r"\(Pad\): pads by other values than 0",
    ),
    (
        node("Pad", None, np.array([0] * 8), shape=IMAGE, mode="reflect"),
        "pads by other values than 0",
    ),
    (
        node("BatchNormalization", None, ONES, ONES, ONES),
        "needs constants for scale, bias, mean and variance",
    ),
    (
        node("BatchNormalization", None, ONES, ONES, ONES, ONES, training_mode=1),
        "was exported for training",
    ),
    (
        node("BatchNormalization", None, *[np.ones(4, F)] * 4),
        r"arrays of shape \(4,\) do not fit rows of shape \(5,\)",
    ),
    (node("BatchNormalization", None, ONES, ONES, ONES, -ONES), "a variance is negative"),
    (
        node("BatchNormalization", None, ONES, ONES, ONES * np.nan, ONES),
        "mean holds NaN or infinity",
    ),
    (node("LayerNormalization", None, np.ones((1, 4), F)), "a constant of shape"),
    (
        node("LayerNormalization", None, ONES, shape=(4, 5), axis=1),
        "do not fit the axes that are normalised over",
    ),
    (node("InstanceNormalization", None, ONES), "needs constants for scale and bias"),
    (node("GroupNormalization", None, ONES), "needs constants for scale and bias"),
    (
        node("GroupNormalization", None, ONES, ONES, shape=IMAGE, num_groups=2),
        "2 groups do not fit rows",
    ),
    (node("PRelu", None, np.arange(4, dtype=F)), r"\(PRelu\): a constant of shape \(4,\) does not"),
    (node("Selu", alpha=1.0), "selu has others"),
    (node("Gelu", approximate="tanh"), "is an approximation of gelu; nbbn has the exact one"),
    (node("Softmax", axis=0), "axis 0 is no axis of rows"),
    (node("Where", np.ones(5, bool), None, np.zeros(5, F)), r"\(Where\): is no operator"),
    (
        node("Resize", None, np.ones(0, F), np.array([1, 1, 2, 2], F), shape=IMAGE, mode="linear"),
        r"\(Resize\): mode linear is not supported; UpSampling2D is mode nearest",
    ),
    (
        node(
            "Resize", None, np.ones(0, F), np.array([1, 1, 2, 2], F), shape=IMAGE,
            nearest_mode="ceil",
        ),
        "half_pixel with nearest_mode ceil makes no equal blocks of 9 pixels times 2",
    ),
    (
        node("Resize", None, np.ones(0, F), np.array([1, 1, 1.5, 2], F), shape=IMAGE),
        r"scales \[1.0, 1.0, 1.5, 2.0\] are not supported; UpSampling2D makes height and width",
    ),
    (
        node("Resize", None, np.ones(0, F), np.array([1, 2], F)),
        r"works on images \(channels, height, width\), its rows have shape \(5,\)",
    ),
    (
        node("Resize", None, np.ones(0, F), np.ones(0, F), np.array([1, 3, 5, 11]), shape=IMAGE),
        "UpSampling2D makes height",
    ),
]


@pytest.mark.parametrize(("case", "message"), REFUSED)
def test_refuses(case, message):
    shape, steps = case
    with pytest.raises(nbbn.FileError, match=message) as error:
        from_onnx(written(shape, steps))
    assert str(error.value).startswith("the ONNX model: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_zeros_around_a_pool_of_bounded_values(slope):
    """They change no largest value where none is below 0, which a slope gives."""

    def steps(w):
        w.conv(4, 3)
        w.add("LeakyRelu", alpha=slope)
        w.add("Min", ".", w.numbers(0.5))
        w.add("MaxPool", kernel_shape=[2, 2], pads=[1, 1, 1, 1])

    if slope:
        with pytest.raises(nbbn.FileError, match="and zeros are no substitute"):
            from_onnx(written(IMAGE, steps))
    else:
        check(written(IMAGE, steps), [Conv2D, ReLU, ZeroPadding2D, MaxPooling2D])


def test_refuses_old_softmaxes():
    with pytest.raises(
        nbbn.FileError, match="over all axes from 1 on, as before opset 13, is not supported"
    ):
        from_onnx(written(*node("Softmax", shape=(4, 5)), opset=11))


def changed(change):
    model = written((5,), lambda w: (w.gemm(3, 5), w.add("Relu")))
    change(model, model.graph)
    return model


def tensor(**fields):
    def change(model, graph):
        for name, value in fields.items():
            graph.initializer[0].ClearField(name)
            if isinstance(value, list):
                getattr(graph.initializer[0], name).extend(value)
            elif value is not None:
                setattr(graph.initializer[0], name, value)

    return change


MODELS = [
    (lambda m, g: m.opset_import[0].ClearField("version"), "has opset 0; 7 and later are read"),
    (
        lambda m, g: g.input.append(onnx.helper.make_tensor_value_info("y", 1, [1])),
        "no output depends on its input 'y'; export the model without it",
    ),
    (lambda m, g: g.ClearField("input"), "has 0 inputs; models with one or more are read"),
    (
        lambda m, g: g.output.append(onnx.helper.make_tensor_value_info("v0", 7, None)),
        "has 2 outputs; ones of floats are read",
    ),
    (
        lambda m, g: g.input[0].type.tensor_type.shape.dim[1].Clear(),
        r"its rows have shape \(None,\); every size but the batch's",
    ),
    (
        lambda m, g: setattr(g.input[0].type.tensor_type, "elem_type", 10),
        "its input 'x' is no tensor of float32 or float64",
    ),
    (
        lambda m, g: setattr(g.input[0].type.tensor_type, "elem_type", 7),
        "computes in int64; float32 and float64 are read",
    ),
    (
        lambda m, g: setattr(g.node[0], "domain", "ai.onnx.ml"),
        "operator Gemm of ai.onnx.ml is not known",
    ),
    (lambda m, g: g.sparse_initializer.add(), "has sparse weights"),
    (
        lambda m, g: g.node[0].input.__setitem__(0, "nowhere"),
        "takes a value that is neither a constant nor follows",
    ),
    (
        lambda m, g: g.node[0].input.__setitem__(2, "nowhere"),
        "takes a value that is neither a constant nor follows from the input",
    ),
    (
        lambda m, g: g.node[0].input.__setitem__(2, "v1"),
        r"\(Gemm\): takes several values, and weights must be constants",
    ),
    (
        lambda m, g: setattr(g.output[0], "name", "nowhere"),
        "its output 'nowhere' does not follow from its input",
    ),
    (
        tensor(data_type=10, raw_data=bytes(30)),
        "tensor 'c0' is of type 10; float32 and float64 are read",
    ),
    (tensor(data_type=99), "tensor 'c0' is of type 99, which is none"),
    (tensor(dims=[2**30, 2**30]), "tensor 'c0' holds 60 bytes, its shape"),
    (tensor(dims=[-3, -5]), r"tensor 'c0' has shape \(-3, -5\)"),
    (tensor(raw_data=b""), "tensor 'c0' holds 0 bytes, its shape"),
    (
        tensor(raw_data=None, float_data=[1.0]),
        r"tensor 'c0' holds 1 numbers, its shape \(3, 5\) says 15",
    ),
    (
        tensor(raw_data=None, data_type=8, string_data=[b"a"]),
        r"tensor 'c0' holds 1 strings, its shape \(3, 5\) says 15",
    ),
    (tensor(raw_data=np.full(15, np.nan, F).tobytes()), "kernel holds NaN or infinity"),
]


@pytest.mark.parametrize(("change", "message"), MODELS)
def test_refuses_models(tmp_path, change, message):
    path = tmp_path / "m.onnx"
    path.write_bytes(changed(change).SerializeToString())
    with pytest.raises(nbbn.FileError, match=message) as error:
        from_onnx(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_refuses_too_many_nodes_and_layers(monkeypatch):
    many = written((5,), lambda w: [w.add("Tanh") for _ in range(30)])
    monkeypatch.setattr("nbbn.formats.onnx.drawing.MAX_LAYERS", 20)
    with pytest.raises(nbbn.FileError, match="has more than 20 layers"):
        from_onnx(many)
    monkeypatch.setattr("nbbn.formats.onnx.read._MAX_NODES", 20)
    with pytest.raises(nbbn.FileError, match="has 30 nodes; at most 20 are read"):
        from_onnx(many)

    def long_fork(w):
        x = w.at
        for _ in range(40):
            w.add("Relu")
        w.add("Add", x, ".")

    with pytest.raises(nbbn.FileError, match="has more than 20 layers"):
        monkeypatch.setattr("nbbn.formats.onnx.read._MAX_NODES", 200)
        from_onnx(written((5,), long_fork))


CONSTANTS = [
    (
        lambda w: w.add("ConstantOfShape", w.ints(2**40)),
        r"\(ConstantOfShape\): makes a constant that is no shape",
    ),
    (
        lambda w: w.add("Tile", w.constant(5), w.ints(2**40)),
        r"\(Tile\): computes with constants alone in a way",
    ),
    (lambda w: w.add("Cast", w.constant(5), to=8), r"\(Cast\): casts a constant to another type"),
    (lambda w: w.add("Constant", value_string="a"), r"\(Constant\): is a constant of another kind"),
    (
        lambda w: w.add("RandomNormalLike", w.constant(5)),
        r"\(RandomNormalLike\): computes with constants alone in a way",
    ),
]


@pytest.mark.parametrize(("make", "message"), CONSTANTS)
def test_refuses_constants(make, message):
    def steps(w):
        w.add("Add", "x", make(w))

    with pytest.raises(nbbn.FileError, match=message):
        from_onnx(written((5,), steps))


@pytest.mark.parametrize("form", KERNELS)
def test_a_kernel_that_is_a_constant_expression(form):
    g = Builder()
    y = g.add("Conv", g.input("x", *IMAGE_AND_BATCH), KERNELS[form](g), g.weights(6))
    g.add("Relu", g.norm(y, 6))
    check(g.model(), [Conv2D, BatchNormalization, Activation])


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("form", VECTORS)
def test_a_vector_that_is_a_constant_expression(form, which):
    """A bias, or the scale, shift, mean or variance of the batch norm."""
    g = Builder()
    arrays = [g.tensor(g.rng.uniform(0.5, 1.5, 6)) for _ in range(5)]
    arrays[which] = VECTORS[form](g, g.rng.uniform(0.5, 1.5, 6))
    y = g.add("Conv", g.input("x", *IMAGE_AND_BATCH), g.weights(6, 4, 2, 2), arrays[0])
    g.add("BatchNormalization", y, *arrays[1:])
    check(g.model(), [Conv2D, BatchNormalization])


def test_refuses_heads():
    model = network_to_onnx(
        drawn((5,), [Dense(3, "softmax")]), kind="classifier", classes=["a", "b", "c"]
    )
    assert from_onnx(model).classes_.tolist() == ["a", "b", "c"]
    labels = next(
        tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.STRING
    )
    labels.string_data.append(b"d")
    labels.dims[0] = 4
    with pytest.raises(nbbn.FileError, match=r"has \(4,\) labels for outputs of shape \(3,\)"):
        from_onnx(model)
    for attribute in (a for n in model.graph.node for a in n.attribute if n.op_type == "ArgMax"):
        attribute.i = 5
        with pytest.raises(
            nbbn.FileError,
            match="has 2 outputs; ones of floats are read, or a label and probabilities as to_onnx",
        ):
            from_onnx(model)


def test_refuses_files(tmp_path):
    path = tmp_path / "m.onnx"
    for data, message in (
        (b"", "is no ONNX model, or broken"),
        (b"x" * 100, "is no ONNX model, or broken"),
        (changed(lambda m, g: None).SerializeToString()[:-3], "broken"),
        (
            b"\x08\x08\x12\x04nbbn" * 3,
            "is no ONNX model, or broken; give a file that an exporter wrote",
        ),
    ):
        path.write_bytes(data)
        with pytest.raises(nbbn.FileError, match=message):
            from_onnx(path)
    with pytest.raises(nbbn.FileError, match="does not exist; check the path"):
        from_onnx(tmp_path / "none.onnx")
    with pytest.raises(TypeError, match=r"from_onnx takes a path or an onnx\.ModelProto, got int"):
        from_onnx(3)


def test_without_onnx(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError, match=r"from_onnx needs the package onnx: pip install 'nbbn\[onnx\]'"
    ):
        from_onnx(tmp_path / "m.onnx")
