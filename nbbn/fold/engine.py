"""The fold engine: batch norms leave a graph, one after the other, until none can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from nbbn.fold.arithmetic import Affine, compose, scaled, shifted
from nbbn.fold.graph import Graph, Linear, Node, Norm, Pass
from nbbn.fold.report import FoldEntry, FoldRefused, FoldReport, SuspiciousChannel

# Batch norm -> where it went: (name, direction), several where its output had several readers.
_Fates = dict[str, list[tuple[str, str]]]
_NOTHING = "there is no layer"
# Node name -> the map to be folded into that node's input, or output.
_Targets = dict[str, Affine]


def fold_graph(graph: Graph, *, strict: bool = False,
               outside: Sequence[FoldEntry] = ()) -> FoldReport:
    """Fold the batch norms of a graph into its linear nodes, as far as that is exact.

    Batch norms leave the graph, linear nodes note what they are to take in. The report is without
    the numeric check, and tells of the batch norms `outside` too, which the graph does not show.
    With `strict`, one that stays raises FoldRefused.

    A batch norm folds backward into the linear node before it, if nobody else reads what that
    gives; else forward, if all that its output reaches can take it in: linear nodes, and other
    batch norms. In both directions there may be nodes between with which an affine map changes
    places. Steps are taken until none is left.
    """
    source = graph.norms()
    fates: _Fates = {}
    # What overflows here is caught when the weights are cast, with a message that says so.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious, largest = _gains(source)
        while sum(_fold(graph, graph.nodes[norm.name], fates) for norm in graph.norms()):
            pass
        told = [norm for norm in source if norm.name in fates or not norm.arithmetic]
        entries = [_entry(graph, norm, fates) for norm in told]
    report = FoldReport((*entries, *outside), suspicious, largest)
    reasons = [f"{entry.name} ({entry.reason})" for entry in report.entries if not entry.folded]
    if strict and reasons:
        raise FoldRefused(f"{len(reasons)} of {report.n_total} batch norms cannot be folded: "
                          f"{', '.join(reasons)}; move them next to a linear layer, or fold with "
                          "strict=False and keep them")
    return report


def folded_kernel(linear: Linear, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Kernel (nbbn's layout) of a linear node with all folded in: in float64, rounded once."""
    maps = linear.before, linear.after
    with np.errstate(over="ignore", invalid="ignore"):
        return scaled(linear.kernel(), *maps, linear.kind, linear.groups, dtype)


def folded_bias(linear: Linear) -> np.ndarray:
    """Bias (float64) of a linear node with all folded in; reads the kernel for what was before."""
    kernel, maps = None if linear.before is None else linear.kernel(), (linear.before, linear.after)
    with np.errstate(over="ignore", invalid="ignore"):
        return shifted(kernel, linear.bias, *maps, linear.kind, linear.groups)


def _fold(graph: Graph, norm: Node, fates: _Fates) -> bool:
    """Take one batch norm out of the graph, if a rule allows it."""
    if not isinstance(norm, Norm) or norm.obstacle:
        return False
    backward = "backward", _backward, graph.join_backward
    for direction, rule, join in (backward, ("forward", _forward, graph.join_forward)):
        targets = rule(graph, norm)
        if not isinstance(targets, str) and not _costs(graph, norm, direction, targets):
            join(norm)
            fates[norm.name] = [_put(graph, direction, *target) for target in targets.items()]
            return True
    return False


def _costs(graph: Graph, norm: Norm, direction: str, targets: _Targets) -> bool:
    """Whether products and sums would only move: to the biases of nodes that have none."""
    return norm.arithmetic and direction == "forward" and any(
        isinstance(node := graph.nodes[name], Linear) and node.bias_costs and node.bias is None
        and _shifts(affine)
        for name, affine in targets.items()
    )


def _put(graph: Graph, direction: str, name: str, affine: Affine) -> tuple[str, str]:
    """Let a node take in a map behind or before it; returns the node and the direction."""
    node = graph.nodes[name]
    if isinstance(node, Norm):
        graph.put(replace(node, affine=compose(affine, node.affine), merged=True))
        return name, "merged"
    if isinstance(node, Linear) and direction == "backward":
        graph.put(replace(node, after=compose(node.after, affine)))
    elif isinstance(node, Linear):
        graph.put(replace(node, before=compose(affine, node.before)))
    return name, direction


