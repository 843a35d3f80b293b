"""What a network computes as ONNX nodes: a function for each operation.

In float64 they avoid what only float32 has: attributes, and the operators that ONNX Runtime computes
in float32 alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.activations import ELEMENTWISE
from nbbn.expressions import Expression
from nbbn.formats.onnx.operators import ACTIVATIONS
from nbbn.formats.onnx.writer import CHANNELS_FIRST, GraphWriter, Value
from nbbn.operations import Operation, Sides, Step

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
    return Value.ordered(name, step.output_shape, range(len(x.shape)))


def _convolution(
    graph: GraphWriter,
    step: Step[Any],
    arrays: Arrays,
    x: Value,
    kernel: np.ndarray,
    operator: str = "Conv",
    **attributes: Any,
) -> Value:
    """A convolution with a kernel in ONNX's layout, and the layer's bias."""
    window = step.operation.window
    weights = [graph.constant(array) for array in (kernel, arrays.get("bias")) if array is not None]
    name = graph.add(
        operator,
        graph.images(x).name,
        *weights,
        kernel_shape=window.size,
        strides=window.strides,
        dilations=window.dilation,
        **attributes,
    )
    return Value.ordered(name, step.output_shape, CHANNELS_FIRST)


def _before_then_after(sides: Sides) -> list[int]:
    """`((top, bottom), (left, right))` as ONNX lists it."""
    return [before for before, _ in sides] + [after for _, after in sides]


def _convolve(graph: GraphWriter, step: Step[op.Convolve], arrays: Arrays, x: Value) -> Value:
    pads = _before_then_after(step.operation.window.sides)
    kernel = arrays["kernel"].transpose(3, 2, 0, 1)
    return _convolution(graph, step, arrays, x, kernel, pads=pads, group=step.operation.groups)


def _depthwise(
    graph: GraphWriter, step: Step[op.ConvolveDepthwise], arrays: Arrays, x: Value
) -> Value:
    window = step.operation.window
    pads, channels = _before_then_after(window.sides), step.input_shape[2]
    kernel = arrays["kernel"].transpose(2, 3, 0, 1).reshape(-1, 1, *window.size)
    return _convolution(graph, step, arrays, x, kernel, pads=pads, group=channels)


def _transposed(
    graph: GraphWriter, step: Step[op.ConvolveTransposed], arrays: Arrays, x: Value
) -> Value:
    (top, bottom), (left, right) = step.operation.window.sides
    options = {
        "pads": [top, left, max(bottom, 0), max(right, 0)],
        "output_padding": [max(-bottom, 0), max(-right, 0)],
    }
    kernel = arrays["kernel"].transpose(3, 2, 0, 1)
    return _convolution(graph, step, arrays, x, kernel, "ConvTranspose", **options)


# -- pools and moves


def _pool(graph: GraphWriter, step: Step[op.Pool], arrays: Arrays, x: Value) -> Value:
    window, largest = step.operation.window, step.operation.kind == "max"
    if step.operation.is_global(step.input_shape):
        return _pool_all(graph, step, x, largest)
    name = graph.add(
        "MaxPool" if largest else "AveragePool",
        graph.images(x).name,
        kernel_shape=window.size,
        strides=window.strides,
        pads=_before_then_after(window.sides),
    )
    return Value.ordered(name, step.output_shape, CHANNELS_FIRST)


def _pool_all(graph: GraphWriter, step: Step[op.Pool], x: Value, largest: bool) -> Value:
    if not x.channels_first:
        x = graph.plain(x)
    if x.channels_first and graph.single:
        name = graph.add("GlobalMaxPool" if largest else "GlobalAveragePool", x.name)
    else:
        axes = [a + 1 for group in x.groups[:2] for a in group]
        name = graph.add("ReduceMax" if largest else "ReduceMean", x.name, axes=axes)
    order = CHANNELS_FIRST if x.channels_first else (0, 1, 2)
    return Value.ordered(name, step.output_shape, order)


def _pad(graph: GraphWriter, step: Step[op.Pad], arrays: Arrays, x: Value) -> Value:
    if not x.channels_first:
        x = graph.plain(x)
    pads = np.zeros((2, 4), np.int64)
    for group, sides in zip(x.groups, step.operation.sides):
        pads[:, group[0] + 1] = sides
    name = graph.add("Pad", x.name, graph.constant(pads.reshape(-1)))
    order = CHANNELS_FIRST if x.channels_first else (0, 1, 2)
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


def _permute(graph: GraphWriter, step: Step[op.Permute], arrays: Arrays, x: Value) -> Value:
    return x.permuted(step.operation.order)


def _reshape(graph: GraphWriter, step: Step[op.Reshape], arrays: Arrays, x: Value) -> Value:
    y, shape = x.regrouped(step.output_shape), step.output_shape
    if y is not None:
        return y
    return Value.ordered(graph.reshape(graph.plain(x).name, shape), shape, range(len(shape)))


def _nothing(graph: GraphWriter, step: Step[op.Disturb], arrays: Arrays, x: Value) -> Value:
    return x


# -- norms


def _batch_norm(graph: GraphWriter, step: Step[op.BatchNorm], arrays: Arrays, x: Value) -> Value:
    if len(x.shape) == 1:
        x = graph.features(x)
    elif x.plain and len(x.shape) == 3:
        x = graph.images(x)
    elif x.flat or len(x.groups[-1]) != 1:
        x = graph.plain(x)
    if not x.flat and x.groups[-1] != (0,):  # the operator's only axis
        return _batch_norm_by_hand(graph, step, arrays, x)
    # The attribute epsilon is a float32: what that loses goes into the variance, or float64 would
    # be off by 1e-8.
    epsilon = float(np.float32(step.operation.epsilon))
    lost = step.operation.epsilon - epsilon
    var = (arrays["var"].astype(np.float64) + lost).astype(graph.dtype)
    gamma = arrays.get("gamma", np.ones_like(var))
    beta = arrays.get("beta", np.zeros_like(var))
    given = (gamma, beta, arrays["mean"], var)
    names = [graph.constant(x.along_last(array).reshape(-1)) for array in given]
    # Inference takes no momentum, but `onnx.reference` moves the statistics towards the batch's
    # with any other than 1.
    name = graph.add("BatchNormalization", x.name, *names, epsilon=epsilon, momentum=1.0)
    return x.called(name)


def _batch_norm_by_hand(
    graph: GraphWriter, step: Step[op.BatchNorm], arrays: Arrays, x: Value
) -> Value:
    var = arrays["var"].astype(np.float64) + step.operation.epsilon
    gain = (arrays.get("gamma", 1) / np.sqrt(var)).astype(graph.dtype)
    centred = graph.add("Sub", x.name, graph.constant(x.along_last(arrays["mean"])))
    return _scaled(graph, x.called(centred), gain, arrays.get("beta"))


def _row_norm(graph: GraphWriter, step: Step[op.RowNorm], arrays: Arrays, x: Value) -> Value:
    operation, (*pixels, channels) = step.operation, step.input_shape
    if operation.pixels == 1 and operation.channels == channels:
        return _layer_norm(graph, step, arrays, x)
    if operation.pixels != math.prod(pixels):
        raise ValueError("to_onnx writes norms over all pixels of a row, or over each on its own")
    return _group_norm(graph, step, arrays, x, channels // operation.channels)


def _layer_norm(graph: GraphWriter, step: Step[op.RowNorm], arrays: Arrays, x: Value) -> Value:
    if x.flat or len(x.groups[-1]) == 1:
        x = graph.features(x) if len(x.shape) == 1 else graph.plain(x)
    rank = 1 if x.flat else len(x.dims)
    axes = [0] if x.flat else sorted(x.groups[-1])
    gamma, beta = (
        None if array is None else array.reshape(-1)
        for array in (arrays.get("gamma"), arrays.get("beta"))
    )
    first = axes[0]
    if not graph.single or axes != list(range(first, rank)):
        at = [axis + 1 for axis in axes]
        name = _standardise(graph, x.name, at, step.operation.epsilon)
        return _scaled(graph, x.called(name), gamma, beta)
    graph.opset = max(graph.opset, LAYER_NORMALIZATION_OPSET)
    gamma = np.ones(step.input_shape[-1], graph.dtype) if gamma is None else gamma
    spread = [x.along_last(array) for array in (gamma, beta) if array is not None]
    weights = [graph.constant(array.reshape(array.shape[first:])) for array in spread]
    options = {"axis": first + 1, "epsilon": step.operation.epsilon}
    return x.called(graph.add("LayerNormalization", x.name, *weights, **options))


def _group_norm(
    graph: GraphWriter, step: Step[op.RowNorm], arrays: Arrays, x: Value, groups: int
) -> Value:
    if x.plain and len(x.shape) == 3:
        x = graph.images(x)
    elif x.flat or len(x.groups[-1]) != 1:
        x = graph.plain(x)
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
    return _scaled(
        graph, x.called(graph.reshape(name, x.dims)), arrays.get("gamma"), arrays.get("beta")
    )


def _standardise(graph: GraphWriter, x: str, axes: Sequence[int], epsilon: float) -> str:
    """`(x - mean) / sqrt(var + epsilon)` of each row over the array's axes."""
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=axes))
    # Not a power: ONNX Runtime would make one operator of it, whose epsilon is a float32.
    var = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=axes)
    deviation = graph.add("Sqrt", graph.add("Add", var, graph.number(epsilon)))
    return graph.add("Div", centred, deviation)


