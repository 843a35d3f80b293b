"""The fold engine: batch norms leave a graph, one after the other, until none can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from nbbn.fold.arithmetic import Affine, compose, moves_zero, scaled, shifted
from nbbn.fold.graph import Graph, Join, Linear, Node, Norm, Pass, Placed
from nbbn.fold.report import FoldEntry, FoldRefused, FoldReport, SuspiciousChannel

# Batch norm -> where it went: (name, direction), several where its output had several readers.
_Fates = dict[str, list[tuple[str, str]]]
_NOTHING = "there is no layer"
# Sums and products may be divided in several ways; so many are tried at most.
_MOST_WAYS = 64
# Node name -> the map to be folded into that node's input, or output.
_Targets = dict[str, Affine]


def fold_graph(graph: Graph, *, strict: bool = False,
               outside: Sequence[FoldEntry] = ()) -> FoldReport:
    """Fold the batch norms of a graph into its linear nodes, as far as that is exact.

    Batch norms leave the graph, linear nodes note what they are to take in. The report is without
    the numeric check, and tells of the batch norms `outside` too, which the graph does not show.
    With `strict`, one that stays raises FoldRefused.

    A batch norm folds backward into the linear nodes before it, if nobody else reads what they
    give; else forward, if all that its output reaches can take it in: linear nodes, and other
    batch norms; else backward into batch norms too. In both directions there may be nodes between
    with which an affine map changes places, also such as join several values. Of a layer that is
    called several times all calls fold, and take in, the same. Steps are taken until none is left.
    """
    source = graph.norms()
    fates: _Fates = {}
    # What overflows here is caught when the weights are cast, with a message that says so.
    with np.errstate(over="ignore", invalid="ignore"):
        layers = [norm for norm in source if norm.name == (norm.calls or (norm.name,))[0]]
        suspicious, largest = _gains(layers)
        while sum(_fold(graph, norm.name, fates) for norm in graph.norms()):
            pass
        told = [norm for norm in layers if norm.name in fates or not norm.arithmetic]
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
        bias = shifted(kernel, linear.bias, *maps, linear.kind, linear.groups)
    return np.broadcast_to(bias, (linear.channels_out,))  # of one number where there is none


def _fold(graph: Graph, name: str, fates: _Fates) -> bool:
    """Take one batch norm out of the graph, with all calls of its layer, if a rule allows it."""
    norm = graph.nodes.get(name)
    if not isinstance(norm, Norm) or norm.obstacle:
        return False
    calls = _calls(graph, norm)
    for direction, rule, join in _RULES:
        targets = rule(graph, calls)
        if not isinstance(targets, str) and not _costs(graph, norm, direction, targets):
            for call in calls:
                join(graph, call)
            takers = sorted(targets, key=graph.place)
            ends = [_put(graph, direction, taker, targets[taker]) for taker in takers]
            fates.update((call.name, ends) for call in calls)
            return True
    return False


def _calls(graph: Graph, norm: Norm) -> list[Norm]:
    """All calls of a batch norm."""
    return [call for name in graph.calls(norm) if isinstance(call := graph.nodes[name], Norm)]


def _costs(graph: Graph, norm: Norm, direction: str, targets: _Targets) -> bool:
    """Whether products and sums would only move: to the biases of nodes that have none."""
    return norm.arithmetic and direction == "forward" and any(
        isinstance(node := graph.nodes[name], Linear) and node.bias_costs and node.bias is None
        and moves_zero(affine)
        for name, affine in targets.items()
    )


def _put(graph: Graph, direction: str, name: str, affine: Affine) -> tuple[str, str]:
    """Let a node take in a map behind or before it; returns the node and the direction."""
    node = graph.nodes[name]
    if isinstance(node, Norm):
        maps = (node.affine, affine) if direction == "backward" else (affine, node.affine)
        graph.put(replace(node, affine=compose(*maps), merged=True))
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
        calls = _calls(graph, stays)
        reason = stays.obstacle or (f"before it: {_backward(graph, calls, (Linear, Norm))}; "
                                    f"after it: {_forward(graph, calls)}")
        return FoldEntry(norm.title, None, None, False, reason)
    ends = list(dict.fromkeys(_ends(norm.name, fates)))
    directions = list(dict.fromkeys(direction for _, direction in ends))
    into = ", ".join(dict.fromkeys(graph.nodes[name].title for name, _ in ends))
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


def _backward(graph: Graph, norms: Sequence[Norm],
              takers: tuple[type[Node], ...] = (Linear,)) -> _Targets | str:
    """The nodes that give what is normalised, with the maps to take in; or why they cannot."""
    wanted: dict[str, _Wanted] = {}
    for norm in norms:
        if norm.affine is None:
            return norm.obstacle
        if norm.inputs[0] in wanted:
            return f"{norm.title} is called twice on one value"
        wanted[norm.inputs[0]] = _Wanted(norm.affine, norm.axis, frozenset({norm.name}))
    ways = islice(_ways(graph, wanted, takers), _MOST_WAYS)
    first = next(ways)
    if not isinstance(first, str):
        return first
    return next((way for way in ways if not isinstance(way, str)), first)


class _Wanted(NamedTuple):
    """What a value is to become: a map of it, which readers have asked for."""

    affine: Affine
    axis: int
    readers: frozenset[str]


def _ways(graph: Graph, wanted: dict[str, _Wanted],
          takers: tuple[type[Node], ...]) -> Iterator[_Targets | str]:
    """Ways of giving values what is wanted of them: all that has to take in a map, or why not.

    From the last node to the first, so that all readers of a value have asked before it is made.
    """
    ahead: list[tuple[dict[str, _Wanted], _Targets]] = [(wanted, {})]
    while ahead:
        wanted, targets = ahead.pop()
        if not wanted:
            yield _all_calls(graph, targets) or targets
            continue
        value = max(wanted, key=lambda value: _place(graph, value))
        affine, axis, readers = wanted[value]
        rest = {other: want for other, want in wanted.items() if other != value}
        node = graph.producer(value)
        if node is None:
            yield _NOTHING
        elif isinstance(node, takers) and isinstance(node, Linear | Norm):
            reason = _shared(graph, node, value, readers) or _not_behind(node, affine, axis)
            if reason:
                yield reason
            else:
                ahead.append((rest, {**targets, node.name: affine}))
        elif isinstance(node, Join) or (isinstance(node, Pass) and node.back is not None):
            divided = _shared(graph, node, value, readers) or _divided(node, affine, axis)
            if isinstance(divided, str):
                yield divided
                continue
            asked = [_asked(graph, rest, node, maps) for maps in divided]
            yield from (reason for reason in asked if isinstance(reason, str))
            ahead += [(want, targets) for want in reversed(asked) if not isinstance(want, str)]
        else:
            yield f"{node.title} {node.what}"


def _place(graph: Graph, value: str) -> int:
    node = graph.producer(value)
    return -1 if node is None else graph.place(node.name)


def _divided(node: Pass | Join, affine: Affine, axis: int) -> list[list[Placed | None]] | str:
    """Ways of giving a node's inputs maps, so that its output gains one."""
    if isinstance(node, Join):
        return node.back(affine, axis)
    assert node.back is not None
    placed = node.back(affine, axis)
    return placed if isinstance(placed, str) else [[placed]]


