"""ONNX graphs read as networks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.formats.content import Content, of_answers, of_layers
from nbbn.formats.files import BROKEN, FileError, Refused, one_line
from nbbn.formats.onnx import file
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode
from nbbn.formats.onnx.heads import Head, split_head
from nbbn.formats.onnx.rows import Given, Rows
from nbbn.formats.onnx.walk import Walk
from nbbn.network import Network

# Operators changed their form in version 7; files of older ones are from 2017.
_OLDEST = 7
_MAX_NODES = 20_000
# Of `onnx.TensorProto`. Rows may be whole numbers, which a Cast turns into floats.
_OF_ROWS = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 11: "float64"}


def read(path_or_proto: Any) -> Content:
    """What a file or a `ModelProto` holds; `nbbn.interop.from_onnx` says more.

    Raises ImportError without the package onnx; FileError for a missing, broken or foreign file,
    and for a graph that nbbn cannot hold; TypeError for anything but a path or a model.
    """
    onnx = file.import_onnx("from_onnx")
    of_file = isinstance(path_or_proto, str | os.PathLike)
    if not of_file and not isinstance(path_or_proto, onnx.ModelProto):
        kind = type(path_or_proto).__name__
        raise TypeError(f"from_onnx takes a path or an onnx.ModelProto, got {kind}")
    where = str(path_or_proto) if of_file else "the ONNX model"
    try:
        if of_file:
            return _imported(file.from_file(Path(path_or_proto)))
        return _imported(file.from_proto(path_or_proto))
    except FileError:
        raise
    except Refused as err:
        raise FileError(f"{where}: {err}") from err
    except BROKEN as err:
        why = one_line(err) or type(err).__name__
        raise FileError(f"{where}: broken ({why}); export it again") from err


def _imported(model: file.Model) -> Content:
    graph = OnnxGraph(model)
    _check_limits(graph)
    outputs = [value.name for value in graph.proto.output]
    nodes = _needed(graph.nodes, outputs)
    for node in nodes:
        if node.domain:
            domain, operator = one_line(node.domain), one_line(node.operator)
            raise Refused(f"{node.shown}: operator {operator} of {domain} is not known")
    head = split_head(graph, nodes, outputs)
    nodes = _needed(nodes, head.outputs)
    rows = Rows(nodes, _inputs(graph, nodes, head.outputs), head.outputs)
    network = Walk(graph, rows).network()
    if head.kind is None:
        return of_layers(network)
    return of_answers(network, head.kind, _labels(head, network))


def _check_limits(graph: OnnxGraph) -> None:
    if graph.opset < _OLDEST:
        raise Refused(f"has opset {graph.opset}; {_OLDEST} and later are read")
    if len(graph.nodes) > _MAX_NODES:
        raise Refused(f"has {len(graph.nodes)} nodes; at most {_MAX_NODES} are read")
    if graph.proto.sparse_initializer:
        raise Refused("has sparse weights, which are not read")


def _inputs(graph: OnnxGraph, nodes: Sequence[OnnxNode], outputs: Sequence[str]) -> list[Given]:
    """The graph's inputs; Refused for one of unknown shape, and for one that nothing reads."""
    inputs = [value for value in graph.proto.input if value.name not in graph.tensors]
    if not inputs:
        raise Refused("has 0 inputs; models with one or more are read")
    read = {name for node in nodes if node.operator != "Shape" for name in node.inputs}
    found = []
    for value in inputs:
        tensor, name = value.type.tensor_type, one_line(value.name)
        if len(inputs) > 1 and value.name not in {*read, *outputs}:
            raise Refused(f"no output depends on its input {name!r}; export the model without it")
        of = "its" if len(inputs) == 1 else f"its input {name!r}:"
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        row = tuple(n for n in sizes[1:] if n is not None and 0 < n < 2**31)
        if not sizes or len(row) + 1 < len(sizes):
            shown = one_line(tuple(sizes[1:]))
            raise Refused(f"{of} rows have shape {shown}; every size but the batch's must be known")
        if tensor.elem_type not in _OF_ROWS:
            raise Refused(f"its input {name!r} is no tensor of float32 or float64")
        dtype = np.dtype(_OF_ROWS[tensor.elem_type])
        found.append(Given(value.name, sizes[0] or None, row, dtype))
    if len({given.batch for given in found} - {None}) > 1:
        shown = " and ".join(str(given.batch) for given in found)
        raise Refused(f"its inputs have {shown} rows; all must have as many")
    return found


def _needed(nodes: Sequence[OnnxNode], outputs: Sequence[str]) -> list[OnnxNode]:
    """The nodes that some values follow from, in the file's order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name and name in wanted for name in node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _labels(head: Head, network: Network) -> np.ndarray | None:
    """The label of each class of a classifier."""
    if head.kind != "classifier":
        return None
    shape, classes = network.output_shape, head.classes
    classes = np.arange(max(2, shape[0])) if classes is None else classes
    if len(shape) != 1 or classes.shape != (max(2, shape[0]),):
        raise Refused(f"has {classes.shape} labels for outputs of shape {shape}")
    return classes
