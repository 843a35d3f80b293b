"""Operators on several rows as layers that merge, and ones that take a row on two ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nbbn import layers
from nbbn.formats.onnx.builder import CHANNELS_FIRST, Affine, Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.layers import Layer

# Puts the rows of a node's inputs in one layout; the layer that merges them.
Join = Callable[[OnnxNode, Sequence[NetworkBuilder], Args], Layer]
_COMBINED: dict[str, type[Layer]] = {
    "Add": layers.Add, "Sub": layers.Subtract, "Mul": layers.Multiply, "Max": layers.Maximum,
    "Min": layers.Minimum, "Sum": layers.Add, "Mean": layers.Average,
}
# Of combinations of numbers that are not below 0: which may be below it.
_MAY_BE_NEGATIVE = ("Sub", "Div")
_NEVER_NEGATIVE = ("Abs", "Pow")


def combined(node: OnnxNode, nets: Sequence[NetworkBuilder], args: Args) -> Layer:
    """Number by number; axes of length 1 go along."""
    shapes = [net.graph_shape for net in nets]
    shown = " and ".join(map(str, shapes))
    if len({len(shape) for shape in shapes}) > 1:
        raise node.refuse(f"combines rows of shapes {shown}, whose numbers of axes differ")
    whole = tuple(map(max, zip(*shapes)))
    if any(n not in (1, m) for shape in shapes for n, m in zip(shape, whole)):
        raise node.refuse(f"combines rows of shapes {shown}, which do not fit each other")
    _in_one_layout(node, nets, [net for net in nets if net.graph_shape == whole] or nets)
    return _COMBINED[node.operator]()


def concatenated(node: OnnxNode, nets: Sequence[NetworkBuilder], args: Args) -> Layer:
    """One behind the other along an axis, and so in the graph's order of flattened images."""
    axis, ranks = node.attributes.get("axis", -1), {len(net.shape) for net in nets}
    if len(ranks) > 1:
        shown = " and ".join(str(net.graph_shape) for net in nets)
        raise node.refuse(f"joins rows of shapes {shown}, whose numbers of axes differ")
    if ranks == {1}:
        nets[0].own_axis(axis)
        return layers.Concatenate(1)
    _in_one_layout(node, nets, nets)
    return layers.Concatenate(nets[0].own_axis(axis) + 1)


def divided(node: OnnxNode, nets: Sequence[NetworkBuilder], args: Args) -> Layer:
    raise node.refuse("divides a value by a value; nbbn has no layer that does")


def order_of_joined(nets: Sequence[NetworkBuilder]) -> np.ndarray | None:
    """The graph's index of each feature of rows that stand beside each other."""
    if all(net.order is None for net in nets):
        return None
    ends = np.cumsum([0, *(net.shape[0] for net in nets)])
    parts = (np.arange(net.shape[0]) if net.order is None else net.order for net in nets)
    return np.concatenate([first + part for first, part in zip(ends, parts)])


def _in_one_layout(node: OnnxNode, nets: Sequence[NetworkBuilder],
                   whole: Sequence[NetworkBuilder]) -> None:
    """Let axes, or features, of all rows stand as those of one of the `whole` ones do."""
    if len(nets[0].shape) == 1:
        in_one_order(node, whole)
        return
    # Images as the network has them, where any are: axes of the others may move.
    turned = CHANNELS_FIRST.get(len(nets[0].shape))
    perm = max(whole, key=lambda net: (math.prod(net.shape), net.perm == turned, net.plain)).perm
    for net in nets:
        net.settle([perm.index(axis) for axis in range(len(perm))], move=True)


def in_one_order(node: OnnxNode, nets: Sequence[NetworkBuilder]) -> None:
    """Let the features of all rows stand in one order."""
    order = next((net.order for net in nets if net.order is not None), None)
    if order is None:
        return
    for net in nets:
        if net.order is None and net.permute_features(order):
            net.order = order
        if net.order is None or not np.array_equal(net.order, order):
            raise node.refuse("takes features of flattened images, channels first, and others that "
                              "no dense layer can give in that order")


def gives_no_negative(node: OnnxNode, nets: Sequence[NetworkBuilder]) -> bool:
    """Whether no number of what is joined is below 0."""
    if node.operator in _NEVER_NEGATIVE:
        return True
    return node.operator not in _MAY_BE_NEGATIVE and all(net.not_negative for net in nets)


# -- a value on two ways: both rows are the node's input


def absolute(node: OnnxNode, nets: Sequence[NetworkBuilder], args: Args) -> Layer:
    """The larger of a number and what it is with the other sign."""
    nets[1].add(turned := Affine())
    turned.then("Mul", np.array(-1.0))
    return layers.Maximum()


def squared(node: OnnxNode, nets: Sequence[NetworkBuilder], args: Args) -> Layer:
    power = args[1] if len(args) == 2 else None
    if power is None or np.any(power != 2):
        raise node.refuse("raises to another power than 2")
    return layers.Multiply()
