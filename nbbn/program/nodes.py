"""Layers to nodes: what is computed in one go. Activations join the layer before them where a fused kernel exists."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nbbn.layers import Activation, BatchNormalization, Dense, Layer, LayerError


@dataclass(frozen=True)
class Node:
    """One step of the way through a network.

    Attributes
    ----------
    kind : str
        `dense`, `norm` or `activation`.
    layer : int
        Index of the layer that it comes from.
    relu : bool
        A ReLU follows within the same kernel.
    activation : str
        Name of the activation of an `activation` node.
    width : int
        Columns that come out.
    depth : int
        Columns that go in.
    """

    kind: str
    layer: int
    depth: int
    width: int
    relu: bool = False
    activation: str = ""


def nodes_of(layers: tuple[Layer, ...], shapes: list[tuple[int, ...]]) -> list[Node]:
    """The nodes of a chain of layers; linear activations vanish, ReLU joins a dense or norm node before it."""
    nodes: list[Node] = []
    for i, (layer, before, after) in enumerate(zip(layers, shapes, shapes[1:])):
        if len(before) != 1:
            raise LayerError(f"layer {i} ({type(layer).__name__}): rows of shape {before} are not supported, only (features,)")
        if isinstance(layer, Dense):
            nodes.append(Node("dense", i, before[0], after[0]))
            _activate(nodes, i, layer.activation, after[0])
        elif isinstance(layer, BatchNormalization):
            nodes.append(Node("norm", i, before[0], after[0]))
        elif isinstance(layer, Activation):
            _activate(nodes, i, layer.activation, after[0])
        else:
            raise LayerError(f"layer {i}: {type(layer).__name__} is not supported")
    return nodes


def _activate(nodes: list[Node], layer: int, name: str, width: int) -> None:
    if name == "linear":
        return
    if name == "relu" and nodes and nodes[-1].kind in ("dense", "norm") and not nodes[-1].relu:
        nodes[-1] = replace(nodes[-1], relu=True)
    else:
        nodes.append(Node("activation", layer, width, width, activation=name))


def output_activation(nodes: list[Node]) -> str:
    """Name of the activation that ends the network, `linear` without one."""
    last = nodes[-1]
    return last.activation if last.kind == "activation" else "relu" if last.relu else "linear"
