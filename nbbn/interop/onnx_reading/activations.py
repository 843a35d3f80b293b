"""ONNX activations as layers."""

from __future__ import annotations

import numpy as np

from nbbn.interop.onnx_reading.arithmetic import round_trip
from nbbn.interop.onnx_reading.model import Node
from nbbn.interop.onnx_reading.rows import Rows
from nbbn.layers import ELU, Activation, LeakyReLU, ReLU, Softmax

SELU = (1.6732632423543772, 1.0507009873554805)


def _named(name: str):
    def read(rows: Rows, node: Node, args: list, context) -> None:
        rows.add(Activation(name))

    return read


def _number(node: Node, name: str, default: float) -> float:
    return round_trip(np.float32(node.attributes.get(name, default)))


def _leaky_relu(rows: Rows, node: Node, args: list, context) -> None:
    rows.add(LeakyReLU(_number(node, "alpha", 0.01)))


def _prelu(rows: Rows, node: Node, args: list, context) -> None:
    slope = args[1] if len(args) == 2 else None
    if slope is None or not slope.size or np.any(slope != slope.flat[0]):
        raise node.refuse("has slopes of its own for each channel; a LeakyReLU has one")
    rows.add(LeakyReLU(round_trip(slope)))


def _elu(rows: Rows, node: Node, args: list, context) -> None:
    rows.add(elu_of(_number(node, "alpha", 1.0)))


def elu_of(alpha: float):
    """The layer for this alpha."""
    return Activation("elu") if alpha == 1 else ELU(alpha)


def _selu(rows: Rows, node: Node, args: list, context) -> None:
    given = _number(node, "alpha", SELU[0]), _number(node, "gamma", SELU[1])
    if not np.allclose(given, SELU, rtol=1e-6, atol=0):
        raise node.refuse(f"has alpha {given[0]:g} and gamma {given[1]:g}, selu has others")
    rows.add(Activation("selu"))


def _gelu(rows: Rows, node: Node, args: list, context) -> None:
    if node.attributes.get("approximate", "none") != "none":
        raise node.refuse("is an approximation of gelu; nbbn has the exact one")
    rows.add(Activation("gelu"))


def _thresholded(rows: Rows, node: Node, args: list, context) -> None:
    rows.add(ReLU(threshold=_number(node, "alpha", 1.0)))


def _softmax(rows: Rows, node: Node, args: list, context) -> None:
    default = -1 if context.opset >= 13 else 1
    axis = node.attributes.get("axis", default)
    rank = len(rows.shape) + 1
    if context.opset < 13 and axis not in (-1, rank - 1):
        raise node.refuse(f"over all axes from {axis} on, as before opset 13, is not supported")
    rows.add(Softmax(rows.own_axis(axis) + 1))


READ = {
    "Relu": _named("relu"),
    "Sigmoid": _named("sigmoid"),
    "Tanh": _named("tanh"),
    "Softplus": _named("softplus"),
    "Exp": _named("exponential"),
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Elu": _elu,
    "Selu": _selu,
    "Gelu": _gelu,
    "ThresholdedRelu": _thresholded,
    "Softmax": _softmax,
}