def _asked(graph: Graph, wanted: dict[str, _Wanted], node: Node,
           maps: Sequence[Placed | None]) -> dict[str, _Wanted] | str:
    """What is wanted, with the maps that a node needs of its inputs; or why that is too much."""
    asked = dict(wanted)
    for value in dict.fromkeys(node.inputs):
        own = [placed for other, placed in zip(node.inputs, maps) if other == value]
        if own == [None] * len(own):
            continue
        first, *others = [asked[value][:2], *own] if value in asked else own
        if first is None or not all(other and _same(first, other) for other in others):
            giver = graph.producer(value)
            what = "the input" if giver is None else f"the output of {giver.title}"
            return f"{node.title} needs {what} as it is, or scaled in two ways"
        readers = asked[value].readers if value in asked else frozenset()
        asked[value] = _Wanted(*first, readers | {node.name})
    return asked


def _same(first: Placed, second: Placed) -> bool:
    """Whether two maps are one."""
    return first[1] == second[1] and all(map(np.array_equal, first[0], second[0]))


def _shared(graph: Graph, node: Node, value: str, asking: Set[str]) -> str:
    """The reason if others than those that ask need a value, which `node` gives, as it is."""
    others = [other.title for other in graph.readers(value) if other.name not in asking]
    if others:
        return f"the output of {node.title} is also read by {', '.join(others)}"
    return f"the output of {node.title} is an output of the graph" if value in graph.outputs else ""


