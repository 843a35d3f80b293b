"""Weights that a graph computes of others: cast, reshaped, expanded, multiplied by a norm."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np

from nbbn.formats.files import one_line
from nbbn.formats.onnx.file import graphs_within
from nbbn.formats.onnx.graph import Constant, OnnxGraph, OnnxNode, needed

# Not the same in every run; or weights that are kept small on purpose.
_LEFT = frozenset((
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial", "Dropout", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
))  # fmt: skip
# Bytes of a result, or those of all weights together where they are more: none is made larger.
_MOST_BYTES = 1 << 16


def constants_of(node: OnnxNode, graph: OnnxGraph) -> Iterator[tuple[str, Constant]]:
    """The outputs of a node that reads constants alone, each made by onnx's evaluator when needed.

    None where they are not of known and bounded size, or not the same in every run.
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
        if sizes is None or len(shape) < len(sizes) or not kind or math.prod(shape) * 8 > most:
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
