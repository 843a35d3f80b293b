"""ONNX nodes on images as layers: convolutions, pools, padding. The graph has them channels first."""

from __future__ import annotations

import numpy as np

from nbbn.interop.onnx_reading.model import Node
from nbbn.interop.onnx_reading.rows import Rows
from nbbn.layers import (
    Activation,
    AveragePooling2D,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    LayerError,
    MaxPooling2D,
    ReLU,
    ZeroPadding2D,
)

Sides = tuple[tuple[int, int], tuple[int, int]]


def _sides(node: Node) -> Sides | str:
    """The padding of a node: `((top, bottom), (left, right))`, or "same" where the node leaves it to the runtime."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return "same"
    if auto not in ("NOTSET", "VALID", ""):
        raise node.refuse(f"auto_pad {auto} is not supported")
    pads = list(node.attributes.get("pads") or [0] * 4)
    if len(pads) != 4 or min(pads) < 0:
        raise node.refuse(f"pads {pads} are not those of an image")
    return (pads[0], pads[2]), (pads[1], pads[3])


def _pair(node: Node, name: str, default=(1, 1)) -> tuple[int, int]:
    value = tuple(node.attributes.get(name) or default)
    if len(value) != 2 or not all(0 < n < 2**31 for n in value):
        raise node.refuse(f"{name} {list(value)} is not that of an image")
    return value


def _padded(rows: Rows, make, sides: Sides | str, node: Node, *, zeros: bool = True):
    """The layer that `make(padding)` gives with the padding that these sides are, after a `ZeroPadding2D` where they are none."""
    if sides == "same":
        return make("same")
    layer = make("valid")
    if not np.any(sides):
        return layer
    if make("same").pads(rows.shape) == sides:
        return make("same")
    if not zeros:
        raise node.refuse(f"pads {list(np.ravel(sides))} are not nbbn's padding='same', and zeros are no substitute")
    rows.add(ZeroPadding2D(sides))
    return layer


def _weights(rows: Rows, node: Node, args: list) -> tuple[np.ndarray, np.ndarray | None]:
    rows.require_image()
    kernel, bias = args[1] if len(args) > 1 else None, args[2] if len(args) > 2 else None
    if args[0] is not None or kernel is None or kernel.ndim != 4 or kernel.dtype.kind != "f":
        raise node.refuse("is no convolution of images with a constant kernel of four axes")
    return kernel, bias


def _conv(rows: Rows, node: Node, args: list, context) -> None:
    kernel, bias = _weights(rows, node, args)
    filters, depth, *size = kernel.shape
    channels, groups = rows.shape[2], node.attributes.get("group", 1)
    options = {
        "strides": _pair(node, "strides"), "dilation_rate": _pair(node, "dilations"), "use_bias": bias is not None,
    }  # fmt: skip
    if groups < 1 or depth * groups != channels or filters % groups:
        raise node.refuse(f"a kernel of shape {kernel.shape} in {groups} groups does not fit {channels} channels")
    if groups == channels > 1:
        multiplier = filters // channels

        def make(padding):
            return DepthwiseConv2D(tuple(size), padding=padding, depth_multiplier=multiplier, **options)

        kernel = kernel.reshape(channels, multiplier, *size).transpose(2, 3, 0, 1)
    else:

        def make(padding):
            return Conv2D(filters, tuple(size), padding=padding, groups=groups, **options)

        kernel = kernel.transpose(2, 3, 1, 0)
    rows.add(_padded(rows, make, _sides(node), node), kernel=kernel, bias=bias)


def _transposed(rows: Rows, node: Node, args: list, context) -> None:
    kernel, bias = _weights(rows, node, args)
    channels, filters, *size = kernel.shape
    sides, strides = _sides(node), _pair(node, "strides")
    extra = tuple(node.attributes.get("output_padding") or (0, 0))
    if node.attributes.get("group", 1) != 1 or "output_shape" in node.attributes or sides == "same" or len(extra) != 2:
        raise node.refuse("groups, output_shape and auto_pad of transposed convolutions are not supported")
    if channels != rows.shape[2]:
        raise node.refuse(f"a kernel of shape {kernel.shape} does not fit {rows.shape[2]} channels")
    crops = tuple((before, after - more) for (before, after), more in zip(sides, extra))
    options = {"strides": strides, "dilation_rate": _pair(node, "dilations"), "use_bias": bias is not None}
    layer = _same_crops(rows, filters, tuple(size), crops, options)
    if layer is None:
        raise node.refuse(
            f"pads {list(np.ravel(sides))} and output_padding {list(extra)} are those of no Conv2DTranspose"
        )
    rows.add(layer, kernel=kernel.transpose(2, 3, 1, 0), bias=bias)


def _same_crops(rows: Rows, filters: int, size: tuple, crops: Sides, options: dict) -> Conv2DTranspose | None:
    """The transposed convolution that leaves out as much on each side."""
    height, width = options["strides"]
    paddings = [None, *((i, j) for i in range(min(height, 64)) for j in range(min(width, 64)))]
    for padding in ("valid", "same"):
        for extra in paddings:
            try:
                layer = Conv2DTranspose(filters, size, padding=padding, output_padding=extra, **options)
                layer.output_shape(rows.shape)
            except LayerError:
                continue
            if layer.crops(rows.shape) == crops:
                return layer
    return None


def _pool(cls: type, average: bool):
    def read(rows: Rows, node: Node, args: list, context) -> None:
        rows.require_image()
        options, size, strides = node.attributes, _pair(node, "kernel_shape", ()), _pair(node, "strides")
        sides = _sides(node)
        if np.any(np.array(options.get("dilations") or [1, 1]) != 1):
            raise node.refuse("dilations of a pool are not supported")

        def make(padding):
            return cls(size, strides, padding)

        # Zeros do not change the largest of values that are not negative, and count in a mean that is told to count them.
        zeros = bool(options.get("count_include_pad", 0)) if average else _not_negative(rows.last)
        if zeros and average and sides == "same":
            raise node.refuse("auto_pad with count_include_pad is not supported")
        layer = (
            _padded_average(rows, make, sides) if zeros and average else _padded(rows, make, sides, node, zeros=zeros)
        )
        if options.get("ceil_mode", 0) and layer.padding == "valid" and not _even(rows.shape, size, strides):
            raise node.refuse("ceil_mode is not supported where the last window is not whole")
        rows.add(layer)

    return read


def _padded_average(rows: Rows, make, sides: Sides):
    if np.any(sides):
        rows.add(ZeroPadding2D(sides))
    return make("valid")


def _not_negative(layer) -> bool:
    if isinstance(layer, ReLU):
        return layer.negative_slope == 0 and layer.threshold == 0
    return isinstance(layer, Activation) and layer.activation in (
        "relu",
        "sigmoid",
        "softmax",
        "softplus",
        "exponential",
    )


def _even(shape: tuple, size: tuple, strides: tuple) -> bool:
    return all((n - k) % s == 0 for n, k, s in zip(shape, size, strides))


def _global(cls: type):
    def read(rows: Rows, node: Node, args: list, context) -> None:
        rows.require_image()
        rows.add(cls(keepdims=True))

    return read


def _reduced(cls: type):
    """A mean or maximum over height and width."""

    def read(rows: Rows, node: Node, args: list, context) -> None:
        given = args[1] if len(args) > 1 else node.attributes.get("axes")
        if given is None or len(rows.shape) != 3 or rows.own_axes(np.asarray(given).reshape(-1).tolist()) != (0, 1):
            raise node.refuse("reduces other axes than height and width of images")
        rows.add(cls(keepdims=bool(node.attributes.get("keepdims", 1))))
        if not node.attributes.get("keepdims", 1):
            rows.perm = (0,)

    return read


def _pad(rows: Rows, node: Node, args: list, context) -> None:
    pads = args[1] if len(args) > 1 else node.attributes.get("pads")
    fill = args[2] if len(args) > 2 and args[2] is not None else node.attributes.get("value", 0.0)
    mode = node.attributes.get("mode", "constant")
    if mode != "constant" or np.size(fill) != 1 or np.any(np.asarray(fill) != 0) or len(args) > 3:
        raise node.refuse("pads by other values than 0")
    pads = np.asarray(pads).reshape(-1).tolist()
    rank = len(rows.shape) + 1
    if len(pads) != 2 * rank or min(pads) < 0 or max(pads) >= 2**31 or pads[0] or pads[rank]:
        raise node.refuse(f"pads {pads} do not fit rows of shape {rows.graph_shape}")
    if not any(pads):
        return
    sides = {rows.own_axis(axis): (pads[axis], pads[axis + rank]) for axis in range(1, rank)}
    if rank != 4 or any(sides[2]):
        raise node.refuse("pads other axes than height and width of images")
    rows.add(ZeroPadding2D((sides[0], sides[1])))


READ = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "MaxPool": _pool(MaxPooling2D, average=False),
    "AveragePool": _pool(AveragePooling2D, average=True),
    "GlobalAveragePool": _global(GlobalAveragePooling2D),
    "GlobalMaxPool": _global(GlobalMaxPooling2D),
    "ReduceMean": _reduced(GlobalAveragePooling2D),
    "ReduceMax": _reduced(GlobalMaxPooling2D),
    "Pad": _pad,
}
