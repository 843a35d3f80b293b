"""What is known of an ONNX graph: its nodes, and of values who reads them, shapes, constants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nbbn.formats.files import Refused, one_line
from nbbn.formats.onnx.file import Model, graphs_within, stand_in

OWN_DOMAINS = ("", "ai.onnx")


class OnnxNode:
    """A node of a `NodeProto`.

    `domain` is empty for ONNX's own operators; `inputs` that are left out are empty, and none are
    so at the end.
    """

    def __init__(self, proto: Any):
        self.proto = proto
        self.operator: str = proto.op_type
        self.name: str = proto.name
        self.domain: str = "" if proto.domain in OWN_DOMAINS else proto.domain
        inputs = list(proto.input)
        while inputs and not inputs[-1]:
            inputs.pop()
        self.inputs, self.outputs = tuple(inputs), tuple(proto.output)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes by name: numbers, texts, lists of numbers, arrays; None for any others."""
        return {attribute.name: _value(attribute) for attribute in self.proto.attribute}

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    @property
    def shown(self) -> str:
        """The node in an error's words."""
        return f"node {one_line(self.name or self.output)!r} ({one_line(self.operator)})"

    def refuse(self, why: str) -> Refused:
        """An error about this node."""
        return Refused(f"{self.shown}: {why}")


def _value(attribute: Any) -> Any:
    from onnx import helper, numpy_helper

    if attribute.type == attribute.TENSOR:
        return numpy_helper.to_array(attribute.t)
    of = (attribute.FLOAT, attribute.INT, attribute.STRING, attribute.FLOATS, attribute.INTS)
    if attribute.type not in of:
        return None
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def names_read(proto: Any) -> Iterator[str]:
    """Values that a `NodeProto` reads, and those that graphs within it may read from outside."""
    yield from (name for name in proto.input if name)
    for inner in graphs_within(proto):
        yield from (value.name for value in inner.output)
        for child in inner.node:
            yield from names_read(child)


class Constant(NamedTuple):
    """A value that is the same in every run; `array` makes it, not to be written."""

    dims: tuple[int, ...]
    data_type: int  # of `onnx.TensorProto`
    array: Callable[[], np.ndarray]


class OnnxGraph:
    """The graph of a model, which is not written, and what is known of its values.

    Initialisers that are inputs too, which a caller may replace, count as constants.
    """

    def __init__(self, model: Model):
        skeleton, self.tensors = model
        self._model, self.proto = model, skeleton.graph
        self.nodes = [OnnxNode(proto) for proto in self.proto.node]
        imports = skeleton.opset_import
        self.functions = skeleton.functions
        self.opset: int = next((o.version for o in imports if o.domain in OWN_DOMAINS), 0)
        self._constants = {
            name: Constant(tensor.dims, tensor.data_type, tensor.array)
            for name, tensor in self.tensors.items()
        }
        self._first: dict[str, str] = {}
        # Indices of nodes that are known to make constants or hand on their input.
        self.transparent: set[int] = set()

    def constant(self, name: str) -> Constant | None:
        """The constant of a name, if it is one."""
        return self._constants.get(self.first_name(name))

    def known(self, name: str) -> Constant:
        """The constant of a name that is one."""
        return self._constants[self.first_name(name)]

    def first_name(self, name: str) -> str:
        """The name of a value before Identity and the like gave it others."""
        return self._first.get(name, name)

    def define(self, name: str, constant: Constant) -> None:
        """Note that a value is a constant."""
        self._constants[name] = constant

    def rename(self, name: str, source: str) -> None:
        """Note that a value is the same as another."""
        self._first[name] = self.first_name(source)

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """Indices of the nodes that read a value."""
        readers: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in dict.fromkeys(names_read(node.proto)):
                readers.setdefault(name, []).append(i)
        return readers

    def only_reader(self, value: str) -> int | None:
        """The index of the node that alone reads a value which is no output; else None."""
        readers = self.readers.get(value, [])
        given = any(output.name == value for output in self.proto.output)
        return readers[0] if len(readers) == 1 and not given else None

    @cached_property
    def givers(self) -> dict[str, OnnxNode]:
        """The node that gives a value."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @property
    def outputs(self) -> set[str]:
        """The graph's outputs, under their first names."""
        return {self.first_name(value.name) for value in self.proto.output}

    @cached_property
    def _types(self) -> dict[str, Any]:
        """`onnx.ValueInfoProto` of values, as far as they are declared or shape inference goes."""
        from onnx import shape_inference

        trial = stand_in(self._model)
        try:
            trial = shape_inference.infer_shapes(trial, data_prop=True)
        except (RuntimeError, ValueError):  # it breaks off: what is declared has to do
            pass
        known = (*trial.graph.input, *trial.graph.output, *trial.graph.value_info)
        return {value.name: value.type for value in known}

    def kind(self, name: str) -> int | None:
        """The data type of a value, of `onnx.TensorProto`; 0 for no tensor, None if not known."""
        if name in self.tensors:
            return self.tensors[name].data_type
        if name not in self._types:
            return None
        return self._types[name].tensor_type.elem_type

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Sizes of all axes as far as they are known and fixed."""
        of = self._types.get(name)
        if of is None or not of.tensor_type.HasField("shape"):
            return None
        dims = of.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)

    def rank(self, name: str) -> int | None:
        """Number of axes, if known."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def row(self, name: str) -> tuple[int, ...] | None:
        """Sizes of all axes but the first, if known."""
        shape = self.shape(name)
        row = tuple(n for n in shape[1:] if n is not None) if shape else ()
        return row if shape and len(row) == len(shape) - 1 else None


def needed(graph: OnnxGraph, values: Iterable[str]) -> list[OnnxNode]:
    """The nodes that values follow from, the last first."""
    wanted, nodes = set(values), []
    for node in reversed(graph.nodes):
        if wanted & set(node.outputs):
            wanted |= set(names_read(node.proto))
            nodes.append(node)
    return nodes
