"""ONNX graphs of layers in a row, read as networks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbbn.formats.assembly import MAX_LAYERS, assembled
from nbbn.formats.content import Content, of_answers, of_layers
from nbbn.formats.files import BROKEN, FileError, Refused, one_line
from nbbn.formats.onnx import file
from nbbn.formats.onnx.builder import CHANNELS_FIRST, Affine, Args, Centred, NetworkBuilder
from nbbn.formats.onnx.constants import evaluated
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode
from nbbn.formats.onnx.heads import Head, split_head
from nbbn.formats.onnx.operators import OPERATORS, channel_axis, constant_of, operator_of
from nbbn.formats.onnx.read_forks import Term, X, read_fork
from nbbn.formats.onnx.read_shapes import BATCH
from nbbn.layers import Activation, Layer
from nbbn.network import Network, Weights

# Operators changed their form in version 7; files of older ones are from 2017.
_OLDEST = 7
_MAX_NODES = 20_000
# How far a reader looks ahead, so that many nodes do not take the square of their number.
_AHEAD = 100
# The longest form that is known has fewer.
_MAX_FORK = 32
# Of `onnx.TensorProto`. Rows may be whole numbers, which a Cast turns into floats.
_OF_ROWS = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 11: "float64"}
_OF_CONSTANTS = (1, 6, 7, 8, 9, 11)  # float32, int32, int64, texts, bool, float64


def read(path_or_proto: Any) -> Content:
    """What a file or a `ModelProto` of layers in a row holds; `nbbn.interop.from_onnx` says more.

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
    nodes = _needed(nodes, [head.output])
    given = _input(graph)
    on_rows = _on_rows(nodes, given.name)
    net = _entrance(given, graph.opset, [node for node, there in zip(nodes, on_rows) if there])
    # Images may come out channels last where they went in channels first.
    turned = len(net.shape) != 3 or not net.plain
    shape = net.shape
    _Walk(graph, net, given.name, head.output).over(nodes, on_rows)
    layers, weights = _finished(net, turned)
    network = assembled(layers, shape, weights, net.dtype)
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


class _Input(NamedTuple):
    """The graph's input: how many rows where that is fixed, and what a row is."""

    name: str
    batch: int | None
    row: tuple[int, ...]
    dtype: np.dtype


def _input(graph: OnnxGraph) -> _Input:
    inputs = [value for value in graph.proto.input if value.name not in graph.tensors]
    if len(inputs) != 1:
        raise Refused(f"has {len(inputs)} inputs; models with one are read")
    tensor = inputs[0].type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    row = tuple(n for n in sizes[1:] if n is not None and 0 < n < 2**31)
    if not row or len(row) + 1 < len(sizes):
        shown = one_line(tuple(sizes[1:]))
        raise Refused(f"its rows have shape {shown}; every size but the batch's must be known")
    if tensor.elem_type not in _OF_ROWS:
        name = one_line(inputs[0].name)
        raise Refused(f"its input {name!r} is no tensor of float32 or float64")
    return _Input(inputs[0].name, sizes[0] or None, row, np.dtype(_OF_ROWS[tensor.elem_type]))


