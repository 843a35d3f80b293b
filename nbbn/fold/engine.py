"""The fold engine: batch norms leave a graph, one after the other, until none can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from nbbn.fold import rules
from nbbn.fold.arithmetic import Affine, compose, scaled, shifted
from nbbn.fold.graph import Graph, Linear, Node, Norm
from nbbn.fold.report import FoldEntry, FoldRefused, FoldReport, SuspiciousChannel

# Batch norm -> where it went: (name, direction), several where its output had several readers.
_Fates = dict[str, list[tuple[str, str]]]


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
        entries = [_entry(graph, norm, fates) for norm in source]
    report = FoldReport((*entries, *outside), suspicious, largest)
    if strict and report.n_folded < report.n_total:
        raise FoldRefused(_refused(report))
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
    backward = "backward", rules.backward, graph.join_backward
    for direction, rule, join in (backward, ("forward", rules.forward, graph.join_forward)):
        targets = rule(graph, norm)
        if not isinstance(targets, str):
            join(norm)
            fates[norm.name] = [_put(graph, direction, *target) for target in targets.items()]
            return True
    return False


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
        reason = stays.obstacle or (f"before it: {rules.backward(graph, stays)}; "
                                    f"after it: {rules.forward(graph, stays)}")
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


def _refused(report: FoldReport) -> str:
    reasons = [f"{entry.name} ({entry.reason})" for entry in report.entries if not entry.folded]
    return (f"{len(reasons)} of {report.n_total} batch norms cannot be folded: "
            f"{', '.join(reasons)}; move them next to a linear layer, or fold with strict=False "
            "and keep them")


def _gains(norms: list[Norm]) -> tuple[tuple[SuspiciousChannel, ...], float]:
    """Channels with var < epsilon, largest gain first, and the largest gain of all."""
    suspicious, largest = [], 0.0
    for norm in norms:
        if norm.affine is None:
            continue
        gain = np.abs(norm.affine.gain)
        largest = max(largest, float(gain.max(initial=0.0)))
        for channel in np.flatnonzero(norm.var < norm.epsilon).tolist():
            found = channel, float(norm.var[channel]), float(gain[channel])
            suspicious.append(SuspiciousChannel(norm.title, *found))
    return tuple(sorted(suspicious, key=lambda c: -c.gain)), largest
