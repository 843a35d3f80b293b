"""ONNX nodes as layers: dense layers, arithmetic with constants, bounds of a ReLU."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nbbn.interop.onnx_reading.model import Node
from nbbn.interop.onnx_reading.rows import Affine, Rows
from nbbn.layers import (
    Activation,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    GroupNormalization,
    LayerNormalization,
    LeakyReLU,
    ReLU,
)

_AFFINES = (Dense, Conv2D, Conv2DTranspose, DepthwiseConv2D)


# -- dense layers


def _gemm(rows: Rows, node: Node, args: list, context) -> None:
    options = node.attributes
    kernel, bias = args[1], args[2] if len(args) > 2 else None
    if args[0] is not None or kernel is None or options.get("transA", 0) or len(rows.shape) != 1:
        raise node.refuse("is no dense layer: its kernel must be a constant, its rows of one axis")
    kernel = (kernel.T if options.get("transB", 0) else kernel) * _number(options.get("alpha", 1.0))
    _dense(rows, node, kernel)
    if bias is not None:
        _arithmetic("Add")(rows, node, [None, bias * _number(options.get("beta", 1.0))], context)


def _number(value: float) -> float | int:
    return 1 if value == 1 else float(value)  # 1 keeps a kernel as it is


def _matmul(rows: Rows, node: Node, args: list, context) -> None:
    if args[0] is not None or args[1] is None:
        raise node.refuse("is no dense layer: the second factor must be a constant")
    _dense(rows, node, args[1])


def _dense(rows: Rows, node: Node, kernel: np.ndarray) -> None:
    if rows.perm[-1] != len(rows.shape) - 1 and not rows.settle():
        raise node.refuse("a dense layer on images works on their channels, which must come last")
    if kernel.ndim != 2 or kernel.shape[0] != rows.shape[-1] or not kernel.shape[1]:
        raise node.refuse(f"a kernel of shape {kernel.shape} does not fit rows of shape {rows.graph_shape}")
    if rows.order is not None:
        kernel = kernel[rows.order]
    rows.order = None
    rows.add(Dense(kernel.shape[1], use_bias=False), kernel=kernel)


# -- arithmetic with constants


def _arithmetic(operator: str):
    def read(rows: Rows, node: Node, args: list, context) -> None:
        constants = [array for array in args if array is not None]
        if len(constants) != 1 or (operator in ("Sub", "Div") and args[0] is not None):
            raise node.refuse("combines two values, or a constant with a value in the wrong order")
        axes, values = rows.spread(constants[0])
        if operator == "Div" and np.any(values == 0):
            raise node.refuse("divides by 0")
        if operator in ("Add", "Sub") and _takes_bias(rows, axes):
            _add_bias(rows, values if operator == "Add" else -values)
        elif operator in ("Add", "Mul") and _takes_gain(rows, operator, axes):
            _add_gain(rows, operator, axes, values)
        else:
            _affine(rows, node, operator, axes, values)

    return read


def _takes_bias(rows: Rows, axes: tuple[int, ...]) -> bool:
    layer = rows.last
    return isinstance(layer, _AFFINES) and not layer.use_bias and axes in ((), (len(rows.shape) - 1,))


def _add_bias(rows: Rows, values: np.ndarray) -> None:
    layer, arrays, before = rows.steps[-1]
    bias = np.array(np.broadcast_to(values, rows.shape[-1:]))
    rows.steps[-1] = [replace(layer, use_bias=True), {**arrays, "bias": bias}, before]


def _norm_axes(rows: Rows) -> tuple[int, ...] | None:
    """The axes of the arrays of the norm that comes last."""
    layer = rows.last
    if isinstance(layer, LayerNormalization):
        return layer.axes(rows.shape)
    if isinstance(layer, GroupNormalization):
        return (layer.axis % (len(rows.shape) + 1) - 1,)
    return None


def _takes_gain(rows: Rows, operator: str, axes: tuple[int, ...]) -> bool:
    norm = _norm_axes(rows)
    if norm is None or rows.last.center or (operator == "Mul" and rows.last.scale):
        return False
    return axes == tuple(axis for axis in norm if rows.shape[axis] > 1) or axes == ()


def _add_gain(rows: Rows, operator: str, axes: tuple[int, ...], values: np.ndarray) -> None:
    layer, arrays, before = rows.steps[-1]
    shape = tuple(rows.shape[axis] for axis in _norm_axes(rows))
    rows.limited(math.prod(shape))
    whole = np.array(values.reshape(shape) if axes else np.broadcast_to(values, shape))
    name, switch = ("gamma", "scale") if operator == "Mul" else ("beta", "center")
    rows.steps[-1] = [replace(layer, **{switch: True}), {**arrays, name: whole}, before]


def _affine(rows: Rows, node: Node, operator: str, axes: tuple[int, ...], values: np.ndarray) -> None:
    if len(axes) > 1:
        raise node.refuse(f"a constant along more than one axis of rows of shape {rows.graph_shape} is no layer")
    last = rows.last
    axis = axes[0] if axes else None
    rows.limited(rows.shape[-1 if axis is None else axis])
    if not isinstance(last, Affine) or (None not in (last.axis, axis) and last.axis != axis):
        rows.add(last := Affine(axis))
    if last.axis is None:
        last.axis = axis
    last.then(operator, values)


# -- bounds


def _clip(rows: Rows, node: Node, args: list, context) -> None:
    low = args[1] if len(args) > 1 else node.attributes.get("min")
    high = args[2] if len(args) > 2 else node.attributes.get("max")
    low, high = (None if value is None else one_number(node, value) for value in (low, high))
    if low is not None and low <= -3e38:
        low = None
    if high is not None and high >= 3e38:
        high = None
    if low not in (0, None):
        raise node.refuse(f"clips at {low:g}; a ReLU clips at 0")
    if low is None and high is not None:
        _bound(rows, node, high)
    elif low == 0:
        rows.add(Activation("relu") if high is None else ReLU(high))


def _min(rows: Rows, node: Node, args: list, context) -> None:
    constants = [array for array in args if array is not None]
    if len(args) != 2 or len(constants) != 1:
        raise node.refuse("is no bound of a ReLU")
    _bound(rows, node, one_number(node, constants[0]))


def _bound(rows: Rows, node: Node, high: float) -> None:
    """A largest value on top of a ReLU."""
    layer = rows.last
    if isinstance(layer, Activation) and layer.activation == "relu":
        slope = 0.0
    elif isinstance(layer, LeakyReLU):
        slope = layer.negative_slope
    else:
        raise node.refuse("bounds values that no ReLU gives")
    rows.drop()
    rows.add(ReLU(high, slope))


def _max(rows: Rows, node: Node, args: list, context) -> None:
    constants = [array for array in args if array is not None]
    if len(args) != 2 or len(constants) != 1 or one_number(node, constants[0]) != 0:
        raise node.refuse("is no ReLU: max(x, 0)")
    rows.add(Activation("relu"))


def one_number(node: Node, value) -> float:
    """A constant of one number."""
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in "fi" or np.isnan(value).any():
        raise node.refuse("needs a constant of one number")
    return round_trip(value)


def round_trip(value) -> float:
    """A float32 as the shortest decimal that means it: 0.2, not 0.20000000298023224."""
    value = np.asarray(value).reshape(-1)[0]
    return float(str(value)) if value.dtype == np.float32 else float(value)


READ = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    **{operator: _arithmetic(operator) for operator in ("Add", "Sub", "Mul", "Div")},
    "Clip": _clip,
    "Min": _min,
    "Max": _max,
}
