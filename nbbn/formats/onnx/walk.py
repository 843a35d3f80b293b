"""From node to node of a graph: each adds a layer, or several that are one layer together do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nbbn.formats.files import BROKEN, Refused, one_line
from nbbn.formats.onnx import read_images as images
from nbbn.formats.onnx.builder import (
    CHANNELS_FIRST,
    Args,
    Centred,
    NetworkBuilder,
    OfLengthOne,
    Origin,
)
from nbbn.formats.onnx.constants import evaluated
from nbbn.formats.onnx.drawing import Drawing
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode
from nbbn.formats.onnx.operators import OPERATORS, constant_of, operator_of
from nbbn.formats.onnx.read_joins import combined, gives_no_negative, order_of_joined
from nbbn.formats.onnx.read_products import Meeting, product_of_vectors
from nbbn.formats.onnx.read_shapes import BATCH
from nbbn.formats.onnx.rows import Form, Given, Rows
from nbbn.layers import Layer
from nbbn.network import Network

# What loses the fractions that it makes of whole numbers.
_ROUNDING = ("Div", "ReduceMean", "AveragePool", "GlobalAveragePool")
_OF_CONSTANTS = (1, 6, 7, 8, 9, 11)  # float32, int32, int64, texts, bool, float64


class Walk:
    """Reads a graph's nodes into a network.

    A value that one node reads is gone on from; where several do, what leads to it is settled, and
    each goes on from there.
    """

    def __init__(self, graph: OnnxGraph, rows: Rows):
        self._graph, self._rows, self._uses = graph, rows, rows.uses()
        self._drawing, self._settled = Drawing(), dict[str, Origin]()
        batches = [given.batch for given in rows.inputs if given.batch is not None]
        self._batch = batches[0] if batches else None
        entrances = [self._entrance(k, given) for k, given in enumerate(rows.inputs, 1)]
        self._open = {given.name: net for given, net in zip(rows.inputs, entrances)}
        self._inputs = {name: net.shape for name, net in self._open.items()}
        self._turned = {rank for rank in CHANNELS_FIRST if _may_be_turned(rank, entrances)}
        self._shapes = dict[str, tuple[int, ...]]()
        for name, net in self._open.items():
            self._note_shape(name, net)

    def _entrance(self, number: int, given: Given) -> NetworkBuilder:
        """An input, its images channels last."""
        shape, rank = given.row or (1,), len(given.row)
        perm = tuple(range(rank))
        if rank in CHANNELS_FIRST and self._rows.channel_axis(given.name, rank) == 0:
            shape, perm = (*shape[1:], shape[0]), CHANNELS_FIRST[rank]
        return self._from(Origin(-number, shape, perm, given.dtype))

    def network(self) -> Network:
        """Go over all nodes; raises `Refused` for what nbbn has no layers for."""
        self._define_early()
        forms = self._rows.forms(self._constant)
        inner = {i for form in forms.values() for i in form.inner}
        for i, (node, there) in enumerate(zip(self._rows.nodes, self._rows.there)):
            if not there:
                self._define(node)
            elif i in forms:
                self._put(node.output, self._of_form(i, forms[i]))
            elif node.operator == "Split":
                self._split(node, self._rows.read_by(i))
            elif i not in inner:
                self._put(node.output, self._of_node(node, self._rows.read_by(i)))
        ends = {name: self._end(name) for name in self._rows.outputs}
        dtypes = {end.dtype for end in ends.values()}
        if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
            shown = " and ".join(sorted(map(str, dtypes)))
            raise Refused(f"computes in {shown}; float32 and float64 are read")
        calls = {name: end.call for name, end in ends.items()}
        return self._drawing.network(self._inputs, calls, dtypes.pop())

    # -- constants

    def _define_early(self) -> None:
        """Note what follows from constants alone: forms are looked for before the nodes' turn."""
        for node, there in zip(self._rows.nodes, self._rows.there):
            if not there:
                try:
                    self._graph.define(node.output, constant_of(node, self._graph, {}))
                except Refused:
                    continue

    def _define(self, node: OnnxNode) -> None:
        """What a node makes of constants alone, or of the shape of rows."""
        if self._graph.constant(node.output) is not None:
            return
        try:
            self._graph.define(node.output, constant_of(node, self._graph, self._shapes))
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

    # -- values

    def _from(self, origin: Origin) -> NetworkBuilder:
        net = NetworkBuilder(origin, self._graph.opset, self._batch)
        net.constant = self._constant
        return net

    def _take(self, name: str, node: OnnxNode, times: int = 1) -> NetworkBuilder:
        """The layers that lead to a value, to go on from for a node that reads it so often."""
        self._uses[name] -= times
        if name not in self._open and name not in self._settled:
            raise node.refuse("takes a value that is neither a constant nor follows from the input")
        if name in self._open:
            net = self._open.pop(name)
            if not self._uses[name]:
                return net
            self._settled[name] = self._drawing.settled(net, of_length_one=True)
        return self._from(self._settled[name])

    def _put(self, name: str, net: NetworkBuilder) -> None:
        self._open[name] = net
        self._drawing.check_number(len(net.steps))
        if net.split is None:
            self._note_shape(name, net)

    def _note_shape(self, name: str, net: NetworkBuilder) -> None:
        self._shapes[name] = (BATCH if net.batch is None else net.batch, *net.graph_shape)

    def _end(self, name: str) -> Origin:
        """An output of the network, its axes in nbbn's order."""
        if name not in self._open and name not in self._settled:
            raise Refused(f"its output {one_line(name)!r} does not follow from its input by layers")
        self._uses[name] -= 1
        net = self._open.get(name) or self._from(self._settled[name])
        rank = len(net.perm)
        turned = rank in self._turned and net.perm == CHANNELS_FIRST[rank]
        if not turned and not net.settle(move=True):
            raise Refused("ends in images that are flattened or turned, channels first; "
                          "nbbn's channels come last")
        return self._drawing.settled(net)

    # -- nodes

    def _of_form(self, i: int, form: Form | Meeting) -> NetworkBuilder:
        node = self._rows.nodes[i]
        if isinstance(form, Meeting):
            return self._met(i, node, form)
        net = self._take(form.start, node, form.times)
        self._look_ahead(net, node)
        _naming(node, form.build, net, form.found)
        return net

    def _met(self, i: int, node: OnnxNode, form: Meeting) -> NetworkBuilder:
        """The product of two rows of one axis; of others the sum of their numbers' products."""
        times = [self._rows.times(start, form.inner, i) for start in form.starts]
        if form.starts[0] == form.starts[1]:
            times = [times[0] - 1, 1]
        nets = [self._take(start, node, many) for start, many in zip(form.starts, times)]
        _check_one_dtype(node, nets)
        vectors = all(len(net.perm) == 1 for net in nets) and nets[0].shape == nets[1].shape
        if not vectors and form.cosine:
            shown = " and ".join(str(net.graph_shape) for net in nets)
            raise node.refuse(f"takes cosines of rows of shapes {shown}; nbbn's Dot takes those "
                              "of rows of one axis, or of each vector with each")
        if not vectors:
            layer = _naming(form.products, combined, form.products, nets, [])
            net = self._merged(form.products, nets, layer)
            args = [None, *(self._constant(name) for name in node.inputs[1:])]
            _naming(node, images.summed, net, node, args)
            return net
        kept = {_naming(one, self._sums_vectors, one) for one in form.sums}
        if len(kept) > 1:
            raise node.refuse("sums vectors of which some keep their axis")
        net = self._merged(node, nets, _naming(node, product_of_vectors, node, nets, form.cosine))
        net.perm, net.order = (0,) if kept.pop() else (), None
        return net

    def _sums_vectors(self, node: OnnxNode) -> bool:
        """Whether a sum over the only axis of rows keeps that, of length 1."""
        given = self._constant(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = node.attributes.get("axes") if given is None else given.reshape(-1).tolist()
        if axes not in ([1], [-1]):
            raise node.refuse(f"sums over axes {axes} of rows of one axis")
        return bool(node.attributes.get("keepdims", 1))

    def _of_node(self, node: OnnxNode, names: list[str]) -> NetworkBuilder:
        operator = operator_of(node)
        args: Args = [None if name in names else self._constant(name) for name in node.inputs]
        if any(arg is None and name and name not in names for arg, name in zip(args, node.inputs)):
            raise node.refuse("takes a value that is neither a constant nor follows from the input")
        if operator.twice or len(names) > 1:
            return self._joined(node, names, args)
        net = self._take(names[0], node)
        if operator.read is None:
            known = ", ".join(sorted(k for k, row in OPERATORS.items() if row.read or row.join))
            raise node.refuse(f"is no operator that nbbn has a layer for; it has {known}")
        if isinstance(net.last, Centred) and node.operator not in ("Exp", "Identity"):
            why = "follows a mean or maximum that is subtracted, which makes no norm or softmax"
            raise node.refuse(why)
        if isinstance(net.last, OfLengthOne) and node.operator not in ("Transpose", "Identity"):
            why = "follows vectors of length 1, which nbbn has in a Dot of two values alone"
            raise node.refuse(why)
        if net.dtype.kind in "iu" and node.operator in _ROUNDING:
            raise node.refuse("makes whole numbers of whole numbers; cast them to floats before")
        self._look_ahead(net, node)
        _naming(node, operator.read, net, node, args)
        return net

    def _split(self, node: OnnxNode, names: list[str]) -> None:
        """Each output that is read goes on from the node's input on its own."""
        args: Args = [None if name in names else self._constant(name) for name in node.inputs]
        if len(names) > 1 or args[0] is not None:
            raise node.refuse("splits a constant, or into parts that are no constants")
        read = [k for k, name in enumerate(node.outputs) if self._uses[name]]
        self._uses[names[0]] += len(read) - 1
        for k in read:
            net = self._take(names[0], node)
            _naming(node, images.split, net, node, args, k)
            self._put(node.outputs[k], net)

    def _look_ahead(self, net: NetworkBuilder, node: OnnxNode) -> None:
        net.following = self._rows.following(node.output)
        net.only_numbers_rows = partial(self._rows.only_numbers_rows, node.output)
        net.next_channels = partial(self._rows.channel_axis, node.output)

    def _joined(self, node: OnnxNode, names: list[str], args: Args) -> NetworkBuilder:
        """The layers behind a node on several rows, which begin with one that merges."""
        join = operator_of(node).join
        if join is None:
            known = ", ".join(sorted(k for k, row in OPERATORS.items() if row.join))
            raise node.refuse("takes several values, and weights must be constants; nbbn has "
                              f"layers that merge values for {known}")
        if operator_of(node).twice:
            names = names * 2
            self._uses[names[0]] += 1
        elif any(arg is not None for arg in args):
            raise node.refuse("merges values and a constant; do that in two steps")
        nets = [_naming(node, self._take, name, node) for name in names]
        _check_one_dtype(node, nets)
        return self._merged(node, nets, _naming(node, join, node, nets, args))

    def _merged(self, node: OnnxNode, nets: list[NetworkBuilder], layer: Layer) -> NetworkBuilder:
        """A layer that merges what comes last in several."""
        not_negative, order = gives_no_negative(node, nets), _order(node, nets)
        origins = [_naming(node, self._drawing.settled, net) for net in nets]
        shape = _naming(node, layer.output_shape, *(origin.shape for origin in origins))
        call = self._drawing.call(layer, {}, [origin.call for origin in origins])
        return self._from(Origin(call, shape, origins[0].perm, origins[0].dtype, order,
                                 not_negative))


def _check_one_dtype(node: OnnxNode, nets: list[NetworkBuilder]) -> None:
    if len({net.dtype for net in nets}) > 1:
        shown = " and ".join(str(net.dtype) for net in nets)
        raise node.refuse(f"merges values of {shown}")


def _may_be_turned(rank: int, entrances: list[NetworkBuilder]) -> bool:
    """Whether images, or steps, may come out channels last where the graph has them first.

    They may where they went in so, and where none went in.
    """
    if rank == 2:
        turned = any(len(net.shape) == 2 and not net.plain for net in entrances)
        return turned or all(len(net.shape) == 1 for net in entrances)
    turned = any(not net.plain for net in entrances)
    return turned or not any(len(net.shape) == rank for net in entrances)


def _order(node: OnnxNode, nets: list[NetworkBuilder]) -> np.ndarray | None:
    """The graph's index of each feature of what is merged."""
    if len(nets[0].shape) > 1:
        return None
    if node.operator == "Concat":
        return order_of_joined(nets)
    return max(nets, key=lambda net: net.shape[0]).order


def _naming(node: OnnxNode, function: Callable[..., Any], *args: Any) -> Any:
    """Call a reader; its errors name the node."""
    try:
        return function(*args)
    except BROKEN as err:
        text = str(err)
        if text.startswith("node "):
            raise err from None
        raise node.refuse(text or type(err).__name__) from None
