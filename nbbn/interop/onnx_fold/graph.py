"""ONNX graphs to the graph that folding works on."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import NamedTuple

from nbbn.fold.graph import Graph, Linear, Node
from nbbn.fold.report import FoldEntry
from nbbn.interop.onnx_fold.nodes import node_of, with_addition
from nbbn.interop.onnx_fold.values import Values, graphs_within, names_read

_NORM = "BatchNormalization"


class Place(NamedTuple):
    """Where a node of the graph stands in the model.

    Attributes
    ----------
    index : int
        Of the model's node.
    addition : int or None
        Index of the node that adds the bias, where another does.
    """

    index: int
    addition: int | None = None


class Names:
    """Names that are not taken."""

    def __init__(self, taken: set[str]):
        self._taken = taken

    def new(self, name: str) -> str:
        """`name`, or `name` with a number behind it."""
        free = next(n for n in (f"{name}_{i}" if i else name for i in count()) if n not in self._taken)
        self._taken.add(free)
        return free


def graph_of(values: Values) -> tuple[Graph, dict[str, Place]]:
    """The graph that folding works on, and the places of its nodes by name."""
    protos, names = values.graph.node, Names(set())
    nodes: list[Node] = []
    places: dict[str, Place] = {}
    additions: set[int] = set()
    for i, proto in enumerate(protos):
        if i in values.transparent or i in additions:
            continue
        name = names.new(proto.name or next((o for o in proto.output if o), proto.op_type))
        node, addition = _with_addition(node_of(proto, name, values), proto, values)
        outputs = proto.output if addition is None else protos[addition].output
        if addition is not None:
            additions.add(addition)
        read = (value for value in names_read(proto) if values.constant(value) is None)
        inputs = tuple(dict.fromkeys(values.first_name(value) for value in read))
        nodes.append(replace(node, inputs=inputs, outputs=tuple(o for o in outputs if o)))
        places[name] = Place(i, addition)
    return Graph(nodes, values.outputs), places


def norms_within(model) -> list[FoldEntry]:
    """Entries of the batch norms that stand in graphs within nodes, or in functions of a model, which are left alone."""
    entries = []
    for node in model.graph.node:
        for inner in graphs_within(node):
            entries += _left_alone(inner.node, f"it stands within {node.name or node.op_type}, which is left alone")
    for function in model.functions:
        entries += _left_alone(function.node, f"it stands in the function {function.name}, which is left alone")
    return entries


def _left_alone(nodes, reason: str) -> list[FoldEntry]:
    entries = []
    for node in nodes:
        if node.op_type == _NORM:
            entries.append(FoldEntry(node.name or node.output[0], None, None, False, reason))
        for inner in graphs_within(node):
            entries += _left_alone(inner.node, reason)
    return entries


def _with_addition(node: Node, proto, values: Values) -> tuple[Node, int | None]:
    """A linear node with the constant that its only reader adds, and the index of that reader."""
    if not isinstance(node, Linear) or node.obstacle or proto.op_type == "Gemm":
        return node, None
    value = proto.output[0]
    readers = values.readers.get(value, [])
    if len(readers) != 1 or value in {output.name for output in values.graph.output}:
        return node, None
    adder = values.graph.node[readers[0]]
    if adder.op_type != "Add" or adder.domain not in ("", "ai.onnx") or list(adder.input).count(value) != 1:
        return node, None
    constant = values.constant(next(name for name in adder.input if name != value))
    if constant is None:
        return node, None
    # A constant of more axes than the value would give it more.
    rank = values.rank(value) or 1 if node.kind == "dense" else len(values.constant(proto.input[1]).dims)
    biased = with_addition(node, constant, rank)
    return (node, None) if biased is None else (biased, readers[0])