def _scaled(
    graph: GraphWriter, x: Value, gamma: np.ndarray | None, beta: np.ndarray | None
) -> Value:
    """`gamma * x + beta` along the row's last axis."""
    for array, operator in ((gamma, "Mul"), (beta, "Add")):
        if array is not None:
            x = x.called(graph.add(operator, x.name, graph.constant(x.along_last(array))))
    return x


# -- activations


def _softmax(graph: GraphWriter, step: Step[op.Softmax], arrays: Arrays, x: Value) -> Value:
    if len(x.shape) == 1:
        x = graph.features(x)
    if x.flat or len(x.groups[-1]) == 1:
        # At the end and contiguous: runtimes would transpose by themselves.
        x = x if x.flat else graph.plain(x)
        return x.called(graph.add("Softmax", x.name, axis=1 if x.flat else len(x.dims)))
    axes = [a + 1 for a in sorted(x.groups[-1])]
    centred = graph.add("Sub", x.name, graph.add("ReduceMax", x.name, axes=axes))
    grown = graph.add("Exp", centred)
    total = graph.add("ReduceSum", grown, graph.integers(axes))
    return x.called(graph.add("Div", grown, total))


def _elementwise(graph: GraphWriter, step: Step[op.Elementwise], arrays: Arrays, x: Value) -> Value:
    function, numbers = step.operation.function, step.operation.numbers
    return x.called(_activated(graph, x.name, function, numbers))


