"""Which layers take in a batch norm that stands next to them, and how: one row of `RULES` per layer type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from nbbn.fold.arithmetic import Affine, affine_of, fold_after, fold_before_conv, fold_before_dense
from nbbn.layers import Activation, BatchNormalization, Conv2D, Conv2DTranspose, Dense, DepthwiseConv2D, Layer


@dataclass(frozen=True)
class Node:
    """One layer on its way through the fold.

    Attributes
    ----------
    name : str
    layer : Layer
    arrays : dict of float64 arrays
        The layer's weights; folding makes new ones and writes none.
    rank : int
        Number of axes of the layer's input, the batch axis included.
    norms : tuple of str
        Names of the batch norms of the source that this batch norm stands for; empty for any other layer.
    """

    name: str
    layer: Layer
    arrays: dict[str, np.ndarray]
    rank: int
    norms: tuple[str, ...] = ()


Rule = Callable[[Node, Node], "Node | str"]


class Rules(NamedTuple):
    """How a layer takes in the batch norm after it (`backward`) and before it (`forward`).

    Each is called with the layer and the batch norm; it returns the layer that does both, or the reason why not.
    """

    backward: Rule
    forward: Rule


def norm_affine(norm: Node) -> Affine:
    """What the batch norm does in inference."""
    arrays = norm.arrays
    return affine_of(arrays.get("gamma"), arrays.get("beta"), arrays["mean"], arrays["var"], norm.layer.epsilon)


def refusal(neighbour: Node | None) -> str:
    """The reason given where a layer type has no row, or where there is no neighbour."""
    if neighbour is None:
        return "there is no layer"
    return f"{neighbour.name} is a {type(neighbour.layer).__name__}, which takes in no batch norm"


def _dense_backward(dense: Node, norm: Node) -> Node | str:
    if dense.layer.activation != "linear":
        return f"{dense.name} ends in {dense.layer.activation}, which is not linear"
    return _other_axis(dense, norm) or _with_weights(dense, norm, fold_after)


def _dense_forward(dense: Node, norm: Node) -> Node | str:
    return _other_axis(dense, norm) or _with_weights(dense, norm, fold_before_dense)


def _with_weights(node: Node, norm: Node, arithmetic: Callable) -> Node:
    """The layer with the kernel and bias that `arithmetic` makes; one without a bias gains it."""
    kernel, bias = arithmetic(node.arrays["kernel"], node.arrays.get("bias"), norm_affine(norm))
    return replace(node, layer=replace(node.layer, use_bias=True), arrays={"kernel": kernel, "bias": bias})


def _other_axis(dense: Node, norm: Node) -> str | None:
    """The reason if the batch norm is not over the axis on which the dense layer acts; sizes may match by chance."""
    if _axis(norm) != dense.rank - 1:
        return f"it normalises axis {_axis(norm)}, {dense.name} acts on axis {dense.rank - 1}"
    return None


def _axis(norm: Node) -> int:
    return norm.layer.axis % norm.rank


_KIND = {Conv2D: "conv", DepthwiseConv2D: "depthwise", Conv2DTranspose: "transposed"}


def _conv_backward(conv: Node, norm: Node) -> Node | str:
    if conv.layer.activation != "linear":
        return f"{conv.name} ends in {conv.layer.activation}, which is not linear"
    kind, groups = _KIND[type(conv.layer)], getattr(conv.layer, "groups", 1)
    return _other_axis(conv, norm) or _with_weights(conv, norm, partial(fold_after, kind=kind, groups=groups))


def _conv_forward(conv: Node, norm: Node) -> Node | str:
    if isinstance(conv.layer, Conv2DTranspose):
        return f"{conv.name} is a transposed convolution, whose border sees fewer of the normalised values"
    if conv.layer.padding != "valid":
        return f"{conv.name} pads with zeros, which the batch norm would have shifted"
    kind, groups = _KIND[type(conv.layer)], getattr(conv.layer, "groups", 1)
    return _other_axis(conv, norm) or _with_weights(conv, norm, partial(fold_before_conv, kind=kind, groups=groups))


def _merge(first: Node, second: Node) -> Node | str:
    """Two batch norms in a row as one."""
    if _axis(first) != _axis(second):
        return f"{first.name} normalises axis {_axis(first)}, {second.name} axis {_axis(second)}"
    one, two = norm_affine(first), norm_affine(second)
    # var + epsilon is exactly 1 in any precision, so that gamma is the gain.
    layer = replace(second.layer, epsilon=0.5, center=True, scale=True)
    arrays = {
        "gamma": one.gain * two.gain,
        "beta": (one.offset - two.mean) * two.gain + two.offset,
        "mean": one.mean,
        "var": np.full_like(one.mean, 0.5),
    }
    return Node(second.name, layer, arrays, second.rank, first.norms + second.norms)


def _activation(activation: Node, norm: Node) -> str:
    return f"{activation.name} is {activation.layer.activation}, which is not linear"


RULES: dict[type[Layer], Rules] = {
    Dense: Rules(_dense_backward, _dense_forward),
    **dict.fromkeys(_KIND, Rules(_conv_backward, _conv_forward)),
    BatchNormalization: Rules(_merge, lambda second, first: _merge(first, second)),
    Activation: Rules(_activation, _activation),
}
