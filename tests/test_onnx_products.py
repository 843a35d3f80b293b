"""ONNX graphs with tables and with products of two values, read; every layer there and back."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest
from architectures import ARCHITECTURES
from test_layer_specs import MERGING, SHAPES

import nbbn
from nbbn import layers
from nbbn.fallback import NumpyBlocks
from nbbn.formats.assembly import assembled
from nbbn.formats.onnx.write import write as network_to_onnx
from nbbn.interop import from_onnx
from nbbn.network import Call, Graph

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
)

from onnx import TensorProto  # noqa: E402
from onnx_graphs import Builder  # noqa: E402
from onnx_graphs import run as run_onnx  # noqa: E402

DTYPES = [np.float32, np.float64]


def outputs(network, x):
    return NumpyBlocks(network).with_weights(network.weights).run(x)


def same_there_and_back(network, x):
    read = from_onnx(network_to_onnx(network)).network()
    ref = outputs(network, x)
    assert read.dtype == network.dtype and read.input_shape == network.input_shape
    assert read.output_shape == network.output_shape
    tolerance = (1e-13 if network.dtype == np.float64 else 3e-6) * max(1, np.abs(ref).max())
    np.testing.assert_allclose(outputs(read, x), ref, rtol=0, atol=tolerance)


# An Input alone, and rows of no numbers' axes, are no network.
LAYERS = [(layer, row) for layer, row, *_ in SHAPES if row and not isinstance(layer, layers.Input)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layer", "row"), LAYERS, ids=repr)
def test_every_layer_there_and_back(layer, row, dtype):
    rng = np.random.default_rng(5)
    weights = {name: rng.uniform(0.3, 2, shape) if name == "var" else rng.normal(size=shape)
               for name, shape in layer.weight_shapes(row).items()}
    x = rng.integers(9, size=(4, *row)) if isinstance(layer, layers.Embedding) else rng.normal(
        size=(4, *row))
    same_there_and_back(assembled([layer], row, [weights], dtype), x.astype(dtype))


SEVERAL = [case[:2] for case in MERGING]
SEVERAL += [(layers.Dot(layer.axes, normalize=True), rows) for layer, rows in SEVERAL
            if isinstance(layer, layers.Dot)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layer", "rows"), SEVERAL, ids=repr)
def test_every_layer_of_several_there_and_back(layer, rows, dtype):
    graph = Graph((Call(0, tuple(-1 - k for k in range(len(rows)))),), tuple(rows), (0,), tuple(
        f"x{k}" for k in range(len(rows))) if len(rows) > 1 else ())
    network = assembled([layer], graph.input_shape, [{}], dtype, graph)
    x = np.random.default_rng(6).normal(size=(4, *graph.input_shape)).astype(dtype)
    same_there_and_back(network, x)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_there_and_back(name):
    network = ARCHITECTURES[name].make(nbbn).network()
    rng = np.random.default_rng(7)
    for arrays in network.weights:
        for key, array in arrays.items():
            array += rng.uniform(0, 0.3, array.shape).astype(array.dtype) * (key != "kernel")
    x = rng.integers(3, size=(3, *network.input_shape)).astype(np.float32)
    same_there_and_back(network, x)


# -- forms that exporters give; each draws a graph


def drawn(*rows, whole=False):
    g = Builder(opset=18)
    element = TensorProto.INT64 if whole else None
    return g, *(g.input(f"x{k}", "n", *row, element=element) for k, row in enumerate(rows))


def ints(g, *numbers):
    return g.tensor(np.array(numbers), dtype=np.int64)


def summed(g, x, keepdims, axis=-1):
    return g.add("ReduceSum", x, ints(g, axis), keepdims=keepdims)


def of_length_one(g, x, expanded):
    """As torch.nn.functional.normalize is exported."""
    length = g.add("ReduceL2", x, ints(g, -1), keepdims=1)
    length = g.add("Clip", length, g.tensor(1e-12))
    return g.add("Div", x, g.add("Expand", length, g.add("Shape", x)) if expanded else length)


def looked_up():
    g, x = drawn((5,), whole=True)
    g.add("Gather", g.weights(7, 4), x)
    return g


def looked_up_by_floats():
    g, x = drawn((5,))
    g.add("Gather", g.weights(7, 4), g.add("Cast", x, to=TensorProto.INT32), axis=0)
    return g


def looked_up_in_columns():
    g, x = drawn((2,), whole=True)
    parts = [g.add("Gather", g.weights(7, width), g.add("Gather", x, g.tensor(k, dtype=np.int64), axis=1))
             for k, width in enumerate((3, 2))]
    g.add("Concat", *parts, axis=1)
    return g


def numbers_looked_up():
    """A table of one axis, and rows of none."""
    g, x = drawn((), whole=True)
    g.add("Sigmoid", g.add("Gather", g.weights(7), x))
    return g


def sums_of_rows_of_a_table():
    g, x = drawn((5,), whole=True)
    summed(g, g.add("Gather", g.weights(7, 4), x), 0, 1)
    return g


def factors():
    """Of a user and a thing, each a number, as torch.nn.Embedding has it."""
    g, x, y = drawn((), (), whole=True)
    products = g.add("Mul", g.add("Gather", g.weights(7, 4), x), g.add("Gather", g.weights(9, 4), y))
    g.add("Add", summed(g, products, 0), g.add("Squeeze", g.add("Gather", g.weights(7, 1), x), ints(g, 1)))
    return g


def products(keepdims):
    def draw():
        g, x, y = drawn((5,), (5,))
        summed(g, g.add("Mul", x, y), keepdims)
        return g

    return draw


def sum_of_squares():
    g, x = drawn((5,))
    y = g.add("Tanh", x)
    summed(g, g.add("Mul", y, y), 1)
    return g


def products_of_pairs():
    """Of each vector with the one in its place, which is no Dot."""
    g, x, y = drawn((4, 5), (4, 5))
    summed(g, g.add("Mul", x, y), 0)
    return g


def matrices():
    g, x, y = drawn((4, 5), (5, 3))
    g.add("MatMul", x, y)
    return g


def matrix_and_vector():
    g, x, y = drawn((4, 5), (5,))
    g.add("Squeeze", g.add("MatMul", x, g.add("Unsqueeze", y, ints(g, 2))), ints(g, 2))
    return g


def matrices_of_cosines(expanded):
    def draw():
        g, x, y = drawn((4, 5), (3, 5))
        x, y = (of_length_one(g, one, expanded) for one in (x, y))
        g.add("MatMul", x, g.add("Transpose", y, perm=[0, 2, 1]))
        return g

    return draw


def cosines_with_itself():
    """One value of vectors of length 1 that is read twice."""
    g, x = drawn((4, 5))
    y = of_length_one(g, x, False)
    g.add("MatMul", y, g.add("Transpose", y, perm=[0, 2, 1]))
    return g


def cosine_of_torch_export():
    g, x, y = drawn((5,), (5,))
    summed(g, g.add("Mul", *(of_length_one(g, one, False) for one in (y, x))), 0)
    return g


def cosine_of_the_legacy_exporter():
    g, x, y = drawn((5,), (5,))
    xy, xx, yy = (summed(g, g.add("Mul", a, b), 0) for a, b in ((x, y), (x, x), (y, y)))
    lengths = g.add("Max", g.add("Sqrt", g.add("Mul", xx, yy)), g.tensor(1e-8))
    g.add("Unsqueeze", g.add("Div", xy, lengths), ints(g, 1))
    return g


def places():
    """Vectors with a constant for each place and number, as of positions."""
    g, x = drawn((4, 5))
    x = g.add("Add", x, g.weights(1, 4, 5))
    g.add("Relu", g.add("Div", x, g.tensor(g.rng.uniform(0.5, 2, (4, 5)))))
    return g


FORMS = [
    (looked_up, ["Embedding"]), (looked_up_by_floats, ["Embedding"]), (looked_up_in_columns, None),
    (numbers_looked_up, None), (sums_of_rows_of_a_table, None), (factors, None),
    (products(0), ["Dot"]), (products(1), ["Dot"]), (sum_of_squares, ["Activation", "Dot"]),
    (products_of_pairs, ["Multiply", "Dense", "Flatten"]), (matrices, ["Permute", "Dot"]),
    (matrix_and_vector, None), (matrices_of_cosines(False), ["Dot"]),
    (matrices_of_cosines(True), ["Dot"]), (cosines_with_itself, ["Dot"]),
    (cosine_of_torch_export, ["Dot"]), (cosine_of_the_legacy_exporter, ["Dot"]),
    (places, ["Normalization", "Activation"]),
]


def rows_for(model):
    """Of each input, in its type."""
    rng, found = np.random.default_rng(9), []
    for value in model.graph.input:
        shape = [dim.dim_value or 6 for dim in value.type.tensor_type.shape.dim]
        floats = value.type.tensor_type.elem_type == TensorProto.FLOAT
        looked_up = any(node.op_type in ("Gather", "Cast") for node in model.graph.node)
        x = rng.integers(7, size=shape) if looked_up else rng.normal(size=shape)
        found.append(x.astype(np.float32 if floats else np.int64))
    return found


def check(model, xs=None):
    """What is read computes what onnxruntime does; its network."""
    xs = rows_for(model) if xs is None else xs
    (ref,) = run_onnx(model, *xs)
    network = from_onnx(model).network()
    beside = np.concatenate([x.reshape(len(x), -1) for x in xs], 1).astype(network.dtype)
    got = outputs(network, beside.reshape(-1, *network.input_shape))
    np.testing.assert_allclose(got.reshape(ref.shape), ref, rtol=0, atol=3e-6 * max(1, np.abs(ref).max()))
    return network


@pytest.mark.parametrize(("draw", "kinds"), FORMS, ids=[f"{i}-{draw.__name__}" for i, (draw, _) in enumerate(FORMS)])
def test_forms(draw, kinds):
    network = check(draw().model())
    assert kinds in (None, [type(layer).__name__ for layer in network.layers])


def test_the_engine_computes_what_was_read():
    """One of them as users call it: two inputs of one number each, with or without an axis."""
    model, (x, y) = factors().model(), rows_for(factors().model())
    (ref,) = run_onnx(model, x, y)
    read = from_onnx(model)
    for given in ([x, y], [x[:, None], y[:, None]]):
        np.testing.assert_allclose(read.predict(given).ravel(), ref, rtol=0, atol=3e-6)


def unchecked(g):
    """The model of a graph, whatever it computes."""
    end = onnx.helper.make_tensor_value_info(g.nodes[-1].output[0], TensorProto.FLOAT, None)
    made = onnx.helper.make_graph(g.nodes, "g", g.inputs, [end], g.tensors)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", g.opset)])


def one_of_length_one():
    g, x, y = drawn((4, 5), (5, 3))
    g.add("MatMul", of_length_one(g, x, False), y)
    return g


def ends_of_length_one():
    g, x = drawn((4, 5))
    of_length_one(g, x, False)
    return g


def goes_on_of_length_one():
    g, x = drawn((4, 5))
    g.add("Relu", of_length_one(g, x, False))
    return g


def stacked_matrices():
    g, x, y = drawn((2, 4, 5), (2, 5, 3))
    g.add("MatMul", x, y)
    return g


def cosines_of_pairs():
    g, x, y = drawn((4, 5), (4, 5))
    xy, xx, yy = (summed(g, g.add("Mul", a, b), 0) for a, b in ((x, y), (x, x), (y, y)))
    g.add("Div", xy, g.add("Max", g.add("Sqrt", g.add("Mul", xx, yy)), g.tensor(1e-8)))
    return g


def truncated():
    g, x = drawn((5,))
    g.add("Cast", g.add("Cast", x, to=TensorProto.INT64), to=TensorProto.FLOAT)
    return g


def halves():
    g, x = drawn((5,), whole=True)
    g.add("Gather", g.weights(7, 4), g.add("Div", x, ints(g, 2)))
    return g


def picked_apart():
    g, x = drawn((5,))
    g.add("Gather", x, ints(g, 0, 2), axis=1)
    return g


def columns_of_a_table():
    g, x = drawn((5,), whole=True)
    g.add("Gather", g.weights(7, 4), x, axis=1)
    return g


def summed_over_steps_and_channels_apart():
    g, x = drawn((2, 4, 5))
    summed(g, g.add("Relu", x), 0, 1)
    return g


REFUSED = [
    (one_of_length_one, r"\(MatMul\): multiplies vectors of length 1 with others"),
    (ends_of_length_one, "ends in vectors of length 1, which nbbn has in a Dot"),
    (goes_on_of_length_one, r"\(Relu\): follows vectors of length 1, which nbbn has in a Dot"),
    (stacked_matrices, r"\(MatMul\): multiplies rows of shapes \(2, 4, 5\) and \(2, 5, 3\)"),
    (cosines_of_pairs, r"\(Div\): takes cosines of rows of shapes \(4, 5\) and \(4, 5\)"),
    (truncated, r"\(Cast\): casts to another type in the midst"),
    (halves, r"\(Div\): makes whole numbers of whole numbers; cast them to floats before"),
    (picked_apart, r"\(Gather\): picks \[0, 2\] of an axis of 5, which are no neighbours"),
    (columns_of_a_table, r"\(Gather\): picks from a constant by rows, but not whole rows"),
    (summed_over_steps_and_channels_apart, r"\(ReduceSum\): sums over axes \(0,\) of rows"),
]


@pytest.mark.parametrize(("draw", "message"), REFUSED, ids=[draw.__name__ for draw, _ in REFUSED])
def test_refuses(draw, message):
    with pytest.raises(nbbn.FileError, match=message):
        from_onnx(unchecked(draw()))


# -- as torch writes them

TORCH = {
    "embedding": (lambda m, F, x, y: m.a(x), "whole"),
    "factors": (lambda m, F, x, y: (m.a(x) * m.b(y)).sum(-1).tanh(), "whole"),
    "bmm": (lambda m, F, x, y: F.bmm(x, y.transpose(1, 2)), "matrices"),
    "sum": (lambda m, F, x, y: (x * y).sum(-1), "vectors"),
    "cosine": (lambda m, F, x, y: F.cosine_similarity(x, y), "vectors"),
}


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", TORCH)
def test_as_torch_writes_it(name, dynamo, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    compute, kind = TORCH[name]

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Embedding(7, 4), torch.nn.Embedding(7, 4)

        def forward(self, x, y):
            functions = torch if kind == "matrices" else torch.nn.functional
            return compute(self, functions, x, y)

    rows = {"whole": lambda: torch.randint(0, 7, (3, 5)), "vectors": lambda: torch.randn(3, 5),
            "matrices": lambda: torch.randn(3, 4, 5)}[kind]
    xs, path = (rows(), rows())[: 1 if name == "embedding" else 2], tmp_path / "m.onnx"
    if name == "embedding":
        Model.forward = lambda self, x: self.a(x)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(Model().eval(), xs, path, dynamo=dynamo, verbose=False,
                          input_names=["x", "y"][: len(xs)])
    check(onnx.load(path), [x.numpy() for x in xs])
