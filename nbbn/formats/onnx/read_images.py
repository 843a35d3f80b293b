"""Operators on images, channels first, as layers: convolutions, pools, padding, resizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nbbn import layers
from nbbn import operations as op
from nbbn.formats.onnx.builder import Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_shapes import BATCH

# From a padding, `valid` or `same`, to a layer with windows.
Make = Callable[[str], Any]


def _sides(node: OnnxNode) -> op.Sides | None:
    """`((top, bottom), (left, right))` around images; None where the runtime chooses it."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return None
    if auto not in ("NOTSET", "VALID", ""):
        raise node.refuse(f"auto_pad {auto} is not supported")
    pads = list(node.attributes.get("pads") or [0] * 4)
    if len(pads) != 4 or min(pads) < 0:
        raise node.refuse(f"pads {pads} are not those of an image")
    return (pads[0], pads[2]), (pads[1], pads[3])


def _pair(node: OnnxNode, name: str, default: tuple[int, ...] = (1, 1)) -> tuple[int, int]:
    value = tuple(node.attributes.get(name) or default)
    if len(value) != 2 or not all(0 < n < 2**31 for n in value):
        raise node.refuse(f"{name} {list(value)} is not that of an image")
    return value


def _padded(net: NetworkBuilder, make: Make, sides: op.Sides | None, node: OnnxNode, *,
            zeros: bool = True) -> Any:
    """The layer with this padding, after a `ZeroPadding2D` where no padding of a layer is that."""
    if sides is None or (np.any(sides) and make("same").pads(net.shape) == sides):
        return make("same")
    if np.any(sides) and not zeros:
        pads = np.ravel(sides).tolist()
        raise node.refuse(f"pads {pads} are not nbbn's padding='same', and zeros are no substitute")
    layer = make("valid")
    if np.any(sides):
        net.add(layers.ZeroPadding2D(sides))
    return layer


def _weights(net: NetworkBuilder, node: OnnxNode,
             args: Args) -> tuple[np.ndarray, np.ndarray | None]:
    net.require_image()
    kernel, bias = args[1] if len(args) > 1 else None, args[2] if len(args) > 2 else None
    if args[0] is not None or kernel is None or kernel.ndim != 4 or kernel.dtype.kind != "f":
        raise node.refuse("is no convolution of images with a constant kernel of four axes")
    return kernel, bias


