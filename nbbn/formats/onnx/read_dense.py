"""Operators as layers: dense layers, and arithmetic with constants."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nbbn.formats.onnx.builder import Affine, Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.layers import (
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    GroupNormalization,
    LayerNormalization,
)

_LINEAR = (Dense, Conv2D, Conv2DTranspose, DepthwiseConv2D)


def gemm(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A dense layer."""
    options = node.attributes
    kernel, bias = args[1], args[2] if len(args) > 2 else None
    turned = options.get("transA", 0) or len(net.shape) != 1
    if args[0] is not None or kernel is None or turned:
        raise node.refuse("is no dense layer: its kernel must be a constant, its rows of one axis")
    kernel = (kernel.T if options.get("transB", 0) else kernel) * _factor(node, "alpha")
    _dense(net, node, kernel)
    if bias is not None:
        arithmetic(net, node, "Add", bias * _factor(node, "beta"))


def _factor(node: OnnxNode, name: str) -> float | int:
    value = node.attributes.get(name, 1.0)
    return 1 if value == 1 else float(value)  # 1 keeps a kernel as it is


def matmul(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A dense layer without a bias."""
    if args[0] is not None or args[1] is None:
        raise node.refuse("is no dense layer: the second factor must be a constant")
    _dense(net, node, args[1])


def _dense(net: NetworkBuilder, node: OnnxNode, kernel: np.ndarray) -> None:
    if net.perm[-1] != len(net.shape) - 1 and not net.settle():
        raise node.refuse("a dense layer on images works on their channels, which must come last")
    if kernel.ndim != 2 or kernel.shape[0] != net.shape[-1] or not kernel.shape[1]:
        raise node.refuse(
            f"a kernel of shape {kernel.shape} does not fit rows of shape {net.graph_shape}"
        )
    if net.order is not None:
        kernel = kernel[net.order]
    net.order = None
    net.add(Dense(kernel.shape[1], use_bias=False), kernel=kernel)


def with_constant(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Add, Sub, Mul or Div: a bias, the gain or offset of a norm, else part of a batch norm."""
    constants = [array for array in args if array is not None]
    in_order = node.operator in ("Add", "Mul") or args[0] is None
    if len(constants) != 1 or not in_order:
        raise node.refuse("combines two values, or a constant with a value in the wrong order")
    arithmetic(net, node, node.operator, constants[0])


def arithmetic(net: NetworkBuilder, node: OnnxNode, operator: str, constant: np.ndarray) -> None:
    """`operator` with a constant."""
    axes, values = net.spread(constant)
    if operator == "Div" and np.any(values == 0):
        raise node.refuse("divides by 0")
    if operator in ("Add", "Sub") and _takes_bias(net, axes):
        values = values if operator == "Add" else -values
        bias = np.array(np.broadcast_to(values, net.shape[-1:]))
        net.change(replace(net.last, use_bias=True), bias=bias)
    elif operator in ("Add", "Mul") and _takes_gain(net, operator, axes):
        _put_gain(net, operator, axes, values)
    else:
        _affine(net, node, operator, axes, values)


def _takes_bias(net: NetworkBuilder, axes: tuple[int, ...]) -> bool:
    layer, last_axis = net.last, (len(net.shape) - 1,)
    return isinstance(layer, _LINEAR) and not layer.use_bias and axes in ((), last_axis)


def _norm_axes(net: NetworkBuilder) -> tuple[int, ...] | None:
    """The axes of the arrays of the norm that comes last."""
    layer = net.last
    if isinstance(layer, LayerNormalization):
        return layer.axes(net.shape)
    if isinstance(layer, GroupNormalization):
        return (layer.axis % (len(net.shape) + 1) - 1,)
    return None


def _takes_gain(net: NetworkBuilder, operator: str, axes: tuple[int, ...]) -> bool:
    norm = _norm_axes(net)
    if norm is None or net.last.center or (operator == "Mul" and net.last.scale):
        return False
    return axes in ((), tuple(axis for axis in norm if net.shape[axis] > 1))


def _put_gain(
    net: NetworkBuilder, operator: str, axes: tuple[int, ...], values: np.ndarray
) -> None:
    shape = tuple(net.shape[axis] for axis in _norm_axes(net))
    net.limited(math.prod(shape))
    whole = np.array(values.reshape(shape) if axes else np.broadcast_to(values, shape))
    name, switch = ("gamma", "scale") if operator == "Mul" else ("beta", "center")
    net.change(replace(net.last, **{switch: True}), **{name: whole})


def _affine(
    net: NetworkBuilder, node: OnnxNode, operator: str, axes: tuple[int, ...], values: np.ndarray
) -> None:
    if len(axes) > 1:
        raise node.refuse(
            f"a constant along more than one axis of rows of shape {net.graph_shape} is no layer"
        )
    last, axis = net.last, axes[0] if axes else None
    net.limited(net.shape[-1 if axis is None else axis])
    if not isinstance(last, Affine) or (None not in (last.axis, axis) and last.axis != axis):
        net.add(last := Affine(axis))
    if last.axis is None:
        last.axis = axis
    last.then(operator, values)
