"""ONNX graphs to the graph that folding works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

from nbbn.fold.graph import Graph, Join, Linear, Node
from nbbn.fold.report import FoldEntry
from nbbn.formats.files import BROKEN
from nbbn.formats.onnx.constants import evaluated
from nbbn.formats.onnx.file import Model, graphs_within
from nbbn.formats.onnx.fold_nodes import opaque, with_addition
from nbbn.formats.onnx.fold_scales import scale_from, scale_within
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode, names_read
from nbbn.formats.onnx.operators import constant_of, operator_of


class Place(NamedTuple):
    """Which node of the model one of the graph is, and which adds its bias, where another does.

    `rest` are the other nodes of a batch norm that is written as products and sums; `within` says
    that it is the scale and shift that a layer norm ends with.
    """

    node: int
    addition: int | None = None
    rest: tuple[int, ...] = ()
    within: bool = False


class Names:
    """Names that are not taken."""

    def __init__(self, taken: set[str]):
        self._taken = taken

    def new(self, name: str) -> str:
        """`name`, or `name` with a number behind it."""
        numbered = (f"{name}_{i}" if i else name for i in count())
        free = next(n for n in numbered if n not in self._taken)
        self._taken.add(free)
        return free


def looked_through(model: Model) -> OnnxGraph:
    """The graph of a model, its constants known, the nodes that hand on their input passed over."""
    graph = OnnxGraph(model)
    for i, node in enumerate(graph.nodes):
        if node.domain or not node.outputs:
            continue
        if node.operator in _HANDING_ON and _HANDING_ON[node.operator](node, graph):
            graph.rename(node.output, node.inputs[0])
            graph.transparent.add(i)
            continue
        try:
            graph.define(node.output, constant_of(node, graph, {}))
            graph.transparent.add(i)
        except BROKEN:  # no shape, and no weight in another order
            for name, constant in evaluated(node, graph):
                graph.define(name, constant)
                graph.transparent.add(i)
    return graph


def _same_type(node: OnnxNode, graph: OnnxGraph) -> bool:
    """Whether a Cast is to the type that its input has."""
    if node.operator == "CastLike":
        return graph.kind(node.inputs[0]) == graph.kind(node.inputs[1]) is not None
    return graph.kind(node.inputs[0]) == node.attributes.get("to")


def _does_nothing(node: OnnxNode, graph: OnnxGraph) -> bool:
    """Whether a Dropout is one of inference, whose mask nobody reads."""
    given = {output.name for output in graph.proto.output}
    if any(mask and (mask in given or mask in graph.readers) for mask in node.outputs[1:]):
        return False
    if graph.opset < 7:
        return bool(node.attributes.get("is_test", 0))
    if len(node.inputs) < 3:
        return True
    training = graph.constant(node.inputs[2])
    return training is not None and not training.array().any()


# When an operator gives its first input as it is.
_HANDING_ON: dict[str, Callable[[OnnxNode, OnnxGraph], bool]] = {
    "Identity": lambda node, graph: True, "Dropout": _does_nothing, "Cast": _same_type,
    "CastLike": _same_type,
}  # fmt: skip


def graph_of(graph: OnnxGraph) -> tuple[Graph, dict[str, Place]]:
    """The graph that folding works on, and the places of its nodes by name."""
    names = Names(set())
    nodes: list[Node] = []
    places: dict[str, Place] = {}
    taken: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if i in graph.transparent or i in taken:
            continue
        name = names.new(node.name or next((o for o in node.outputs if o), node.operator))
        scale = scale_from(i, graph, name)
        addition, rest = None, tuple[int, ...]()
        if scale is None:
            made = operator_of(node).fold(node, name, graph) or opaque(node, name, graph)
            made, addition = _with_addition(made, node, graph)
        else:
            made, rest = scale
            made = replace(made, title=" and ".join(graph.nodes[k].shown for k in (i, *rest)))
        end = rest[-1] if rest else i if addition is None else addition
        outputs = graph.nodes[end].outputs
        taken |= {end, *rest}
        read = [value for value in names_read(node.proto) if graph.constant(value) is None]
        if not node.domain and node.operator in ("Shape", "Size"):
            read = []  # no number of it, and folding keeps the shape
        first = [graph.first_name(value) for value in read]
        inputs = tuple(first if isinstance(made, Join) else dict.fromkeys(first))
        made = replace(made, inputs=inputs, outputs=tuple(o for o in outputs if o))
        places[name] = Place(i, addition, rest)
        ending = scale_within(node, graph, names.new(f"{name} ending"))
        if ending is not None:
            plain = f"{node.output} before its scale"  # a value of this graph alone
            nodes.append(replace(made, outputs=(plain,)))
            made = replace(ending, inputs=(plain,), outputs=(node.output,),
                           title=f"the scale and shift of {node.shown}")
            places[ending.name] = Place(i, within=True)
        nodes.append(made)
    return Graph(nodes, graph.outputs), places


def _with_addition(made: Node, node: OnnxNode, graph: OnnxGraph) -> tuple[Node, int | None]:
    """A linear node with the constant that its only reader adds, and the index of that reader."""
    if not isinstance(made, Linear) or made.obstacle or node.operator == "Gemm":
        return made, None
    reader = graph.only_reader(node.output)
    if reader is None:
        return made, None
    adder = graph.nodes[reader]
    if adder.operator != "Add" or adder.domain or adder.inputs.count(node.output) != 1:
        return made, None
    constant = graph.constant(next(name for name in adder.inputs if name != node.output))
    if constant is None:
        return made, None
    # A constant of more axes than the value would give it more.
    dense = made.kind == "dense"
    rank = graph.rank(node.output) or 1 if dense else len(graph.known(node.inputs[1]).dims)
    biased = with_addition(made, constant, rank)
    return (made, None) if biased is None else (biased, reader)


def norms_within(model: Any) -> list[FoldEntry]:
    """Entries of the batch norms within nodes and functions of a model, which are left alone."""
    entries = []
    for node in model.graph.node:
        for inner in graphs_within(node):
            entries += _left_alone(inner.node, f"it stands within {node.name or node.op_type}")
    for function in model.functions:
        entries += _left_alone(function.node, f"it stands in the function {function.name}")
    return entries


def _left_alone(nodes: Iterable[Any], where: str) -> list[FoldEntry]:
    entries = []
    for node in nodes:
        if node.op_type == "BatchNormalization":
            name, reason = node.name or node.output[0], f"{where}, which is left alone"
            entries.append(FoldEntry(name, None, None, False, reason))
        for inner in graphs_within(node):
            entries += _left_alone(inner.node, where)
    return entries
