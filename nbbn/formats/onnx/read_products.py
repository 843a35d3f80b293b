"""Products of the vectors of two values as Dot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from nbbn import layers
from nbbn.formats.onnx.builder import Args, NetworkBuilder, OfLengthOne
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_joins import in_one_order
from nbbn.layers import Layer


def product(node: OnnxNode, nets: Sequence[NetworkBuilder], args: Args) -> Layer:
    """A matrix of one value times one of another: each row of it with each column of that."""
    first, second = nets
    if any(len(net.perm) != 2 for net in nets):
        shown = " and ".join(str(net.graph_shape) for net in nets)
        raise node.refuse(f"multiplies rows of shapes {shown}; nbbn's Dot multiplies matrices of "
                          "two axes")
    cosine = _cosine(node, nets, [first.own_axis(2), second.own_axis(1)])
    first.settle(move=True)
    second.settle([1, 0], move=True)
    return layers.Dot((2, 2), cosine)


def product_of_vectors(node: OnnxNode, nets: Sequence[NetworkBuilder], cosine: bool) -> Layer:
    """Of rows of one axis, which are as long: their numbers' products are summed."""
    cosine = _cosine(node, nets, [0, 0]) or cosine
    in_one_order(node, nets)
    return layers.Dot(1, cosine)


def _cosine(node: OnnxNode, nets: Sequence[NetworkBuilder], axes: Sequence[int]) -> bool:
    """Whether both values are vectors of length 1 along these axes: what made them so goes."""
    of = [net.last for net in nets]
    if not any(isinstance(last, OfLengthOne) for last in of):
        return False
    if of != [OfLengthOne(axis) for axis in axes]:
        raise node.refuse("multiplies vectors of length 1 with others; nbbn's Dot takes both so, "
                          "or none, along the axis that is summed over")
    for net in nets:
        net.drop()
    return True


# -- two values that meet in several nodes


@dataclass(frozen=True)
class Meeting:
    """Nodes that make one value of two: their products, summed.

    Attributes
    ----------
    starts : tuple of two str
        The values, which may be the same.
    cosine : bool
        Whether the sum is divided by the lengths of both.
    products, sums : OnnxNode, list of OnnxNode
        What multiplies, and what sums.
    inner : frozenset of int
        All nodes but the last.
    """

    starts: tuple[str, str]
    cosine: bool
    products: OnnxNode
    sums: list[OnnxNode]
    inner: frozenset[int]


class _Name(NamedTuple):
    """Any value; the same name is the same value."""

    name: str


class _Least(NamedTuple):
    """A constant of one number, for which a Dot may have its own."""


# A Dot divides by 1e-7 at least: another least length is that of vectors of zeros, too.
MOST_LEAST = 1e-6
_A, _B = _Name("a"), _Name("b")
_SUM = ("ReduceSum", ("Mul", _A, _B))
_LENGTHS = ("Sqrt", ("Mul", ("ReduceSum", ("Mul", _A, _A)), ("ReduceSum", ("Mul", _B, _B))))
_COSINES = [("Div", _SUM, (bound, _LENGTHS, _Least())) for bound in ("Max", "Clip")]
_ENDING: dict[str, list[Any]] = {"Div": _COSINES, "ReduceSum": [_SUM]}
_COMMUTE = ("Mul", "Max")
# Values by name; a node by its place in the pattern.
_Found = dict[Any, Any]


class Meetings:
    """Looks for nodes by which two values meet: `giver` names the node that gives a value."""

    def __init__(self, nodes: Sequence[OnnxNode], giver: Callable[[str], int | None],
                 constant: Callable[[str], np.ndarray | None]):
        self._nodes, self._giver, self._constant = nodes, giver, constant

    def ending_at(self, last: int) -> Meeting | None:
        """The nodes that end in this one."""
        operator, output = self._nodes[last].operator, self._nodes[last].output
        for pattern in _ENDING.get(operator, ()):
            for found in self._matches(pattern, output, {}):
                numbers = [key for key in found if isinstance(key, int)]
                of = {kind: [self._nodes[i] for i in sorted(numbers)
                             if self._nodes[i].operator == kind] for kind in ("Mul", "ReduceSum")}
                return Meeting((found["a"], found["b"]), operator == "Div", of["Mul"][0],
                               of["ReduceSum"], frozenset(numbers) - {last})
        return None

    def _matches(self, pattern: Any, value: str, found: _Found) -> Iterator[_Found]:
        if isinstance(pattern, _Name):
            if found.get(pattern.name, value) == value and self._constant(value) is None:
                yield {**found, pattern.name: value}
            return
        if isinstance(pattern, _Least):
            number = self._constant(value)
            if number is not None and number.size == 1 and 0 <= number.item() <= MOST_LEAST:
                yield found
            return
        operator, *parts = pattern
        i = self._giver(value)
        if i is None or self._nodes[i].operator != operator:
            return
        inputs = self._nodes[i].inputs
        if operator != "ReduceSum" and len(inputs) != len(parts):
            return
        for order in permutations(parts) if operator in _COMMUTE else (parts,):
            yield from self._all(list(zip(order, inputs)), {**found, i: operator})

    def _all(self, pairs: list[tuple[Any, str]], found: _Found) -> Iterator[_Found]:
        if not pairs:
            yield found
            return
        for one in self._matches(*pairs[0], found):
            yield from self._all(pairs[1:], one)
