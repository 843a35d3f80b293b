"""When a batch norm may leave its place: each rule gives what takes it in, or why nothing does."""

from __future__ import annotations

from nbbn.fold.arithmetic import Affine
from nbbn.fold.graph import Graph, Linear, Node, Norm, Pass

NOTHING = "there is no layer"
# Node name -> the map to be folded into that node's input, or output.
Targets = dict[str, Affine]


def backward(graph: Graph, norm: Norm) -> Targets | str:
    """The linear node that gives what is normalised, with the map to take in; or why none can."""
    if norm.affine is None:
        return norm.obstacle
    return _source(graph, norm.name, norm.inputs[0], norm.affine, norm.axis)


def _source(graph: Graph, reader: str, value: str, affine: Affine, axis: int) -> Targets | str:
    """`backward` from a reader of a value, which is to become `affine` of what it is."""
    node = graph.producer(value)
    if node is None:
        return NOTHING
    if isinstance(node, Linear):
        reason = _shared(graph, node, value, reader) or node.obstacle
        reason = reason or _other_place(affine, axis, node, node.axis_out, node.channels_out)
        return reason or {node.name: affine}
    if isinstance(node, Pass) and node.back is not None:
        carried = _shared(graph, node, value, reader) or node.back(affine, axis)
        if isinstance(carried, str):
            return carried
        return _source(graph, node.name, node.inputs[0], *carried)
    return f"{node.title} {node.what}"


def _shared(graph: Graph, node: Node, value: str, reader: str) -> str:
    """The reason if others than a reader need a value, which `node` gives, as it is."""
    others = [other.title for other in graph.readers(value) if other.name != reader]
    if others:
        return f"the output of {node.title} is also read by {', '.join(others)}"
    return f"the output of {node.title} is an output of the graph" if value in graph.outputs else ""


def forward(graph: Graph, norm: Norm) -> Targets | str:
    """All nodes that the norm's output reaches, with the maps to take in; or why one cannot."""
    if norm.affine is None:
        return norm.obstacle
    return _targets(graph, norm, norm.outputs[0], norm.affine, norm.axis)


def _targets(graph: Graph, source: Node, value: str, affine: Affine, axis: int) -> Targets | str:
    """`forward` for the readers of a value, which loses the map `affine` in front of it."""
    readers = graph.readers(value)
    if not readers:
        return NOTHING
    if value in graph.outputs:
        return f"the output of {source.title} is an output of the graph"
    targets: Targets = {}
    for reader in readers:
        found = _accept(graph, source, reader, affine, axis)
        if isinstance(found, str):
            return found
        targets.update(found)
    return targets


def _accept(graph: Graph, source: Node, reader: Node, affine: Affine, axis: int) -> Targets | str:
    if isinstance(reader, Pass):
        carried = reader.carry(affine, axis)
        if isinstance(carried, str):
            return carried
        return _targets(graph, reader, reader.outputs[0], *carried)
    if isinstance(reader, Norm):
        return _other_norm(source, reader, affine, axis) or {reader.name: affine}
    if not isinstance(reader, Linear):
        return f"{reader.title} {reader.what}"
    reason = reader.obstacle or reader.not_forward
    reason = reason or _other_place(affine, axis, reader, reader.axis_in, reader.channels_in)
    return reason or {reader.name: affine}


def _other_norm(first: Node, second: Norm, affine: Affine, axis: int) -> str:
    """The reason if two batch norms do not make one; what leaves `first` is normalised again."""
    if second.obstacle or second.affine is None:
        return f"{second.title} stays: {second.obstacle}"
    if second.axis != axis:
        which = first.title if isinstance(first, Norm) else f"behind {first.title} it"
        return f"{which} normalises axis {axis}, {second.title} axis {second.axis}"
    return _other_channels(affine, second, len(second.affine.gain))


def _other_place(affine: Affine, axis: int, linear: Linear, acts_on: int | None,
                 channels: int) -> str:
    """The reason if a linear node acts on another axis, whose size may match, or other channels."""
    if acts_on is None:
        return f"the number of axes of the input of {linear.title} is not known"
    if axis != acts_on:
        return f"it normalises axis {axis}, {linear.title} acts on axis {acts_on}"
    return _other_channels(affine, linear, channels)


def _other_channels(affine: Affine, node: Node, channels: int) -> str:
    if len(affine.gain) == channels:
        return ""
    return f"it normalises {len(affine.gain)} channels, {node.title} has {channels}"
