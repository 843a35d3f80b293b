"""What operators of several values are to folding: sums, products, extremes, concatenations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbbn.fold import joins, passes
from nbbn.fold.arithmetic import Affine
from nbbn.fold.graph import Carry, Join, Node, Pass, Placed
from nbbn.formats.onnx.fold_scales import along_axis
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode

Combine = Callable[[Sequence[joins.Shape], str], joins.Rules]


def combined(combine: Combine) -> Callable[[OnnxNode, str, OnnxGraph], Node | None]:
    """An operator that combines values number by number, broadcast to each other."""

    def fold(node: OnnxNode, name: str, graph: OnnxGraph) -> Node | None:
        shapes = [graph.shape(value) for value in node.inputs]
        known = [shape for shape in shapes if shape is not None]
        constants = [graph.constant(value) is not None for value in node.inputs]
        if any(constants):
            return _with_numbers(node, name, graph)
        if len(known) < 2 or len(known) < len(shapes) or node.attributes.get("broadcast"):
            return None
        carry, back = combine(known, name)
        return Join(name, carry=carry, back=back)

    return fold


def average(shapes: Sequence[joins.Shape], name: str) -> joins.Rules:
    """The mean of values."""
    return joins.summed(shapes, [1 / len(shapes)] * len(shapes), name)


def concatenated(node: OnnxNode, name: str, graph: OnnxGraph) -> Node | None:
    """A Concat of values, none of them constant."""
    shapes = [graph.shape(value) for value in node.inputs]
    known = [shape for shape in shapes if shape is not None]
    axis = node.attributes.get("axis")
    constants = [graph.constant(value) is not None for value in node.inputs]
    if any(constants) or len(known) < len(shapes) or axis is None:
        return None
    axis %= len(known[0])
    carry, back = joins.concatenated(axis, [shape[axis] for shape in known], name)
    return Join(name, carry=carry, back=back)


def _with_numbers(node: OnnxNode, name: str, graph: OnnxGraph) -> Node | None:
    """A value and numbers, one for each channel or one of all."""
    step = along_axis(node, graph)
    if step is None:
        return None
    _, along, affine = step
    if not np.isfinite(affine.gain).all():
        return None
    offset = affine.offset - affine.gain * affine.mean
    carry, back = passes.scaled(affine.gain, offset, name)
    if along is not None:
        what = f"{name} is an {node.operator} of numbers along axis {along}, not of the channels"
        carry, back = _along(along, carry, what), _along(along, back, what)
    return Pass(name, carry=carry, back=back)


def _along(along: int, carry: Carry, reason: str) -> Carry:
    def carry_along(affine: Affine, axis: int) -> Placed | str:
        return carry(affine, axis) if axis == along else reason

    return carry_along
