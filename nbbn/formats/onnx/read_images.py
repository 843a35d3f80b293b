"""Operators on images, channels first, as layers: convolutions, pools, padding, resizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from nbbn import layers
from nbbn import operations as op
from nbbn.formats.onnx.builder import Affine, Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_shapes import BATCH, without_axis

# From a padding, `valid` or `same`, to a layer with windows.
Make = Callable[[str], Any]


class Kinds(NamedTuple):
    """The layers of rows of images, or of steps."""

    conv: Callable[..., layers.Layer]
    depthwise: Callable[..., layers.Layer]
    transposed: Callable[..., Any]
    max_pool: Callable[..., Any]
    average_pool: Callable[..., Any]
    global_max: Callable[..., layers.Layer]
    global_average: Callable[..., layers.Layer]
    padding: Callable[..., layers.Layer]
    cropping: Callable[..., layers.Layer]
    repeating: Callable[..., layers.Layer]


# By the number of axes of a row.
_KINDS = {
    3: Kinds(layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.MaxPooling2D,
             layers.AveragePooling2D, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D,
             layers.ZeroPadding2D, layers.Cropping2D, layers.UpSampling2D),
    2: Kinds(layers.Conv1D, layers.DepthwiseConv1D, layers.Conv1DTranspose, layers.MaxPooling1D,
             layers.AveragePooling1D, layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D,
             layers.ZeroPadding1D, layers.Cropping1D, layers.UpSampling1D),
}  # fmt: skip


def _kinds(net: NetworkBuilder) -> Kinds:
    """The layers for the rows, which the graph has channels first."""
    net.require_image()
    return _KINDS[len(net.shape)]


def _each(numbers: Sequence[int]) -> Any:
    """A number of each axis as layers take it: of steps it is one number."""
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _around(net: NetworkBuilder, sides: op.Sides) -> Any:
    """What stands around, or falls away, as layers take it."""
    return sides if len(net.shape) == 3 else sides[1]


def _sides(net: NetworkBuilder, node: OnnxNode) -> op.Sides | None:
    """`((top, bottom), (left, right))` around images; None where the runtime chooses it."""
    auto, rank = node.attributes.get("auto_pad", "NOTSET"), len(net.shape) - 1
    if auto == "SAME_UPPER":
        return None
    if auto not in ("NOTSET", "VALID", ""):
        raise node.refuse(f"auto_pad {auto} is not supported")
    pads = list(node.attributes.get("pads") or [0] * 2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0:
        raise node.refuse(f"pads {pads} are not those of an image")
    down, right = ((0, 0), *zip(pads[:rank], pads[rank:]))[-2:]
    return down, right


def _numbers(net: NetworkBuilder, node: OnnxNode, name: str,
             default: tuple[int, ...] = (1, 1)) -> tuple[int, ...]:
    """A number for height and width, or for steps alone."""
    rank = len(net.shape) - 1
    value = tuple(node.attributes.get(name) or default[:rank])
    if len(value) != rank or not all(0 < n < 2**31 for n in value):
        raise node.refuse(f"{name} {list(value)} is not that of an image")
    return value


def _padded(net: NetworkBuilder, make: Make, sides: op.Sides | None, node: OnnxNode, *,
            zeros: bool = True) -> Any:
    """The layer with this padding, after zeros where no padding of a layer is that."""
    if sides is None or (np.any(sides) and make("same").pads(net.shape) == sides):
        return make("same")
    if np.any(sides) and not zeros:
        pads = np.ravel(sides).tolist()
        raise node.refuse(f"pads {pads} are not nbbn's padding='same', and zeros are no substitute")
    layer = make("valid")
    if np.any(sides):
        net.add(_kinds(net).padding(_around(net, sides)))
    return layer


def _weights(net: NetworkBuilder, node: OnnxNode,
             args: Args) -> tuple[np.ndarray, np.ndarray | None]:
    net.require_image()
    kernel, bias = args[1] if len(args) > 1 else None, args[2] if len(args) > 2 else None
    axes, of = (4, "images") if len(net.shape) == 3 else (3, "steps")
    if args[0] is not None or kernel is None or kernel.ndim != axes or kernel.dtype.kind != "f":
        count = {4: "four", 3: "three"}[axes]
        raise node.refuse(f"is no convolution of {of} with a constant kernel of {count} axes")
    return kernel, bias


def _behind(array: np.ndarray, first: int, second: int) -> np.ndarray:
    """A kernel's first two axes in this order behind the others."""
    return array.transpose(*range(2, array.ndim), first, second)


