"""What folding made of a graph, back to ONNX."""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import helper

from nbbn.fold.arithmetic import cast, check_finite, standing_for
from nbbn.fold.engine import folded_bias, folded_kernel
from nbbn.fold.graph import Graph, Linear, Norm
from nbbn.interop.onnx_fold.graph import Names, Place
from nbbn.interop.onnx_fold.model import Model
from nbbn.interop.onnx_fold.tensors import DTYPES, made
from nbbn.interop.onnx_fold.values import Values, attributes, graphs_within, names_read


def folded_model(model: Model, values: Values, places: dict[str, Place], norms: list[Norm], graph: Graph) -> Model:
    """The model that a folded graph stands for; `norms` are the batch norms of the source, which is not written."""
    return _Rebuild(model, values, places).finish(norms, graph)


class _Rebuild:
    """A model on its way from what it was to what its folded graph is."""

    def __init__(self, model: Model, values: Values, places: dict[str, Place]):
        skeleton = type(model.skeleton)()
        skeleton.CopyFrom(model.skeleton)
        self._source, self._values, self._places = model, values, places
        self._skeleton, self._graph = skeleton, skeleton.graph
        self._tensors = dict(model.tensors)
        self._names = Names(_all_names(self._graph) | set(self._tensors))
        self._gone: set[int] = set()
        self._added: dict[int, object] = {}
        self._renamed: dict[str, str] = {}

    def finish(self, norms: list[Norm], graph: Graph) -> Model:
        """The rebuilt model."""
        for norm in norms:
            if norm.name not in graph.nodes:
                self._gone.add(self._places[norm.name].index)
                self._renamed[norm.outputs[0]] = norm.inputs[0]
        for node in graph.nodes.values():
            if isinstance(node, Linear) and node.changed:
                self._linear(node)
            elif isinstance(node, Norm) and node.merged:
                self._norm(node)
        self._rewire()
        self._drop_unused()
        return Model(self._skeleton, self._tensors)

    def _linear(self, linear: Linear) -> None:
        place = self._places[linear.name]
        proto = self._graph.node[place.index]
        old = self._values.constant(proto.input[1])
        dtype = DTYPES[old.data_type]
        layout = _layout(proto)
        bias_array = cast(folded_bias(linear), dtype, f"bias of {linear.name}")

        def kernel_array() -> np.ndarray:
            return check_finite(layout(folded_kernel(linear, dtype)), f"kernel of {linear.name}")

        old_bias = self._old_bias(proto, place)
        bias = self._put(old_bias, f"{linear.name}_bias", bias_array.shape, old.data_type, lambda: bias_array)
        kernel = self._put(proto.input[1], f"{proto.input[1]}_folded", old.dims, old.data_type, kernel_array)
        self._renamed.pop(linear.outputs[0], None)
        if proto.op_type == "MatMul":
            self._mat_mul(place, linear, kernel, bias)
            return
        _without(proto, "alpha", "beta")
        proto.input[:] = [proto.input[0], kernel, bias]
        proto.output[0] = linear.outputs[0]
        if place.addition is not None:
            self._gone.add(place.addition)

    def _old_bias(self, proto, place: Place) -> str:
        if place.addition is not None:
            return next(n for n in self._graph.node[place.addition].input if n != proto.output[0])
        return proto.input[2] if len(proto.input) > 2 else ""

    def _mat_mul(self, place: Place, linear: Linear, kernel: str, bias: str) -> None:
        """A product keeps the node that adds its bias, or gains one."""
        proto = self._graph.node[place.index]
        proto.input[1] = kernel
        if place.addition is None:
            proto.output[0] = self._names.new(f"{linear.name}_product")
            name = self._names.new(f"{linear.name}_add")
            added = helper.make_node("Add", [proto.output[0], bias], [linear.outputs[0]], name=name)
            self._added[place.index] = added
            return
        adder = self._graph.node[place.addition]
        adder.input[:] = [proto.output[0], bias]
        adder.output[0] = linear.outputs[0]

    def _norm(self, norm: Norm) -> None:
        """A batch norm that has taken in another."""
        proto = self._graph.node[self._places[norm.name].index]
        arrays, epsilon = standing_for(norm.affine)
        for at, key in enumerate(("gamma", "beta", "mean", "var"), start=1):
            data_type = self._values.constant(proto.input[at]).data_type
            array = cast(arrays[key], DTYPES[data_type], f"{key} of {norm.name}")
            make = partial(np.asarray, array)
            proto.input[at] = self._put(proto.input[at], f"{norm.name}_{key}", array.shape, data_type, make)
        _without(proto, "epsilon")
        proto.attribute.append(helper.make_attribute("epsilon", epsilon))

    def _put(self, old: str, name: str, dims, data_type: int, make) -> str:
        """A new tensor, under the name of the old one if that has no other reader."""
        readers = self._values.readers.get(old, ())
        alone = old in self._source.tensors and len(readers) == 1
        alone = alone and list(self._values.graph.node[readers[0]].input).count(old) == 1
        alone = alone and old not in self._values.outputs and old not in self._values.replaceable
        name = old if alone else self._names.new(name)
        self._tensors[name] = made(name, tuple(dims), data_type, make)
        if self._skeleton.ir_version < 4:
            inputs = self._graph.input
            for i in reversed([i for i, value in enumerate(inputs) if value.name == name]):
                del inputs[i]
            inputs.append(helper.make_tensor_value_info(name, data_type, dims))
        return name

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

    def _replace_nodes(self, nodes: list) -> None:
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _drop_unused(self) -> None:
        """Drop constants and nodes that hand on values, as far as nobody reads them any more, and all traces of them."""
        given = {value.name for value in self._graph.output}
        passive = {tuple(self._values.graph.node[i].output) for i in self._values.transparent}
        nodes = list(self._graph.node)
        while True:
            read = given | {name for node in nodes for name in names_read(node)}
            kept = [n for n in nodes if tuple(n.output) not in passive or any(o in read for o in n.output)]
            if len(kept) == len(nodes):
                break
            nodes = kept
        self._replace_nodes(nodes)
        dropped = {name for name in self._tensors if name not in read and name not in self._values.replaceable}
        self._tensors = {name: tensor for name, tensor in self._tensors.items() if name not in dropped}
        there = {name for node in nodes for name in node.output} | {value.name for value in self._graph.input}
        _keep(self._graph.input, lambda value: value.name not in dropped)
        _keep(self._graph.value_info, lambda value: value.name in there)
        _keep(self._graph.quantization_annotation, lambda note: note.tensor_name in there | set(self._tensors))


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, (-2, -1), (1, 0))


def _layout(proto):
    """From nbbn's layout of a kernel to the operator's."""
    if proto.op_type in ("Conv", "ConvTranspose"):
        return _channels_first
    return np.transpose if attributes(proto).get("transB") else np.asarray


def _without(proto, *names: str) -> None:
    """Drop attributes of a node."""
    kept = [a for a in proto.attribute if a.name not in names]
    del proto.attribute[:]
    proto.attribute.extend(kept)


def _keep(repeated, wanted) -> None:
    """Drop the entries of a repeated field that are not wanted."""
    for i in reversed(range(len(repeated))):
        if not wanted(repeated[i]):
            del repeated[i]


def _all_names(graph) -> set[str]:
    """All names of values and nodes, those of graphs within included."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    names |= {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
        for inner in graphs_within(node):
            names |= _all_names(inner)
    return names
