"""ONNX models of layers in a row, read as models of nbbn."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbbn.formats.assembly import MAX_LAYERS, assembled
from nbbn.formats.content import Content, of_answers, of_layers
from nbbn.formats.files import BROKEN, FileError, Refused, one_line
from nbbn.interop.onnx_reading import activations, arithmetic, images, norms, shapes
from nbbn.interop.onnx_reading.constants import constant_of
from nbbn.interop.onnx_reading.labels import Head, split_head
from nbbn.interop.onnx_reading.model import Node, OnnxModel, parse, read_graph
from nbbn.interop.onnx_reading.patterns import Term, X, read_fork
from nbbn.interop.onnx_reading.rows import CHANNELS_FIRST, Affine, Centred, Rows
from nbbn.interop.onnx_writing.networks import import_onnx
from nbbn.layers import ELU, Activation, Layer

_READ = {**arithmetic.READ, **shapes.READ, **activations.READ, **norms.READ, **images.READ}
# How far a reader looks ahead, so that many nodes do not take the square of their number.
_AHEAD = 100
# The longest form that is known has fewer.
_MAX_FORK = 32


def read(path_or_proto) -> Content:
    """The content of a model of layers in a row; `nbbn.interop.from_onnx` says more."""
    onnx = import_onnx("from_onnx")
    if isinstance(path_or_proto, onnx.ModelProto):
        where, model, folder = "the ONNX model", path_or_proto, None
    elif isinstance(path_or_proto, str | os.PathLike):
        where, model = str(path_or_proto), parse(onnx, path_or_proto)
        folder = Path(path_or_proto).parent
    else:
        raise TypeError(f"from_onnx takes a path or an onnx.ModelProto, got {type(path_or_proto).__name__}")
    try:
        return _read(read_graph(onnx, model, folder))
    except Refused as err:
        raise FileError(f"{where}: {err}") from err
    except BROKEN as err:
        raise FileError(f"{where}: broken ({one_line(err) or type(err).__name__}); export it again") from err


@dataclass
class _Context:
    """What a reader of one node may ask about the rest of the graph."""

    following: list[Node]
    constants: dict[str, np.ndarray]
    opset: int
    batch: int | None


def _read(model: OnnxModel) -> Content:
    head = split_head(model)
    rows = _input_rows(model)
    shape, turned = rows.shape, len(rows.shape) != 3 or not rows.plain
    dtype = _walk(model, head, rows)
    layers, weights = _finished(rows, turned)
    network = assembled(layers, shape, weights, dtype)
    if head.kind is None:
        return of_layers(network)
    return of_answers(network, head.kind, head.labels(network.output_shape))


def _input_rows(model: OnnxModel) -> Rows:
    """The input, its images channels last."""
    rows = Rows(model.input_shape, model.dtype)
    nodes = [node for node, there in zip(model.nodes, _on_rows(model)) if there]
    if len(rows.shape) == 3 and shapes.channel_axis(nodes, 3) == 0:
        rows.shape, rows.perm = (*rows.shape[1:], rows.shape[0]), CHANNELS_FIRST
    return rows


def _walk(model: OnnxModel, head: Head, rows: Rows) -> np.dtype:
    """Add a layer for each node, or for several that fork and meet again; returns the dtype that the network computes in."""
    at, fork = model.input, {}
    passed = {at: rows.graph_shape}
    on_rows = _on_rows(model)
    uses = Counter(name for node, there in zip(model.nodes, on_rows) if there for name in node.inputs)
    uses[head.output] += 1
    for i, node in enumerate(model.nodes):
        if not on_rows[i]:
            model.constants[node.output] = constant_of(node, model, passed)
            continue
        args = [X if name == at else fork.get(name, model.constants.get(name)) for name in node.inputs]
        if any(arg is None and name for arg, name in zip(args, node.inputs)):
            raise node.refuse("takes a value that is not the last one: nbbn has layers in a row")
        uses.subtract(node.inputs)
        if not fork and uses[at] == 0 and sum(arg is X for arg in args) == 1:
            ahead = [n for n, there in zip(model.nodes[i + 1 : i + _AHEAD], on_rows[i + 1 :]) if there]
            _single(rows, node, args, _Context(ahead, model.constants, model.opset, model.batch))
        else:
            fork[node.output] = Term(node, tuple(args))
            if uses[at] or any(uses[name] for name in fork if name != node.output):
                if len(fork) > _MAX_FORK:
                    raise node.refuse("is on a second path of many nodes: nbbn has layers in a row")
                continue
            _named(node, read_fork, rows, fork[node.output])
            fork = {}
        at = node.output
        if rows.split is None:
            passed[at] = rows.graph_shape
        if len(rows.steps) > MAX_LAYERS:
            raise Refused(f"has more than {MAX_LAYERS} layers")
    if fork or at != head.output:
        raise Refused(f"its output {one_line(head.output)!r} does not follow from its input by layers in a row")
    if rows.dtype not in (np.float32, np.float64):
        raise Refused(f"computes in {rows.dtype}; float32 and float64 are read")
    return rows.dtype


def _on_rows(model: OnnxModel) -> list[bool]:
    """For each node whether rows go in, and not constants or their shape alone."""
    values, found = {model.input}, []
    for node in model.nodes:
        found.append(node.operator != "Shape" and any(name in values for name in node.inputs))
        if found[-1]:
            values.add(node.output)
    return found


def _single(rows: Rows, node: Node, args: list, context: _Context) -> None:
    if node.operator not in _READ:
        raise node.refuse(f"is no operator that nbbn has a layer for; it has {', '.join(sorted(_READ))}")
    if isinstance(rows.last, Centred) and node.operator not in ("Exp", "Identity"):
        raise node.refuse("follows a mean or maximum that is subtracted, which makes no norm or softmax")
    _named(node, _READ[node.operator], rows, node, [None if arg is X else arg for arg in args], context)


def _named(node: Node, read, *args) -> None:
    """Call a reader; its errors name the node."""
    try:
        read(*args)
    except BROKEN as err:
        text = str(err)
        raise (err if text.startswith("node ") else node.refuse(text or type(err).__name__)) from None


def _finished(rows: Rows, turned: bool) -> tuple[list[Layer], list[dict]]:
    """The layers and arrays, what stood for a layer until now made one; `turned`: images may come out channels last instead."""
    if not (turned and rows.perm == CHANNELS_FIRST) and not rows.settle():
        raise Refused("ends in images that are flattened or turned, channels first; nbbn's channels come last")
    if rows.split is not None or any(isinstance(layer, Centred) for layer, *_ in rows.steps):
        raise Refused("ends within a norm or a softmax")
    layers, weights = [], []
    for layer, arrays, shape in rows.steps:
        if isinstance(layer, Affine):
            if layer.nothing:
                continue
            if _makes_selu(layers, layer):
                layers[-1] = Activation("selu")
                continue
            layer, arrays = layer.layer(shape)
        layers.append(layer)
        weights.append(arrays)
    if not layers:
        layers, weights = [Activation("linear")], [{}]
    return layers, weights


def _makes_selu(layers: list[Layer], scale: Affine) -> bool:
    alpha, gain = activations.SELU
    elu = bool(layers) and isinstance(layers[-1], ELU) and abs(layers[-1].alpha - alpha) < 1e-6
    return elu and bool(
        np.all(np.abs(scale.scale - gain) < 1e-6) and np.all(scale.shift == 0) and np.all(scale.mean == 0)
    )
