"""Folding of ONNX graphs across joins, pads and what scales pass; the counts of architectures."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_graphs import Builder, ops, run

from nbbn.formats.onnx import file
from nbbn.formats.onnx.fold import _folded, fold_onnx

IMAGE = ("n", 4, 6, 5)
NORM = "BatchNormalization"


def conv(g, x, channels_in=4, channels_out=6, size=1, **more):
    return g.conv(x, channels_in, channels_out, size, size, **more)


def norm(g, x, channels=6, how="mixed"):
    """A batch norm; `scale` has no shift, `rising` positive gains, `shift` gains of 1."""
    y = g.norm(x, channels, positive="rising" in how, epsilon=1e-3)
    gamma, beta, mean, var = (len(g.tensors) - k for k in (4, 3, 2, 1))
    zeros, ones = np.zeros(channels, g.dtype), np.ones(channels, g.dtype)
    changes = {"scale": {beta: zeros, mean: zeros},
               "shift": {gamma: ones, var: ones * 0.5}}
    for how, arrays in [(key, arrays) for key, arrays in changes.items() if key in how]:
        for at, array in arrays.items():
            g.tensors[at].CopyFrom(numpy_helper.from_array(array, g.tensors[at].name))
        if how == "shift":
            g.nodes[-1].attribute[0].f = 0.5
    return y


def folded_without_check(model):
    """The folded model, as the check would have it, and the report."""
    onnx.checker.check_model(model, full_check=True)
    made, report, _ = _folded(file.from_proto(model), False)
    folded = file.to_proto(made)
    onnx.checker.check_model(folded, full_check=True)
    return folded, report


def assert_same(model, folded):
    shapes = [[d.dim_value or 3 for d in v.type.tensor_type.shape.dim] for v in model.graph.input]
    feed = [np.random.default_rng(5).normal(size=shape).astype(np.float32) for shape in shapes]
    for ref, got in zip(run(model, *feed), run(folded, *feed), strict=True):
        np.testing.assert_allclose(got, ref, rtol=0, atol=3e-6 * np.abs(ref).max(initial=1.0))


def joined(operator, *more, how="mixed", **attributes):
    """Convolutions, what joins them, a batch norm, a ReLU."""

    def make(g):
        x = g.input("x", *IMAGE)
        parts = [conv(g, x), conv(g, x, bias=False), *(part(g, x) for part in more)]
        y = g.add(operator, *parts, **attributes)
        channels = 12 if operator == "Concat" and attributes["axis"] in (1, -3) else 6
        g.add("Relu", norm(g, y, channels, how))

    return make


def with_row(operator, first=False, how="mixed"):
    """An image and one number a channel, of a path of its own."""

    def make(g):
        x = g.input("x", *IMAGE)
        image, row = conv(g, x), conv(g, g.add("GlobalAveragePool", x))
        g.add("Relu", norm(g, g.add(operator, *((row, image) if first else (image, row))), 6, how))

    return make


def before(*operators, how="mixed"):
    """A batch norm that several read, joined by the first operator; a convolution at the end."""

    def make(g):
        y = norm(g, g.add("Relu", g.input("x", *IMAGE)), 4, how)
        operator, attributes = operators[0]
        pooled = g.add("AveragePool", y, kernel_shape=[3, 3], pads=[1] * 4)
        y = g.add(operator, y, pooled, **attributes)
        for other, attributes in operators[1:]:
            given = {key: value for key, value in attributes.items() if key != "tensors"}
            y = g.add(other, y, *map(g.tensor, attributes.get("tensors", ())), **given)
        conv(g, y, 8 if operators[0][1].get("axis") == 1 else 4)

    return make


def padded(mode, how="mixed", value=None, axes=None):
    """A Pad between a batch norm and a convolution."""

    def make(g):
        g.opset = 18
        y = norm(g, g.add("Relu", g.input("x", *IMAGE)), 4, how)
        sides = [0, 0, 1, 1, 0, 0, 1, 2] if axes is None else [1, 1, 1, 2]
        inputs = [g.tensor(sides, dtype=np.int64)]
        if value is not None or axes:
            inputs.append(g.tensor(value) if value is not None else "")
        inputs += [g.tensor(axes, dtype=np.int64)] if axes else []
        conv(g, g.add("Pad", y, *inputs, mode=mode))

    return make


def numbers(operator, shape, first=False):
    """A constant that is added between convolution, pool and batch norm."""

    def make(g):
        y = g.add("MaxPool", conv(g, g.input("x", *IMAGE)), kernel_shape=[2, 2])
        constant = g.tensor(g.rng.normal(size=shape))
        y = g.add(operator, *((constant, y) if first else (y, constant)))
        g.add("Sigmoid", norm(g, y, how="rising"))

    return make


def exported(g):
    """A convolution without a bias as torch.onnx writes it: its zeros follow from the weights."""
    x, kernel = g.input("x", *IMAGE), g.weights(6, 4, 3, 3)
    sizes = g.add("Expand", g.add("Shape", kernel, start=0, end=1), g.tensor([1], dtype=np.int64))
    zero = g.add("CastLike", g.add("Constant", value_float=0.0), x)
    g.add("Relu", norm(g, g.add("Conv", x, kernel, g.add("Expand", zero, sizes))))


# Graphs whose only batch norm goes.
GOES = {
    "behind a sum": joined("Add"), "behind a difference": joined("Sub"),
    "behind a sum of three": joined("Sum", conv),
    "behind a mean of three": joined("Mean", conv),
    "behind a concatenation": joined("Concat", axis=-3),
    "behind a concatenation along another axis": joined("Concat", axis=2),
    "behind a maximum": joined("Max", conv, how="rising"),
    "behind a minimum": joined("Min", how="rising"),
    "a scale behind a product": joined("Mul", how="scale"),
    "behind a sum with a row": with_row("Add"),
    "behind a row less an image": with_row("Sub", first=True),
    "a scale behind a product with a row": with_row("Mul", first=True, how="scale"),
    "a shift behind a sum": joined("Sum", lambda g, x: g.add("Tanh", conv(g, x)), how="shift"),
    "before both sides of a sum": before(("Add", {})),
    "before both sides of a difference": before(("Sub", {})),
    "before a concatenation": before(("Concat", {"axis": 1})),
    "a rising scale before a ReLU": before(("Add", {}), ("Relu", {}), how="rising scale"),
    "a rising scale before other ReLUs": before(
        ("Add", {}), ("LeakyRelu", {}), ("PRelu", {"tensors": [np.full((4, 1, 1), 0.3)]}),
        ("Abs", {}), how="rising scale",
    ),
    "a scale before an average with zeros": before(
        ("Add", {}), ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4,
                                      "count_include_pad": 1}), how="scale",
    ),
    "before a reflection": padded("reflect"), "before a repeated edge": padded("edge"),
    "before a reflection along axes": padded("reflect", axes=[2, 3]),
    "a scale before zeros": padded("constant", how="scale"),
    "a scale before zeros that are given": padded("constant", how="scale", value=0.0),
    "behind numbers that are added": numbers("Add", (6, 1, 1)),
    "behind numbers that are taken away": numbers("Sub", (1, 6, 1, 1)),
    "before numbers that are added": before(
        ("Add", {}), ("Add", {"tensors": [np.arange(4.0)[:, None, None]]}),
    ),
    "before numbers that are taken away": before(("Sub", {}), ("Sub", {"tensors": [1.5]})),
    "behind one number": numbers("Add", ()), "the bias of an exporter": exported,
}
STAYS = {
    "behind a product": (joined("Mul"), "multiplies values, whose product"),
    "behind a maximum, some falling": (joined("Max"), "compares values, whose order"),
    "behind a sum, one part not linear": (
        joined("Sum", lambda g, x: g.add("Tanh", conv(g, x))), "is a Tanh, which is not linear",
    ),
    "behind a part that is given twice": (
        lambda g: norm(g, g.add("Add", *[conv(g, g.input("x", *IMAGE))] * 2)),
        "as it is, or scaled in two ways",
    ),
    "before a product": (before(("Mul", {})), "multiplies values, whose product"),
    "before a falling ReLU": (
        before(("Add", {}), ("Relu", {}), how="scale"), "numbers below 0 in another way",
    ),
    "before a ReLU": (before(("Add", {}), ("Relu", {})), "is a Relu, which is not linear"),
    "before zeros": (padded("constant"), "pads with values that the batch norm"),
    "a scale before ones": (
        padded("constant", how="scale", value=1.0), "pads with values that the batch norm",
    ),
    "behind numbers along another axis": (
        numbers("Add", (4,)), "of numbers along axis 3, not of the chan",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOES)
def test_goes(name):
    g = Builder(15)
    GOES[name](g)
    model = g.model()
    folded, report = folded_without_check(model)
    assert NORM not in ops(folded) and report.n_folded == report.n_total == 1
    assert_same(model, folded)


@pytest.mark.parametrize(("make", "reason"), STAYS.values(), ids=STAYS)
def test_stays(make, reason):
    g = Builder(15)
    make(g)
    model = g.model()
    folded, report = folded_without_check(model)
    assert ops(folded).count(NORM) == 1 and reason in report.entries[0].reason
    assert_same(model, folded)


def test_one_batch_norm_behind_a_sum_goes_into_one_that_stays():
    g = Builder()
    x = g.input("x", *IMAGE)
    y = g.add("Add", norm(g, g.add("Relu", conv(g, x))), conv(g, x))
    g.add("Relu", norm(g, y))
    model = g.model()
    folded, report = fold_onnx(model)
    assert ops(folded).count(NORM) == 1
    assert [(e.into, e.direction) for e in report.entries] == [
        (None, None), ("batchnormalization2, conv3", "merged")
    ]  # fmt: skip
    assert_same(model, folded)


def test_a_scale_that_goes_back_into_a_batch_norm_that_is_an_output():
    g = Builder()
    y = norm(g, g.add("Relu", g.input("x", *IMAGE)), 4)
    y = g.add("Mul", y, g.tensor(g.rng.normal(size=(4, 1, 1))))
    model = g.model()
    folded, report = folded_without_check(model)
    assert ops(folded) == ["Relu", NORM] and folded.graph.output[0].name == y
    assert_same(model, folded)


@pytest.mark.parametrize("which", ["the sum", "a part", "behind"])
def test_values_that_are_given_out_stay(which):
    g = Builder()
    x = g.input("x", *IMAGE)
    part = conv(g, x)
    y = g.add("Add", part, conv(g, x))
    first = y if which == "the sum" else part
    if which == "behind":
        first = norm(g, g.add("Relu", x), 4)
        conv(g, g.add("Concat", first, x, axis=1), 8)
    else:
        g.add("Relu", norm(g, y))
    g.output(first, "n", *((4, 6, 5) if which == "behind" else (6, 6, 5)))
    g.output(g.nodes[-1].output[0], "n", 6, 6, 5)
    model = g.model()
    folded, report = folded_without_check(model)
    assert ops(folded).count(NORM) == 1 and "is an output of the graph" in report.entries[0].reason
    assert_same(model, folded)


def test_a_slope_that_is_computed_passes_no_scale():
    g = Builder()
    x = g.input("x", *IMAGE)
    y = norm(g, g.add("Tanh", x), 4, "rising scale")
    slope = g.add("Sigmoid", g.add("GlobalAveragePool", x))
    conv(g, g.add("PRelu", y, slope))
    model = g.model()
    folded, report = folded_without_check(model)
    assert "is a PRelu, which is not linear" in report.entries[0].reason
    assert_same(model, folded)