def conv(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    kernel, bias = _weights(net, node, args)
    filters, depth, height, width = kernel.shape
    channels, groups = net.shape[2], node.attributes.get("group", 1)
    if groups < 1 or depth * groups != channels or filters % groups:
        shape = f"a kernel of shape {kernel.shape} in {groups} groups"
        raise node.refuse(f"{shape} does not fit {channels} channels")
    options: dict[str, Any] = {
        "strides": _pair(node, "strides"), "dilation_rate": _pair(node, "dilations"),
        "use_bias": bias is not None,
    }  # fmt: skip
    size, times = (height, width), filters // channels

    def make(padding: str) -> layers.Layer:
        if groups == channels > 1:
            return layers.DepthwiseConv2D(size, padding=padding, depth_multiplier=times, **options)
        return layers.Conv2D(filters, size, padding=padding, groups=groups, **options)

    if groups == channels > 1:
        kernel = kernel.reshape(channels, times, *size).transpose(2, 3, 0, 1)
    else:
        kernel = kernel.transpose(2, 3, 1, 0)
    net.add(_padded(net, make, _sides(node), node), kernel=kernel, bias=bias)


def transposed_conv(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    kernel, bias = _weights(net, node, args)
    channels, filters, height, width = kernel.shape
    sides, options = _sides(node), node.attributes
    extra = tuple(options.get("output_padding") or (0, 0))
    known = options.get("group", 1) == 1 and "output_shape" not in options and len(extra) == 2
    if sides is None or not known:
        what = "groups, output_shape and auto_pad of transposed convolutions"
        raise node.refuse(f"{what} are not supported")
    if channels != net.shape[2]:
        raise node.refuse(f"a kernel of shape {kernel.shape} does not fit {net.shape[2]} channels")
    crops = tuple((before, after - more) for (before, after), more in zip(sides, extra))
    for layer in _transposed_convs(node, filters, (height, width), bias is not None):
        try:
            layer.output_shape(net.shape)
        except layers.LayerError:
            continue
        if layer.crops(net.shape) == crops:
            net.add(layer, kernel=kernel.transpose(2, 3, 1, 0), bias=bias)
            return
    pads = f"pads {np.ravel(sides).tolist()} and output_padding {list(extra)}"
    raise node.refuse(f"{pads} are those of no Conv2DTranspose")


def _transposed_convs(node: OnnxNode, filters: int, size: tuple[int, int],
                      use_bias: bool) -> Iterator[layers.Conv2DTranspose]:
    """All that a node may be."""
    height, width = strides = _pair(node, "strides")
    options: dict[str, Any] = {"dilation_rate": _pair(node, "dilations"), "use_bias": use_bias}
    paddings = [None, *((i, j) for i in range(min(height, 64)) for j in range(min(width, 64)))]
    for padding in ("valid", "same"):
        for extra in paddings:
            try:
                yield layers.Conv2DTranspose(filters, size, strides, padding, extra, **options)
            except layers.LayerError:
                continue


def max_pool(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    # Zeros do not change the largest of values that are not negative.
    _pool(net, node, layers.MaxPooling2D, zeros=net.not_negative)


def average_pool(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    counted = bool(node.attributes.get("count_include_pad", 0))
    if counted and _sides(node) is None:
        raise node.refuse("auto_pad with count_include_pad is not supported")
    _pool(net, node, layers.AveragePooling2D, zeros=counted, counted=counted)


def _pool(net: NetworkBuilder, node: OnnxNode, cls: type, *, zeros: bool,
          counted: bool = False) -> None:
    """A pool; `zeros`: whether these may stand for its padding, `counted`: whether they must."""
    net.require_image()
    options, size = node.attributes, _pair(node, "kernel_shape", ())
    strides, sides = _pair(node, "strides"), _sides(node)
    if np.any(np.array(options.get("dilations") or [1, 1]) != 1):
        raise node.refuse("dilations of a pool are not supported")
    if counted and np.any(sides):
        net.add(layers.ZeroPadding2D(sides))
        sides = op.NO_SIDES
    layer = _padded(net, lambda padding: cls(size, strides, padding), sides, node, zeros=zeros)
    even = all((n - k) % s == 0 for n, k, s in zip(net.shape, size, strides))
    if options.get("ceil_mode", 0) and layer.padding == "valid" and not even:
        raise node.refuse("ceil_mode is not supported where the last window is not whole")
    net.add(layer)


_GLOBAL: dict[str, Callable[..., layers.Layer]] = {
    "GlobalAveragePool": layers.GlobalAveragePooling2D, "ReduceMean": layers.GlobalAveragePooling2D,
    "GlobalMaxPool": layers.GlobalMaxPooling2D, "ReduceMax": layers.GlobalMaxPooling2D,
}  # fmt: skip


def global_pool(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    net.require_image()
    net.add(_GLOBAL[node.operator](keepdims=True))


def reduced(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A mean or maximum over height and width."""
    given = args[1] if len(args) > 1 else node.attributes.get("axes")
    keepdims = bool(node.attributes.get("keepdims", 1))
    axes = () if given is None else np.asarray(given).reshape(-1).tolist()
    if len(net.shape) != 3 or net.own_axes(axes) != (0, 1):
        raise node.refuse("reduces other axes than height and width of images")
    net.add(_GLOBAL[node.operator](keepdims=keepdims))
    if not keepdims:
        net.perm = (0,)


def pad(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    options = node.attributes
    given = args[1] if len(args) > 1 else options.get("pads")
    fill = args[2] if len(args) > 2 and args[2] is not None else options.get("value", 0.0)
    constant = options.get("mode", "constant") == "constant" and len(args) <= 3
    if not constant or np.size(fill) != 1 or np.any(np.asarray(fill) != 0):
        raise node.refuse("pads by other values than 0")
    pads, rank = np.asarray(given).reshape(-1).tolist(), len(net.shape) + 1
    if len(pads) != 2 * rank or min(pads) < 0 or max(pads) >= 2**31 or pads[0] or pads[rank]:
        raise node.refuse(f"pads {pads} do not fit rows of shape {net.graph_shape}")
    if not any(pads):
        return
    sides = {net.own_axis(axis): (pads[axis], pads[axis + rank]) for axis in range(1, rank)}
    if rank != 4 or any(sides[2]):
        raise node.refuse("pads other axes than height and width of images")
    net.add(layers.ZeroPadding2D((sides[0], sides[1])))


# -- resizes, where each pixel becomes a block of equal ones

# The first opset in which a node says where pixels lie, and may give sizes for scales.
_WITH_MODES = 11
# Where pixel `x` of `n * times` lies among the `n` it is made of.
_PLACES: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "asymmetric": lambda x, n, times: x / times,
    "tf_half_pixel_for_nn": lambda x, n, times: (x + 0.5) / times,
    "half_pixel": lambda x, n, times: (x + 0.5) / times - 0.5,
    "pytorch_half_pixel": lambda x, n, times: (x + 0.5) / times - 0.5,
    "half_pixel_symmetric": lambda x, n, times: (x + 0.5) / times - 0.5,
    "align_corners": lambda x, n, times: x * (n - 1) / max(n * times - 1, 1),
}
# Which pixel is nearest to a place.
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5), "floor": np.floor, "ceil": np.ceil,
}


def resize(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Whole scales of height and width, whose nearest pixels are each as often there."""
    net.require_image()
    mode = node.attributes.get("mode", "nearest")
    if mode != "nearest":
        raise node.refuse(f"mode {mode} is not supported; UpSampling2D is mode nearest")
    batch = BATCH if net.batch is None else net.batch
    scales = scales_of(node, args, net.opset, (batch, *net.graph_shape))
    if scales is None:
        raise node.refuse("its scales or sizes are no constants that fit images")
    whole = np.all((scales >= 1) & (scales < 2**31) & (scales == np.floor(scales)))
    if not whole or np.any(scales[:2] != 1):
        raise node.refuse(f"scales {scales.tolist()} are not supported; "
                          "UpSampling2D makes height and width whole numbers of times as large")
    down, right = map(int, scales[2:])
    for n, times in zip(net.shape, (down, right)):
        _require_repeats(node, net.opset, n, times, net.limited(n * times))
    if (down, right) != (1, 1):
        net.add(layers.UpSampling2D((down, right)))


def expand(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Axes of length 1 become as long as it takes: those of an image height and width alone."""
    given, before = args[1] if len(args) == 2 else None, net.graph_shape
    if given is None or given.ndim != 1 or given.dtype.kind != "i":
        raise node.refuse("the shape must be a constant")
    batch = BATCH if net.batch is None else net.batch
    rank = len(before) + 1
    wanted = [1] * (rank - given.size) + given.tolist()
    if len(wanted) > rank or wanted[0] not in (1, batch):
        raise node.refuse(f"the shape {given.tolist()} does not keep rows of shape {before}")
    after = tuple(n if m == 1 else m for n, m in zip(before, wanted[1:]))
    if any(n not in (1, m) for n, m in zip(before, after)):
        raise node.refuse(f"the shape {given.tolist()} does not fit rows of shape {before}")
    if after == before:
        return
    net.require_image()
    times = {net.own_axis(i + 1): m // n for i, (n, m) in enumerate(zip(before, after))}
    if times[2] != 1:
        raise node.refuse(f"makes rows of shape {before} ones of {after}; UpSampling2D repeats "
                          "height and width alone")
    net.limited(math.prod(after))
    net.add(layers.UpSampling2D((times[0], times[1])))


def scales_of(node: OnnxNode, args: Args, opset: int,
              shape: Sequence[int | None]) -> np.ndarray | None:
    """How many times as large each axis of an array of `shape` becomes.

    NaN for an axis whose size would have to be known; None where all of it is.
    """
    options, rank = node.attributes, len(shape)
    old = node.operator == "Upsample" or opset < _WITH_MODES
    given = dict(zip(("x", "scales") if old else ("x", "roi", "scales", "sizes"), args))
    scales, sizes = given.get("scales", options.get("scales")), given.get("sizes")
    axes = [axis % rank for axis in options.get("axes") or range(rank)]
    if sizes is not None and np.size(sizes):
        if options.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        before = np.array([shape[axis] for axis in axes], np.float64)  # None becomes NaN
        scales = sizes / before if np.shape(sizes) == before.shape else None
    if scales is None or np.shape(scales) != (len(axes),):
        return None
    every = np.ones(rank)
    every[axes] = scales
    return every


def _require_repeats(node: OnnxNode, opset: int, n: int, times: int, count: int) -> None:
    """Raise Refused unless the nearest of `n` pixels are each of them `times` in a row."""
    options, old = node.attributes, node.operator == "Upsample" or opset < _WITH_MODES
    places = "asymmetric" if old else options.get("coordinate_transformation_mode", "half_pixel")
    nearest = "floor" if old else options.get("nearest_mode", "round_prefer_floor")
    pixels = np.arange(n)
    if places in _PLACES and nearest in _NEAREST:
        found = _NEAREST[nearest](_PLACES[places](np.arange(count), n, times))
        if np.array_equal(found.clip(0, n - 1), pixels.repeat(times)):
            return
    raise node.refuse(f"coordinate_transformation_mode {places} with nearest_mode {nearest} makes "
                      f"no equal blocks of {n} pixels times {times}; asymmetric with floor does")
