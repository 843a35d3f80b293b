"""When a batch norm may leave its place: each rule gives what takes it in, or the reason why nothing does."""

from __future__ import annotations

from nbbn.fold.arithmetic import Affine
from nbbn.fold.graph import Graph, Linear, Node, Norm, Pass

NOTHING = "there is no layer"
# Node name -> the map to be folded into that node's input.
Targets = dict[str, Affine]


def backward(graph: Graph, norm: Norm) -> Linear | str:
    """The linear node right before the batch norm, or why it cannot take it in."""
    value = norm.inputs[0]
    linear = graph.producer(value)
    if linear is None:
        return NOTHING
    if not isinstance(linear, Linear):
        return _refusal(linear)
    others = [reader.name for reader in graph.readers(value) if reader.name != norm.name]
    if others:
        return f"the output of {linear.name} is also read by {', '.join(others)}"
    if value in graph.outputs:
        return f"the output of {linear.name} is an output of the graph"
    return (
        linear.obstacle
        or linear.not_backward
        or _other_axis(norm.axis, linear, linear.axis_out)
        or _other_channels(norm.affine, linear, linear.channels_out)
        or linear
    )


def forward(graph: Graph, norm: Norm) -> Targets | str:
    """All nodes that the batch norm's output reaches, each with the map that it would take in; or why one cannot."""
    return _targets(graph, norm.name, norm.outputs[0], norm.affine, norm.axis)


def _targets(graph: Graph, source: str, value: str, affine: Affine, axis: int) -> Targets | str:
    """`forward` for the readers of a value, which is `affine` of what it would be without the batch norm."""
    readers = graph.readers(value)
    if not readers:
        return NOTHING
    if value in graph.outputs:
        return f"the output of {source} is an output of the graph"
    targets: Targets = {}
    for reader in readers:
        found = _accept(graph, reader, value, affine, axis)
        if isinstance(found, str):
            return found
        targets.update(found)
    return targets


def _accept(graph: Graph, reader: Node, value: str, affine: Affine, axis: int) -> Targets | str:
    if isinstance(reader, Pass):
        carried = reader.carry(affine, axis)
        return carried if isinstance(carried, str) else _targets(graph, reader.name, reader.outputs[0], *carried)
    if isinstance(reader, Norm):
        return _other_norm(graph, reader, value, affine, axis) or {reader.name: affine}
    if not isinstance(reader, Linear):
        return _refusal(reader)
    reason = (
        reader.obstacle
        or reader.not_forward
        or _other_axis(axis, reader, reader.axis_in)
        or _other_channels(affine, reader, reader.channels_in)
    )
    return reason or {reader.name: affine}


def _refusal(node: Node) -> str:
    return f"{node.name} {node.what}"


def _other_norm(graph: Graph, second: Norm, value: str, affine: Affine, axis: int) -> str:
    """The reason if two batch norms do not make one."""
    if second.obstacle:
        return f"{second.name} stays: {second.obstacle}"
    if second.axis != axis:
        first = graph.producer(value)
        which = first.name if isinstance(first, Norm) else f"behind {first.name} it"
        return f"{which} normalises axis {axis}, {second.name} axis {second.axis}"
    return _other_channels(affine, second, len(second.affine.gain))


def _other_axis(axis: int, linear: Linear, acts_on: int | None) -> str:
    """The reason if a batch norm is not over the axis on which a linear node acts; sizes may match by chance."""
    if acts_on is None:
        return f"the number of axes of the input of {linear.name} is not known"
    return "" if axis == acts_on else f"it normalises axis {axis}, {linear.name} acts on axis {acts_on}"


def _other_channels(affine: Affine, node: Node, channels: int) -> str:
    if len(affine.gain) == channels:
        return ""
    return f"it normalises {len(affine.gain)} channels, {node.name} has {channels}"