def _entry(graph: Graph, norm: Norm, fates: _Fates) -> FoldEntry:
    """What became of one batch norm of the source."""
    stays = graph.nodes.get(norm.name)
    if isinstance(stays, Norm):
        reason = stays.obstacle or (f"before it: {_backward(graph, stays)}; "
                                    f"after it: {_forward(graph, stays)}")
        return FoldEntry(norm.title, None, None, False, reason)
    ends = list(dict.fromkeys(_ends(norm.name, fates)))
    directions = list(dict.fromkeys(direction for _, direction in ends))
    into = ", ".join(graph.nodes[name].title for name, _ in ends)
    return FoldEntry(norm.title, into, directions[0] if len(directions) == 1 else "merged", True)


def _ends(name: str, fates: _Fates) -> list[tuple[str, str]]:
    """Where a batch norm is in the end: where the one is that took it in, if that is gone too."""
    ends = []
    for into, direction in fates[name]:
        ends += _ends(into, fates) if into in fates else [(into, direction)]
    return ends


def _gains(norms: list[Norm]) -> tuple[tuple[SuspiciousChannel, ...], float]:
    """Channels with var < epsilon, largest gain first, and the largest gain of all."""
    suspicious, largest = [], 0.0
    for norm in norms:
        if norm.affine is None or norm.arithmetic:
            continue
        gain = np.abs(norm.affine.gain)
        largest = max(largest, float(gain.max(initial=0.0)))
        for channel in np.flatnonzero(norm.var < norm.epsilon).tolist():
            found = channel, float(norm.var[channel]), float(gain[channel])
            suspicious.append(SuspiciousChannel(norm.title, *found))
    return tuple(sorted(suspicious, key=lambda c: -c.gain)), largest


# -- rules: what takes a batch norm in, or why nothing does


def _backward(graph: Graph, norm: Norm) -> _Targets | str:
    """The linear node that gives what is normalised, with the map to take in; or why none can."""
    if norm.affine is None:
        return norm.obstacle
    return _source(graph, norm.name, norm.inputs[0], norm.affine, norm.axis)


def _source(graph: Graph, reader: str, value: str, affine: Affine, axis: int) -> _Targets | str:
    """`_backward` from a reader of a value, which is to become `affine` of what it is."""
    node = graph.producer(value)
    if node is None:
        return _NOTHING
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


def _forward(graph: Graph, norm: Norm) -> _Targets | str:
    """All nodes that the norm's output reaches, with the maps to take in; or why one cannot."""
    if norm.affine is None:
        return norm.obstacle
    return _targets(graph, norm, norm.outputs[0], norm.affine, norm.axis)


def _targets(graph: Graph, source: Node, value: str, affine: Affine, axis: int) -> _Targets | str:
    """`_forward` for the readers of a value, which loses the map `affine` in front of it."""
    readers = graph.readers(value)
    if not readers:
        return _NOTHING
    if value in graph.outputs:
        return f"the output of {source.title} is an output of the graph"
    targets: _Targets = {}
    for reader in readers:
        found = _accept(graph, source, reader, affine, axis)
        if isinstance(found, str):
            return found
        targets.update(found)
    return targets


def _accept(graph: Graph, source: Node, reader: Node, affine: Affine, axis: int) -> _Targets | str:
    if isinstance(reader, Pass):
        carried = reader.carry(affine, axis)
        if isinstance(carried, str):
            return carried
        return _targets(graph, reader, reader.outputs[0], *carried)
    if isinstance(reader, Norm):
        return _other_norm(source, reader, affine, axis) or {reader.name: affine}
    if not isinstance(reader, Linear):
        return f"{reader.title} {reader.what}"
    # Zeros around an image stay zeros where nothing is added.
    reason = reader.obstacle or (reader.not_forward if _shifts(affine) else "")
    reason = reason or _other_place(affine, axis, reader, reader.axis_in, reader.channels_in)
    return reason or {reader.name: affine}


def _shifts(affine: Affine) -> bool:
    return bool((affine.offset != affine.mean * affine.gain).any())


def _other_norm(first: Node, second: Norm, affine: Affine, axis: int) -> str:
    """The reason if two batch norms do not make one; what leaves `first` is normalised again."""
    if second.arithmetic:
        return f"{second.title} is written as products and sums"
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
