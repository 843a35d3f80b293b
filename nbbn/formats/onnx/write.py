"""A network as an ONNX model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nbbn.errors import LayerError
from nbbn.formats.files import write_whole
from nbbn.formats.onnx.file import import_onnx
from nbbn.formats.onnx.heads import HEADS, Output, plain
from nbbn.formats.onnx.write_operations import WRITE
from nbbn.formats.onnx.writer import GraphWriter, Value
from nbbn.formats.ports import Port, Ports, ports_of
from nbbn.network import Network

# Read by ONNX Runtime 1.11 and later; `LayerNormalization` alone needs a newer opset.
OPSET = 13
IR_VERSION = 8

# A protobuf message cannot be larger.
_MAX_BYTES = 2**31 - 1


def write(network: Network, path: str | os.PathLike | None = None, *,
          classes: np.ndarray | None = None, kind: str | None = None) -> Any:
    """An `onnx.ModelProto` of a network in inference, and its file where a path is given.

    `kind` says what the outputs mean: plain numbers (None, `regressor`), a `classifier` with these
    classes, `multilabel`. `nbbn.interop.to_onnx` says what is written. Images stand channels first
    from the first layer that works on them to the last: one transposition before and, where they
    are flattened for a dense layer, none after, as that layer's kernel takes the pixels in their
    new order. In float64 all models are valid, but ONNX Runtime has no float64 kernels for
    convolutions, `AveragePooling2D` and the activation gelu. Raises ImportError without the package
    onnx; LayerError for a layer that this cannot express, and for a network whose arrays do not fit
    its layers; ValueError for an unknown kind, classes or a kind that do not fit the outputs, or a
    model that is too large for a file; FileError where the file cannot be written.
    """
    onnx = import_onnx("to_onnx")
    if kind not in HEADS:
        raise ValueError(f"kind must be one of {', '.join(map(str, HEADS))}, got {kind!r}")
    ports = ports_of(network.check(), beside=HEADS[kind] is not HEADS[None])
    graph = GraphWriter(onnx, network.dtype, OPSET, [port.name for port in _named(ports)])
    results = [graph.plain(value).name for value in _results(graph, network, ports)]
    if len(results) == 1:
        outputs = HEADS[kind](graph, results[0], network, classes)
    else:
        outputs = [plain(graph, *one) for one in zip(results, ports.outputs)]
    model = _model(graph, ports, outputs)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        write_whole(path, model.SerializeToString())
    return model


def _named(ports: Ports) -> list[Port]:
    """Those whose names are the model's."""
    return [port for of in (ports.inputs, ports.outputs) if len(of) > 1 for port in of]


def _results(graph: GraphWriter, network: Network, ports: Ports) -> list[Value]:
    """What the network's outputs are."""
    values = {port.step: Value.ordered(port.name, port.shape) for port in ports.inputs}
    for i, step in enumerate(ports.computation.steps):
        if i in values:
            continue
        if type(step.operation) not in WRITE:
            named = network.layers[step.layer].name
            where = f"layer {step.layer} {named!r}" if named else f"layer {step.layer}"
            known = ", ".join(operation.__name__ for operation in WRITE)
            what = type(step.operation).__name__
            raise LayerError(f"{where}: to_onnx cannot write {what}; it writes {known}")
        sources = [values[source] for source in step.sources]
        arrays = step.view(network.weights[step.layer])
        values[i] = WRITE[type(step.operation)](graph, step, arrays, *sources)
    return [values[port.step] for port in ports.outputs]


def _model(graph: GraphWriter, ports: Ports, outputs: list[Output]) -> Any:
    helper = graph.onnx.helper
    inputs = [helper.make_tensor_value_info(port.name, graph.element, ["n", *port.shape])
              for port in ports.inputs]
    results = [helper.make_tensor_value_info(*output) for output in outputs]
    whole = helper.make_graph(graph.nodes, "nbbn", inputs, results, initializer=graph.constants)
    opsets = [helper.make_opsetid("", graph.opset)]
    about = {"producer_name": "nbbn", "ir_version": IR_VERSION, "opset_imports": opsets}
    model = helper.make_model(whole, **about)
    if (size := model.ByteSize()) > _MAX_BYTES:
        most = f"an ONNX file holds at most {_MAX_BYTES} bytes"
        raise ValueError(f"{most}, this model {size}; use save")
    return model
