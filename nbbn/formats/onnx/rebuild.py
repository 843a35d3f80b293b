"""What folding made of a graph, back to ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nbbn.fold.arithmetic import Affine, cast, check_finite, standing_for
from nbbn.fold.engine import folded_bias, folded_kernel
from nbbn.fold.graph import Graph, Linear, Node, Norm
from nbbn.formats.onnx.file import Model, graphs_within
from nbbn.formats.onnx.fold_graph import Names, Place
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode, names_read
from nbbn.formats.onnx.tensors import DTYPES, made


def folded_model(model: Model, source: OnnxGraph, places: dict[str, Place], norms: list[Norm],
                 graph: Graph) -> Model:
    """The model that a folded graph stands for; `norms` are the batch norms of the source."""
    return _Rebuild(model, source, places).finish(norms, graph)


class _Rebuild:
    """A model on its way from what it was to what its folded graph is."""

    def __init__(self, model: Model, source: OnnxGraph, places: dict[str, Place]):
        skeleton = type(model.skeleton)()
        skeleton.CopyFrom(model.skeleton)
        self._source, self._places = source, places
        self._skeleton, self._graph = skeleton, skeleton.graph
        self._tensors = dict(model.tensors)
        self._names = Names(_all_names(self._graph) | set(self._tensors))
        self._gone: set[int] = set()
        self._added: dict[int, Any] = {}
        self._renamed: dict[str, str] = {}
        self._inner: set[str] = set()  # values of the folded graph alone

    def finish(self, norms: list[Norm], graph: Graph) -> Model:
        """The rebuilt model."""
        for norm in norms:
            place = self._places[norm.name]
            if place.within:
                plain = self._source.nodes[place.node].output
                inner = next(n.outputs[0] for n in graph.nodes.values()
                             if self._places[n.name] == Place(place.node))
                self._inner.add(inner)
                self._renamed[inner] = plain
                if norm.name not in graph.nodes:
                    self._plain(norm, place)
            elif norm.name not in graph.nodes:
                self._gone |= {place.node, *place.rest}
                self._renamed[norm.outputs[0]] = norm.inputs[0]
        for node in graph.nodes.values():
            if node.outputs and not (isinstance(node, Norm) and node.arithmetic):
                self._outputs(node)
            if isinstance(node, Linear) and node.changed:
                self._linear(node)
            elif isinstance(node, Norm) and node.merged and node.affine is not None:
                self._norm(node, node.affine)
        self._rewire()
        self._drop_unused()
        return Model(self._skeleton, self._tensors)

    def _plain(self, norm: Norm, place: Place) -> None:
        """A layer norm whose scale and shift are gone."""
        proto = self._graph.node[place.node]
        dims, data_type, _ = self._source.known(proto.input[1])
        ones = partial(np.ones, dims)
        scale = self._put(proto.input[1], f"{proto.output[0]}_ones", dims, data_type, ones)
        proto.input[:] = [proto.input[0], scale]

    def _outputs(self, node: Node) -> None:
        """A node that a batch norm has joined gives that's output, also to who read its own."""
        place, new = self._places[node.name], node.outputs[0]
        if new in self._inner:
            return
        at = place.node if place.addition is None else place.addition
        outputs = self._graph.node[at].output
        first = next(k for k, name in enumerate(outputs) if name)  # those before are left out
        if outputs[first] != new:
            self._renamed.pop(new, None)
            self._renamed[outputs[first]] = outputs[first] = new

    def _linear(self, linear: Linear) -> None:
        place, name = self._places[linear.name], linear.name
        source, proto = self._source.nodes[place.node], self._graph.node[place.node]
        of = source.inputs[1]
        dims, data_type, _ = self._source.known(of)
        dtype, layout = DTYPES[data_type], _layout(source)
        array = cast(folded_bias(linear), dtype, f"bias of {name}")

        def kernel_array() -> np.ndarray:
            return check_finite(layout(folded_kernel(linear, dtype)), f"kernel of {name}")

        old, bias = self._old_bias(source, place), ""
        if old or array.any():
            bias = self._put(old, f"{name}_bias", array.shape, data_type, lambda: array)
        kernel = self._put(of, f"{of}_folded", dims, data_type, kernel_array)
        if source.operator == "MatMul":
            self._matmul(place, linear, kernel, bias)
            return
        _without(proto, "alpha", "beta")
        proto.input[:] = [proto.input[0], kernel, *([bias] if bias else ())]
        proto.output[0] = linear.outputs[0]
        if place.addition is not None:
            self._gone.add(place.addition)

    def _old_bias(self, source: OnnxNode, place: Place) -> str:
        if place.addition is not None:
            adder = self._source.nodes[place.addition]
            return next(name for name in adder.inputs if name != source.output)
        return source.inputs[2] if len(source.inputs) > 2 else ""

    def _matmul(self, place: Place, linear: Linear, kernel: str, bias: str) -> None:
        """A product keeps the node that adds its bias, or gains one."""
        from onnx import helper

        proto = self._graph.node[place.node]
        proto.input[1] = kernel
        if not bias:
            return
        if place.addition is None:
            proto.output[0] = self._names.new(f"{linear.name}_product")
            name = self._names.new(f"{linear.name}_add")
            added = helper.make_node("Add", [proto.output[0], bias], [linear.outputs[0]], name=name)
            self._added[place.node] = added
            return
        adder = self._graph.node[place.addition]
        adder.input[:] = [proto.output[0], bias]
        adder.output[0] = linear.outputs[0]

    def _norm(self, norm: Norm, affine: Affine) -> None:
        """A batch norm that has taken in another."""
        from onnx import helper

        proto = self._graph.node[self._places[norm.name].node]
        arrays, epsilon = standing_for(affine)
        for at, key in enumerate(("gamma", "beta", "mean", "var"), start=1):
            data_type = self._source.known(proto.input[at]).data_type
            array = cast(arrays[key], DTYPES[data_type], f"{key} of {norm.name}")
            make = partial(np.asarray, array)
            name = f"{norm.name}_{key}"
            proto.input[at] = self._put(proto.input[at], name, array.shape, data_type, make)
        _without(proto, "epsilon")
        proto.attribute.append(helper.make_attribute("epsilon", epsilon))

    def _put(self, old: str, name: str, dims: Sequence[int], data_type: int,
             make: Callable[[], np.ndarray]) -> str:
        """A new tensor, under the name of the old one if that has no other reader."""
        from onnx import helper

        name = old if self._alone(old) else self._names.new(name)
        self._tensors[name] = made(name, tuple(dims), data_type, make)
        # Who replaced the weight as it was would not mean the folded one: it is no input any more.
        _keep(self._graph.input, lambda value: value.name != name)
        if self._skeleton.ir_version < 4:  # where every initialiser must be one
            self._graph.input.append(helper.make_tensor_value_info(name, data_type, dims))
        return name

    def _alone(self, name: str) -> bool:
        """Whether a value is a tensor that one node reads once, and nobody else."""
        source = self._source
        readers = source.readers.get(name, ())
        if name not in source.tensors or len(readers) != 1 or name in source.outputs:
            return False
        return source.nodes[readers[0]].inputs.count(name) == 1

    def _rewire(self) -> None:
        """Nodes that are gone go, and who read them reads what they read."""
        nodes = []
        for i, proto in enumerate(self._graph.node):
            if i not in self._gone:
                for at, name in enumerate(proto.input):
                    while name in self._renamed:
                        name = self._renamed[name]
                    proto.input[at] = name
                nodes.append(proto)
            if i in self._added:
                nodes.append(self._added[i])
        self._replace_nodes(nodes)

    def _replace_nodes(self, nodes: list[Any]) -> None:
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _drop_unused(self) -> None:
        """Drop constants and nodes that hand on values where nobody reads them any more."""
        given = {value.name for value in self._graph.output}
        passive = {self._source.nodes[i].outputs for i in self._source.transparent}
        nodes = list(self._graph.node)
        while True:
            read = given | {name for node in nodes for name in names_read(node)}
            idle = [tuple(n.output) in passive and not read & {*n.output} for n in nodes]
            kept = [node for node, gone in zip(nodes, idle) if not gone]
            if len(kept) == len(nodes):
                break
            nodes = kept
        self._replace_nodes(nodes)
        dropped = {name for name in self._tensors if name not in read}
        self._tensors = {n: tensor for n, tensor in self._tensors.items() if n not in dropped}
        there = {name for node in nodes for name in node.output}
        there |= {value.name for value in self._graph.input}
        known = there | set(self._tensors)
        _keep(self._graph.input, lambda value: value.name not in dropped)
        _keep(self._graph.value_info, lambda value: value.name in there)
        _keep(self._graph.quantization_annotation, lambda note: note.tensor_name in known)


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, (-2, -1), (1, 0))


def _layout(node: OnnxNode) -> Callable[[np.ndarray], np.ndarray]:
    """From nbbn's layout of a kernel to the operator's."""
    if node.operator in ("Conv", "ConvTranspose"):
        return _channels_first
    return np.transpose if node.attributes.get("transB") else np.asarray


def _without(proto: Any, *names: str) -> None:
    """Drop attributes of a node."""
    _keep(proto.attribute, lambda attribute: attribute.name not in names)


def _keep(repeated: Any, wanted: Callable[[Any], bool]) -> None:
    """Drop the entries of a repeated field that are not wanted."""
    for i in reversed(range(len(repeated))):
        if not wanted(repeated[i]):
            del repeated[i]


def _all_names(graph: Any) -> set[str]:
    """All names of values and nodes, those of graphs within included."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    names |= {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
        for inner in graphs_within(node):
            names |= _all_names(inner)
    return names
