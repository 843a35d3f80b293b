"""Operators as activations, and the bounds of a ReLU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nbbn.activations import ELEMENTWISE, SELU_ALPHA, SELU_SCALE
from nbbn.formats.onnx.builder import Affine, Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.layers import ELU, Activation, Layer, LeakyReLU, PReLU, ReLU, Softmax

# Of a parameter of a function: the operator's attribute, and its default.
Attributes = Mapping[str, tuple[str, float]]
Read = Callable[[NetworkBuilder, OnnxNode, Args], None]
# The layers of functions with parameters.
_LAYERS: dict[str, Callable[..., Layer]] = {
    "leaky_relu": LeakyReLU,
    "elu": lambda alpha: Activation("elu") if alpha == 1 else ELU(alpha),
    "clipped_relu": lambda slope, top, threshold: ReLU(None if top == math.inf else top, slope,
                                                       threshold),
}


def add_function(net: NetworkBuilder, name: str, numbers: Sequence[float] = (),
                 factor: float = 1.0) -> None:
    """Add `factor` times a function of `nbbn.activations.ELEMENTWISE`."""
    if name == "elu" and math.isclose(numbers[0], SELU_ALPHA, rel_tol=1e-6):
        name, factor = "selu", factor / SELU_SCALE
    net.add(_LAYERS[name](*numbers) if name in _LAYERS else Activation(name))
    if factor != 1:  # what a constant that follows may take back
        net.add(scale := Affine())
        scale.then("Mul", np.array(factor))


def function(name: str, attributes: Attributes) -> Callable[[NetworkBuilder, OnnxNode, Args], None]:
    """A reader of the operator that is a function."""

    def read(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
        numbers = [_number(node, *attributes[p]) for p in ELEMENTWISE[name].parameters]
        add_function(net, name, numbers)

    return read


def _number(node: OnnxNode, name: str, default: float) -> float:
    return round_trip(np.float32(node.attributes.get(name, default)))


def prelu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    slope = args[1] if len(args) == 2 else None
    if args[0] is not None or slope is None or not slope.size:
        raise node.refuse("needs a constant for its slopes")
    add_prelu(net, slope)


def add_prelu(net: NetworkBuilder, slope: np.ndarray) -> None:
    """Add `x`, or up to 0 a slope times `x`; a LeakyReLU where all are the same."""
    if np.all(slope == slope.flat[0]) and slope.flat[0] >= 0:
        net.add(LeakyReLU(round_trip(slope)))
        return
    axes, values = net.spread(slope)
    alpha = values.reshape([n if axis in axes else 1 for axis, n in enumerate(net.shape)])
    shared = tuple(axis + 1 for axis in range(len(net.shape)) if axis not in axes)
    net.add(PReLU(shared_axes=shared or None), alpha=alpha)


def selu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    own = SELU_ALPHA, SELU_SCALE
    given = _number(node, "alpha", own[0]), _number(node, "gamma", own[1])
    if not np.allclose(given, own, rtol=1e-6, atol=0):
        raise node.refuse(f"has alpha {given[0]:g} and gamma {given[1]:g}, selu has others")
    add_function(net, "selu")


def swish(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    if _number(node, "alpha", 1.0) != 1:
        raise node.refuse("has an alpha other than 1, which silu has")
    add_function(net, "silu")


def gelu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    if node.attributes.get("approximate", "none") != "none":
        raise node.refuse("is an approximation of gelu; nbbn has the exact one")
    add_function(net, "gelu")


def thresholded_relu(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    net.add(ReLU(threshold=_number(node, "alpha", 1.0)))


# Of two attributes' numbers: the activation.
_HARD_SIGMOIDS = {(1 / 6, 0.5): "hard_sigmoid", (0.5, 0.5): "sparse_sigmoid"}
_SHRINKS = {(0.0, 0.5): "hard_shrink", (0.5, 0.5): "soft_shrink"}


def _named(names: Mapping[tuple[float, float], str], a: float, b: float) -> str | None:
    return next((name for numbers, name in names.items()
                 if np.allclose((a, b), numbers, rtol=1e-6, atol=0)), None)


def hard_sigmoid(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """An activation, or `min(max(slope * x + offset, 0), 1)` of two layers."""
    slope, offset = _number(node, "alpha", 0.2), _number(node, "beta", 0.5)
    if name := _named(_HARD_SIGMOIDS, slope, offset):
        net.add(Activation(name))
        return
    net.add(line := Affine())
    line.then("Mul", np.array(slope))
    line.then("Add", np.array(offset))
    net.add(ReLU(1.0))


def shrink(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    bias, bound = _number(node, "bias", 0.0), _number(node, "lambd", 0.5)
    name = _named(_SHRINKS, bias, bound)
    if name is None:
        raise node.refuse(f"has bias {bias:g} and lambd {bound:g}; hard_shrink has 0 and 0.5, "
                          "soft_shrink 0.5 and 0.5")
    net.add(Activation(name))


def log_softmax(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    axis = node.attributes.get("axis", -1 if net.opset >= 13 else 1)
    if net.own_axis(axis) != len(net.shape) - 1:
        raise node.refuse("over another axis than the last is not supported")
    net.add(Activation("log_softmax"))


def softmax(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    axis = node.attributes.get("axis", -1 if net.opset >= 13 else 1)
    if net.opset < 13 and axis not in (-1, len(net.shape)):
        raise node.refuse(f"over all axes from {axis} on, as before opset 13, is not supported")
    net.add(Softmax(net.own_axis(axis) + 1))


# -- bounds


def clip(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """A ReLU, or the bound of one."""
    low, high = (args[at] if len(args) > at else node.attributes.get(name)
                 for at, name in ((1, "min"), (2, "max")))
    least = -math.inf if low is None else one_number(node, low)
    most = math.inf if high is None else one_number(node, high)
    if (least, most) == (-1, 1):
        net.add(Activation("hard_tanh"))
        return
    if least != 0 and least > -3e38:
        raise node.refuse(f"clips at {least:g}; a ReLU clips at 0")
    if least == 0:
        net.add(Activation("relu") if most >= 3e38 else ReLU(most))
    elif most < 3e38:
        _bound(net, node, most)


def _only_constant(args: Args) -> np.ndarray | None:
    constants = [array for array in args if array is not None]
    return constants[0] if len(args) == 2 and len(constants) == 1 else None


def minimum(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    bound = _only_constant(args)
    if bound is None:
        raise node.refuse("is no bound of a ReLU")
    if one_number(node, bound) == 0:  # the other side of a ReLU
        for layer in (Affine(), Activation("relu"), Affine()):
            net.add(layer)
            if isinstance(layer, Affine):
                layer.then("Mul", np.array(-1.0))
        return
    _bound(net, node, one_number(node, bound))


def _bound(net: NetworkBuilder, node: OnnxNode, high: float) -> None:
    """A largest value on top of a ReLU."""
    layer, slope = net.last, 0.0
    if isinstance(layer, LeakyReLU):
        slope = layer.negative_slope
    elif not isinstance(layer, Activation) or layer.activation != "relu":
        raise node.refuse("bounds values that no ReLU gives")
    net.drop()
    net.add(ReLU(high, slope))


def maximum(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    bound = _only_constant(args)
    if bound is None or one_number(node, bound) != 0:
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
