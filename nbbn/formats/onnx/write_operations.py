"""What a network computes as ONNX nodes: a function for each operation.

In float64 they avoid what only float32 has: attributes, and the operators that ONNX Runtime
computes in float32 alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.activations import ELEMENTWISE
from nbbn.expressions import Expression
from nbbn.formats.onnx.operators import ACTIVATIONS, EXPRESSIONS
from nbbn.formats.onnx.writer import CHANNELS_FIRST, GraphWriter, Value
from nbbn.operations import Operation, Step

Arrays = dict[str, np.ndarray]

LAYER_NORMALIZATION_OPSET = 17


# -- dense layers and convolutions


def _dense(graph: GraphWriter, step: Step[op.Dense], arrays: Arrays, x: Value) -> Value:
    kernel = arrays["kernel"]
    bias = [graph.constant(arrays["bias"])] if "bias" in arrays else []
    if len(x.shape) == 1:
        x = graph.features(x)
        rows = x.along_last(kernel).reshape(kernel.shape)
        name = graph.add("Gemm", x.name, graph.constant(rows), *bias)
    elif x.channels_first and graph.single:  # ONNX Runtime has no float64 kernel for convolutions
        name = graph.add("Conv", x.name, graph.constant(kernel.T[:, :, None, None]), *bias)
        return Value.ordered(name, step.output_shape, CHANNELS_FIRST)
    else:
        name = graph.add("MatMul", graph.plain(x).name, graph.constant(kernel))
        name = graph.add("Add", name, *bias) if bias else name
    return Value.ordered(name, step.output_shape)


def _convolve(graph: GraphWriter, step: Step[Any], arrays: Arrays, x: Value) -> Value:
    """A convolution of any kind, its kernel in ONNX's layout."""
    operation, window, kernel = step.operation, step.operation.window, arrays["kernel"]
    (top, bottom), (left, right) = window.sides
    options: dict[str, Any] = {"pads": [top, left, max(bottom, 0), max(right, 0)]}
    operator, turned = "Conv", kernel.transpose(3, 2, 0, 1)
    if isinstance(operation, op.ConvolveTransposed):
        operator, options["output_padding"] = "ConvTranspose", [max(-bottom, 0), max(-right, 0)]
    elif isinstance(operation, op.ConvolveDepthwise):
        turned = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *window.size)
        options["group"] = step.input_shape[2]
    else:
        options["group"] = operation.groups
    weights = [graph.constant(array) for array in (turned, arrays.get("bias")) if array is not None]
    options |= {"strides": window.strides, "dilations": window.dilation}
    name = graph.add(operator, graph.images(x).name, *weights, kernel_shape=window.size, **options)
    return Value.ordered(name, step.output_shape, CHANNELS_FIRST)


# -- pools and moves


def _pool(graph: GraphWriter, step: Step[op.Pool], arrays: Arrays, x: Value) -> Value:
    window, largest = step.operation.window, step.operation.kind == "max"
    if not step.operation.is_global(step.input_shape):
        (top, bottom), (left, right) = window.sides
        options: dict[str, Any] = {"strides": window.strides, "pads": [top, left, bottom, right]}
        operator, x = "MaxPool" if largest else "AveragePool", graph.images(x)
        name = graph.add(operator, x.name, kernel_shape=window.size, **options)
        return Value.ordered(name, step.output_shape, CHANNELS_FIRST)
    x, order = _in_order(graph, x)
    if x.channels_first and graph.single:
        name = graph.add("GlobalMaxPool" if largest else "GlobalAveragePool", x.name)
    else:
        axes = [a + 1 for group in x.groups[:2] for a in group]
        name = graph.add("ReduceMax" if largest else "ReduceMean", x.name, axes=axes)
    return Value.ordered(name, step.output_shape, order)


def _in_order(graph: GraphWriter, x: Value) -> tuple[Value, tuple[int, ...]]:
    """Images as they stand, if their channels come first or last, and the order of their axes."""
    return (x, CHANNELS_FIRST) if x.channels_first else (graph.plain(x), (0, 1, 2))


def _pad(graph: GraphWriter, step: Step[op.Pad], arrays: Arrays, x: Value) -> Value:
    """Zeros around, or a slice of what is within."""
    x, order = _in_order(graph, x)
    pads = np.zeros((2, 4), np.int64)
    for group, sides in zip(x.groups, step.operation.sides):
        pads[:, group[0] + 1] = sides
    name = x.name
    if (pads < 0).any():
        first = -np.minimum(pads[0, 1:], 0)
        end = np.array(x.dims) + np.minimum(pads[1, 1:], 0)
        axes = graph.constant(np.arange(1, 4))
        name = graph.add("Slice", name, graph.constant(first), graph.constant(end), axes)
    if (pads > 0).any():
        name = graph.add("Pad", name, graph.constant(np.maximum(pads, 0).reshape(-1)))
    return Value.ordered(name, step.output_shape, order)


