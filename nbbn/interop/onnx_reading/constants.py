"""Nodes of an ONNX graph whose results do not depend on the rows' numbers: constants, and shapes that are computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbbn.interop.onnx_reading.model import Node, OnnxModel
from nbbn.interop.onnx_reading.shapes import BATCH

# A shape has few numbers; a graph that joins longer ones again and again would grow without bound.
_MAX_JOINED = 64


def constant_of(node: Node, model: OnnxModel, shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """The node's result; `shapes` has those of the rows so far, by name.

    Raises
    ------
    Refused
        For a node that does not follow from constants, or computes what is no shape.
    """
    if node.operator == "Constant":
        return _constant(node)
    if node.operator == "Shape" and node.inputs[0] in shapes:
        shape = np.array([BATCH if model.batch is None else model.batch, *shapes[node.inputs[0]]])
        return shape[node.attributes.get("start", 0) : node.attributes.get("end")]
    arrays = [model.constants.get(name) for name in node.inputs]
    if any(array is None and name for array, name in zip(arrays, node.inputs)):
        raise node.refuse("takes a value that is neither a constant nor follows from the input")
    if node.operator not in _COMPUTED or not arrays:
        raise node.refuse("computes with constants alone in a way that is not known; simplify the model before")
    return _COMPUTED[node.operator](node, *arrays)


def _constant(node: Node) -> np.ndarray:
    value = node.attributes
    for name, dtype in (
        ("value_float", np.float32),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_ints", np.int64),
    ):
        if value.get(name) is not None:
            return np.array(value[name], dtype)
    if not isinstance(value.get("value"), np.ndarray):
        raise node.refuse("is a constant of another kind than numbers")
    return value["value"]


def _gather(node: Node, array: np.ndarray, index: np.ndarray) -> np.ndarray:
    if array.ndim != 1 or index.size > _MAX_JOINED:
        raise node.refuse("picks from a constant that is no shape")
    return array[index]


def _concat(node: Node, *arrays: np.ndarray) -> np.ndarray:
    if any(array.ndim != 1 for array in arrays) or sum(array.size for array in arrays) > _MAX_JOINED:
        raise node.refuse("joins constants that are no shapes")
    return np.concatenate(arrays)


def _axes(node: Node, given: np.ndarray | None) -> tuple[int, ...]:
    axes = node.attributes.get("axes") if given is None else given.reshape(-1).tolist()
    return tuple(axes or ())


def _slice(node: Node, array: np.ndarray, starts=None, ends=None, axes=None, steps=None) -> np.ndarray:
    if array.size > _MAX_JOINED or starts is None or ends is None:
        raise node.refuse("cuts a constant that is no shape")
    count = len(starts)
    where = [slice(None)] * array.ndim
    for i in range(count):
        axis = i if axes is None else int(axes[i])
        where[axis] = slice(int(starts[i]), int(ends[i]), 1 if steps is None else int(steps[i]))
    return array[tuple(where)]


def _arithmetic(function):
    def compute(node: Node, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        if max(first.size, second.size) > _MAX_JOINED:
            raise node.refuse("computes with weights alone; simplify the model before")
        return function(first, second)

    return compute


def _filled(node: Node, shape: np.ndarray) -> np.ndarray:
    if shape.size > 1 or not 0 <= int(shape.sum()) <= _MAX_JOINED:
        raise node.refuse("makes a constant that is no shape")
    value = node.attributes.get("value")
    return np.full(shape, np.float32(0) if value is None else value.item())


def _cast(node: Node, array: np.ndarray) -> np.ndarray:
    target = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}.get(node.attributes.get("to"))
    if target is None:
        raise node.refuse("casts a constant to another type than numbers")
    if array.dtype != target and array.size > _MAX_JOINED:
        raise node.refuse("casts weights to another type; simplify the model before")
    return array.astype(target, copy=False)


_COMPUTED: dict[str, Callable[..., np.ndarray]] = {
    "Shape": lambda node, array: np.array(array.shape)[node.attributes.get("start", 0) : node.attributes.get("end")],
    "Identity": lambda node, array: array,
    "Transpose": lambda node, array: array.transpose(node.attributes.get("perm")),
    "Reshape": lambda node, array, shape: array.reshape(shape.tolist()),
    "Squeeze": lambda node, array, axes=None: array.squeeze(_axes(node, axes) or None),
    "Unsqueeze": lambda node, array, axes=None: np.expand_dims(array, _axes(node, axes)),
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Cast": _cast,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Mod": _arithmetic(np.mod),
    "ConstantOfShape": _filled,
}
