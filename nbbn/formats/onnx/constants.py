"""Operators on constants alone: weights in another form, and shapes that a graph computes.

Each function takes the node and its inputs as arrays. One of a large weight may only view it, as it
is first called with zeros of that shape: the weight itself is read when it is needed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from nbbn.formats.files import BROKEN, one_line
from nbbn.formats.onnx.file import graphs_within
from nbbn.formats.onnx.graph import Constant, OnnxGraph, OnnxNode, needed

Compute = Callable[..., np.ndarray]

# A shape has few numbers; a graph that joins longer ones again and again would grow without bound.
_FEW = 64


def computed(node: OnnxNode, compute: Compute, inputs: Sequence[Constant | None]) -> Constant:
    """The node's result.

    Raises Refused for what is neither a shape nor a weight in another form.
    """
    from onnx import helper

    def result(*arrays: np.ndarray | None) -> np.ndarray:
        try:
            return np.asarray(compute(node, *arrays))
        except BROKEN as err:
            raise err if str(err).startswith("node ") else node.refuse(str(err)) from None

    first, *others = inputs
    if any(constant is not None and _large(constant) for constant in others):
        raise node.refuse("computes with weights alone; simplify the model before")
    rest = [None if constant is None else constant.array() for constant in others]
    if first is None or not _large(first):
        made = result(None if first is None else first.array(), *rest)
        return Constant(made.shape, helper.np_dtype_to_tensor_dtype(made.dtype), lambda: made)
    dtype = helper.tensor_dtype_to_np_dtype(first.data_type)
    form = result(np.broadcast_to(np.zeros((), dtype), first.dims), *rest)
    if form.size <= _FEW:  # its shape, which its numbers have no part in
        return Constant(form.shape, helper.np_dtype_to_tensor_dtype(form.dtype), lambda: form)
    return Constant(form.shape, first.data_type, lambda: result(first.array(), *rest))


def _large(constant: Constant) -> bool:
    return math.prod(constant.dims) > _FEW


def literal(node: OnnxNode) -> Constant:
    """What a Constant node gives.

    Raises Refused for a constant of another kind than numbers.
    """
    from onnx import numpy_helper

    given = node.proto.attribute[0] if len(node.proto.attribute) == 1 else None
    if given is not None and given.name == "value" and given.type == given.TENSOR:
        read = partial(numpy_helper.to_array, given.t)
        return Constant(tuple(given.t.dims), given.t.data_type, read)
    if given is None or given.name not in _LITERALS:
        raise node.refuse("is a constant of another kind than numbers")
    array = np.array(node.attributes[given.name], _LITERALS[given.name])
    return Constant(array.shape, 1 if array.dtype == np.float32 else 7, lambda: array)


_LITERALS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
             "value_ints": np.int64}


def sizes(node: OnnxNode, shape: Sequence[int]) -> np.ndarray:
    """The sizes that a Shape node picks."""
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return np.array(shape, np.int64)[start:end]


def squeezed(node: OnnxNode, array: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return array.squeeze(_axes(node, axes) or None)


def unsqueezed(node: OnnxNode, array: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.expand_dims(array, _axes(node, axes))


def _axes(node: OnnxNode, given: np.ndarray | None) -> tuple[int, ...]:
    axes = node.attributes.get("axes") if given is None else given.reshape(-1).tolist()
    return tuple(axes or ())


def gather(node: OnnxNode, array: np.ndarray, index: np.ndarray) -> np.ndarray:
    if array.ndim != 1 or array.size > _FEW:
        raise node.refuse("picks from a constant that is no shape")
    return array[index]


def concat(node: OnnxNode, *arrays: np.ndarray) -> np.ndarray:
    if any(array.ndim != 1 for array in arrays) or sum(array.size for array in arrays) > _FEW:
        raise node.refuse("joins constants that are no shapes")
    return np.concatenate(arrays)


def slices(node: OnnxNode, array: np.ndarray, starts: np.ndarray | None = None,
           ends: np.ndarray | None = None, axes: np.ndarray | None = None,
           steps: np.ndarray | None = None) -> np.ndarray:
    if array.size > _FEW or starts is None or ends is None:
        raise node.refuse("cuts a constant that is no shape")
    where = [slice(None)] * array.ndim
    for i in range(len(starts)):
        axis = i if axes is None else int(axes[i])
        where[axis] = slice(int(starts[i]), int(ends[i]), 1 if steps is None else int(steps[i]))
    return array[tuple(where)]


def arithmetic(function: Callable[..., np.ndarray]) -> Compute:
    """Of two shapes."""

    def compute(node: OnnxNode, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        if first.size > _FEW:
            raise node.refuse("computes with weights alone; simplify the model before")
        return function(first, second)

    return compute


def quotient(node: OnnxNode, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of two shapes: whole numbers, rounded towards 0."""
    whole = first.dtype.kind == second.dtype.kind == "i"
    if first.size > _FEW or not whole or not second.all():
        raise node.refuse("computes with weights alone; simplify the model before")
    down = np.abs(first) // np.abs(second)
    return np.where((first < 0) == (second < 0), down, -down).astype(first.dtype)


