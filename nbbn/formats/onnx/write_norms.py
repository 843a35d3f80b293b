"""Normalisation as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbbn.formats.onnx.write_graph import Graph, Value
from nbbn.layers import BatchNormalization, GroupNormalization, LayerNormalization

LAYER_NORMALIZATION_OPSET = 17


def _batch_norm(graph: Graph, x: Value, layer: BatchNormalization, arrays: dict) -> Value:
    axis = layer.axis % (len(x.shape) + 1) - 1
    if axis == 2 and len(x.shape) == 3:
        x = graph.channels_first(x)
    if x.axis(axis) != 1:  # the operator's only axis
        gain = arrays.get("gamma", 1) / np.sqrt(arrays["var"].astype(np.float64) + layer.epsilon)
        centred = graph.add("Sub", x.name, graph.constant(x.spread(arrays["mean"], (axis,))))
        scaled = {"gamma": gain.astype(graph.dtype), "beta": arrays.get("beta")}
        return x.called(_scale_and_shift(graph, x, centred, scaled, (axis,)))
    # The attribute epsilon is a float32: what that loses goes into the variance, or float64 would be off by 1e-8.
    epsilon = float(np.float32(layer.epsilon))
    var = (arrays["var"].astype(np.float64) + (layer.epsilon - epsilon)).astype(graph.dtype)
    gamma = arrays.get("gamma", np.ones_like(var))
    beta = arrays.get("beta", np.zeros_like(var))
    names = [
        graph.constant(x.spread(array, (axis,)).reshape(-1))
        for array in (gamma, beta, arrays["mean"], var)
    ]
    # Inference takes no momentum, but `onnx.reference` moves the statistics towards the batch's with any other than 1.
    return x.called(graph.add("BatchNormalization", x.name, *names, epsilon=epsilon, momentum=1.0))


def _layer_norm(graph: Graph, x: Value, layer: LayerNormalization, arrays: dict) -> Value:
    axes = layer.axes(x.shape)
    if axes == (2,) and len(x.shape) == 3:
        x = graph.channels_last(x)
    at = sorted(x.axis(axis) for axis in axes)
    if graph.single and at == list(range(at[0], len(x.shape) + 1)):
        name = _layer_norm_operator(graph, x, layer, arrays, at[0])
    else:
        name = _scale_and_shift(
            graph, x, _standardise(graph, x.name, at, layer.epsilon), arrays, axes
        )
    return x.called(name)


def _layer_norm_operator(
    graph: Graph, x: Value, layer: LayerNormalization, arrays: dict, first: int
) -> str:
    """Over all axes of the array from `first` on, which ONNX has one operator for."""
    graph.opset = max(graph.opset, LAYER_NORMALIZATION_OPSET)
    axes = layer.axes(x.shape)
    gamma = arrays.get("gamma", np.ones([x.shape[axis] for axis in axes], graph.dtype))
    spread = [x.spread(array, axes) for array in (gamma, arrays.get("beta")) if array is not None]
    weights = [graph.constant(array.reshape(array.shape[first - 1 :])) for array in spread]
    return graph.add("LayerNormalization", x.name, *weights, axis=first, epsilon=layer.epsilon)


def _group_norm(graph: Graph, x: Value, layer: GroupNormalization, arrays: dict) -> Value:
    groups, rank = layer.group_count(x.shape), len(x.shape)
    axis = layer.axis % (rank + 1) - 1
    if rank == 1:
        x = graph.channels_last(x)
    elif axis == 2 and rank == 3:
        x = graph.channels_first(x)
    row = [0] * rank
    for row_axis, n in enumerate(x.shape):
        row[x.axis(row_axis) - 1] = n
    at = x.axis(axis)
    if at == 1 and graph.single:
        one, zero = np.ones(groups, graph.dtype), np.zeros(groups, graph.dtype)
        inputs = (
            graph.reshape(x.name, (groups, math.prod(row) // groups)),
            graph.constant(one),
            graph.constant(zero),
        )
        name = graph.add("InstanceNormalization", *inputs, epsilon=layer.epsilon)
    else:
        split = (*row[: at - 1], groups, row[at - 1] // groups, *row[at:])
        others = [k for k in range(1, rank + 2) if k != at]
        name = _standardise(graph, graph.reshape(x.name, split), others, layer.epsilon)
    name = graph.reshape(name, row)
    return x.called(_scale_and_shift(graph, x, name, arrays, (axis,)))


def _standardise(graph: Graph, x: str, axes: Sequence[int], epsilon: float) -> str:
    """`(x - mean) / sqrt(var + epsilon)` of each row over the array's axes."""
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=axes))
    # Not a power: ONNX Runtime would make one operator of it, whose epsilon is a float32.
    var = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=axes)
    return graph.add(
        "Div", centred, graph.add("Sqrt", graph.add("Add", var, graph.number(epsilon)))
    )


def _scale_and_shift(graph: Graph, x: Value, name: str, arrays: dict, axes: Sequence[int]) -> str:
    """`gamma * name + beta`, `name` being of the layout of `x` and the arrays along `axes` of its rows."""
    for array, operator in (("gamma", "Mul"), ("beta", "Add")):
        if arrays.get(array) is not None:
            name = graph.add(operator, name, graph.constant(x.spread(arrays[array], axes)))
    return name


EMIT = {
    BatchNormalization: _batch_norm,
    LayerNormalization: _layer_norm,
    GroupNormalization: _group_norm,
}
