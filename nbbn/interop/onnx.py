"""A network as an ONNX model: dense layers, activations, batch norms."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import numpy as np

from nbbn.interop.files import write_whole
from nbbn.layers import Activation, BatchNormalization, Dense, Layer
from nbbn.network import Network

# Read by ONNX Runtime 1.11 and later; nothing newer is needed here.
OPSET = 13
IR_VERSION = 8
KINDS = (None, "classifier", "multilabel", "regressor")

_OPERATORS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}
# A protobuf message cannot be larger.
_MAX_BYTES = 2**31 - 1


def to_onnx(network: Network, path=None, *, classes=None, kind=None):
    """Make an ONNX model of a dense network.

    Parameters
    ----------
    network : Network
        Of `Dense`, `Activation` and `BatchNormalization` on rows of one axis, float32 or float64.
    path : path-like or None
        Where to write the model; the file appears whole or not at all. None writes none.
    classes : array of shape (n_classes,) or None
        Labels of a classifier.
    kind : {None, "classifier", "multilabel", "regressor"}
        What the network's outputs mean.

    Returns
    -------
    onnx.ModelProto
        Opset 13, IR version 8, checked by `onnx.checker`. Input `x` of shape (n, features), the network's dtype.

    Raises
    ------
    ImportError
        Without the package onnx.
    ValueError
        For an unknown kind, a layer or shape that this cannot express, or classes that do not fit the outputs.
    FileError
        Where the file cannot be written.

    Notes
    -----
    Outputs, in this order:

    - None and `"regressor"`: `output`, of shape (n, units).
    - `"classifier"`: `label`, of shape (n,), and `probabilities`, of shape (n, n_classes). The network ends in a
      softmax, or in a sigmoid with one unit, which becomes two columns. Labels are int64 for integer classes, strings
      for string classes, else (and without `classes`) the index of the class as int64. Of equal probabilities the
      first class wins.
    - `"multilabel"`: `label`, int64 of shape (n, units), 1 where the probability is above 0.5, and `probabilities`, of
      the same shape. The network ends in a sigmoid; `classes` are not used.
    """
    onnx = _import_onnx()
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(str, KINDS))}, got {kind!r}")
    network.check()
    if len(network.input_shape) != 1:
        raise ValueError(f"to_onnx writes networks on rows of one axis, got rows of shape {network.input_shape}")
    graph = _Graph(onnx, network.dtype)
    result = "x"
    for layer, arrays in zip(network.layers, network.weights, strict=True):
        if type(layer) not in _EMIT:
            raise ValueError(f"to_onnx cannot write {type(layer).__name__}; it writes {', '.join(_NAMES)}")
        result = _EMIT[type(layer)](graph, result, layer, arrays)
    outputs = _HEADS[kind](graph, result, network, classes)
    model = graph.model(network.input_shape[0], outputs)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        write_whole(path, model.SerializeToString())
    return model


def _import_onnx():
    try:
        import onnx
    except ImportError as err:
        raise ImportError("to_onnx needs the package onnx: pip install 'nbbn[onnx]'") from err
    return onnx


class _Graph:
    """Nodes and constants of an ONNX graph in the making; values are referred to by name."""

    def __init__(self, onnx, dtype: np.dtype):
        self.onnx = onnx
        self.dtype = dtype
        self.element = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes = []
        self.constants = []

    def constant(self, array: np.ndarray) -> str:
        """A constant, as it is."""
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """A node of one output; returns the output's name."""
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def model(self, features: int, outputs: list[tuple]):
        """The model; `outputs` holds name, element type and shape."""
        helper = self.onnx.helper
        value = helper.make_tensor_value_info
        inputs = [value("x", self.element, ["n", features])]
        results = [value(name, element, shape) for name, element, shape in outputs]
        graph = helper.make_graph(self.nodes, "nbbn", inputs, results, initializer=self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, producer_name="nbbn", ir_version=IR_VERSION, opset_imports=opsets)
        if model.ByteSize() > _MAX_BYTES:
            raise ValueError(f"an ONNX file holds at most {_MAX_BYTES} bytes, this model {model.ByteSize()}; use save")
        return model


