"""Layers on rows of any shape as ONNX nodes: Dense, Flatten, Reshape, and those that do nothing in inference."""

from __future__ import annotations

from nbbn.formats.onnx.write_activations import activate
from nbbn.formats.onnx.write_graph import Graph, Value
from nbbn.layers import Dense, Dropout, Flatten, GaussianNoise, Input, Layer, Reshape


def _dense(graph: Graph, x: Value, layer: Dense, arrays: dict) -> Value:
    if len(x.shape) == 3 and not graph.single:
        x = graph.channels_last(x)  # ONNX Runtime has no float64 kernel for convolutions
    kernel, shape = arrays["kernel"], layer.output_shape(x.shape)
    bias = [graph.constant(arrays["bias"])] if layer.use_bias else []
    if len(x.shape) == 1:
        name, image = (
            graph.add("Gemm", x.name, graph.constant(x.features_first(kernel)), *bias),
            None,
        )
    elif x.image:
        name, image = (
            graph.add("Conv", x.name, graph.constant(kernel.T[:, :, None, None]), *bias),
            shape,
        )
    else:
        name, image = graph.add("MatMul", x.name, graph.constant(kernel)), None
        name = graph.add("Add", name, *bias) if bias else name
    return activate(graph, Value(name, shape, image), layer.activation)


def _flatten(graph: Graph, x: Value, layer: Flatten, arrays: dict) -> Value:
    return graph.flatten(x)


def _reshape(graph: Graph, x: Value, layer: Reshape, arrays: dict) -> Value:
    shape = layer.output_shape(x.shape)
    return (
        x if shape == x.shape else Value(graph.reshape(graph.channels_last(x).name, shape), shape)
    )


def _nothing(graph: Graph, x: Value, layer: Layer, arrays: dict) -> Value:
    return x


EMIT = {
    Dense: _dense,
    Flatten: _flatten,
    Reshape: _reshape,
    Input: _nothing,
    Dropout: _nothing,
    GaussianNoise: _nothing,
}
