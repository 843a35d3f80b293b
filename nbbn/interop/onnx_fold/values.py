"""The values of an ONNX graph: who reads them, their shapes, and which are constants or other names of the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from nbbn.interop.onnx_fold.model import Model, stand_in

# What the attribute of a Constant node may be called.
_NUMBERS = frozenset(("value", "value_float", "value_floats", "value_int", "value_ints"))


@dataclass(frozen=True)
class Constant:
    """A value that is the same in every run.

    Attributes
    ----------
    dims : tuple of int
    data_type : int
    array : callable
        Makes the array.
    """

    dims: tuple[int, ...]
    data_type: int
    array: Callable[[], np.ndarray]


class Values:
    """What is known of the values of a model's graph.

    Parameters
    ----------
    model : Model
        Not written.

    Attributes
    ----------
    opset : int
        Version of ONNX's own operators.
    outputs : set of str
        Of the graph, under their first names (`first_name`).
    transparent : set of int
        Indices of the nodes that make constants or hand on their input.
    replaceable : set of str
        Initialisers that are inputs too, which a caller may give other values.
    """

    def __init__(self, model: Model):
        skeleton, self._tensors = model
        self.graph = skeleton.graph
        self.opset = next((o.version for o in skeleton.opset_import if o.domain in ("", "ai.onnx")), 0)
        self._shapes = _shapes(model)
        inputs = {value.name for value in self.graph.input}
        # Before version 4 of the format every initialiser had to be an input.
        self.replaceable = inputs & set(self._tensors) if skeleton.ir_version >= 4 else set()
        self._constants = {
            name: Constant(t.dims, t.data_type, t.array)
            for name, t in self._tensors.items()
            if name not in self.replaceable
        }
        self._first: dict[str, str] = {}
        self.transparent: set[int] = set()
        for i, node in enumerate(self.graph.node):
            if self._look_through(node):
                self.transparent.add(i)
        self.readers: dict[str, list[int]] = {}
        for i, node in enumerate(self.graph.node):
            for name in dict.fromkeys(names_read(node)):
                self.readers.setdefault(name, []).append(i)
        self.outputs = {self.first_name(value.name) for value in self.graph.output}

    def first_name(self, name: str) -> str:
        """The name of a value before Identity and the like gave it others."""
        return self._first.get(name, name)

    def constant(self, name: str) -> Constant | None:
        """The constant of a name, if it is one."""
        return self._constants.get(self.first_name(name))

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
        return None if not shape or None in shape[1:] else shape[1:]

    def integers(self, name: str) -> list[int] | None:
        """A constant of a few whole numbers."""
        constant = self.constant(name)
        return None if constant is None else [int(n) for n in constant.array().reshape(-1)]

    def _look_through(self, node) -> bool:
        """Note what a node does that makes a constant or hands on its input."""
        if node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type == "Constant":
            return self._add_constant(node)
        if node.op_type == "Identity" or (node.op_type == "Dropout" and self._hands_on(node)):
            self._first[node.output[0]] = self.first_name(node.input[0])
            return True
        if node.op_type == "Transpose" and (of := self.constant(node.input[0])) is not None:
            order = attributes(node).get("perm") or list(reversed(range(len(of.dims))))
            dims = tuple(of.dims[axis] for axis in order)
            self._constants[node.output[0]] = Constant(dims, of.data_type, lambda: of.array().transpose(order))
            return True
        return False

    def _add_constant(self, node) -> bool:
        from onnx import helper, numpy_helper

        attribute = node.attribute[0] if len(node.attribute) == 1 else None
        if attribute is None or attribute.name not in _NUMBERS:
            return False
        tensor = attribute.t
        if attribute.name != "value":
            dtype = np.float32 if "float" in attribute.name else np.int64
            tensor = numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), dtype))
        read = partial(numpy_helper.to_array, tensor)
        self._constants[node.output[0]] = Constant(tuple(tensor.dims), tensor.data_type, read)
        return True

    def _hands_on(self, node) -> bool:
        """Whether a Dropout does nothing."""
        if len([name for name in node.output if name]) > 1:
            return False
        if self.opset < 7:
            return bool(attributes(node).get("is_test", 0))
        if len(node.input) < 3 or not node.input[2]:
            return True
        training = self.constant(node.input[2])
        return training is not None and not training.array().any()


def attributes(node) -> dict:
    """A node's attributes by name."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def names_read(node) -> Iterator[str]:
    """Names that a node reads, those that graphs within it may read from outside included."""
    yield from (name for name in node.input if name)
    for inner in graphs_within(node):
        yield from (value.name for value in inner.output)
        for child in inner.node:
            yield from names_read(child)


def graphs_within(node) -> Iterator:
    """The graphs that are attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _shapes(model: Model) -> dict[str, tuple[int | None, ...]]:
    """Shapes as far as shape inference finds them; None for a size that is not fixed."""
    from onnx import shape_inference

    trial = stand_in(model)
    try:
        trial = shape_inference.infer_shapes(trial, data_prop=True)
    except (RuntimeError, ValueError):  # a graph that breaks off the inference: what is declared has to do
        pass
    graph = trial.graph
    shapes = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    return shapes
