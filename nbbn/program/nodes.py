"""Layers to nodes: what is computed in one go. Activations join the layer before them where a fused kernel exists."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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

# Activations with kernels of their own for rows of features, computed in place; all others go image by image.
IN_PLACE = ("relu", "sigmoid", "tanh", "softmax")
# Nodes that a ReLU joins.
_TAKES_RELU = ("dense", "norm", "conv", "image_norm")


@dataclass(frozen=True)
class Node:
    """One step of the way through a network.

    Attributes
    ----------
    kind : str
        `dense`, `norm` and `activation` work on rows of features, split by columns; `conv`, `depthwise`, `image_norm`,
        `norm_pool`, `group_norm`, `max_pool`, `average_pool`, `image_activation`, `channel_softmax`, `repack`, `permute`, `pad`,
        `dropout` and `noise` on rows of any shape, split by blocks of rows.
    layer : int
        Index of the layer that it comes from.
    before, after : tuple of int
        Shape of a row that goes in and that comes out.
    relu : bool
        A ReLU follows within the same kernel.
    activation : str
        Name of the activation of an `activation` or `image_activation` node.
    numbers : tuple of float
        Its parameters, the order of the axes of a `permute`, or the pool's layer of a `norm_pool`.
    """

    kind: str
    layer: int
    before: Shape
    after: Shape
    relu: bool = False
    activation: str = ""
    numbers: tuple[float, ...] = (0.0,)

    @property
    def depth(self) -> int:
        """Numbers of a row that goes in."""
        return math.prod(self.before)

    @property
    def width(self) -> int:
        """Numbers of a row that comes out."""
        return math.prod(self.after)


def nodes_of(layers: tuple[Layer, ...], shapes: list[Shape], *, training: bool = False) -> list[Node]:
    """The nodes of a chain of layers; linear activations vanish, and what does nothing in inference unless `training`."""
    nodes: list[Node] = []
    for i, (layer, before, after) in enumerate(zip(layers, shapes, shapes[1:])):
        kind = _kind(i, layer, before, training)
        if kind == "repack" and not nodes and len(after) == 1:
            kind = None  # the caller's rows stand in order
        if kind in _OVER:
            nodes += _OVER[kind](i, layer, tuple(before))
        elif kind:
            nodes.append(Node(kind, i, tuple(before), tuple(after)))
        for name, numbers in _activations(i, layer, after):
            _activate(nodes, i, name, numbers, tuple(after))
    return _with_norm_pools(nodes, layers) if training else nodes


def _with_norm_pools(nodes: list[Node], layers: tuple[Layer, ...]) -> list[Node]:
    """A batch norm between a convolution and a pool whose windows do not overlap joins the pool."""
    joined: list[Node] = []
    for node in nodes:
        norm, before = joined[-1] if joined else None, joined[-2] if len(joined) > 1 else None
        if (
            node.kind == "max_pool" and norm is not None and norm.kind == "image_norm" and norm.before == node.before
            and before is not None and before.kind in ("conv", "depthwise") and not before.relu
            and isinstance(layers[node.layer], MaxPooling2D) and layers[node.layer].padding == "valid"
            and layers[node.layer].strides == layers[node.layer].pool_size
        ):  # fmt: skip
            joined[-1] = replace(norm, kind="norm_pool", after=node.after, numbers=(node.layer,))
        else:
            joined.append(node)
    return joined


def _norm_over(i: int, layer: BatchNormalization, shape: Shape) -> list[Node]:
    """A batch norm over an axis that is not the last: the axes change places before and after it."""
    axis = layer.axis % (len(shape) + 1) - 1
    there, inner, back = _moved_last(i, layer, shape, (axis,))
    return [there, Node("image_norm", i, inner, inner), back]


def _group_norm_over(i: int, layer: GroupNormalization, shape: Shape) -> list[Node]:
    """A group norm over an axis that is not the last."""
    there, inner, back = _moved_last(i, layer, shape, (layer.axis % (len(shape) + 1) - 1,))
    return [there, Node("group_norm", i, inner, inner), back]


def _within_rows_over(i: int, layer: LayerNormalization | Softmax, shape: Shape) -> list[Node]:
    """A layer norm or softmax over other axes than the last: they become one, the last, before it, and again several after it."""
    kind = "channel_softmax" if isinstance(layer, Softmax) else "group_norm"
    axes, last = layer.axes(shape), len(shape) - len(layer.axes(shape))
    before, after, inner = [], [], shape
    if axes != tuple(range(last, len(shape))):
        there, inner, back = _moved_last(i, layer, shape, axes)
        before, after = [there], [back]
    one = (*inner[:last], math.prod(inner[last:]))
    if one != inner:
        before, after = [*before, Node("repack", i, inner, one)], [Node("repack", i, one, inner), *after]
    return [*before, Node(kind, i, one, one), *after]


def _moved_last(i: int, layer: Layer, shape: Shape, axes: tuple[int, ...]) -> tuple[Node, Shape, Node]:
    """The node that puts axes of a row behind the others, the shape that it gives, and the node that undoes it."""
    if len(shape) > 3:
        raise LayerError(
            f"layer {i} ({type(layer).__name__}): an axis that is not the last is supported on rows of at most three axes, got "
            f"axis={layer.axis} on rows of shape {shape}; put a Reshape before it"
        )
    order = (*(k for k in range(len(shape)) if k not in axes), *axes)
    inner = tuple(shape[k] for k in order)
    back = tuple(order.index(k) for k in range(len(shape)))
    return Node("permute", i, shape, inner, numbers=order), inner, Node("permute", i, inner, shape, numbers=back)


_OVER = {"norm_over": _norm_over, "group_norm_over": _group_norm_over, "within_rows_over": _within_rows_over}


_KINDS = {
    Conv2D: "conv", Conv2DTranspose: "conv", DepthwiseConv2D: "depthwise", MaxPooling2D: "max_pool",
    GlobalMaxPooling2D: "max_pool", AveragePooling2D: "average_pool", GlobalAveragePooling2D: "average_pool",
    Flatten: "repack", Reshape: "repack", ZeroPadding2D: "pad", LayerNormalization: "group_norm",
    GroupNormalization: "group_norm",
}  # fmt: skip


def _kind(i: int, layer: Layer, before: Shape, training: bool) -> str | None:
    if isinstance(layer, Dense):
        return "dense" if len(before) == 1 else "conv"
    if isinstance(layer, BatchNormalization):
        if layer.axis % (len(before) + 1) != len(before):
            return "norm_over"
        plain = not training or (layer.updates_running and not layer.uses_running)
        return "norm" if len(before) == 1 and plain else "image_norm"
    if isinstance(layer, Dropout):
        if training and layer.noise_shape is not None:
            raise LayerError(f"layer {i} (Dropout): noise_shape is not supported in training; leave it out")
        return "dropout" if training and layer.rate > 0 else None
    if isinstance(layer, GaussianNoise):
        return "noise" if training and layer.stddev > 0 else None
    if isinstance(layer, (LayerNormalization, Softmax)) and layer.axes(before) != (len(before) - 1,):
        return "within_rows_over"
    if isinstance(layer, GroupNormalization) and layer.axis % (len(before) + 1) != len(before):
        return "group_norm_over"
    if isinstance(layer, (Input, Activation, ReLU, LeakyReLU, ELU, Softmax)):
        return None
    if isinstance(layer, ZeroPadding2D) and layer.padding == ((0, 0), (0, 0)):
        return None
    if type(layer) not in _KINDS:
        raise LayerError(f"layer {i}: {type(layer).__name__} is not supported")
    return _KINDS[type(layer)]


def _activations(i: int, layer: Layer, shape: Shape) -> list[tuple[str, tuple[float, ...]]]:
    if isinstance(layer, ReLU):
        if layer.max_value is None and layer.threshold == 0:
            return [("leaky_relu", (layer.negative_slope,)) if layer.negative_slope else ("relu", (0.0,))]
        top = math.inf if layer.max_value is None else layer.max_value
        return [("clipped_relu", (layer.negative_slope, top, layer.threshold))]
    if isinstance(layer, LeakyReLU):
        return [("leaky_relu", (layer.negative_slope,))]
    if isinstance(layer, ELU):
        return [("elu", (layer.alpha,))]
    if isinstance(layer, Softmax):
        return [("softmax", (0.0,))] if layer.axes(shape) == (len(shape) - 1,) else []
    name = getattr(layer, "activation", "linear")
    return [] if name == "linear" else [(name, ({"leaky_relu": 0.2, "elu": 1.0}.get(name, 0.0),))]


def _activate(nodes: list[Node], layer: int, name: str, numbers: tuple[float, ...], shape: Shape) -> None:
    if name == "relu" and nodes and nodes[-1].kind in _TAKES_RELU and not nodes[-1].relu:
        nodes[-1] = replace(nodes[-1], relu=True)
        return
    if name == "softmax" and len(shape) != 1:
        nodes.append(Node("channel_softmax", layer, shape, shape))
        return
    kind = "activation" if len(shape) == 1 and name in IN_PLACE else "image_activation"
    nodes.append(Node(kind, layer, shape, shape, activation=name, numbers=numbers))


def has_windows(nodes: list[Node]) -> bool:
    """Whether a node needs constants of its own beside the parameters."""
    return any(node.kind in ("conv", "depthwise", "max_pool", "average_pool", "pad") for node in nodes)


def output_activation(nodes: list[Node]) -> str:
    """Name of the activation that ends the network, `linear` without one."""
    last = nodes[-1]
    return last.activation if last.activation else "relu" if last.relu else "linear"
