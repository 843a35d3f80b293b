"""Nodes of an ONNX graph whose results do not depend on the rows' numbers: constants, and shapes that are computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbbn.interop.onnx_model import Node, OnnxModel
from nbbn.interop.onnx_rows_in import Rows
from nbbn.interop.onnx_rows_read import BATCH

# A shape has few numbers; a graph that joins longer ones again and again would grow without bound.
_MAX_JOINED = 64


def constant_of(node: Node, model: OnnxModel, at: str, rows: Rows) -> np.ndarray | None:
    """The node's result if it is a constant, else None; `at` is the name of the rows so far."""
    if node.operator == "Constant":
        return _constant(node)
    if node.operator == "Shape" and node.inputs == (at,):
        shape = np.array([BATCH if model.batch is None else model.batch, *rows.graph_shape])
        return shape[node.attributes.get("start", 0) : node.attributes.get("end")]
    arrays = [model.constants.get(name) for name in node.inputs]
    if not arrays or any(array is None and name for array, name in zip(arrays, node.inputs)):
        return None
    if node.operator not in _COMPUTED:
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
    if (
        array.ndim != 1
        or any(part is not None and part.size != 1 for part in (starts, ends, axes, steps))
        or starts is None
    ):
        raise node.refuse("cuts a constant that is no shape")
    return array[int(starts.item()) : int(ends.item()) : 1 if steps is None else int(steps.item())]


def _cast(node: Node, array: np.ndarray) -> np.ndarray:
    target = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}.get(node.attributes.get("to"))
    if target is None:
        raise node.refuse("casts a constant to another type than numbers")
    return array.astype(target)


_COMPUTED: dict[str, Callable[..., np.ndarray]] = {
    "Identity": lambda node, array: array,
    "Transpose": lambda node, array: array.transpose(node.attributes.get("perm")),
    "Reshape": lambda node, array, shape: array.reshape(shape.tolist()),
    "Squeeze": lambda node, array, axes=None: array.squeeze(_axes(node, axes) or None),
    "Unsqueeze": lambda node, array, axes=None: np.expand_dims(array, _axes(node, axes)),
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Cast": _cast,
}