def _needed(nodes: Sequence[OnnxNode], outputs: Sequence[str]) -> list[OnnxNode]:
    """The nodes that some values follow from, in the file's order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name and name in wanted for name in node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _on_rows(nodes: Sequence[OnnxNode], given: str) -> list[bool]:
    """For each node whether rows go in, and not constants or their shape alone."""
    values, found = {given}, []
    for node in nodes:
        found.append(node.operator != "Shape" and any(name in values for name in node.inputs))
        if found[-1]:
            values.add(node.output)
    return found


def _entrance(given: _Input, opset: int, nodes: Sequence[OnnxNode]) -> NetworkBuilder:
    """A network without layers, its images channels last."""
    net = NetworkBuilder(given.row, given.dtype, opset, given.batch)
    if len(net.shape) == 3 and channel_axis(nodes, 3) == 0:
        net.shape, net.perm = (*net.shape[1:], net.shape[0]), CHANNELS_FIRST
    return net


class _Walk:
    """From node to node; each adds a layer, or several that fork and meet again do."""

    def __init__(self, graph: OnnxGraph, net: NetworkBuilder, given: str, end: str):
        self._graph, self._net, self._at, self._end = graph, net, given, end
        self._fork: dict[str, Term] = {}
        self._rows = {given: (BATCH if net.batch is None else net.batch, *net.graph_shape)}
        net.constant = self._constant

    def over(self, nodes: Sequence[OnnxNode], on_rows: Sequence[bool]) -> None:
        """Go over all nodes; raises `Refused` for what is no row of layers."""
        there = [node for node, wanted in zip(nodes, on_rows) if wanted]
        self._uses = Counter(name for node in there for name in node.inputs)
        self._uses[self._end] += 1
        count = 0
        for node, wanted in zip(nodes, on_rows):
            if not wanted:
                self._define(node)
                continue
            count += 1
            self._net.following = ahead = there[count : count + _AHEAD]
            self._net.next_channels = partial(channel_axis, ahead, 3)
            self._take(node)
            if len(self._net.steps) > MAX_LAYERS:
                raise Refused(f"has more than {MAX_LAYERS} layers")
        if self._fork or self._at != self._end:
            end = one_line(self._end)
            raise Refused(f"its output {end!r} does not follow from its input by layers in a row")
        if self._net.dtype not in (np.float32, np.float64):
            raise Refused(f"computes in {self._net.dtype}; float32 and float64 are read")

    def _define(self, node: OnnxNode) -> None:
        """What a node makes of constants alone, or of the shape of rows."""
        try:
            self._graph.define(node.output, constant_of(node, self._graph, self._rows))
        except Refused:
            found = list(evaluated(node, self._graph))
            if not found:
                raise
            for name, constant in found:
                self._graph.define(name, constant)

    def _constant(self, name: str) -> np.ndarray | None:
        """The numbers or texts of a constant."""
        constant = self._graph.constant(name)
        if constant is not None and constant.data_type not in _OF_CONSTANTS:
            of = f"tensor {one_line(name)!r} is of type {constant.data_type}"
            raise Refused(f"{of}; float32 and float64 are read")
        return None if constant is None else constant.array()

    def _argument(self, name: str) -> Any:
        if name == self._at:
            return X
        return self._fork[name] if name in self._fork else self._constant(name)

    def _take(self, node: OnnxNode) -> None:
        args = [self._argument(name) for name in node.inputs]
        if any(arg is None and name for arg, name in zip(args, node.inputs)):
            raise node.refuse("takes a value that is not the last one: nbbn has layers in a row")
        self._uses.subtract(node.inputs)
        alone = not self._fork and self._uses[self._at] == 0
        if alone and sum(arg is X for arg in args) == 1:
            self._single(node, [None if arg is X else arg for arg in args])
        else:
            self._fork[node.output] = term = Term(node, tuple(args))
            others = (name for name in self._fork if name != node.output)
            if self._uses[self._at] or any(self._uses[name] for name in others):
                if len(self._fork) > _MAX_FORK:
                    why = "is on a second path of many nodes: nbbn has layers in a row"
                    raise node.refuse(why)
                return
            _naming(node, read_fork, self._net, term)
            self._fork = {}
        self._at = node.output
        if self._net.split is None:
            rows = BATCH if self._net.batch is None else self._net.batch
            self._rows[self._at] = (rows, *self._net.graph_shape)

    def _single(self, node: OnnxNode, args: Args) -> None:
        reader = operator_of(node).read
        if reader is None:
            known = ", ".join(sorted(name for name, row in OPERATORS.items() if row.read))
            raise node.refuse(f"is no operator that nbbn has a layer for; it has {known}")
        if isinstance(self._net.last, Centred) and node.operator not in ("Exp", "Identity"):
            why = "follows a mean or maximum that is subtracted, which makes no norm or softmax"
            raise node.refuse(why)
        _naming(node, reader, self._net, node, args)


def _naming(node: OnnxNode, function: Callable[..., None], *args: Any) -> None:
    """Call a reader; its errors name the node."""
    try:
        function(*args)
    except BROKEN as err:
        text = str(err)
        if text.startswith("node "):
            raise err from None
        raise node.refuse(text or type(err).__name__) from None


def _finished(net: NetworkBuilder, turned: bool) -> tuple[list[Layer], Weights]:
    """The layers and arrays, what stood for a layer until now made one.

    `turned`: images may come out channels last where the graph has them first.
    """
    if not (turned and net.perm == CHANNELS_FIRST) and not net.settle():
        raise Refused("ends in images that are flattened or turned, channels first; "
                      "nbbn's channels come last")
    if net.split is not None or isinstance(net.last, Centred):
        raise Refused("ends within a norm or a softmax")
    layers: list[Layer] = []
    weights: Weights = []
    for step in net.steps:
        layer, arrays = step.layer, step.arrays
        if isinstance(layer, Affine):
            if layer.nothing:
                continue
            layer, arrays = layer.layer(step.before)
        if isinstance(layer, Layer):  # what is centred stands at the end alone
            layers.append(layer)
            weights.append(arrays)
    return (layers, weights) if layers else ([Activation("linear")], [{}])


def _labels(head: Head, network: Network) -> np.ndarray | None:
    """The label of each class of a classifier."""
    if head.kind != "classifier":
        return None
    shape, classes = network.output_shape, head.classes
    classes = np.arange(max(2, shape[0])) if classes is None else classes
    if len(shape) != 1 or classes.shape != (max(2, shape[0]),):
        raise Refused(f"has {classes.shape} labels for outputs of shape {shape}")
    return classes