def _activated(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    """A function by its operator where there is one, else by its expression."""
    if function in _FORMS:
        return _FORMS[function](graph, x, *numbers)
    return _by_operator(graph, x, function, numbers)


def _by_operator(graph: GraphWriter, x: str, function: str, numbers: Sequence[float]) -> str:
    record = ELEMENTWISE[function]
    named = record.named(numbers or record.defaults)
    if function in ACTIVATIONS and graph.single:
        operator, attributes = ACTIVATIONS[function]
        return graph.add(operator, x, **{attributes[name]: value for name, value in named.items()})
    return _written(graph, record.expression, x, named)


def _leaky_relu(graph: GraphWriter, x: str, slope: float) -> str:
    return _by_operator(graph, x, "leaky_relu", (slope,)) if slope else graph.add("Relu", x)


def _clipped_relu(graph: GraphWriter, x: str, slope: float, top: float, threshold: float) -> str:
    if threshold:
        return _by_operator(graph, x, "clipped_relu", (slope, top, threshold))
    if slope == 0:
        return graph.add("Clip", x, graph.number(0), graph.number(top))
    return graph.add("Min", _leaky_relu(graph, x, slope), graph.number(top))


def _gelu(graph: GraphWriter, x: str) -> str:
    # In this order ONNX Runtime knows it as one operator.
    error = graph.add("Erf", graph.add("Div", x, graph.number(math.sqrt(2))))
    doubled = graph.add("Mul", x, graph.add("Add", error, graph.number(1)))
    return graph.add("Mul", doubled, graph.number(0.5))


# Functions that are better written otherwise than as one operator or as their expression.
_FORMS: dict[str, Callable[..., str]] = {
    "leaky_relu": _leaky_relu,
    "clipped_relu": _clipped_relu,
    "gelu": _gelu,
}


def _written(graph: GraphWriter, e: Expression, x: str, named: Mapping[str, float]) -> str:
    """An expression, its parameters by name."""
    if e.operator == "x":
        return x
    if e.operator in ("number", "parameter"):
        return graph.number(named[e.operands[0]] if e.operator == "parameter" else e.operands[0])
    if e.operator == "scaled" and _written_number(e.operands[0], named) == 0:
        return graph.number(0)
    if e.operator == "minimum" and _written_number(e.operands[1], named) == math.inf:
        return _written(graph, e.operands[0], x, named)
    values = [_written(graph, operand, x, named) for operand in e.operands]
    return _EXPRESSIONS[e.operator](graph, *values)


def _written_number(e: Expression, named: Mapping[str, float]) -> float | None:
    return named[e.operands[0]] if e.operator == "parameter" else None


def _operator(name: str) -> Callable[..., str]:
    return lambda graph, *values: graph.add(name, *values)


_EXPRESSIONS: dict[str, Callable[..., str]] = {
    "add": _operator("Add"),
    "subtract": _operator("Sub"),
    "multiply": _operator("Mul"),
    "divide": _operator("Div"),
    "negative": _operator("Neg"),
    "exp": _operator("Exp"),
    "erf": _operator("Erf"),
    "tanh": _operator("Tanh"),
    "sigmoid": _operator("Sigmoid"),
    "absolute": _operator("Abs"),
    "relu": _operator("Relu"),
    "minimum": _operator("Min"),
    "scaled": lambda graph, factor, x: graph.add("Mul", x, factor),
    "expm1": lambda graph, x: graph.add("Sub", graph.add("Exp", x), graph.number(1)),
    "log1p": lambda graph, x: graph.add("Log", graph.add("Add", x, graph.number(1))),
    "where_at_most": lambda graph, x, bound, below, above: graph.add(
        "Where", graph.add("LessOrEqual", x, bound), below, above
    ),
}

# Each takes the graph, the step, its layer's arrays and the values of the step's sources.
WRITE: dict[type[Operation], Callable[..., Value]] = {
    op.Dense: _dense,
    op.Convolve: _convolve,
    op.ConvolveTransposed: _transposed,
    op.ConvolveDepthwise: _depthwise,
    op.Pool: _pool,
    op.BatchNorm: _batch_norm,
    op.RowNorm: _row_norm,
    op.Elementwise: _elementwise,
    op.Softmax: _softmax,
    op.Permute: _permute,
    op.Reshape: _reshape,
    op.Pad: _pad,
    op.Repeat: _repeat,
    op.Disturb: _nothing,
}
