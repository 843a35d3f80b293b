"""Operators as layers: dense layers, and arithmetic with constants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import layers
from nbbn.formats.onnx.builder import Affine, Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode

_LINEAR = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv1DTranspose,
           layers.Conv2DTranspose, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
Axes = tuple[int, ...]


def gemm(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    options = node.attributes
    kernel, bias = args[1], args[2] if len(args) > 2 else None
    fits = args[0] is None and not options.get("transA", 0) and len(net.shape) == 1
    if kernel is None or not fits:
        raise node.refuse("is no dense layer: its kernel must be a constant, its rows of one axis")
    _dense(net, node, (kernel.T if options.get("transB", 0) else kernel) * _factor(node, "alpha"))
    if bias is not None:
        arithmetic(net, node, "Add", bias * _factor(node, "beta"))


def _factor(node: OnnxNode, name: str) -> float | int:
    value = node.attributes.get(name, 1.0)
    return 1 if value == 1 else float(value)  # 1 keeps a kernel as it is


def matmul(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    if args[0] is not None or args[1] is None:
        raise node.refuse("is no dense layer: the second factor must be a constant")
    _dense(net, node, args[1])


def _dense(net: NetworkBuilder, node: OnnxNode, kernel: np.ndarray) -> None:
    if net.perm[-1:] != (len(net.shape) - 1,) and not net.settle(move=True):
        why = "a dense layer on images works on their channels, which must come last"
        raise node.refuse(why)
    if kernel.ndim != 2 or kernel.shape[0] != net.shape[-1] or not kernel.shape[1]:
        rows = f"rows of shape {net.graph_shape}"
        raise node.refuse(f"a kernel of shape {kernel.shape} does not fit {rows}")
    if net.order is not None:
        kernel = kernel[net.order]
    net.order = None
    net.add(layers.Dense(kernel.shape[1], use_bias=False), kernel=kernel)


def with_constant(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Add, Sub, Mul or Div: a bias, the gain or offset of a norm, else part of a batch norm."""
    constants = [array for array in args if array is not None]
    if len(constants) != 1 or len(args) != 2:
        raise node.refuse("combines no value with a constant")
    operator, first = node.operator, args[0] is not None
    if first and operator == "Div":
        raise node.refuse("divides a constant by a value; nbbn has no layer that does")
    if first and operator == "Sub":
        negative(net, node, args)
        operator = "Add"
    arithmetic(net, node, operator, constants[0])


def negative(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    arithmetic(net, node, "Mul", np.array(-1.0))


def arithmetic(net: NetworkBuilder, node: OnnxNode, operator: str, constant: np.ndarray) -> None:
    """`operator` with a constant."""
    axes, values = net.spread(constant)
    if operator == "Div" and np.any(values == 0):
        raise node.refuse("divides by 0")
    layer: Any = net.last
    if operator in ("Add", "Sub") and _takes_bias(net, axes):
        bias = np.array(np.broadcast_to(values, net.shape[-1:]))
        net.change(replace(layer, use_bias=True), bias=bias if operator == "Add" else -bias)
    elif operator in ("Add", "Mul") and _takes_gain(net, operator, axes):
        name, switch = ("gamma", "scale") if operator == "Mul" else ("beta", "center")
        shape = tuple(net.shape[axis] for axis in _norm_axes(net))
        net.limited(math.prod(shape))
        whole = np.array(values.reshape(shape) if axes else np.broadcast_to(values, shape))
        net.change(replace(layer, **{switch: True}), **{name: whole})
    else:
        _affine(net, node, operator, axes, values)


def _takes_bias(net: NetworkBuilder, axes: Axes) -> bool:
    layer, last_axis = net.last, (len(net.shape) - 1,)
    return isinstance(layer, _LINEAR) and not layer.use_bias and axes in ((), last_axis)


def _norm_axes(net: NetworkBuilder) -> Axes:
    """The axes of the arrays of the norm that comes last; none where no norm does."""
    layer = net.last
    if isinstance(layer, layers.LayerNormalization):
        return layer.axes(net.shape)
    if isinstance(layer, layers.GroupNormalization):
        return (layer.axis % (len(net.shape) + 1) - 1,)
    return ()


def _takes_gain(net: NetworkBuilder, operator: str, axes: Axes) -> bool:
    norm, layer = _norm_axes(net), net.last
    if not isinstance(layer, layers.LayerNormalization | layers.GroupNormalization):
        return False
    free = not layer.center and not (operator == "Mul" and layer.scale)
    return free and axes in ((), tuple(axis for axis in norm if net.shape[axis] > 1))


def _affine(net: NetworkBuilder, node: OnnxNode, operator: str, axes: Axes,
            values: np.ndarray) -> None:
    if len(axes) > 1 and operator in ("Mul", "Div") and np.any(values <= 0):
        rows = f"a constant along more than one axis of rows of shape {net.graph_shape}"
        raise node.refuse(f"{rows} is no layer where it multiplies by 0 or less")
    last = net.last
    net.limited(math.prod(net.shape[axis] for axis in axes or (-1,)))
    if not isinstance(last, Affine) or (last.axes and axes and last.axes != axes):
        net.add(last := Affine(*axes))
    last.axes = last.axes or axes
    last.then(operator, values)