def _repeat(graph: GraphWriter, step: Step[op.Repeat], arrays: Arrays, x: Value) -> Value:
    times = step.operation.times
    if len(times) == 3 and times[2] == 1:
        scales = graph.constant(np.array([1, 1, *times[:2]], np.float32))
        exact = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        name = graph.add("Resize", graph.images(x).name, "", scales, mode="nearest", **exact)
        return Value.ordered(name, step.output_shape, CHANNELS_FIRST)
    for axis, many in enumerate(times):
        x = _repeated(graph, x, axis, many) if many > 1 else x
    return x


def _repeated(graph: GraphWriter, x: Value, axis: int, times: int) -> Value:
    """Along one axis of the row: a new axis behind it becomes as long as it takes."""
    if x.flat or not x.groups[axis]:
        x = graph.plain(x)
    at, dims, groups = x.groups[axis][-1] + 1, x.dims, x.groups
    name = graph.reshape(x.name, (*dims[:at], 1, *dims[at:]))
    long = [1] * (at + 1) + [times] + [1] * (len(dims) - at)
    name = graph.add("Expand", name, graph.integers(long))
    moved = [tuple(a + (a >= at) for a in group) for group in groups]
    moved[axis] += (at,)
    return Value(name, (*dims[:at], times, *dims[at:]), tuple(moved))


def _reshape(graph: GraphWriter, step: Step[op.Reshape], arrays: Arrays, x: Value) -> Value:
    shape = step.output_shape
    y = x.regrouped(shape)
    return Value.ordered(graph.reshape(graph.plain(x).name, shape), shape) if y is None else y


# -- several sources

_COMBINED = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "maximum": "Max",
             "minimum": "Min"}


def _combine(graph: GraphWriter, step: Step[op.Combine], arrays: Arrays, *xs: Value) -> Value:
    rank = len(step.output_shape)
    aligned = [_aligned(graph, x, rank) for x in xs]
    sources, order = _alike(graph, aligned)
    name = graph.add(_COMBINED[step.operation.kind], *(x.name for x in sources))
    return Value.ordered(name, step.output_shape, order)


def _aligned(graph: GraphWriter, x: Value, rank: int) -> Value:
    """Rows of so many axes: new ones in front."""
    shape = x.shape
    if len(shape) == rank:
        return x
    shape = (*[1] * (rank - len(shape)), *shape)
    return Value.ordered(graph.reshape(graph.plain(x).name, shape), shape)


def _alike(graph: GraphWriter, xs: Sequence[Value]) -> tuple[list[Value], tuple[int, ...]]:
    """Values whose axes stand in one order, and that order: images channels first, if any do."""
    rank = len(xs[0].shape)
    if rank == 3 and not all(x.plain for x in xs):
        return [graph.images(x) for x in xs], CHANNELS_FIRST
    return [graph.plain(x) for x in xs], tuple(range(rank))


def _concatenate(graph: GraphWriter, step: Step[op.Concatenate], arrays: Arrays,
                 *xs: Value) -> Value:
    sources, order = _alike(graph, xs)
    axis = order.index(step.operation.axis) + 1
    name = graph.add("Concat", *(x.name for x in sources), axis=axis)
    return Value.ordered(name, step.output_shape, order)


def _part(graph: GraphWriter, step: Step[op.Part], arrays: Arrays, x: Value) -> Value:
    first, size = step.operation.first, math.prod(step.output_shape)
    name = graph.add("Slice", graph.reshape(graph.plain(x).name, (math.prod(x.shape),)),
                     graph.integers([first]), graph.integers([first + size]), graph.integers([1]))
    return Value.ordered(graph.reshape(name, step.output_shape), step.output_shape)


# -- norms


