"""Random ONNX graphs: what is read computes what the runtime does, and the rest is refused."""

import re

import numpy as np
import pytest

import nbbn
from nbbn.interop import from_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")
pytest.importorskip("onnx.reference")
onnxruntime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime"
)

from onnx_graphs import Builder, run  # noqa: E402

ELEMENTWISE = ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Elu", "LeakyRelu", "Softplus", "HardSwish",
               "HardSigmoid", "Identity", "Softsign", "Selu", "Erf")


class Drawer:
    """Draws a graph node by node; `values` are those there with their shapes, batch included."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        dtype = np.float64 if self.rng.random() < 0.2 else np.float32
        self.g = Builder(opset=17, dtype=dtype, seed=seed)
        self.values, self.batch = {}, 2
        for k in range(self.rng.choice([1, 1, 1, 2])):
            shape = self.one_of([(5,), (3, 6, 4), (3, 5), (1, 6, 4), (4, 1, 1)])
            batch = self.one_of(["n", self.batch])
            self.values[self.g.input(f"x{k}", batch, *shape)] = (self.batch, *shape)

    def one_of(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def numbers(self, shape):
        values = self.rng.normal(size=shape)
        return self.g.tensor(np.where(np.abs(values) < 0.2, 0.5, values))

    def value(self, rank=None):
        """A value, more often one of the last."""
        known = [name for name, shape in self.values.items() if rank in (None, len(shape))]
        if not known:
            return None, None
        at = max(self.rng.integers(len(known), size=2))
        return known[at], self.values[known[at]]

    def add(self, operator, *inputs, **attributes):
        self.made = self.g.add(operator, *inputs, **attributes)

    def step(self):
        """One node; False where none can be drawn so."""
        self.made = None
        self.one_of([self.elementwise, self.with_constant, self.with_constant, self.joined,
                     self.joined, self.concatenated, self.image, self.image, self.features,
                     self.moved, self.moved, self.activated])()
        return self.made is not None

    # -- kinds of nodes

    def elementwise(self):
        self.add(self.one_of(ELEMENTWISE), self.value()[0])

    def activated(self):
        x, shape = self.value()
        which = self.one_of(["clip", "min", "max", "softmax", "prelu", "norm", "pow", "silu"])
        if which == "clip":
            x = self.g.add("Relu", x) if self.rng.random() < 0.3 else x
            self.add("Clip", x, self.g.tensor(0.0), self.g.tensor(self.one_of([6.0, 1.0])))
        elif which in ("min", "max"):
            bound = self.one_of([0.0, 0.5])
            self.add(which.capitalize(), *self.either(x, self.g.tensor(bound)))
        elif which == "softmax":
            self.add("Softmax", x, axis=int(self.rng.integers(1, len(shape))))
        elif which == "prelu":
            axes = [1] * (len(shape) - 1)
            axes[0] = self.one_of([1, shape[1]])
            self.add("PRelu", x, self.g.tensor(self.rng.uniform(0.1, 0.9, axes)))
        elif which == "norm":
            arrays = [self.g.tensor(self.rng.uniform(0.5, 1.5, shape[1])) for _ in range(4)]
            self.add("BatchNormalization", x, *arrays)
        elif which == "pow":
            self.add("Pow", x, self.g.tensor(2.0))
        else:
            self.add("Mul", *self.either(x, self.g.add("Sigmoid", x)))

    def either(self, a, b):
        return (a, b) if self.rng.random() < 0.5 else (b, a)

    def with_constant(self):
        x, shape = self.value()
        row = shape[1:]
        forms = [(), (1,), row[-1:], (1,) * len(row), (1, *row), row]
        for axis in range(len(row)):
            along = tuple(n if k == axis else 1 for k, n in enumerate(row))
            forms += [along, (1, *along)] * 2
        operator = self.one_of(["Add", "Sub", "Mul", "Div"])
        self.add(operator, *self.either(x, self.numbers(self.one_of(forms))))

    def joined(self):
        x, shape = self.value()
        fits = [name for name, other in self.values.items()
                if len(other) == len(shape) and all(1 in (n, m) or n == m
                                                    for n, m in zip(shape, other))]
        if self.rng.random() < 0.1:
            fits = [*self.values]
        operator = self.one_of(["Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean", "Div"])
        more = self.rng.random() < 0.3 and operator in ("Max", "Min", "Sum", "Mean")
        others = [self.one_of(fits) for _ in range(2 if more else 1)]
        self.add(operator, *self.either(x, others[0]), *others[1:])

    def concatenated(self):
        x, shape = self.value()
        axis = int(self.rng.integers(1, len(shape)))
        fits = [name for name, other in self.values.items() if len(other) == len(shape) and all(
            n == m or k == axis for k, (n, m) in enumerate(zip(shape, other)))]
        self.add("Concat", *self.either(x, self.one_of(fits)), axis=self.one_of(
            [axis, axis - len(shape)]))

    def image(self):
        x, shape = self.value(4)
        if x is None:
            return
        _, c, h, w = shape
        which = self.one_of(["conv", "conv", "depthwise", "grouped", "max", "mean", "all", "reduce",
                             "pad", "resize", "turned"])
        size = [self.one_of([k for k in (1, 2, 3) if k <= n]) for n in (h, w)]
        strides = [self.one_of([1, 2]), self.one_of([1, 2])]
        pads = self.one_of([[0] * 4, [k // 2 for k in size] * 2, [0, 0, *(k - 1 for k in size)]])
        if which == "conv":
            self.add("Conv", x, self.g.weights(4, c, *size), self.g.weights(4), pads=pads,
                     strides=strides)
        elif which == "depthwise":
            self.add("Conv", x, self.g.weights(c, 1, *size), group=c, pads=pads, strides=strides)
        elif which == "grouped" and c % 2 == 0:
            self.add("Conv", x, self.g.weights(4, c // 2, *size), group=2, pads=pads)
        elif which in ("max", "mean"):
            more = {"count_include_pad": self.one_of([0, 1])} if which == "mean" else {}
            self.add("MaxPool" if which == "max" else "AveragePool", x, kernel_shape=size, pads=pads,
                     strides=strides, ceil_mode=self.one_of([0, 0, 1]), **more)
        elif which == "all":
            self.add(self.one_of(["GlobalAveragePool", "GlobalMaxPool"]), x)
        elif which == "reduce":
            axes = self.one_of([[2, 3], [-1, -2], [1, 2], [1], [3]])
            self.add(self.one_of(["ReduceMean", "ReduceMax"]), x, axes=axes,
                     keepdims=self.one_of([0, 1]))
        elif which == "pad":
            pads = [0, 0, *self.rng.integers(0, 2, 2), 0, 0, *self.rng.integers(0, 2, 2)]
            self.add("Pad", x, self.g.tensor(pads, dtype=np.int64))
        elif which == "resize" and h * w < 60:
            scales = self.g.tensor([1, 1, self.one_of([1, 2]), 2], dtype=np.float32)
            self.add("Resize", x, "", scales, mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")
        elif which == "turned" and h * w < 60:
            self.add("ConvTranspose", x, self.g.weights(c, 3, *size), strides=strides)

    def features(self):
        x, shape = self.value(self.one_of([2, 2, 3, 4]))
        if x is None:
            return
        kernel = self.g.weights(shape[-1], self.one_of([5, 6, shape[-1]]))
        if len(shape) == 2 and self.rng.random() < 0.5:
            self.add("Gemm", x, kernel)
        else:
            self.add("MatMul", x, kernel)

    def moved(self):
        x, shape = self.value()
        row, n = shape[1:], int(np.prod(shape[1:]))
        which = self.one_of(["flat", "flat", "turn", "turn", "shape", "in", "out"])
        if which == "flat":
            self.add("Flatten", x)
        elif which == "turn" and len(row) == 3:
            self.add("Transpose", x, perm=self.one_of([[0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1]]))
        elif which == "turn" and len(row) == 2:
            self.add("Transpose", x, perm=[0, 2, 1])
        elif which == "shape":
            sizes = [(n,), (1, n), (n, 1, 1), (1, 1, n), row[::-1],
                     *([(2, n // 2), (2, n // 4, 2)] if n % 4 == 0 else [])]
            self.add("Reshape", x, self.g.tensor([-1, *self.one_of(sizes)], dtype=np.int64))
        elif which == "in":
            self.add("Unsqueeze", x, self.g.tensor([self.one_of([1, 2])], dtype=np.int64))
        elif which == "out" and 1 in row:
            self.add("Squeeze", x, self.g.tensor([1 + row.index(1)], dtype=np.int64))


def model_of(drawer, output):
    """The model that gives a value."""
    g, names = drawer.g, {output}
    nodes = []
    for node in reversed(g.nodes):
        if names & {*node.output}:
            names |= {*node.input}
            nodes.insert(0, node)
    inputs = [given for given in g.inputs if given.name in names]
    element = onnx.helper.make_tensor_value_info(output, g.element, None)
    made = onnx.helper.make_graph(nodes, "random", inputs, [element],
                                  [t for t in g.tensors if t.name in names])
    imports = [onnx.helper.make_opsetid("", g.opset)]
    return onnx.helper.make_model(made, opset_imports=imports, ir_version=8)


def drawn(seed, steps=9):
    """A random model, rows for it, and what the runtime makes of them."""
    drawer, rng = Drawer(seed), np.random.default_rng(seed)
    xs = {v.name: rng.normal(size=drawer.values[v.name]).astype(drawer.g.dtype)
          for v in drawer.g.inputs}
    for _ in range(4 * steps):
        if len(drawer.values) > steps:
            break
        if not drawer.step() or len(drawer.values) > steps:
            continue
        model = model_of(drawer, drawer.made)
        try:
            (answer,) = run(model, **{v.name: xs[v.name] for v in model.graph.input})
        except Exception:  # the runtime does not know such a node
            answer = None
        rows = answer is not None and answer.ndim > 1 and len(answer) == drawer.batch
        if not rows or not np.isfinite(answer).all() or np.abs(answer).max() > 1e6:
            drawer.g.nodes.pop()
            continue
        drawer.values[drawer.made] = answer.shape
        last = model, {v.name: xs[v.name] for v in model.graph.input}, answer
    return last


# What a refusal that is not about a node says.
ENDS = ("ends in images that are flattened or turned", "ends within a norm or a softmax")


def attempt(seed):
    """Whether a random graph is read; AssertionError where it is, and computes another thing."""
    model, xs, ref = drawn(seed)
    try:
        read = from_onnx(model)
    except nbbn.FileError as err:
        named = re.search(r"node '[^']+' \(\w+\): ", str(err))
        assert named or any(end in str(err) for end in ENDS), str(err)
        return False
    shapes = read.input_shape if isinstance(read.input_shape, list) else [read.input_shape]
    given = [x if x.shape[1:] == shape[1:] else np.ascontiguousarray(np.moveaxis(x, 1, -1))
             for x, shape in zip(xs.values(), shapes, strict=True)]
    got = read.predict(given[0] if len(given) == 1 else given)
    size = max(1.0, np.abs(ref).max())
    # Attributes are of float32 in float64 too.
    tolerance = (1e-6 if next(iter(xs.values())).dtype == np.float64 else 2e-4) * size
    # Images may come out channels last where they went in channels first, or not at all.
    forms = [got, *([np.moveaxis(got, -1, 1)] if got.ndim > 2 else [])]
    apart = min(np.abs(one - ref).max() for one in forms if one.shape == ref.shape)
    assert apart <= tolerance, (seed, read, apart)
    return True


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    attempt(seed)


def test_many_are_read():
    assert sum(attempt(seed) for seed in range(100, 130)) >= 10
