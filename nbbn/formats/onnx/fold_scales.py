"""Batch norms that are written as products and sums with constants, one number a channel."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from nbbn.fold.arithmetic import Affine, compose
from nbbn.fold.graph import Norm
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode
from nbbn.formats.onnx.tensors import DTYPES


class Step(NamedTuple):
    """What one node does to what it reads: a gain and a mean or an offset along an axis.

    The axis is None for a single number.
    """

    value: str
    axis: int | None
    affine: Affine


def _affine(operator: str, numbers: np.ndarray) -> Affine:
    """What Mul, Div, Add or Sub do with constants."""
    gain, zeros = np.ones_like(numbers), np.zeros_like(numbers)
    with np.errstate(divide="ignore"):
        if operator in ("Mul", "Div"):
            gain = numbers if operator == "Mul" else 1 / numbers
    return Affine(gain, numbers if operator == "Sub" else zeros,
                  numbers if operator == "Add" else zeros)


def scale_from(at: int, graph: OnnxGraph, name: str) -> tuple[Norm, tuple[int, ...]] | None:
    """The batch norm that begins with a node, and the indices of the others that it is written as.

    None where the nodes from there on only add, or are not along one axis of known size.
    """
    steps, members = [along_axis(graph.nodes[at], graph)], [at]
    while steps[-1] is not None:
        following = graph.only_reader(graph.nodes[members[-1]].output)
        step = None if following is None else along_axis(graph.nodes[following], graph)
        if following is None or step is None or not _fits(steps, step):
            break
        steps.append(step)
        members.append(following)
    found = [step for step in steps if step is not None]
    if not any(graph.nodes[i].operator in ("Mul", "Div") for i in members[: len(found)]):
        return None
    shape = graph.shape(found[0].value)
    axis = next((s.axis for s in found if s.axis is not None), _axis_of_giver(graph, found[0]))
    size = None if axis is None or shape is None or axis >= len(shape) else shape[axis]
    if axis is None or size is None:
        return None
    whole: Affine | None = None
    for step in found:
        along = Affine(*(np.broadcast_to(part, (size,)).copy() for part in step.affine))
        whole = compose(whole, along)
    if whole is None or not all(np.isfinite(part).all() for part in whole):
        return None
    return Norm(name, affine=whole, axis=axis, arithmetic=True), tuple(members[1:])


def scale_within(node: OnnxNode, graph: OnnxGraph, name: str) -> Norm | None:
    """The scale and shift that a layer norm over the last axis ends with, as a batch norm."""
    if node.domain or node.operator != "LayerNormalization" or any(node.outputs[1:]):
        return None
    rank, axis = graph.rank(node.inputs[0]), node.attributes.get("axis", -1)
    given = [graph.constant(value) for value in node.inputs[1:]]
    if rank is None or axis not in (-1, rank - 1) or rank < 2:
        return None
    if any(c is None or len(c.dims) != 1 or c.data_type not in DTYPES for c in given):
        return None
    gamma, *beta = (c.array().astype(np.float64) for c in given if c is not None)
    affine = Affine(gamma, np.zeros_like(gamma), beta[0] if beta else np.zeros_like(gamma))
    plain = (gamma == 1).all() and not affine.offset.any()
    usable = not plain and all(np.isfinite(part).all() for part in affine)
    return Norm(name, affine=affine, axis=rank - 1, arithmetic=True) if usable else None


def _fits(steps: list[Step | None], step: Step) -> bool:
    """Whether a step is along the axis of those before it."""
    axes = {s.axis for s in (*steps, step) if s is not None and s.axis is not None}
    return len(axes) <= 1


def along_axis(node: OnnxNode, graph: OnnxGraph) -> Step | None:
    """What a node does, if it combines a value with numbers along one of its axes."""
    known = not node.domain and node.operator in ("Mul", "Div", "Add", "Sub")
    known = known and not node.attributes.get("broadcast")  # of opset 6, along an axis of its own
    if not known or len(node.inputs) != 2:
        return None
    first, second = (graph.constant(value) for value in node.inputs)
    if (first is None) == (second is None) or (first and node.operator in ("Sub", "Div")):
        return None
    constant, value = (first, node.inputs[1]) if first else (second, node.inputs[0])
    shape = graph.shape(value)
    if constant is None or shape is None or constant.data_type not in DTYPES:
        return None
    if len(constant.dims) > len(shape):
        return None
    dims = (1,) * (len(shape) - len(constant.dims)) + constant.dims
    along = [axis for axis, n in enumerate(dims) if n != 1]
    if len(along) > 1 or any(shape[axis] != dims[axis] for axis in along):
        return None
    if math.prod(dims) == 0 or along == [0]:
        return None
    numbers = constant.array().astype(np.float64).reshape(-1)
    return Step(value, along[0] if along else None, _affine(node.operator, numbers))


def _axis_of_giver(graph: OnnxGraph, step: Step) -> int | None:
    """The axis of channels of the linear node that gives what is scaled by single numbers."""
    giver = graph.givers.get(graph.first_name(step.value))
    if giver is not None and giver.operator == "Add":  # of a bias
        giver = next((graph.givers[name] for name in giver.inputs if name in graph.givers), None)
    if giver is None or giver.domain:
        return None
    if giver.operator in ("Conv", "ConvTranspose"):
        return 1
    rank = graph.rank(step.value)
    return rank - 1 if rank and giver.operator in ("MatMul", "Gemm") else None
