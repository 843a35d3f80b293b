"""The end of an ONNX classifier: its labels, taken off so that the network is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.formats.files import Refused
from nbbn.interop.onnx_reading.model import Node, OnnxModel

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

    def labels(self, output_shape: tuple[int, ...]) -> np.ndarray | None:
        """The label of each class.

        Raises
        ------
        Refused
            For another number of labels than the network has classes.
        """
        if self.kind != "classifier":
            return None
        count = max(2, output_shape[0])
        if len(output_shape) != 1 or (self.classes is not None and self.classes.shape != (count,)):
            raise Refused(f"has {np.shape(self.classes)} labels for outputs of shape {output_shape}")
        return np.arange(count) if self.classes is None else self.classes


def split_head(model: OnnxModel) -> Head:
    """The head of a graph, whose nodes are taken out of the model.

    Raises
    ------
    Refused
        For outputs that are not one, or a label and probabilities as `to_onnx` writes them.
    """
    producers = {node.output: node for node in model.nodes}
    if len(model.outputs) == 1:
        return Head(model.outputs[0])
    try:
        label, probabilities = model.outputs
        head = _head(producers, model, label, _source(producers, probabilities))
    except (ValueError, KeyError, IndexError, AttributeError) as err:
        raise Refused(
            f"has {len(model.outputs)} outputs; with one are read, or a label and probabilities as to_onnx writes them"
        ) from err
    _keep(model, head.output)
    return head


def _head(producers: dict[str, Node], model: OnnxModel, label: str, probabilities: str) -> Head:
    end = _expect(producers, label)
    if end.operator == "Cast":
        above = _expect(producers, end.inputs[0], "Greater")
        if _source(producers, above.inputs[0]) != probabilities or np.any(
            _constant(producers, model, above.inputs[1]) != 0.5
        ):
            raise KeyError(label)
        return Head(probabilities, "multilabel")
    classes = None
    if end.operator == "Gather":
        classes = _constant(producers, model, end.inputs[0])
        classes = np.array(classes.tolist()) if classes.dtype == object else classes
        end = _expect(producers, end.inputs[1])
    largest = end
    options = {"axis": 0, "keepdims": 1, "select_last_index": 0, **largest.attributes}
    if largest.operator != "ArgMax" or _source(producers, largest.inputs[0]) != probabilities:
        raise KeyError(label)
    if options["axis"] not in (1, -1) or options["keepdims"] or options["select_last_index"]:
        raise KeyError(label)
    return Head(_of_both(producers, model, probabilities), "classifier", classes)


def _of_both(producers: dict[str, Node], model: OnnxModel, probabilities: str) -> str:
    """The probability of the second class where both are made of it, else the probabilities."""
    both = producers.get(probabilities)
    if both is None or both.operator != "Concat":
        return probabilities
    first, second = both.inputs
    rest = _expect(producers, first, "Sub")
    if rest.inputs[1] != second or np.any(_constant(producers, model, rest.inputs[0]) != 1):
        raise KeyError(probabilities)
    return second


def _constant(producers: dict[str, Node], model: OnnxModel, name: str) -> np.ndarray:
    return model.constants[name] if name in model.constants else producers[name].attributes["value"]


def _expect(producers: dict[str, Node], name: str, operator: str | None = None) -> Node:
    """The node that makes a value, seen through what changes nothing."""
    node = producers[_source(producers, name)]
    if operator not in (None, node.operator):
        raise KeyError(name)
    return node


def _source(producers: dict[str, Node], name: str) -> str:
    """The value that an `Identity`, or a `Cast` from one kind of floats to another, hands on."""
    for _ in range(len(producers)):
        node = producers.get(name)
        if node is None or not (
            node.operator == "Identity" or (node.operator == "Cast" and node.attributes.get("to") in _FLOATS)
        ):
            break
        name = node.inputs[0]
    return name


def _keep(model: OnnxModel, output: str) -> None:
    """Only the nodes that this value follows from."""
    wanted, kept = {output}, []
    for node in reversed(model.nodes):
        if node.output in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    model.nodes[:] = kept[::-1]
