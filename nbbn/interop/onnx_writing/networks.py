"""A network as an ONNX model."""

from __future__ import annotations

from nbbn.formats.files import write_whole
from nbbn.interop.onnx_writing import activations, images, norms, rows
from nbbn.interop.onnx_writing.graph import Graph, Value
from nbbn.interop.onnx_writing.heads import HEADS
from nbbn.layers import Activation, BatchNormalization, Dense, LayerError
from nbbn.network import Network

# Read by ONNX Runtime 1.11 and later; `LayerNormalization` alone needs a newer opset.
OPSET = 13
IR_VERSION = 8
KINDS = (None, "classifier", "multilabel", "regressor")

# A protobuf message cannot be larger.
_MAX_BYTES = 2**31 - 1
# Each takes the graph, the value that goes in, the layer and its arrays, and returns the value that comes out.
_EMIT = {**rows.EMIT, **activations.EMIT, **norms.EMIT, **images.EMIT}
_COMMON = (Dense, Activation, BatchNormalization)
_NAMES = tuple(layer.__name__ for layer in (*_COMMON, *(layer for layer in _EMIT if layer not in _COMMON)))


def to_onnx(network: Network, path=None, *, classes=None, kind=None):
    """Make an ONNX model of a network in inference.

    Parameters
    ----------
    network : Network
        Of any layers of `nbbn.layers`, float32 or float64.
    path : path-like or None
        Where to write the model; the file appears whole or not at all. None writes none.
    classes : array of shape (n_classes,) or None
        Labels of a classifier.
    kind : {None, "classifier", "multilabel", "regressor"}
        What the network's outputs mean.

    Returns
    -------
    onnx.ModelProto
        Opset 13, with a `LayerNormalization` 17; IR version 8; checked by `onnx.checker`. Input `x` of shape
        (n, *input_shape), channels last, of the network's dtype.

    Raises
    ------
    ImportError
        Without the package onnx.
    LayerError
        For a layer that this cannot express, and for a network whose arrays do not fit its layers.
    ValueError
        For an unknown kind, classes or a kind that do not fit the outputs, or a model that is too large for a file.
    FileError
        Where the file cannot be written.

    Notes
    -----
    Outputs, in this order:

    - None and `"regressor"`: `output`, of shape (n, *output_shape), channels last.
    - `"classifier"`: `label`, of shape (n,), and `probabilities`, of shape (n, n_classes). The network ends in a
      softmax, or in a sigmoid with one unit, which becomes two columns. Labels are int64 for integer classes, strings
      for string classes, else (and without `classes`) the index of the class as int64. Of equal probabilities the
      first class wins.
    - `"multilabel"`: `label`, int64 of shape (n, units), 1 where the probability is above 0.5, and `probabilities`, of
      the same shape. The network ends in a sigmoid; `classes` are not used.

    Images stand channels first from the first layer that works on them to the last: one transposition before and, where
    they are flattened for a dense layer, none after, as that layer's kernel takes the pixels in their new order.

    In float64 all models are valid, but ONNX Runtime has no float64 kernels for convolutions, `AveragePooling2D` and the
    activation gelu; networks with these run there in float32 alone.
    """
    onnx = import_onnx()
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(str, KINDS))}, got {kind!r}")
    network.check()
    graph = Graph(onnx, network.dtype, OPSET)
    result = Value("x", network.input_shape)
    for i, (layer, arrays) in enumerate(zip(network.layers, network.weights, strict=True)):
        if type(layer) not in _EMIT:
            where = f"layer {i} {layer.name!r}" if layer.name else f"layer {i}"
            raise LayerError(f"{where}: to_onnx cannot write {type(layer).__name__}; it writes {', '.join(_NAMES)}")
        result = _EMIT[type(layer)](graph, result, layer, arrays)
    outputs = HEADS[kind](graph, graph.channels_last(result).name, network, classes)
    model = _model(graph, network, outputs)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        write_whole(path, model.SerializeToString())
    return model


def import_onnx(caller: str = "to_onnx"):
    """The package onnx, for a function of this name.

    Raises
    ------
    ImportError
        That names the extra to install.
    """
    try:
        import onnx
    except ImportError as err:
        raise ImportError(f"{caller} needs the package onnx: pip install 'nbbn[onnx]'") from err
    return onnx


def _model(graph: Graph, network: Network, outputs: list[tuple]):
    """The model; `outputs` holds name, element type and shape."""
    helper = graph.onnx.helper
    inputs = [helper.make_tensor_value_info("x", graph.element, ["n", *network.input_shape])]
    results = [helper.make_tensor_value_info(name, element, shape) for name, element, shape in outputs]
    whole = helper.make_graph(graph.nodes, "nbbn", inputs, results, initializer=graph.constants)
    opsets = [helper.make_opsetid("", graph.opset)]
    model = helper.make_model(whole, producer_name="nbbn", ir_version=IR_VERSION, opset_imports=opsets)
    if model.ByteSize() > _MAX_BYTES:
        raise ValueError(f"an ONNX file holds at most {_MAX_BYTES} bytes, this model {model.ByteSize()}; use save")
    return model
