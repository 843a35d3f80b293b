"""What a model's outputs mean, plain numbers or labels and probabilities: written and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from nbbn.formats.files import Refused
from nbbn.formats.onnx.constants import literal
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode
from nbbn.formats.onnx.writer import GraphWriter
from nbbn.formats.ports import Port
from nbbn.network import Network

_FLOATS = (1, 11)  # float32 and float64, as ONNX numbers them


class Head(NamedTuple):
    """What a graph's outputs mean: labels or several of them, or plain numbers.

    `outputs` are the values that the network gives. Without `classes` labels are indices.
    """

    outputs: tuple[str, ...]
    kind: str | None = None
    classes: np.ndarray | None = None


def split_head(graph: OnnxGraph, nodes: Sequence[OnnxNode], outputs: Sequence[str]) -> Head:
    """The head of a graph, whose nodes are not the network's.

    Raises Refused for outputs that are neither floats nor a label and probabilities as `to_onnx`
    writes them.
    """
    if len(outputs) == 1:
        return Head((*outputs,))
    try:
        label, probabilities = outputs
        return _Heads(graph, nodes).of(label, probabilities)
    except (ValueError, KeyError, IndexError, AttributeError) as err:
        kinds = {value.type.tensor_type.elem_type for value in graph.proto.output}
        if kinds <= {0, *_FLOATS}:  # 0: not declared
            return Head((*outputs,))
        form = "or a label and probabilities as to_onnx writes them"
        raise Refused(f"has {len(outputs)} outputs; ones of floats are read, {form}") from err


class _Heads:
    """Finds the head; a KeyError says that there is none of a form that is known."""

    def __init__(self, graph: OnnxGraph, nodes: Sequence[OnnxNode]):
        self._graph = graph
        self._producers = {node.output: node for node in nodes}

    def of(self, label: str, probabilities: str) -> Head:
        """The head of these two outputs."""
        probabilities = self._source(probabilities)
        end = self._producer(label)
        if end.operator == "Cast":
            above = self._producer(end.inputs[0], "Greater")
            threshold = self._constant(above.inputs[1])
            if self._source(above.inputs[0]) != probabilities or np.any(threshold != 0.5):
                raise KeyError(label)
            return Head((probabilities,), "multilabel")
        classes = None
        if end.operator == "Gather":
            classes = self._constant(end.inputs[0])
            classes = np.array(classes.tolist()) if classes.dtype == object else classes
            end = self._producer(end.inputs[1])
        options = {"axis": 0, "keepdims": 1, "select_last_index": 0, **end.attributes}
        if end.operator != "ArgMax" or self._source(end.inputs[0]) != probabilities:
            raise KeyError(label)
        if options["axis"] not in (1, -1) or options["keepdims"] or options["select_last_index"]:
            raise KeyError(label)
        return Head((self._of_both(probabilities),), "classifier", classes)

    def _of_both(self, probabilities: str) -> str:
        """The probability of the second class where both are made of it, else the probabilities."""
        both = self._producers.get(probabilities)
        if both is None or both.operator != "Concat":
            return probabilities
        first, second = both.inputs
        rest = self._producer(first, "Sub")
        if rest.inputs[1] != second or np.any(self._constant(rest.inputs[0]) != 1):
            raise KeyError(probabilities)
        return second

    def _constant(self, name: str) -> np.ndarray:
        constant = self._graph.constant(name)
        return (literal(self._producers[name]) if constant is None else constant).array()

    def _producer(self, name: str, operator: str | None = None) -> OnnxNode:
        """The node that makes a value, seen through what changes nothing."""
        node = self._producers[self._source(name)]
        if operator not in (None, node.operator):
            raise KeyError(name)
        return node

    def _source(self, name: str) -> str:
        """The value that an `Identity`, or a `Cast` from floats to floats, hands on."""
        for _ in range(len(self._producers)):
            node = self._producers.get(name)
            if node is None:
                break
            to_floats = node.operator == "Cast" and node.attributes.get("to") in _FLOATS
            if node.operator != "Identity" and not to_floats:
                break
            name = node.inputs[0]
        return name


# -- written

# Name, element type and shape of an output.
Output = tuple[str, int, list[str | int]]


def plain(graph: GraphWriter, result: str, port: Port) -> Output:
    """An output as it is."""
    graph.add("Identity", result, output=port.name)
    return port.name, graph.element, ["n", *port.shape]


def _plain(graph: GraphWriter, result: str, network: Network, classes: Any) -> list[Output]:
    return [plain(graph, result, Port("output", None, network.output_shape))]


def _classifier(graph: GraphWriter, result: str, network: Network, classes: Any) -> list[Output]:
    units, last = _ending(network, "classifier")
    if last == "softmax" and units > 1:
        graph.add("Identity", result, output="probabilities")
    elif last == "sigmoid" and units == 1:
        rest = graph.add("Sub", graph.constant(np.ones(1, graph.dtype)), result)
        graph.add("Concat", rest, result, output="probabilities", axis=1)
    else:
        raise ValueError("a classifier ends in a softmax of 2 units or more, or a sigmoid of 1; "
                         f"got {last} of {units}; use kind=None for the plain outputs")
    count = max(units, 2)
    # Of equal probabilities the first, as everywhere.
    index = graph.add("ArgMax", "probabilities", axis=1, keepdims=0)
    element = _labels(graph, index, np.arange(count) if classes is None else classes, count)
    return [("label", element, ["n"]), ("probabilities", graph.element, ["n", count])]


def _labels(graph: GraphWriter, index: str, classes: Any, count: int) -> int:
    """Add the output `label`, the class at `index`; returns its element type."""
    shape, values = np.shape(classes), np.asarray(classes).tolist()
    if shape != (count,):
        raise ValueError(f"classes must have shape ({count},), one per output, got {shape}")
    if all(isinstance(value, str) for value in values):
        graph.add("Gather", graph.constant(np.array(values, object)), index, output="label")
        return graph.onnx.TensorProto.STRING
    whole = all(isinstance(v, Integral) and not isinstance(v, bool) for v in values)
    if whole and values != list(range(count)) and all(-(2**63) <= v < 2**63 for v in values):
        graph.add("Gather", graph.integers(values), index, output="label")
    else:
        graph.add("Identity", index, output="label")
    return graph.onnx.TensorProto.INT64


def _multilabel(graph: GraphWriter, result: str, network: Network, classes: Any) -> list[Output]:
    units, last = _ending(network, "multilabel network")
    if last != "sigmoid":
        what = f"a multilabel network ends in a sigmoid, got {last}"
        raise ValueError(f"{what}; use kind=None for the plain outputs")
    graph.add("Identity", result, output="probabilities")
    above = graph.add("Greater", result, graph.constant(np.full(1, 0.5, graph.dtype)))
    whole = graph.onnx.TensorProto.INT64
    graph.add("Cast", above, output="label", to=whole)
    return [("label", whole, ["n", units]), ("probabilities", graph.element, ["n", units])]


def _ending(network: Network, what: str) -> tuple[int, str]:
    """Number of outputs, and the activation that they come from."""
    computation, shape = network.computation(), network.output_shape
    if len(shape) != 1:
        got = f"outputs of one axis, got outputs of shape {shape}"
        raise ValueError(f"a {what} has {got}; add Flatten, or use kind=None")
    last, name = computation.last_activation, computation.ends_with
    # A softmax of parts of the outputs does not make one class likely.
    if name == "softmax" and last is not None:
        name = name if computation.steps[last].output_shape[-1] == shape[0] else "linear"
    return shape[0], name


# Each takes the graph, the name of the network's outputs, the network and the classes.
HEADS: dict[str | None, Callable[..., list[Output]]] = {
    None: _plain, "classifier": _classifier, "multilabel": _multilabel, "regressor": _plain,
}  # fmt: skip
