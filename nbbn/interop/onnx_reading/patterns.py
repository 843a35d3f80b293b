"""Several ONNX nodes that fork and meet again as one layer: what exporters make of gelu, silu, norms and the like."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nbbn.formats.files import Refused
from nbbn.interop.onnx_reading.activations import elu_of
from nbbn.interop.onnx_reading.arithmetic import round_trip
from nbbn.interop.onnx_reading.model import Node
from nbbn.interop.onnx_reading.rows import Affine, Centred, Rows
from nbbn.layers import (
    Activation,
    GroupNormalization,
    LayerNormalization,
    LeakyReLU,
    ReLU,
    Softmax,
)


class _X:
    """The value that goes in."""

    def __repr__(self):
        return "x"


X = _X()


@dataclass(frozen=True, eq=False)
class Term:
    """A node's result: of the value that goes in (`X`), constants, and other terms."""

    node: Node
    args: tuple = field(repr=False)


@dataclass(frozen=True)
class Number:
    """Stands in a pattern for a constant of one number, and is called `name` in what matches."""

    name: str


_COMMUTE = ("Add", "Mul", "Max", "Min")


def match(pattern, term, found: dict) -> bool:
    """Whether a term is of a pattern's form; `found` takes its numbers by name and its nodes by operator.

    A pattern is `X`, a number, a `Number`, a list of patterns of which one must do, or `(operator, *patterns)`.
    """
    if pattern is X:
        return term is X
    if isinstance(pattern, list):
        return any(match(one, term, found) for one in pattern)
    if isinstance(pattern, Number | float | int):
        if not isinstance(term, np.ndarray) or term.size != 1 or term.dtype.kind not in "fi":
            return False
        value = round_trip(term)
        if isinstance(pattern, Number):
            found[pattern.name] = value
            return True
        return math.isclose(value, pattern, rel_tol=1e-6, abs_tol=0 if pattern else 1e-12)
    operator, *parts = pattern
    if not isinstance(term, Term) or term.node.operator != operator:
        return False
    found.setdefault("nodes", {})[operator] = term
    for args in (term.args, term.args[::-1]) if operator in _COMMUTE else (term.args,):
        # Patterns name the values that go in; what follows them are options such as axes.
        if len(args) >= len(parts) and all(match(part, arg, found) for part, arg in zip(parts, args)):
            return True
    return False


# -- activations


_ERF = ("Add", ("Erf", [("Div", X, math.sqrt(2)), ("Mul", X, math.sqrt(0.5))]), 1)
_ABOVE = [X, ("Min", X, Number("top"))]
_BELOW = [0, ("Mul", ("Sub", X, Number("from")), Number("slope"))]


def _gelu_doubled(rows: Rows, found: dict) -> None:
    rows.add(Activation("gelu"))
    rows.add(double := Affine())
    double.then("Mul", np.float64(2))


def _leaky_relu(rows: Rows, found: dict) -> None:
    slope, largest = found["slope"], "Max" in found["nodes"]
    if slope < 0 or (slope != 1 and largest != (slope < 1)):
        raise Refused(f"a slope of {slope:g} is that of no LeakyReLU")
    rows.add(LeakyReLU(slope))


def _relu(rows: Rows, found: dict) -> None:
    if found.get("from", found["threshold"]) != found["threshold"]:
        raise Refused("two thresholds differ")
    rows.add(ReLU(found.get("top"), found.get("slope", 0.0), found["threshold"]))


# -- norms


def _centred(operator: str):
    def build(rows: Rows, found: dict) -> None:
        rows.add(Centred(operator, _axes(rows, found["nodes"][operator])))

    return build


def _axes(rows: Rows, term: Term) -> tuple[int, ...]:
    """The axes that a reduction goes over: of the row, or within a group norm of the graph's split array."""
    given = term.args[1] if len(term.args) > 1 else term.node.attributes.get("axes")
    if given is None or not term.node.attributes.get("keepdims", 1):
        raise Refused("reduces without naming axes, or drops them")
    axes = np.asarray(given).reshape(-1).tolist()
    if rows.split is None:
        return rows.own_axes(axes)
    rank = len(rows.split[3]) + 1
    return tuple(sorted(axis + rank if axis < 0 else axis for axis in axes))


def _standardised(rows: Rows, found: dict) -> None:
    centred = rows.last
    axes = _axes(rows, found["nodes"]["ReduceMean"])
    if not isinstance(centred, Centred) or centred.operator != "ReduceMean" or centred.axes != axes:
        raise Refused("a variance is not about the mean over the same axes")
    rows.drop()
    options = {"epsilon": found["epsilon"], "center": False, "scale": False}
    if rows.split is None:
        rows.add(LayerNormalization(tuple(axis + 1 for axis in axes), **options))
        return
    groups, axis, *_ = rows.split
    rows.add(GroupNormalization(groups, axis + 1, **options))


def _normalised(rows: Rows, found: dict) -> None:
    """exp(x) over its sum: a softmax, whether the largest value was subtracted or not."""
    axes = _axes(rows, found["nodes"]["ReduceSum"])
    last = rows.last
    if not isinstance(last, Activation) or last.activation != "exponential":
        raise Refused("divides by a sum of what are no exponentials")
    rows.drop()
    if isinstance(rows.last, Centred) and rows.last.operator == "ReduceMax":
        if rows.last.axes != axes:
            raise Refused("a softmax over other axes than its largest value")
        rows.drop()
    rows.add(Softmax(tuple(axis + 1 for axis in axes)))


_PATTERNS: list[tuple[object, Callable]] = [
    (
        [("Mul", ("Mul", X, 0.5), _ERF), ("Mul", X, ("Mul", _ERF, 0.5))],
        lambda rows, found: rows.add(Activation("gelu")),
    ),
    (("Mul", X, _ERF), _gelu_doubled),
    (("Mul", X, ("Sigmoid", X)), lambda rows, found: rows.add(Activation("silu"))),
    ([("Max", X, ("Mul", X, Number("slope"))), ("Min", X, ("Mul", X, Number("slope")))], _leaky_relu),
    (
        ("Add", ("Relu", X), ("Mul", ("Sub", ("Exp", ("Min", X, 0)), 1), Number("alpha"))),
        lambda rows, found: rows.add(elu_of(found["alpha"])),
    ),
    (
        ("Add", ("Relu", X), ("Log", ("Add", ("Exp", ("Neg", ("Abs", X))), 1))),
        lambda rows, found: rows.add(Activation("softplus")),
    ),
    (("Where", ("Greater", X, 20), X, ("Softplus", X)), lambda rows, found: rows.add(Activation("softplus"))),
    (("Where", ("LessOrEqual", X, Number("threshold")), _BELOW, _ABOVE), _relu),
    (("Sub", X, ("ReduceMean", X)), _centred("ReduceMean")),
    (("Sub", X, ("ReduceMax", X)), _centred("ReduceMax")),
    (
        ("Div", X, ("Sqrt", ("Add", ("ReduceMean", [("Mul", X, X), ("Pow", X, 2)]), Number("epsilon")))),
        _standardised,
    ),
    (("Div", X, ("ReduceSum", X)), _normalised),
]


def read_fork(rows: Rows, term: Term) -> None:
    """Add the layer that a term of several nodes is.

    Raises
    ------
    Refused
        For a form that is not known.
    """
    for pattern, build in _PATTERNS:
        if match(pattern, term, found := {}):
            build(rows, found)
            return
    raise Refused("joins values of a form that is not known: nbbn has layers in a row, no second path")