def _batch_norm(graph: GraphWriter, step: Step[op.BatchNorm], arrays: Arrays, x: Value) -> Value:
    x = graph.features(x) if len(x.shape) == 1 else _with_channels(graph, x)
    precise = step.operation.epsilon
    if not x.flat and x.groups[-1] != (0,):  # the operator's only axis
        gain = arrays.get("gamma", 1) / np.sqrt(arrays["var"].astype(np.float64) + precise)
        centred = graph.add("Sub", x.name, graph.constant(x.along_last(arrays["mean"])))
        return _scaled(graph, x.called(centred), gain.astype(graph.dtype), arrays.get("beta"))
    # The attribute epsilon is a float32: what that loses goes into the variance, or float64 would
    # be off by 1e-8.
    epsilon = float(np.float32(precise))
    var = (arrays["var"].astype(np.float64) + (precise - epsilon)).astype(graph.dtype)
    gamma, beta = arrays.get("gamma", np.ones_like(var)), arrays.get("beta", np.zeros_like(var))
    given = (gamma, beta, arrays["mean"], var)
    names = [graph.constant(x.along_last(array).reshape(-1)) for array in given]
    # Inference takes no momentum, but `onnx.reference` moves the statistics towards the batch's
    # with any other than 1.
    return x.called(graph.add("BatchNormalization", x.name, *names, epsilon=epsilon, momentum=1.0))


def _with_channels(graph: GraphWriter, x: Value) -> Value:
    """Rows whose last axis is one of the array's: plain images become ones channels first."""
    if x.plain and len(x.shape) == 3:
        return graph.images(x)
    return graph.plain(x) if x.flat or len(x.groups[-1]) != 1 else x


