"""The fold engine: batch norms leave a graph, one after the other, until none can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nbbn.fold import rules
from nbbn.fold.arithmetic import compose, scaled, shifted
from nbbn.fold.graph import Graph, Linear, Norm
from nbbn.fold.report import FoldEntry, FoldRefused, FoldReport, SuspiciousChannel

# Batch norm -> where it went: (name, direction), more than one where its output had several readers.
_Fates = dict[str, list[tuple[str, str]]]


def fold_graph(graph: Graph, *, strict: bool = False, outside: Sequence[FoldEntry] = ()) -> FoldReport:
    """Fold the batch norms of a graph into its linear nodes, as far as that is exact.

    Parameters
    ----------
    graph : Graph
        Written: batch norms leave it, linear nodes note what they are to take in (`folded_weights`).
    strict : bool
        Whether a batch norm that stays is an error.
    outside : sequence of FoldEntry
        Batch norms that the graph does not show; for the report.

    Returns
    -------
    FoldReport
        Without the numeric check.

    Raises
    ------
    FoldRefused
        Where `strict` and a batch norm stays.

    Notes
    -----
    A batch norm folds backward into the node right before it, if that is linear to its end and nobody else reads its
    output; else forward, if all that its output reaches can take it in: linear nodes, other batch norms, and either
    behind nodes with which an affine map changes places. Steps are taken until none is left.
    """
    source, fates = graph.norms(), {}
    # What overflows here is caught when the weights are cast, with a message that says so.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious, largest = _gains(source)
        while _round(graph, fates):
            pass
        entries = [_entry(graph, norm.name, fates) for norm in source]
    report = FoldReport((*entries, *outside), suspicious, largest)
    if strict and report.n_folded < report.n_total:
        raise FoldRefused(_refused(report))
    return report


def folded_kernel(linear: Linear, dtype=np.float64) -> np.ndarray:
    """Kernel (nbbn's layout) of a linear node with everything folded in; computed in float64 and rounded once."""
    with np.errstate(over="ignore", invalid="ignore"):
        return scaled(linear.kernel(), linear.before, linear.after, linear.kind, linear.groups, dtype)


def folded_bias(linear: Linear) -> np.ndarray:
    """Bias (float64) of a linear node with everything folded in; reads the kernel only for what stood before it."""
    kernel = None if linear.before is None else linear.kernel()
    with np.errstate(over="ignore", invalid="ignore"):
        return shifted(kernel, linear.bias, linear.before, linear.after, linear.kind, linear.groups)


def _round(graph: Graph, fates: _Fates) -> int:
    """Try each batch norm once; returns how many left."""
    return sum(_fold(graph, norm.name, fates) for norm in graph.norms())


def _fold(graph: Graph, name: str, fates: _Fates) -> bool:
    """Take one batch norm out of the graph, if a rule allows it."""
    norm = graph.nodes[name]
    if norm.obstacle:
        return False
    linear = rules.backward(graph, norm)
    if isinstance(linear, Linear):
        graph.join_backward(norm, replace(linear, after=compose(linear.after, norm.affine)))
        fates[name] = [(linear.name, "backward")]
        return True
    targets = rules.forward(graph, norm)
    if isinstance(targets, str):
        return False
    graph.join_forward(norm)
    fates[name] = [_put_before(graph, target, affine) for target, affine in targets.items()]
    return True


def _put_before(graph: Graph, name: str, affine) -> tuple[str, str]:
    """Let a node take in the map before it; returns the node and the direction."""
    node = graph.nodes[name]
    if isinstance(node, Norm):
        graph.put(replace(node, affine=compose(affine, node.affine), merged=True))
        return name, "merged"
    graph.put(replace(node, before=compose(affine, node.before)))
    return name, "forward"


def _entry(graph: Graph, name: str, fates: _Fates) -> FoldEntry:
    """What became of one batch norm of the source."""
    if name not in fates:
        return FoldEntry(name, None, None, False, _reason(graph, graph.nodes[name]))
    ends = list(dict.fromkeys(_ends(name, fates)))
    directions = {direction for _, direction in ends}
    into, direction = ", ".join(into for into, _ in ends), next(d for _, d in ends)
    return FoldEntry(name, into, direction if len(directions) == 1 else "merged", True)


def _ends(name: str, fates: _Fates) -> list[tuple[str, str]]:
    """Where a batch norm is in the end: into what the one took it that it was merged with, if that is gone too."""
    ends = []
    for into, direction in fates[name]:
        ends += _ends(into, fates) if into in fates else [(into, direction)]
    return ends


def _reason(graph: Graph, norm: Norm) -> str:
    if norm.obstacle:
        return norm.obstacle
    return f"before it: {rules.backward(graph, norm)}; after it: {rules.forward(graph, norm)}"


def _refused(report: FoldReport) -> str:
    reasons = [f"{entry.name} ({entry.reason})" for entry in report.entries if not entry.folded]
    return (
        f"{len(reasons)} of {report.n_total} batch norms cannot be folded: {', '.join(reasons)}; "
        "move them next to a linear layer, or fold with strict=False and keep them"
    )


def _gains(norms: list[Norm]) -> tuple[tuple[SuspiciousChannel, ...], float]:
    """Channels with var < epsilon, largest gain first, and the largest gain of all."""
    suspicious, largest = [], 0.0
    for norm in norms:
        if norm.affine is None:
            continue
        gain = np.abs(norm.affine.gain)
        largest = max(largest, float(gain.max(initial=0.0)))
        for channel in np.flatnonzero(norm.var < norm.epsilon).tolist():
            suspicious.append(SuspiciousChannel(norm.name, channel, float(norm.var[channel]), float(gain[channel])))
    return tuple(sorted(suspicious, key=lambda c: -c.gain)), largest
