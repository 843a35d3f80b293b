"""The outputs of a classifier: labels and probabilities, read and taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbbn.formats.onnx.constants import literal
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode
from nbbn.interop.files import Refused

_FLOATS = (1, 11)  # float32 and float64, as ONNX numbers them


@dataclass(frozen=True)
class Head:
    """What a graph's outputs mean.

    Attributes
    ----------
    output : str
        The value that the network ends in.
    kind : {None, "classifier", "multilabel"}
    classes : array or None
        Labels of a classifier; None: the indices.
    """

    output: str
    kind: str | None = None
    classes: np.ndarray | None = None


def split_head(graph: OnnxGraph, nodes: Sequence[OnnxNode], outputs: Sequence[str]) -> Head:
    """The head of a graph, whose nodes are not the network's.

    Raises
    ------
    Refused
        For outputs that are not one, or a label and probabilities as `to_onnx` writes them.
    """
    if len(outputs) == 1:
        return Head(outputs[0])
    try:
        label, probabilities = outputs
        return _Heads(graph, nodes).of(label, probabilities)
    except (ValueError, KeyError, IndexError, AttributeError) as err:
        raise Refused(
            f"has {len(outputs)} outputs; with one are read, "
            "or a label and probabilities as to_onnx writes them"
        ) from err


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
            return Head(probabilities, "multilabel")
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
        return Head(self._of_both(probabilities), "classifier", classes)

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