def conv(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    kernel, bias = _weights(net, node, args)
    filters, depth, *size = kernel.shape
    channels, groups, kinds = net.shape[-1], node.attributes.get("group", 1), _kinds(net)
    if groups < 1 or depth * groups != channels or filters % groups:
        shape = f"a kernel of shape {kernel.shape} in {groups} groups"
        raise node.refuse(f"{shape} does not fit {channels} channels")
    options: dict[str, Any] = {
        "strides": _each(_numbers(net, node, "strides")),
        "dilation_rate": _each(_numbers(net, node, "dilations")), "use_bias": bias is not None,
    }  # fmt: skip
    window, times = _each(size), filters // channels

    def make(padding: str) -> layers.Layer:
        if groups == channels > 1:
            return kinds.depthwise(window, padding=padding, depth_multiplier=times, **options)
        return kinds.conv(filters, window, padding=padding, groups=groups, **options)

    if groups == channels > 1:
        kernel = _behind(kernel.reshape(channels, times, *size), 0, 1)
    else:
        kernel = _behind(kernel, 1, 0)
    net.add(_padded(net, make, _sides(net, node), node), kernel=kernel, bias=bias)


def transposed_conv(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    kernel, bias = _weights(net, node, args)
    channels, filters, *size = kernel.shape
    sides, options = _sides(net, node), node.attributes
    extra = tuple(options.get("output_padding") or [0] * len(size))
    known = options.get("group", 1) == 1 and "output_shape" not in options
    if sides is None or not known or len(extra) != len(size):
        what = "groups, output_shape and auto_pad of transposed convolutions"
        raise node.refuse(f"{what} are not supported")
    if channels != net.shape[-1]:
        shape = f"a kernel of shape {kernel.shape}"
        raise node.refuse(f"{shape} does not fit {net.shape[-1]} channels")
    own = {"kernel": _behind(kernel, 1, 0), "bias": bias}
    crops = tuple((before, after - more) for (before, after), more in zip(sides, (0, *extra)[-2:]))
    for layer in _transposed_convs(net, node, filters, size, bias is not None):
        try:
            layer.output_shape(net.shape)
        except layers.LayerError:
            continue
        if layer.crops(net.shape) == crops:
            net.add(layer, **own)
            return
    # All that is written, and more behind it, of which the inner part stays.
    more = _each([max(-after, 0) for _, after in crops][-len(size):])
    net.add(_kinds(net).transposed(
        filters, _each(size), _each(_numbers(net, node, "strides")), "valid", more,
        dilation_rate=_each(_numbers(net, node, "dilations")), use_bias=bias is not None), **own)
    down, right = ((before, max(after, 0)) for before, after in crops)
    if np.any((down, right)):
        net.add(_kinds(net).cropping(_around(net, (down, right))))


def _transposed_convs(net: NetworkBuilder, node: OnnxNode, filters: int, size: Sequence[int],
                      use_bias: bool) -> Iterator[Any]:
    """All that a node may be."""
    strides, kind = _numbers(net, node, "strides"), _kinds(net).transposed
    options: dict[str, Any] = {"dilation_rate": _each(_numbers(net, node, "dilations")),
                               "use_bias": use_bias}
    extras = product(*(range(min(n, 64)) for n in strides))
    paddings = [None, *map(_each, extras)]
    for padding in ("valid", "same"):
        for extra in paddings:
            try:
                yield kind(filters, _each(size), _each(strides), padding, extra, **options)
            except layers.LayerError:
                continue


def max_pool(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    # Zeros do not change the largest of values that are not negative.
    _pool(net, node, _kinds(net).max_pool, zeros=net.not_negative)


def average_pool(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    kinds, counted = _kinds(net), bool(node.attributes.get("count_include_pad", 0))
    if counted and _sides(net, node) is None:
        raise node.refuse("auto_pad with count_include_pad is not supported")
    _pool(net, node, kinds.average_pool, zeros=counted, counted=counted)


def _pool(net: NetworkBuilder, node: OnnxNode, kind: Callable[..., Any], *, zeros: bool,
          counted: bool = False) -> None:
    """A pool; `zeros`: whether these may stand for its padding, `counted`: whether they must."""
    options, size = node.attributes, _numbers(net, node, "kernel_shape", ())
    strides, sides = _numbers(net, node, "strides"), _sides(net, node)
    if any(n != 1 for n in options.get("dilations") or ()):
        raise node.refuse("dilations of a pool are not supported")
    if counted and np.any(sides):
        net.add(_kinds(net).padding(_around(net, sides or op.NO_SIDES)))
        sides = op.NO_SIDES
    whole = all((n - 1) % s == 0 for n, s in zip(net.shape, strides))
    ceil = bool(options.get("ceil_mode", 0))
    if not zeros and sides is not None and (whole or not ceil):
        if _stepwise(net, kind, size, strides, sides):
            return
    make = partial(kind, _each(size), _each(strides))
    layer = _padded(net, make, sides, node, zeros=zeros)
    even = all((n - k) % s == 0 for n, k, s in zip(net.shape, size, strides))
    if ceil and layer.padding == "valid" and not even:
        raise node.refuse("ceil_mode is not supported where the last window is not whole")
    net.add(layer)


def _stepwise(net: NetworkBuilder, kind: Callable[..., Any], size: Sequence[int],
              strides: Sequence[int], sides: op.Sides) -> bool:
    """Windows about every place, of which every so many stay: where these lie as padding says.

    Whether they do; else nothing is added.
    """
    around = sides[-len(size):]
    middle = all(k % 2 == 1 and side == (k // 2, k // 2) for k, side in zip(size, around))
    own = kind(_each(size), _each(strides), "same").pads(net.shape)
    if not middle or sides in (own, op.NO_SIDES):
        return False
    ones = _each([1] * len(size))
    net.add(kind(_each(size), ones, "same"))
    if any(n > 1 for n in strides):
        net.add(_kinds(net).max_pool(ones, _each(strides)))
    return True


_GLOBAL = {"GlobalAveragePool": "global_average", "ReduceMean": "global_average",
           "ReduceSum": "global_average",
           "GlobalMaxPool": "global_max", "ReduceMax": "global_max"}


def global_pool(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    net.add(getattr(_kinds(net), _GLOBAL[node.operator])(keepdims=True))


def reduced(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A mean or maximum over height and width, or over steps."""
    given = args[1] if len(args) > 1 else node.attributes.get("axes")
    keepdims, rank = bool(node.attributes.get("keepdims", 1)), len(net.shape)
    axes = () if given is None else np.asarray(given).reshape(-1).tolist()
    if rank not in _KINDS or net.own_axes(axes) != tuple(range(rank - 1)):
        raise node.refuse("reduces other axes than height and width of images")
    net.add(getattr(_KINDS[rank], _GLOBAL[node.operator])(keepdims=keepdims))
    if not keepdims:
        net.perm = (0,)


def summed(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A sum over the last axis as a Dense of ones; over all others as their mean times so many."""
    given = args[1] if len(args) > 1 else node.attributes.get("axes")
    axes = net.own_axes(() if given is None else np.asarray(given).reshape(-1).tolist())
    count, rank = math.prod(net.shape[axis] for axis in axes), len(net.perm)
    if axes == tuple(range(rank - 1)) and rank in _KINDS:
        reduced(net, node, args)
        net.add(times := Affine())
        times.then("Mul", np.array(float(count)))
        return
    if axes != (rank - 1,):
        raise node.refuse(f"sums over axes {axes} of rows of shape {net.shape}; nbbn does over the "
                          "last, or over all others")
    net.order = None
    ones = np.ones((net.limited(count), 1))
    net.add(layers.Dense(1, use_bias=False, trainable=False), kernel=ones)
    if not node.attributes.get("keepdims", 1):
        without_axis(net, node, net.perm.index(rank - 1) + 1)


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
    if rank - 1 not in _KINDS or any(sides[rank - 2]):
        raise node.refuse("pads other axes than height and width of images")
    down, right = ((0, 0), *(sides[axis] for axis in range(rank - 2)))[-2:]
    net.add(_KINDS[rank - 1].padding(_around(net, (down, right))))


# -- parts of rows

# An end that is as large lies behind any number of rows.
_MOST = 2**31


def cut(net: NetworkBuilder, node: OnnxNode, axis: int, first: int, last: int,
        step: int = 1) -> None:
    """What lies from `first` to `last` along a graph's axis, every `step` numbers."""
    at, shape = net.own_axis(axis), net.shape
    n, rank = shape[at], len(shape)
    if not 0 <= first < last <= n:
        raise node.refuse(f"takes nothing from {first} to {last} of an axis of {n}")
    if net.order is not None and (first, last, step) != (0, n, 1):
        raise node.refuse("takes some features of flattened images, channels first, which lie "
                          "apart in nbbn's order")
    if step > 1 and not (rank in _KINDS and at < rank - 1):
        raise node.refuse(f"takes every {step} numbers; nbbn does of height and width alone")
    if (first, last) != (0, n):
        ends = (first, n - last)
        if rank in _KINDS and at < rank - 1:
            down, right = ((0, 0), *(ends if k == at else (0, 0) for k in range(rank - 1)))[-2:]
            net.add(_KINDS[rank].cropping(_around(net, (down, right))))
        else:
            before, behind = math.prod(shape[:at]), math.prod(shape[at + 1 :])
            net.add(layers.Reshape((before, n, behind)))
            net.add(layers.Cropping2D(((0, 0), ends)))
            net.add(layers.Reshape((*shape[:at], last - first, *shape[at + 1 :])))
    if step > 1:
        pool = _KINDS[rank].max_pool
        steps = [step if k == at else 1 for k in range(rank - 1)]
        net.add(pool(_each([1] * (rank - 1)), _each(steps)))


def slices(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Parts along some axes."""
    options = node.attributes
    starts, ends, axes, steps = (
        args[k] if len(args) > k else options.get(name)
        for k, name in enumerate(("starts", "ends", "axes", "steps"), 1))
    if starts is None or ends is None or args[0] is not None:
        raise node.refuse("its starts and ends must be constants")
    count = np.size(starts)
    axes, steps = range(count) if axes is None else axes, [1] * count if steps is None else steps
    given = [np.asarray(one).reshape(-1).tolist() for one in (axes, starts, ends, steps)]
    if len({len(one) for one in given}) > 1 or min(given[3], default=1) < 1:
        raise node.refuse("goes backward, or has starts, ends, axes and steps of other lengths")
    shape = net.graph_shape
    for axis, start, end, step in zip(*given):
        axis = axis + len(shape) + 1 if axis < 0 else axis
        if axis == 0 and start == 0 and end >= _MOST - 1 and step == 1:
            continue
        n = shape[axis - 1] if 0 < axis <= len(shape) else 0
        first, last, _ = slice(start, end).indices(n)
        cut(net, node, axis, first, last, step)


def split(net: NetworkBuilder, node: OnnxNode, args: Args, number: int) -> None:
    """The part of a row that output `number` of the node is."""
    axis, count = node.attributes.get("axis", 0), len(node.outputs)
    n = net.graph_shape[net.graph_axis(axis)]
    given = args[1] if len(args) > 1 else node.attributes.get("split")
    length = -(-n // count)
    sizes = [length] * (count - 1) + [n - length * (count - 1)] if given is None else [
        int(size) for size in np.asarray(given).reshape(-1)]
    if len(sizes) != count or sum(sizes) != n or min(sizes) < 1:
        raise node.refuse(f"splits an axis of {n} into {count} parts of {sizes}")
    first = sum(sizes[:number])
    cut(net, node, axis, first, first + sizes[number])


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
    kinds = _kinds(net)
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
    many = [int(times) for times in scales[2:]]
    for n, times in zip(net.shape, many):
        _require_repeats(node, net.opset, n, times, net.limited(n * times))
    if any(times != 1 for times in many):
        net.add(kinds.repeating(_each(many)))


def expand(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Axes of length 1 become as long as it takes."""
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
    net.limited(math.prod(after))
    for i, (n, m) in enumerate(zip(before, after)):
        if n != m:
            _repeat_alone(net, net.own_axis(i + 1), m)


def _repeat_alone(net: NetworkBuilder, at: int, times: int) -> None:
    """Make an axis of length 1 so long."""
    shape, rank = net.shape, len(net.shape)
    if rank in _KINDS and at < rank - 1:
        many = [times if k == at else 1 for k in range(rank - 1)]
        net.add(_KINDS[rank].repeating(_each(many)))
        return
    net.add(layers.Reshape((math.prod(shape[:at]), 1, math.prod(shape[at + 1 :]))))
    net.add(layers.UpSampling2D((1, times)))
    net.add(layers.Reshape((*shape[:at], times, *shape[at + 1 :])))


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