def _row_norm(graph: GraphWriter, step: Step[op.RowNorm], arrays: Arrays, x: Value) -> Value:
    operation, (*pixels, channels) = step.operation, step.input_shape
    if operation.pixels == 1 and operation.channels == channels:
        return _layer_norm(graph, step, arrays, x)
    if operation.pixels != math.prod(pixels):
        raise ValueError("to_onnx writes norms over all pixels of a row, or over each on its own")
    return _group_norm(graph, step, arrays, x, channels // operation.channels)


def _last_apart(graph: GraphWriter, x: Value) -> Value:
    """Rows of a contiguous last axis: runtimes would transpose others by themselves."""
    if len(x.shape) == 1:
        return graph.features(x)
    return graph.plain(x) if x.flat or len(x.groups[-1]) < 2 else x


def _layer_norm(graph: GraphWriter, step: Step[op.RowNorm], arrays: Arrays, x: Value) -> Value:
    x = _last_apart(graph, x)
    axes = [0] if x.flat else sorted(x.groups[-1])
    first, epsilon = axes[0], step.operation.epsilon
    gamma, beta = (arrays[name].ravel() if name in arrays else None for name in ("gamma", "beta"))
    if not graph.single or axes != list(range(first, 1 if x.flat else len(x.dims))):
        name = _standardise(graph, x.name, [axis + 1 for axis in axes], epsilon)
        return _scaled(graph, x.called(name), gamma, beta)
    graph.opset = max(graph.opset, LAYER_NORMALIZATION_OPSET)
    gamma = np.ones(step.input_shape[-1], graph.dtype) if gamma is None else gamma
    spread = [x.along_last(array) for array in (gamma, beta) if array is not None]
    weights = [graph.constant(array.reshape(array.shape[first:])) for array in spread]
    options: dict[str, Any] = {"axis": first + 1, "epsilon": epsilon}
    return x.called(graph.add("LayerNormalization", x.name, *weights, **options))


def _group_norm(graph: GraphWriter, step: Step[op.RowNorm], arrays: Arrays, x: Value,
                groups: int) -> Value:
    x = _with_channels(graph, x)
    (at,), epsilon = x.groups[-1], step.operation.epsilon
    if at == 0 and graph.single:
        one, zero = np.ones(groups, graph.dtype), np.zeros(groups, graph.dtype)
        split = graph.reshape(x.name, (groups, math.prod(x.dims) // groups))
        scale, shift = graph.constant(one), graph.constant(zero)
        name = graph.add("InstanceNormalization", split, scale, shift, epsilon=epsilon)
    else:
        parts = (*x.dims[:at], groups, x.dims[at] // groups, *x.dims[at + 1 :])
        others = [k + 1 for k in range(len(parts)) if k != at]
        name = _standardise(graph, graph.reshape(x.name, parts), others, epsilon)
    x = x.called(graph.reshape(name, x.dims))
    return _scaled(graph, x, arrays.get("gamma"), arrays.get("beta"))


def _standardise(graph: GraphWriter, x: str, axes: Sequence[int], epsilon: float) -> str:
    """`(x - mean) / sqrt(var + epsilon)` of each row over the array's axes."""
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=axes))
    # Not a power: ONNX Runtime would make one operator of it, whose epsilon is a float32.
    var = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=axes)
    deviation = graph.add("Sqrt", graph.add("Add", var, graph.number(epsilon)))
    return graph.add("Div", centred, deviation)


def _scaled(graph: GraphWriter, x: Value, gamma: np.ndarray | None,
            beta: np.ndarray | None) -> Value:
    """`gamma * x + beta` along the row's last axis."""
    for array, operator in ((gamma, "Mul"), (beta, "Add")):
        if array is not None:
            x = x.called(graph.add(operator, x.name, graph.constant(x.along_last(array))))
    return x


def _affine(graph: GraphWriter, step: Step[op.Affine], arrays: Arrays, x: Value) -> Value:
    x = graph.features(x) if len(x.shape) == 1 else _with_channels(graph, x)
    numbers = step.operation.of_channels(step.input_shape[-1])
    if numbers["mean"].any():
        mean = graph.constant(x.along_last(numbers["mean"].astype(graph.dtype)))
        x = x.called(graph.add("Sub", x.name, mean))
    offset = numbers["offset"].astype(graph.dtype) if numbers["offset"].any() else None
    return _scaled(graph, x, numbers["scale"].astype(graph.dtype), offset)


# -- tables and products


def _embed(graph: GraphWriter, step: Step[op.Embed], arrays: Arrays, x: Value) -> Value:
    indices = graph.add("Cast", graph.plain(x).name, to=graph.onnx.TensorProto.INT64)
    name = graph.add("Gather", graph.constant(arrays["embeddings"]), indices, axis=0)
    return Value.ordered(name, step.output_shape)


def _dot(graph: GraphWriter, step: Step[op.Dot], arrays: Arrays, *xs: Value) -> Value:
    x, y = (graph.reshape(graph.plain(x).name, (math.prod(x.shape[:-1]), x.shape[-1])) for x in xs)
    if step.operation.cosine:
        x, y = (_of_length_one(graph, x) for x in (x, y))
    name = graph.add("MatMul", x, graph.add("Transpose", y, perm=[0, 2, 1]))
    return Value.ordered(graph.reshape(name, step.output_shape), step.output_shape)


def _of_length_one(graph: GraphWriter, x: str) -> str:
    squares = graph.add("ReduceSum", graph.add("Mul", x, x), graph.integers([2]))
    return graph.add("Div", x, graph.add("Max", graph.add("Sqrt", squares), graph.number(1e-7)))


# -- activations


def _prelu(graph: GraphWriter, step: Step[op.PRelu], arrays: Arrays, x: Value) -> Value:
    alpha = arrays["alpha"]
    x, order = _in_order(graph, x) if len(x.shape) == 3 else (graph.plain(x), None)
    slopes = graph.constant(alpha if order is None else alpha.transpose(order))
    if graph.single:
        return x.called(graph.add("PRelu", x.name, slopes))
    below = graph.add("Mul", graph.add("Min", x.name, graph.number(0)), slopes)
    return x.called(graph.add("Add", graph.add("Relu", x.name), below))


def _softmax(graph: GraphWriter, step: Step[op.Softmax], arrays: Arrays, x: Value) -> Value:
    x, log = _last_apart(graph, x), step.operation.log
    if x.flat or len(x.groups[-1]) == 1:
        operator = "LogSoftmax" if log else "Softmax"
        return x.called(graph.add(operator, x.name, axis=1 if x.flat else len(x.dims)))
    axes = [a + 1 for a in sorted(x.groups[-1])]
    centred = graph.add("Sub", x.name, graph.add("ReduceMax", x.name, axes=axes))
    grown = graph.add("Exp", centred)
    total = graph.add("ReduceSum", grown, graph.integers(axes))
    if log:
        return x.called(graph.add("Sub", centred, graph.add("Log", total)))
    return x.called(graph.add("Div", grown, total))


def _elementwise(graph: GraphWriter, step: Step[op.Elementwise], arrays: Arrays, x: Value) -> Value:
    function, numbers = step.operation.function, step.operation.numbers
    write = _FORMS.get(function, _by_operator)
    return x.called(write(graph, x.name, function, numbers))


def _by_operator(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    """A function by its operator where there is one, else by its expression."""
    record = ELEMENTWISE[function]
    named = record.named(numbers or record.defaults)
    if function in ACTIVATIONS and graph.single:
        operator, attributes = ACTIVATIONS[function]
        given: dict[str, Any] = {attributes[name]: value for name, value in named.items()}
        return graph.add(operator, x, **given)
    return _written(graph, record.expression, x, named)


def _leaky_relu(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    flat = numbers[0] == 0
    return graph.add("Relu", x) if flat else _by_operator(graph, x, function, numbers)


def _clipped_relu(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    slope, top, threshold = numbers
    if threshold:
        return _by_operator(graph, x, function, numbers)
    if slope == 0:
        return graph.add("Clip", x, graph.number(0), graph.number(top))
    return graph.add("Min", _leaky_relu(graph, x, "leaky_relu", (slope,)), graph.number(top))


def _gelu(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    # In this order ONNX Runtime knows it as one operator.
    error = graph.add("Erf", graph.add("Div", x, graph.number(math.sqrt(2))))
    doubled = graph.add("Mul", x, graph.add("Add", error, graph.number(1)))
    return graph.add("Mul", doubled, graph.number(0.5))


def _clip(low: float, high: float) -> Callable[..., str]:
    return lambda graph, x, function, numbers: graph.add("Clip", x, graph.number(low),
                                                         graph.number(high))


def _in_single(operator: str, opset: int = 1, **attributes: Any) -> Callable[..., str]:
    """An operator that runtimes have in float32 alone."""
    def write(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
        if not graph.single:
            return _by_operator(graph, x, function, numbers)
        graph.opset = max(graph.opset, opset)
        return graph.add(operator, x, **attributes)

    return write


def _log_sigmoid(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    if not graph.single:
        return _by_operator(graph, x, function, numbers)
    below = graph.add("Softplus", graph.add("Neg", graph.add("Abs", x)))
    return graph.add("Sub", graph.add("Min", x, graph.number(0)), below)


def _tanh_shrink(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    return graph.add("Sub", x, graph.add("Tanh", x))


# Functions that are better written otherwise than as one operator or as their expression.
_FORMS: dict[str, Callable[..., str]] = {
    "leaky_relu": _leaky_relu, "clipped_relu": _clipped_relu, "gelu": _gelu,
    "relu6": _clip(0, 6), "hard_tanh": _clip(-1, 1),
    "hard_sigmoid": _in_single("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sparse_sigmoid": _in_single("HardSigmoid", alpha=0.5, beta=0.5),
    "hard_silu": _in_single("HardSwish", 14),
    "hard_shrink": _in_single("Shrink", lambd=0.5, bias=0.0),
    "soft_shrink": _in_single("Shrink", lambd=0.5, bias=0.5),
    "log_sigmoid": _log_sigmoid, "tanh_shrink": _tanh_shrink,
}  # fmt: skip


def _written(graph: GraphWriter, e: Expression, x: str, named: Mapping[str, float]) -> str:
    """An expression, its parameters by name."""
    if e.operator == "x":
        return x
    if e.operator in ("number", "parameter"):
        return graph.number(_value(e, named))
    if e.operator == "scaled" and _value(e.operands[0], named) == 0:
        return graph.number(0)
    if e.operator == "minimum" and _value(e.operands[1], named) == math.inf:
        return _written(graph, e.operands[0], x, named)
    values = [_written(graph, operand, x, named) for operand in e.operands]
    if e.operator == "scaled":
        return graph.add("Mul", *values)
    if e.operator == "expm1":
        return graph.add("Sub", graph.add("Exp", *values), graph.number(1))
    if e.operator == "log1p":
        return graph.add("Log", graph.add("Add", *values, graph.number(1)))
    if e.operator == "where_at_most":
        return graph.add("Where", graph.add("LessOrEqual", *values[:2]), *values[2:])
    return graph.add(EXPRESSIONS[e.operator], *values)


def _value(e: Expression, named: Mapping[str, float]) -> float:
    return named[e.operands[0]] if e.operator == "parameter" else e.operands[0]


# Each takes the graph, the step, its layer's arrays and the values of the step's sources.
WRITE: dict[type[Operation], Callable[..., Value]] = {
    op.Dense: _dense, op.Convolve: _convolve, op.ConvolveTransposed: _convolve,
    op.ConvolveDepthwise: _convolve, op.Pool: _pool, op.BatchNorm: _batch_norm,
    op.RowNorm: _row_norm, op.Elementwise: _elementwise, op.Softmax: _softmax,
    op.Permute: lambda graph, step, arrays, x: x.permuted(step.operation.order),
    op.Reshape: _reshape, op.Pad: _pad, op.Repeat: _repeat, op.Combine: _combine,
    op.Concatenate: _concatenate, op.Part: _part,
    op.Affine: _affine, op.PRelu: _prelu, op.Embed: _embed, op.Dot: _dot,
    op.Disturb: lambda graph, step, arrays, x: x,
}
