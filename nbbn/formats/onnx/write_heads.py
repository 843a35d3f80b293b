"""What a network's outputs mean, as the outputs of an ONNX model: plain ones, or labels and probabilities."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import numpy as np

from nbbn.formats.onnx.write_graph import Graph
from nbbn.layers import Activation, Dropout, Flatten, GaussianNoise, Input, Reshape, Softmax
from nbbn.network import Network

# They change nothing in inference, or nothing where the shape stays.
_TRANSPARENT = (Activation, Dropout, Flatten, GaussianNoise, Input, Reshape)


def _plain(graph: Graph, result: str, network: Network, classes) -> list[tuple]:
    graph.add("Identity", result, output="output")
    return [("output", graph.element, ["n", *network.output_shape])]


def _classifier(graph: Graph, result: str, network: Network, classes) -> list[tuple]:
    units, last = _units(network, "classifier"), _last_activation(network)
    if last == "softmax" and units > 1:
        graph.add("Identity", result, output="probabilities")
    elif last == "sigmoid" and units == 1:
        one = graph.constant(np.ones(1, graph.dtype))
        graph.add("Concat", graph.add("Sub", one, result), result, output="probabilities", axis=1)
    else:
        raise ValueError(
            f"a classifier ends in a softmax of 2 units or more, or a sigmoid of 1; got {last} of {units}; "
            "use kind=None for the plain outputs"
        )
    n_classes = max(units, 2)
    index = graph.add("ArgMax", "probabilities", axis=1, keepdims=0)
    element = _labels(graph, index, classes, n_classes)
    return [("label", element, ["n"]), ("probabilities", graph.element, ["n", n_classes])]


def _labels(graph: Graph, index: str, classes, n_classes: int) -> int:
    """Add the output `label`, the class at `index`; returns its element type."""
    tensor = graph.onnx.TensorProto
    classes = np.arange(n_classes) if classes is None else np.asarray(classes)
    if classes.shape != (n_classes,):
        raise ValueError(
            f"classes must have shape ({n_classes},), one per output, got {classes.shape}"
        )
    values = classes.tolist()
    if all(isinstance(value, str) for value in values):
        graph.add("Gather", graph.constant(np.array(values, object)), index, output="label")
        return tensor.STRING
    integers = all(
        isinstance(v, Integral) and not isinstance(v, bool) and -(2**63) <= v < 2**63
        for v in values
    )
    if integers and values != list(range(n_classes)):
        graph.add("Gather", graph.constant(np.array(values, np.int64)), index, output="label")
    else:
        graph.add("Identity", index, output="label")
    return tensor.INT64


def _multilabel(graph: Graph, result: str, network: Network, classes) -> list[tuple]:
    units, last = _units(network, "multilabel network"), _last_activation(network)
    if last != "sigmoid":
        raise ValueError(
            f"a multilabel network ends in a sigmoid, got {last}; use kind=None for the plain outputs"
        )
    graph.add("Identity", result, output="probabilities")
    above = graph.add("Greater", result, graph.constant(np.full(1, 0.5, graph.dtype)))
    graph.add("Cast", above, output="label", to=graph.onnx.TensorProto.INT64)
    return [
        ("label", graph.onnx.TensorProto.INT64, ["n", units]),
        ("probabilities", graph.element, ["n", units]),
    ]


def _units(network: Network, what: str) -> int:
    if len(network.output_shape) != 1:
        raise ValueError(
            f"a {what} has outputs of one axis, got outputs of shape {network.output_shape}; add Flatten, or use kind=None"
        )
    return network.output_shape[0]


def _last_activation(network: Network) -> str:
    """The activation that the network ends in, linear where it has none."""
    shapes = network.shapes
    for layer, before, after in reversed(list(zip(network.layers, shapes, shapes[1:]))):
        activation = (
            "softmax" if isinstance(layer, Softmax) else getattr(layer, "activation", "linear")
        )
        if activation != "linear" or not isinstance(layer, _TRANSPARENT) or before != after:
            return activation
    return "linear"


# Each takes the graph, the name of the network's outputs, the network and the classes; it adds nodes and returns name, element
# type and shape of each output of the model.
HEADS: dict[str | None, Callable] = {
    None: _plain,
    "regressor": _plain,
    "classifier": _classifier,
    "multilabel": _multilabel,
}
