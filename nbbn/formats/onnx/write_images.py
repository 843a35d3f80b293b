"""Convolutions, pools and padding as ONNX nodes; what needs an image finds it channels first and leaves it so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbbn.formats.onnx.write_activations import activate
from nbbn.formats.onnx.write_graph import Graph, Value
from nbbn.layers import (
    AveragePooling2D,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    ZeroPadding2D,
)

Sides = tuple[tuple[int, int], tuple[int, int]]


def _before_then_after(sides: Sides) -> list[int]:
    """`((top, bottom), (left, right))` as ONNX lists it."""
    return [before for before, _ in sides] + [after for _, after in sides]


def _convolution(
    graph: Graph, operator: str, x: Value, layer, kernel: np.ndarray, arrays: dict, **attributes
) -> Value:
    """A convolution with a kernel in ONNX's layout, and the layer's bias and activation."""
    image, shape = graph.channels_first(x), layer.output_shape(x.shape)
    weights = [graph.constant(array) for array in (kernel, arrays.get("bias")) if array is not None]
    name = graph.add(
        operator,
        image.name,
        *weights,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        **attributes,
    )
    return activate(graph, Value(name, shape, shape), layer.activation)


def _conv(graph: Graph, x: Value, layer: Conv2D, arrays: dict) -> Value:
    kernel = arrays["kernel"].transpose(3, 2, 0, 1)
    pads = _before_then_after(layer.pads(x.shape))
    return _convolution(graph, "Conv", x, layer, kernel, arrays, pads=pads, group=layer.groups)


def _depthwise(graph: Graph, x: Value, layer: DepthwiseConv2D, arrays: dict) -> Value:
    kernel = arrays["kernel"].transpose(2, 3, 0, 1).reshape(-1, 1, *layer.kernel_size)
    pads = _before_then_after(layer.pads(x.shape))
    return _convolution(graph, "Conv", x, layer, kernel, arrays, pads=pads, group=x.shape[2])


def _transposed(graph: Graph, x: Value, layer: Conv2DTranspose, arrays: dict) -> Value:
    kernel, crops = arrays["kernel"].transpose(3, 2, 0, 1), layer.crops(x.shape)
    pads = _before_then_after(tuple((before, max(after, 0)) for before, after in crops))
    extra = [max(-after, 0) for _, after in crops]
    return _convolution(
        graph, "ConvTranspose", x, layer, kernel, arrays, pads=pads, output_padding=extra
    )


def _pool(operator: str):
    def emit(graph: Graph, x: Value, layer: MaxPooling2D | AveragePooling2D, arrays: dict) -> Value:
        image, shape = graph.channels_first(x), layer.output_shape(x.shape)
        pads = _before_then_after(layer.pads(x.shape))
        name = graph.add(
            operator, image.name, kernel_shape=layer.pool_size, strides=layer.strides, pads=pads
        )
        return Value(name, shape, shape)

    return emit


def _global_pool(operator: str, reduction: str):
    def emit(
        graph: Graph, x: Value, layer: GlobalMaxPooling2D | GlobalAveragePooling2D, arrays: dict
    ) -> Value:
        shape = (1, 1, x.shape[2])
        if x.image and graph.single:
            y = Value(graph.add(operator, x.name), shape, shape)
        else:
            name = graph.add(reduction, x.name, axes=[x.axis(0), x.axis(1)])
            y = Value(name, shape, shape if x.image else None)
        return y if layer.keepdims else graph.flatten(y)

    return emit


def _pad(graph: Graph, x: Value, layer: ZeroPadding2D, arrays: dict) -> Value:
    shape = layer.output_shape(x.shape)
    if shape == x.shape:
        return x
    name = graph.add(
        "Pad", x.name, graph.constant(np.array(_pads_of_all_axes(x, layer.padding), np.int64))
    )
    return Value(name, shape, shape if x.image else None)


def _pads_of_all_axes(x: Value, sides: Sides) -> Sequence[int]:
    pads = np.zeros((2, 4), np.int64)
    for row_axis, side in enumerate(sides):
        pads[:, x.axis(row_axis)] = side
    return pads.reshape(-1)


EMIT = {
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise,
    Conv2DTranspose: _transposed,
    MaxPooling2D: _pool("MaxPool"),
    AveragePooling2D: _pool("AveragePool"),
    GlobalAveragePooling2D: _global_pool("GlobalAveragePool", "ReduceMean"),
    GlobalMaxPooling2D: _global_pool("GlobalMaxPool", "ReduceMax"),
    ZeroPadding2D: _pad,
}
