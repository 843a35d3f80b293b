"""Operators as activations, and the bounds of a ReLU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbbn.formats.onnx.builder import Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.layers import ELU, Activation, LeakyReLU, ReLU, Softmax

SELU = (1.6732632423543772, 1.0507009873554805)


def named(name: str) -> Callable[[NetworkBuilder, OnnxNode, Args], None]:
    """The activation of this name."""

    def read(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
        net.add(Activation(name))

    return read


def _number(node: OnnxNode, name: str, default: float) -> float:
    return round_trip(np.float32(node.attributes.get(name, default)))


def leaky_relu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A slope below 0."""
    net.add(LeakyReLU(_number(node, "alpha", 0.01)))


def prelu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A slope below 0 that was learned."""
    slope = args[1] if len(args) == 2 else None
    if slope is None or not slope.size or np.any(slope != slope.flat[0]):
        raise node.refuse("has slopes of its own for each channel; a LeakyReLU has one")
    net.add(LeakyReLU(round_trip(slope)))


def elu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """By its alpha."""
    net.add(elu_of(_number(node, "alpha", 1.0)))


def elu_of(alpha: float) -> Activation | ELU:
    """The layer for this alpha."""
    return Activation("elu") if alpha == 1 else ELU(alpha)


def selu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """With its constants alone."""
    given = _number(node, "alpha", SELU[0]), _number(node, "gamma", SELU[1])
    if not np.allclose(given, SELU, rtol=1e-6, atol=0):
        raise node.refuse(f"has alpha {given[0]:g} and gamma {given[1]:g}, selu has others")
    net.add(Activation("selu"))


def gelu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """The exact one alone."""
    if node.attributes.get("approximate", "none") != "none":
        raise node.refuse("is an approximation of gelu; nbbn has the exact one")
    net.add(Activation("gelu"))


def thresholded_relu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A ReLU that begins later."""
    net.add(ReLU(threshold=_number(node, "alpha", 1.0)))


def softmax(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Over one axis."""
    axis = node.attributes.get("axis", -1 if net.opset >= 13 else 1)
    if net.opset < 13 and axis not in (-1, len(net.shape)):
        raise node.refuse(f"over all axes from {axis} on, as before opset 13, is not supported")
    net.add(Softmax(net.own_axis(axis) + 1))


# -- bounds


def clip(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A ReLU, or the bound of one."""
    low, high = (
        args[at] if len(args) > at else node.attributes.get(name)
        for at, name in ((1, "min"), (2, "max"))
    )
    least = -np.inf if low is None else one_number(node, low)
    most = np.inf if high is None else one_number(node, high)
    if least != 0 and least > -3e38:
        raise node.refuse(f"clips at {least:g}; a ReLU clips at 0")
    if least == 0:
        net.add(Activation("relu") if most >= 3e38 else ReLU(most))
    elif most < 3e38:
        _bound(net, node, most)


def minimum(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """The bound of a ReLU."""
    constants = [array for array in args if array is not None]
    if len(args) != 2 or len(constants) != 1:
        raise node.refuse("is no bound of a ReLU")
    _bound(net, node, one_number(node, constants[0]))


def _bound(net: NetworkBuilder, node: OnnxNode, high: float) -> None:
    """A largest value on top of a ReLU."""
    layer = net.last
    if isinstance(layer, Activation) and layer.activation == "relu":
        slope = 0.0
    elif isinstance(layer, LeakyReLU):
        slope = layer.negative_slope
    else:
        raise node.refuse("bounds values that no ReLU gives")
    net.drop()
    net.add(ReLU(high, slope))


def maximum(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A ReLU."""
    constants = [array for array in args if array is not None]
    if len(args) != 2 or len(constants) != 1 or one_number(node, constants[0]) != 0:
        raise node.refuse("is no ReLU: max(x, 0)")
    net.add(Activation("relu"))


def one_number(node: OnnxNode, value: np.ndarray | float) -> float:
    """A constant of one number."""
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in "fi" or np.isnan(value).any():
        raise node.refuse("needs a constant of one number")
    return round_trip(value)


def round_trip(value: np.ndarray | np.floating) -> float:
    """A float32 as the shortest decimal that means it: 0.2, not 0.20000000298023224."""
    value = np.asarray(value).reshape(-1)[0]
    return float(str(value)) if value.dtype == np.float32 else float(value)
