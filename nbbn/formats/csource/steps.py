"""Layers to calls of the C functions in `csource.functions`: one line a layer, working on one row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nbbn.layers import (
    ELU,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    Input,
    Layer,
    LayerError,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    ReLU,
    Reshape,
    Softmax,
    ZeroPadding2D,
)
from nbbn.layers.base import Shape
from nbbn.network import Network

# Axes that `nn_permute` loops over.
_PERMUTED_AXES = 4


@dataclass(frozen=True)
class Step:
    """A call; `{x}` stands for what is read and `{y}` for what is written, in place where there is no `{x}`."""

    call: str
    size: int  # numbers of `{y}`

    @property
    def in_place(self) -> bool:
        """Whether it changes what the step before it wrote."""
        return "{x}" not in self.call


@dataclass
class Lowering:
    """The steps, and the constants and functions that they name."""

    dtype: np.dtype
    steps: list[Step] = field(default_factory=list)
    constants: list[tuple[str, np.ndarray]] = field(default_factory=list)
    windows: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    layer: int = 0

    def add(self, function: str, *arguments, size: int) -> None:
        """Append `nn_FUNCTION(arguments)`."""
        self.functions.add(function)
        self.steps.append(Step(f"nn_{function}({', '.join(map(str, arguments))})", size))

    def array(self, name: str, values: np.ndarray | None) -> str:
        """A constant array's name; `NULL` for None."""
        if values is None:
            return "NULL"
        self.constants.append((f"{name}_{self.layer}", np.asarray(values).astype(self.dtype)))
        return f"{name}_{self.layer}"

    def window(self, before: Shape, after: Shape, kernel, strides, top_left, dilation=(1, 1)) -> str:
        """A constant `struct nn_window`, as an argument; its fields in the order of the struct."""
        numbers = (*before, *after, *kernel, *strides, *dilation, *top_left)
        self.windows.append((f"window_{self.layer}", numbers))
        return f"&window_{self.layer}"

    def number(self, value: float) -> str:
        """A literal of exactly this value, rounded to the dtype."""
        return literal(self.dtype.type(value))


def literal(value: np.floating) -> str:
    """A float32 or float64 as a C99 literal of exactly its value."""
    if math.isinf(value):
        return "-INFINITY" if value < 0 else "INFINITY"
    digits = re.sub(r"\.?0*p", "p", float(value).hex())
    return digits + ("f" if value.dtype == np.float32 else "")


def lower(network: Network) -> Lowering:
    """The network's steps, in order.

    Raises
    ------
    LayerError
        For a layer or an axis that has no C function.
    """
    out = Lowering(network.dtype)
    shapes = network.shapes
    for i, (layer, arrays, before, after) in enumerate(zip(network.layers, network.weights, shapes, shapes[1:])):
        if type(layer) not in _LOWER:
            known = ", ".join(kind.__name__ for kind in _LOWER)
            raise LayerError(f"layer {i}: to_c cannot write {type(layer).__name__}; it writes {known}")
        out.layer = i
        _LOWER[type(layer)](out, layer, arrays, before, after)
        _activate(out, getattr(layer, "activation", "linear"), after)
    if not out.steps or out.steps[0].in_place:
        out.functions.add("copy")
        out.steps.insert(0, Step(f"nn_copy({{x}}, {{y}}, {math.prod(shapes[0])})", math.prod(shapes[0])))
    return out


_PARAMETERS = {"leaky_relu": (0.2,), "elu": (1.0,)}


def _activate(out: Lowering, name: str, shape: Shape) -> None:
    if name == "softmax":
        out.add("softmax", "{y}", math.prod(shape[:-1]), shape[-1], size=math.prod(shape))
    elif name != "linear":
        _elementwise(out, name, _PARAMETERS.get(name, ()), shape)


def _elementwise(out: Lowering, name: str, numbers: tuple[float, ...], shape: Shape) -> None:
    out.add(name, "{y}", math.prod(shape), *map(out.number, numbers), size=math.prod(shape))


def _weights(out: Lowering, arrays: dict) -> tuple[str, str]:
    return out.array("kernel", arrays["kernel"]), out.array("bias", arrays.get("bias"))


def _dense(out: Lowering, layer, arrays, before, after) -> None:
    sizes = math.prod(before[:-1]), before[-1], after[-1]
    out.add("dense", "{x}", "{y}", *sizes, *_weights(out, arrays), size=math.prod(after))


def _conv(out: Lowering, layer, arrays, before, after) -> None:
    (top, _), (left, _) = layer.pads(before)
    window = out.window(before, after, layer.kernel_size, layer.strides, (top, left), layer.dilation_rate)
    out.add("conv", "{x}", "{y}", window, layer.groups, *_weights(out, arrays), size=math.prod(after))


def _depthwise(out: Lowering, layer, arrays, before, after) -> None:
    (top, _), (left, _) = layer.pads(before)
    window = out.window(before, after, layer.kernel_size, layer.strides, (top, left), layer.dilation_rate)
    out.add("depthwise", "{x}", "{y}", window, *_weights(out, arrays), size=math.prod(after))


def _transposed(out: Lowering, layer, arrays, before, after) -> None:
    (top, _), (left, _) = layer.crops(before)
    window = out.window(before, after, layer.kernel_size, layer.strides, (top, left), layer.dilation_rate)
    out.add("transposed", "{x}", "{y}", window, *_weights(out, arrays), size=math.prod(after))


def _pool(name: str) -> Callable:
    def lowered(out: Lowering, layer, arrays, before, after) -> None:
        (top, _), (left, _) = layer.pads(before)
        window = out.window(before, after, layer.pool_size, layer.strides, (top, left))
        out.add(name, "{x}", "{y}", window, size=math.prod(after))

    return lowered