def _all_calls(graph: Graph, targets: _Targets) -> str:
    """The reason if a node is to take in what other calls of its layer are not."""
    for name, affine in targets.items():
        node = graph.nodes[name]
        assert isinstance(node, Linear | Norm)
        maps = [targets.get(call) for call in graph.calls(node)]
        if not all(other is not None and all(map(np.array_equal, affine, other)) for other in maps):
            return (f"{node.title} is called {len(maps)} times, and not all calls would take in "
                    "the same")
    return ""


def _not_behind(node: Linear | Norm, affine: Affine, axis: int) -> str:
    """The reason if a node cannot take in a map behind it."""
    if isinstance(node, Norm):
        return _other_norm(node, affine, axis, f"before {node.title} it")
    place = _other_place(affine, axis, node, node.axis_out, node.channels_out)
    return node.obstacle or place


def _forward(graph: Graph, norms: Sequence[Norm]) -> _Targets | str:
    """All nodes that the norms' outputs reach, with the maps to take in; or why one cannot.

    From the first node to the last, so that a node knows the maps of all its inputs.
    """
    lost: dict[str, Placed] = {}
    targets: _Targets = {}
    ahead: dict[str, Node] = {}
    for norm in norms:
        if norm.affine is None:
            return norm.obstacle
        reason = _lose(graph, norm, (norm.affine, norm.axis), lost, ahead)
        if reason:
            return reason
    while ahead:
        node = ahead.pop(min(ahead, key=graph.place))
        maps = [lost.get(value) for value in node.inputs]
        placed = next(placed for placed in maps if placed)
        if isinstance(node, Pass | Join):
            to = node.carry(*placed) if isinstance(node, Pass) else node.carry(maps)
            reason = to if isinstance(to, str) else _lose(graph, node, to, lost, ahead)
        else:
            reason = _not_before(graph, node, *placed)
            targets[node.name] = placed[0]
        if reason:
            return reason
    again = [norm.title for norm in norms if norm.name in targets]
    return f"{again[0]} reads its own output" if again else _all_calls(graph, targets) or targets


def _lose(graph: Graph, source: Node, placed: Placed, lost: dict[str, Placed],
          ahead: dict[str, Node]) -> str:
    """Note that a node's output loses a map, and who has to know; the reason if it cannot."""
    (value,) = source.outputs[:1]
    readers = graph.readers(value)
    if not readers:
        return _NOTHING
    if value in graph.outputs:
        return f"the output of {source.title} is an output of the graph"
    lost[value] = placed
    ahead.update((reader.name, reader) for reader in readers)
    return ""


def _not_before(graph: Graph, node: Node, affine: Affine, axis: int) -> str:
    """The reason if a node cannot take in a map before it."""
    if isinstance(node, Norm):
        giver = graph.producer(node.inputs[0])
        title = "" if giver is None else giver.title
        which = title if isinstance(giver, Norm) else f"behind {title} it"
        return _other_norm(node, affine, axis, which)
    if not isinstance(node, Linear):
        return f"{node.title} {node.what}"
    reason = node.obstacle or (node.not_forward if moves_zero(affine) else "")
    return reason or _other_place(affine, axis, node, node.axis_in, node.channels_in)


def _other_norm(norm: Norm, affine: Affine, axis: int, which: str) -> str:
    """The reason if a batch norm cannot take in another, which the words `which` begin with."""
    if norm.arithmetic:
        return f"{norm.title} is written as products and sums"
    if norm.obstacle or norm.affine is None:
        return f"{norm.title} stays: {norm.obstacle}"
    if norm.axis != axis:
        return f"{which} normalises axis {axis}, {norm.title} axis {norm.axis}"
    return _other_channels(affine, norm, len(norm.affine.gain))


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


# Direction -> who takes a batch norm in, and how it leaves the graph; the first that can is taken.
_RULES: tuple[tuple[str, Callable[[Graph, Sequence[Norm]], _Targets | str],
                    Callable[[Graph, Norm], None]], ...] = (
    ("backward", _backward, Graph.join_backward),
    ("forward", _forward, Graph.join_forward),
    ("backward", partial(_backward, takers=(Linear, Norm)), Graph.join_backward),
)