def _dense(graph: _Graph, x: str, layer: Dense, arrays: dict) -> str:
    weights = [graph.constant(arrays[name]) for name in ("kernel", "bias") if name in arrays]
    return _activate(graph, graph.add("Gemm", x, *weights), layer.activation)


def _activation(graph: _Graph, x: str, layer: Activation, arrays: dict) -> str:
    return _activate(graph, x, layer.activation)


def _activate(graph: _Graph, x: str, activation: str) -> str:
    return x if activation == "linear" else graph.add(_OPERATORS[activation], x)


def _batch_norm(graph: _Graph, x: str, layer: BatchNormalization, arrays: dict) -> str:
    # The attribute epsilon is a float32: what that loses goes into the variance, or float64 would be off by 1e-8.
    epsilon = float(np.float32(layer.epsilon))
    var = (arrays["var"].astype(np.float64) + (layer.epsilon - epsilon)).astype(graph.dtype)
    gamma = arrays.get("gamma", np.ones_like(var))
    beta = arrays.get("beta", np.zeros_like(var))
    names = [graph.constant(array) for array in (gamma, beta, arrays["mean"], var)]
    return graph.add("BatchNormalization", x, *names, epsilon=epsilon)


_EMIT: dict[type[Layer], Callable] = {Dense: _dense, Activation: _activation, BatchNormalization: _batch_norm}
_NAMES = tuple(layer.__name__ for layer in _EMIT)


def _plain(graph: _Graph, result: str, network: Network, classes) -> list[tuple]:
    graph.add("Identity", result, output="output")
    return [("output", graph.element, ["n", network.output_shape[0]])]


def _classifier(graph: _Graph, result: str, network: Network, classes) -> list[tuple]:
    units, last = network.output_shape[0], _last_activation(network)
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


def _labels(graph: _Graph, index: str, classes, n_classes: int) -> int:
    """Add the output `label`, the class at `index`; returns its element type."""
    tensor = graph.onnx.TensorProto
    classes = np.arange(n_classes) if classes is None else np.asarray(classes)
    if classes.shape != (n_classes,):
        raise ValueError(f"classes must have shape ({n_classes},), one per output, got {classes.shape}")
    values = classes.tolist()
    if all(isinstance(value, str) for value in values):
        graph.add("Gather", graph.constant(np.array(values, object)), index, output="label")
        return tensor.STRING
    integers = all(isinstance(v, Integral) and not isinstance(v, bool) and -(2**63) <= v < 2**63 for v in values)
    if integers and values != list(range(n_classes)):
        graph.add("Gather", graph.constant(np.array(values, np.int64)), index, output="label")
    else:
        graph.add("Identity", index, output="label")
    return tensor.INT64


def _multilabel(graph: _Graph, result: str, network: Network, classes) -> list[tuple]:
    units, last = network.output_shape[0], _last_activation(network)
    if last != "sigmoid":
        raise ValueError(f"a multilabel network ends in a sigmoid, got {last}; use kind=None for the plain outputs")
    graph.add("Identity", result, output="probabilities")
    above = graph.add("Greater", result, graph.constant(np.full(1, 0.5, graph.dtype)))
    graph.add("Cast", above, output="label", to=graph.onnx.TensorProto.INT64)
    return [("label", graph.onnx.TensorProto.INT64, ["n", units]), ("probabilities", graph.element, ["n", units])]


_HEADS: dict[str | None, Callable] = {
    None: _plain,
    "regressor": _plain,
    "classifier": _classifier,
    "multilabel": _multilabel,
}


def _last_activation(network: Network) -> str:
    """The activation that the network ends in, linear where it has none."""
    last = network.layers[-1] if network.layers else None
    return getattr(last, "activation", "linear")
