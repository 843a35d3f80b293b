"""The fold engine: a network in, the same function with fewer batch norms out, and what was done."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from nbbn.fold.arithmetic import cast
from nbbn.fold.report import FoldEntry, FoldRefused, FoldReport, SuspiciousChannel
from nbbn.fold.rules import RULES, Node, norm_affine, refusal
from nbbn.layers import Activation, BatchNormalization, Dropout, GaussianNoise, Input, Layer
from nbbn.network import Network

_TRAINING_ONLY = (Input, Dropout, GaussianNoise)
_NEIGHBOURS = (("backward", -1), ("forward", 1))


def fold_network(network: Network, *, strict: bool = False) -> tuple[Network, FoldReport]:
    """Fold the batch norms of a network into their neighbours, as far as that is exact.

    Parameters
    ----------
    network : Network
        Not written; the result shares no array with it.
    strict : bool
        Whether a batch norm that stays is an error.

    Returns
    -------
    network : Network
        Of the same dtype, without what does nothing in inference.
    report : FoldReport
        Without the numeric check, which needs an engine to run on (`fold_checked`).

    Raises
    ------
    LayerError
        For a network whose arrays do not fit its layers.
    FoldRefused
        Where `strict` and a batch norm stays.
    ValueError
        Where a folded weight does not fit the network's dtype.

    Notes
    -----
    A batch norm folds backward into a layer right before it that is linear to its end, else forward into one right
    after it; two in a row become one. Steps are taken until none is left, in float64, with one cast at the end.
    """
    network.check()
    nodes = _nodes(network)
    order = [name for node in nodes for name in node.norms]
    entries: dict[str, FoldEntry] = {}
    # What overflows here is caught by `cast`, with a message that says so.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious, largest = _gains(nodes)
        nodes = _without_linear(nodes)
        while (step := _fold_one(nodes, entries)) is not None:
            nodes = step
    _record_rest(nodes, entries)
    report = FoldReport(tuple(entries[name] for name in order), suspicious, largest)
    if strict and report.n_folded < report.n_total:
        raise FoldRefused(_refused(report))
    return _network(nodes, network), report


def layer_names(layers: tuple[Layer, ...]) -> list[str]:
    """The layers' names, or Keras's default ones: `dense`, `dense_1`, `batch_normalization`, in the order of the network."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        names.append(layer.name or (f"{name}_{seen[name]}" if seen[name] else name))
        seen[name] += 1
    return names


def _nodes(network: Network) -> list[Node]:
    nodes = []
    names = layer_names(network.layers)
    for name, layer, arrays, shape in zip(names, network.layers, network.weights, network.shapes[:-1], strict=True):
        norms = (name,) if isinstance(layer, BatchNormalization) else ()
        arrays = {key: np.array(array, np.float64) for key, array in arrays.items()}
        nodes.append(Node(name, layer, arrays, len(shape) + 1, norms))
    return nodes


def _without_linear(nodes: list[Node]) -> list[Node]:
    """The nodes that do something in inference; a network of none of these keeps one."""
    kept = [node for node in nodes if not _does_nothing(node.layer)]
    return kept or nodes[:1]


def _does_nothing(layer: Layer) -> bool:
    return isinstance(layer, _TRAINING_ONLY) or (isinstance(layer, Activation) and layer.activation == "linear")


def _neighbour(nodes: list[Node], i: int, step: int) -> Node | None:
    return nodes[i + step] if 0 <= i + step < len(nodes) else None


def _take_in(norm: Node, neighbour: Node | None, direction: str) -> Node | str:
    """The neighbour with the batch norm folded in, or the reason why not."""
    if neighbour is None or type(neighbour.layer) not in RULES:
        return refusal(neighbour)
    return getattr(RULES[type(neighbour.layer)], direction)(neighbour, norm)


def _fold_one(nodes: list[Node], entries: dict[str, FoldEntry]) -> list[Node] | None:
    """The nodes after the first fold that a rule allows; None where no rule applies any more."""
    for i, norm in enumerate(nodes):
        for direction, step in _NEIGHBOURS if norm.norms else ():
            taken = _take_in(norm, _neighbour(nodes, i, step), direction)
            if isinstance(taken, str):
                continue
            # Of a batch norm that is only merged so far this is overwritten by what becomes of the two.
            entries.update({name: FoldEntry(name, taken.name, direction, True) for name in norm.norms})
            first = min(i, i + step)
            return [*nodes[:first], taken, *nodes[first + 2 :]]
    return None


def _record_rest(nodes: list[Node], entries: dict[str, FoldEntry]) -> None:
    """Entries of the batch norms that stay, with the reason, and of those that were merged into one of them."""
    for i, norm in enumerate(nodes):
        if not norm.norms:
            continue
        before, after = (_take_in(norm, _neighbour(nodes, i, step), way) for way, step in _NEIGHBOURS)
        *merged, stays = norm.norms
        entries.update({name: FoldEntry(name, stays, "merged", True) for name in merged})
        entries[stays] = FoldEntry(stays, None, None, False, f"before it: {before}; after it: {after}")


def _refused(report: FoldReport) -> str:
    reasons = [f"{entry.name} ({entry.reason})" for entry in report.entries if not entry.folded]
    return (
        f"{len(reasons)} of {report.n_total} batch norms cannot be folded: {', '.join(reasons)}; "
        "move them next to a linear layer, or fold with strict=False and keep them"
    )


def _gains(nodes: list[Node]) -> tuple[tuple[SuspiciousChannel, ...], float]:
    """Channels with var < epsilon, largest gain first, and the largest gain of all."""
    suspicious, largest = [], 0.0
    for node in nodes:
        if not node.norms:
            continue
        gain, var = np.abs(norm_affine(node).gain), node.arrays["var"]
        largest = max(largest, float(gain.max(initial=0.0)))
        for channel in np.flatnonzero(var < node.layer.epsilon).tolist():
            suspicious.append(SuspiciousChannel(node.name, channel, float(var[channel]), float(gain[channel])))
    return tuple(sorted(suspicious, key=lambda c: -c.gain)), largest


def _network(nodes: list[Node], source: Network) -> Network:
    """The nodes as a network of the source's dtype."""
    weights = [
        {key: cast(array, source.dtype, f"{key} of {node.name}") for key, array in node.arrays.items()}
        for node in nodes
    ]
    return Network(tuple(node.layer for node in nodes), source.input_shape, weights, source.dtype)