def filled(node: OnnxNode, shape: np.ndarray) -> np.ndarray:
    if shape.size > 1 or not 0 <= int(shape.sum()) <= _FEW:
        raise node.refuse("makes a constant that is no shape")
    value = node.attributes.get("value")
    return np.full(shape, np.float32(0) if value is None else value.item())


def expanded(node: OnnxNode, array: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """A few numbers repeated: exporters write the zeros of a bias that is not there so."""
    whole = np.broadcast_shapes(array.shape, tuple(shape.tolist()))
    if array.size > _FEW or math.prod(whole) * 8 > _MOST_BYTES:
        raise node.refuse("repeats weights; simplify the model before")
    return np.broadcast_to(array, whole)


_CASTS = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}


def cast(node: OnnxNode, array: np.ndarray) -> np.ndarray:
    target = _CASTS.get(node.attributes.get("to", 0))
    if target is None:
        raise node.refuse("casts a constant to another type than numbers")
    if array.dtype != target and array.size > _FEW:
        raise node.refuse("casts weights to another type; simplify the model before")
    return array.astype(target, copy=False)


# -- weights that a graph computes of others: expanded, multiplied by a norm

# Not the same in every run; or weights that are kept small on purpose.
_LEFT = frozenset((
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial", "Dropout", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
))  # fmt: skip
# Bytes of a result, or those of all weights together where they are more: none is made larger.
_MOST_BYTES = 1 << 16
_TEXT = 8  # of `onnx.TensorProto`


def evaluated(node: OnnxNode, graph: OnnxGraph) -> Iterator[tuple[str, Constant]]:
    """The outputs of a node that reads constants alone, each made by onnx's evaluator when needed.

    None where they are not numbers of known and bounded size, or not the same in every run.
    """
    if node.domain or node.operator in _LEFT or any(graphs_within(node.proto)):
        return
    if not node.inputs or any(name and graph.constant(name) is None for name in node.inputs):
        return
    most = max(_MOST_BYTES, sum(tensor.size for tensor in graph.tensors.values()))
    found = []
    for name in filter(None, node.outputs):
        sizes, kind = graph.shape(name), graph.kind(name)
        shape = tuple(n for n in sizes or () if n is not None)
        if sizes is None or len(shape) < len(sizes) or math.prod(shape) * 8 > most:
            return
        if not kind or kind == _TEXT:
            return
        made = partial(_evaluated, graph, node, name, shape, kind)
        found.append((name, Constant(shape, kind, made)))
    yield from found


def _evaluated(graph: OnnxGraph, node: OnnxNode, name: str, shape: tuple[int, ...],
               kind: int) -> np.ndarray:
    """A value of a shape and a data type that follows from constants.

    Raises Refused where the evaluator cannot compute it.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    nodes = [other.proto for other in reversed(needed(graph, [name]))]
    read = {value for proto in nodes for value in proto.input}
    tensors = [tensor.load() for key, tensor in graph.tensors.items() if key in read]
    output = helper.make_tensor_value_info(name, kind, shape)
    part = helper.make_graph(nodes, "constants", [], [output], tensors)
    imports = [helper.make_opsetid("", graph.opset)]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = ReferenceEvaluator(helper.make_model(part, opset_imports=imports)).run
            array = np.asarray(next(iter(run(None, {}))))
    except Exception as err:  # the evaluator's exceptions have no common class
        raise node.refuse(f"cannot be computed ({one_line(err, 200)})") from err
    if array.shape != shape:
        raise node.refuse(f"gives shape {array.shape} where {shape} was declared")
    return array
