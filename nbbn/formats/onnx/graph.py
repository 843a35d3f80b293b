"""What is known of an ONNX graph: its nodes, and of values who reads them, shapes, constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nbbn.formats.files import Refused, one_line
from nbbn.formats.onnx.file import Model, graphs_within, stand_in

OWN_DOMAINS = ("", "ai.onnx")


class OnnxNode:
    """A node.

    Attributes
    ----------
    proto : onnx.NodeProto
    operator, name, domain : str
        The domain is empty for ONNX's own operators.
    inputs, outputs : tuple of str
        Inputs that are left out are empty; none are at the end.
    """

    def __init__(self, proto: Any):
        self.proto = proto
        self.operator: str = proto.op_type
        self.name: str = proto.name
        self.domain: str = "" if proto.domain in OWN_DOMAINS else proto.domain
        inputs = list(proto.input)
        while inputs and not inputs[-1]:
            inputs.pop()
        self.inputs = tuple(inputs)
        self.outputs = tuple(proto.output)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes by name: numbers, texts, lists of numbers, arrays; None for any others."""
        return {attribute.name: _value(attribute) for attribute in self.proto.attribute}

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    @property
    def names_read(self) -> Iterator[str]:
        """Values that the node reads, and those that graphs within it may read from outside."""
        return names_read(self.proto)

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


@dataclass(frozen=True)
class Constant:
    """A value that is the same in every run.

    Attributes
    ----------
    dims : tuple of int
    data_type : int
        Of `onnx.TensorProto`.
    array : callable
        Makes the array, which is not to be written.
    """

    dims: tuple[int, ...]
    data_type: int
    array: Callable[[], np.ndarray]


class OnnxGraph:
    """The graph of a model, and what is known of its values.

    Parameters
    ----------
    model : Model
        Not written.
    defaults : bool
        Whether initialisers that are inputs too, so that a caller may replace them, are constants.

    Attributes
    ----------
    proto : onnx.GraphProto
    nodes : list of OnnxNode
    opset : int
        Version of ONNX's own operators; 0 where none is given.
    replaceable : set of str
        Initialisers that are no constants, since a caller may replace them.
    transparent : set of int
        Indices of the nodes that are known to make constants or hand on their input.
    """

    def __init__(self, model: Model, *, defaults: bool):
        skeleton, self.tensors = model
        self._model = model
        self.proto = skeleton.graph
        self.nodes = [OnnxNode(proto) for proto in self.proto.node]
        imports = skeleton.opset_import
        self.opset: int = next((o.version for o in imports if o.domain in OWN_DOMAINS), 0)
        inputs = {value.name for value in self.proto.input}
        # Before version 4 of the format every initialiser had to be an input.
        fixed = defaults or skeleton.ir_version < 4
        self.replaceable = set() if fixed else inputs & set(self.tensors)
        self._constants = {
            name: Constant(tensor.dims, tensor.data_type, tensor.array)
            for name, tensor in self.tensors.items()
            if name not in self.replaceable
        }
        self._first: dict[str, str] = {}
        self.transparent: set[int] = set()

    # -- constants, and other names of the same value

    def constant(self, name: str) -> Constant | None:
        """The constant of a name, if it is one."""
        return self._constants.get(self.first_name(name))

    def first_name(self, name: str) -> str:
        """The name of a value before Identity and the like gave it others."""
        return self._first.get(name, name)

    def define(self, name: str, constant: Constant) -> None:
        """Note that a value is a constant."""
        self._constants[name] = constant

    def rename(self, name: str, source: str) -> None:
        """Note that a value is the same as another."""
        self._first[name] = self.first_name(source)

    # -- who reads a value

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """Indices of the nodes that read a value."""
        readers: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.names_read):
                readers.setdefault(name, []).append(i)
        return readers

    @property
    def outputs(self) -> set[str]:
        """The graph's outputs, under their first names."""
        return {self.first_name(value.name) for value in self.proto.output}

    # -- shapes

    @cached_property
    def _shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes as far as shape inference finds them; None for a size that is not fixed."""
        from onnx import shape_inference

        trial = stand_in(self._model)
        try:
            trial = shape_inference.infer_shapes(trial, data_prop=True)
        except (RuntimeError, ValueError):  # it breaks off: what is declared has to do
            pass
        graph, shapes = trial.graph, {}
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                shapes[value.name] = tuple(
                    d.dim_value if d.HasField("dim_value") else None for d in dims
                )
        return shapes

    def shape(self, name: str) -> list[int | None] | None:
        """Sizes of all axes as far as they are known and fixed."""
        shape = self._shapes.get(name)
        return None if shape is None else list(shape)

    def rank(self, name: str) -> int | None:
        """Number of axes, if known."""
        shape = self._shapes.get(name)
        return None if shape is None else len(shape)

    def row(self, name: str) -> tuple[int, ...] | None:
        """Sizes of all axes but the first, if known."""
        shape = self._shapes.get(name)
        if not shape:
            return None
        row = tuple(n for n in shape[1:] if n is not None)
        return row if len(row) == len(shape) - 1 else None