def _global_pool(name: str) -> Callable:
    def lowered(out: Lowering, layer, arrays, before, after) -> None:
        window = out.window(before, (1, 1, before[-1]), before[:2], (1, 1), (0, 0))
        out.add(name, "{x}", "{y}", window, size=math.prod(after))

    return lowered


def _pad(out: Lowering, layer, arrays, before, after) -> None:
    (top, _), (left, _) = layer.padding
    out.add("pad", "{x}", "{y}", out.window(before, after, (1, 1), (1, 1), (top, left)), size=math.prod(after))


def _batch_norm(out: Lowering, layer, arrays, before, after) -> None:
    axis = layer.axis % (len(before) + 1) - 1
    mean, var = arrays["mean"], arrays["var"].astype(np.float64)
    gain = arrays.get("gamma", np.ones_like(mean)) / np.sqrt(var + layer.epsilon)
    beta = arrays.get("beta", np.zeros_like(mean))
    names = out.array("mean", mean), out.array("gain", gain), out.array("beta", beta)
    sizes = math.prod(before[:axis]), before[axis], math.prod(before[axis + 1 :])
    out.add("batch_norm", "{y}", *sizes, *names, size=math.prod(before))


def _layer_norm(out: Lowering, layer, arrays, before, after) -> None:
    axes = layer.axes(before)
    moved, back = _to_the_end(out, layer, before, axes)
    width = math.prod(moved[len(moved) - len(axes) :])
    _normalised(out, layer, arrays, moved, (math.prod(moved) // width, 1, 1, width))
    back()


def _group_norm(out: Lowering, layer, arrays, before, after) -> None:
    groups = layer.group_count(before)
    moved, back = _to_the_end(out, layer, before, (layer.axis % (len(before) + 1) - 1,))
    _normalised(out, layer, arrays, moved, (1, groups, math.prod(moved[:-1]), moved[-1] // groups))
    back()


def _normalised(out: Lowering, layer, arrays, shape, sizes: tuple[int, int, int, int]) -> None:
    """`sizes`: sets that follow each other, groups within each, pixels of a set, channels of a group."""
    gamma, beta = (out.array(name, arrays.get(name)) for name in ("gamma", "beta"))
    epsilon = literal(np.float64(layer.epsilon))
    out.add("group_norm", "{y}", *sizes, epsilon, gamma, beta, size=math.prod(shape))


def _softmax(out: Lowering, layer, arrays, before, after) -> None:
    axes = layer.axes(before)
    moved, back = _to_the_end(out, layer, before, axes)
    width = math.prod(moved[len(moved) - len(axes) :])
    out.add("softmax", "{y}", math.prod(moved) // width, width, size=math.prod(moved))
    back()


def _to_the_end(out: Lowering, layer: Layer, shape: Shape, axes: tuple[int, ...]) -> tuple[Shape, Callable[[], None]]:
    """Move axes behind the others; return the shape that this gives, and what moves them back."""
    order = (*(k for k in range(len(shape)) if k not in axes), *axes)
    moved = tuple(shape[k] for k in order)
    if order == tuple(range(len(shape))):
        return shape, lambda: None
    if len(shape) > _PERMUTED_AXES:
        raise LayerError(
            f"layer {out.layer} ({type(layer).__name__}): to_c writes other axes than the last on rows of at most "
            f"{_PERMUTED_AXES} axes, got axis={layer.axis} on rows of shape {shape}; put a Reshape before it"
        )
    _permute(out, shape, order)
    return moved, lambda: _permute(out, moved, tuple(order.index(k) for k in range(len(shape))))


def _permute(out: Lowering, shape: Shape, order: tuple[int, ...]) -> None:
    """Axis `k` of what comes out is axis `order[k]` of what goes in."""
    moved, lead = tuple(shape[k] for k in order), _PERMUTED_AXES - len(shape)
    steps = [math.prod(moved[order.index(k) + 1 :]) for k in range(len(shape))]
    sizes = (*[1] * lead, *shape), (*[0] * lead, *steps)
    lists = (f"(const int[]){{{{{', '.join(map(str, numbers))}}}}}" for numbers in sizes)
    out.add("permute", "{x}", "{y}", *lists, size=math.prod(shape))


def _relu(out: Lowering, layer, arrays, before, after) -> None:
    top = math.inf if layer.max_value is None else layer.max_value
    if layer.max_value is None and layer.threshold == 0:
        name, numbers = ("leaky_relu", (layer.negative_slope,)) if layer.negative_slope else ("relu", ())
    else:
        name, numbers = "clipped_relu", (layer.negative_slope, top, layer.threshold)
    _elementwise(out, name, numbers, before)


def _nothing(out: Lowering, layer, arrays, before, after) -> None:
    """A row stands in C order: another shape, or what works in training only, is nothing to do."""


_LOWER: dict[type[Layer], Callable] = {
    Dense: _dense,
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise,
    Conv2DTranspose: _transposed,
    BatchNormalization: _batch_norm,
    LayerNormalization: _layer_norm,
    GroupNormalization: _group_norm,
    MaxPooling2D: _pool("max_pool"),
    AveragePooling2D: _pool("average_pool"),
    GlobalMaxPooling2D: _global_pool("max_pool"),
    GlobalAveragePooling2D: _global_pool("average_pool"),
    ZeroPadding2D: _pad,
    Softmax: _softmax,
    ReLU: _relu,
    LeakyReLU: lambda out, layer, arrays, before, after: _elementwise(
        out, "leaky_relu", (layer.negative_slope,), before
    ),
    ELU: lambda out, layer, arrays, before, after: _elementwise(out, "elu", (layer.alpha,), before),
    **dict.fromkeys((Activation, Flatten, Reshape, Input, Dropout, GaussianNoise), _nothing),
}
