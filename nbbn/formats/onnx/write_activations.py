"""Activations as ONNX nodes, by name and as layers.

In float64 they avoid what only float32 has: attributes, and the operators that ONNX Runtime computes in float32 alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nbbn.formats.onnx.write_graph import Graph, Value
from nbbn.layers import ELU, Activation, LeakyReLU, ReLU, Softmax

# Klambauer et al. (2017), equation 14.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def activate(graph: Graph, x: Value, activation: str) -> Value:
    """The activation of this name."""
    if activation == "softmax":
        return _softmax(graph, x, (len(x.shape) - 1,))
    return x.called(_ELEMENTWISE[activation](graph, x.name))


def _operator(name: str) -> Callable[[Graph, str], str]:
    return lambda graph, x: graph.add(name, x)


def _leaky_relu(graph: Graph, x: str, slope: float = 0.2) -> str:
    if slope == 0:
        return graph.add("Relu", x)
    if graph.single:
        return graph.add("LeakyRelu", x, alpha=slope)
    return graph.add("Max" if slope <= 1 else "Min", x, graph.add("Mul", x, graph.number(slope)))


def _elu(graph: Graph, x: str, alpha: float = 1.0) -> str:
    if graph.single:
        return graph.add("Elu", x, alpha=alpha)
    grown = graph.add("Exp", graph.add("Min", x, graph.number(0)))
    below = graph.add("Mul", graph.add("Sub", grown, graph.number(1)), graph.number(alpha))
    return graph.add("Add", graph.add("Relu", x), below)


def _selu(graph: Graph, x: str) -> str:
    if graph.single:
        return graph.add("Selu", x)
    return graph.add("Mul", _elu(graph, x, _SELU_ALPHA), graph.number(_SELU_SCALE))


def _gelu(graph: Graph, x: str) -> str:
    # In this order ONNX Runtime knows it as one operator.
    error = graph.add("Erf", graph.add("Div", x, graph.number(math.sqrt(2))))
    return graph.add(
        "Mul", graph.add("Mul", x, graph.add("Add", error, graph.number(1))), graph.number(0.5)
    )


def _silu(graph: Graph, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _softplus(graph: Graph, x: str) -> str:
    if graph.single:
        return graph.add("Softplus", x)
    small = graph.add("Exp", graph.add("Neg", graph.add("Abs", x)))
    return graph.add(
        "Add", graph.add("Relu", x), graph.add("Log", graph.add("Add", small, graph.number(1)))
    )


_ELEMENTWISE: dict[str, Callable[[Graph, str], str]] = {
    "linear": lambda graph, x: x,
    "relu": _operator("Relu"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "exponential": _operator("Exp"),
}


def _softmax(graph: Graph, x: Value, axes: tuple[int, ...]) -> Value:
    if axes == (2,) and len(x.shape) == 3:
        x = graph.channels_last(x)  # contiguous: runtimes would transpose by themselves
    at = sorted(x.axis(axis) for axis in axes)
    if len(at) == 1:
        name = graph.add("Softmax", x.name, axis=at[0])
    else:
        grown = graph.add("Exp", graph.add("Sub", x.name, graph.add("ReduceMax", x.name, axes=at)))
        name = graph.add(
            "Div", grown, graph.add("ReduceSum", grown, graph.constant(np.array(at, np.int64)))
        )
    return x.called(name)


def _activation_layer(graph: Graph, x: Value, layer: Activation, arrays: dict) -> Value:
    return activate(graph, x, layer.activation)


def _softmax_layer(graph: Graph, x: Value, layer: Softmax, arrays: dict) -> Value:
    return _softmax(graph, x, layer.axes(x.shape))


def _leaky_relu_layer(graph: Graph, x: Value, layer: LeakyReLU, arrays: dict) -> Value:
    return x.called(_leaky_relu(graph, x.name, layer.negative_slope))


def _elu_layer(graph: Graph, x: Value, layer: ELU, arrays: dict) -> Value:
    return x.called(_elu(graph, x.name, layer.alpha))


def _relu_layer(graph: Graph, x: Value, layer: ReLU, arrays: dict) -> Value:
    return x.called((_relu_from_zero if layer.threshold == 0 else _relu_from)(graph, x.name, layer))


def _relu_from_zero(graph: Graph, x: str, layer: ReLU) -> str:
    top, slope = layer.max_value, layer.negative_slope
    if top is not None and slope == 0:
        return graph.add("Clip", x, graph.number(0), graph.number(top))
    y = _leaky_relu(graph, x, slope)
    return y if top is None else graph.add("Min", y, graph.number(top))


def _relu_from(graph: Graph, x: str, layer: ReLU) -> str:
    threshold, top, slope = graph.number(layer.threshold), layer.max_value, layer.negative_slope
    low = graph.add("LessOrEqual", x, threshold)
    below = (
        graph.add("Mul", graph.add("Sub", x, threshold), graph.number(slope))
        if slope
        else graph.number(0)
    )
    above = x if top is None else graph.add("Min", x, graph.number(top))
    return graph.add("Where", low, below, above)


EMIT = {
    Activation: _activation_layer,
    ReLU: _relu_layer,
    LeakyReLU: _leaky_relu_layer,
    ELU: _elu_layer,
    Softmax: _softmax_layer,
}
