"""Several nodes that fork and meet again as one layer, as exporters write gelu and norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbbn.formats.onnx.builder import Affine, Centred, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_activations import elu_of, round_trip
from nbbn.interop.files import Refused
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


X = _X()


@dataclass(frozen=True, eq=False)
class Term:
    """A node's result: of the value that goes in (`X`), constants, and other terms."""

    node: OnnxNode
    args: tuple = field(repr=False)


@dataclass(frozen=True)
class Number:
    """Stands in a pattern for a constant of one number, and is called `name` in what matches."""

    name: str


_COMMUTE = ("Add", "Mul", "Max", "Min")
_Found = dict[str, Any]


def match(pattern: Any, term: Any, found: _Found) -> bool:
    """Whether a term is of a pattern's form.

    `found` takes its numbers by name and its terms by operator.

    A pattern is `X`, a number, a `Number`, a list of patterns of which one must do, or
    `(operator, *patterns)`.
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
    found[operator] = term
    for args in (term.args, term.args[::-1]) if operator in _COMMUTE else (term.args,):
        # Patterns name the values that go in; what follows them are options such as axes.
        enough = len(args) >= len(parts)
        if enough and all(match(part, arg, found) for part, arg in zip(parts, args)):
            return True
    return False


# -- activations


_ERF = ("Add", ("Erf", [("Div", X, math.sqrt(2)), ("Mul", X, math.sqrt(0.5))]), 1)
_ABOVE = [X, ("Min", X, Number("top"))]
_BELOW = [0, ("Mul", ("Sub", X, Number("from")), Number("slope"))]


def _named(name: str) -> Callable[[NetworkBuilder, _Found], None]:
    return lambda net, found: net.add(Activation(name))


def _gelu_doubled(net: NetworkBuilder, found: _Found) -> None:
    net.add(Activation("gelu"))
    net.add(double := Affine())
    double.then("Mul", np.float64(2))


def _elu(net: NetworkBuilder, found: _Found) -> None:
    net.add(elu_of(found["alpha"]))


def _leaky_relu(net: NetworkBuilder, found: _Found) -> None:
    slope, largest = found["slope"], "Max" in found
    if slope < 0 or (slope != 1 and largest != (slope < 1)):
        raise Refused(f"a slope of {slope:g} is that of no LeakyReLU")
    net.add(LeakyReLU(slope))


def _relu(net: NetworkBuilder, found: _Found) -> None:
    if found.get("from", found["threshold"]) != found["threshold"]:
        raise Refused("two thresholds differ")
    net.add(ReLU(found.get("top"), found.get("slope", 0.0), found["threshold"]))


# -- norms


def _centred(operator: str) -> Callable[[NetworkBuilder, _Found], None]:
    def build(net: NetworkBuilder, found: _Found) -> None:
        net.add(Centred(operator, _axes(net, found[operator])))

    return build


def _axes(net: NetworkBuilder, term: Term) -> tuple[int, ...]:
    """The axes that a reduction goes over.

    Of the row, or within a group norm of the graph's split array.
    """
    given = term.args[1] if len(term.args) > 1 else term.node.attributes.get("axes")
    if given is None or not term.node.attributes.get("keepdims", 1):
        raise Refused("reduces without naming axes, or drops them")
    axes = np.asarray(given).reshape(-1).tolist()
    if net.split is None:
        return net.own_axes(axes)
    rank = len(net.split.inside) + 1
    return tuple(sorted(axis + rank if axis < 0 else axis for axis in axes))


def _standardised(net: NetworkBuilder, found: _Found) -> None:
    axes = _axes(net, found["ReduceMean"])
    if net.last != Centred("ReduceMean", axes):
        raise Refused("a variance is not about the mean over the same axes")
    net.drop()
    options = {"epsilon": found["epsilon"], "center": False, "scale": False}
    if net.split is None:
        net.add(LayerNormalization(tuple(axis + 1 for axis in axes), **options))
    else:
        net.add(GroupNormalization(net.split.groups, net.split.axis + 1, **options))


def _normalised(net: NetworkBuilder, found: _Found) -> None:
    """exp(x) over its sum: a softmax, whether the largest value was subtracted or not."""
    axes, last = _axes(net, found["ReduceSum"]), net.last
    if not isinstance(last, Activation) or last.activation != "exponential":
        raise Refused("divides by a sum of what are no exponentials")
    net.drop()
    if isinstance(net.last, Centred) and net.last.operator == "ReduceMax":
        if net.last.axes != axes:
            raise Refused("a softmax over other axes than its largest value")
        net.drop()
    net.add(Softmax(tuple(axis + 1 for axis in axes)))


_VARIANCE = ("ReduceMean", [("Mul", X, X), ("Pow", X, 2)])
_ELU = ("Mul", ("Sub", ("Exp", ("Min", X, 0)), 1), Number("alpha"))
_LOG = ("Log", ("Add", ("Exp", ("Neg", ("Abs", X))), 1))
_SLOPE = ("Mul", X, Number("slope"))
_FORMS: list[tuple[object, Callable[[NetworkBuilder, _Found], None]]] = [
    ([("Mul", ("Mul", X, 0.5), _ERF), ("Mul", X, ("Mul", _ERF, 0.5))], _named("gelu")),
    (("Mul", X, _ERF), _gelu_doubled),
    (("Mul", X, ("Sigmoid", X)), _named("silu")),
    ([("Max", X, _SLOPE), ("Min", X, _SLOPE)], _leaky_relu),
    (("Add", ("Relu", X), _ELU), _elu),
    (("Add", ("Relu", X), _LOG), _named("softplus")),
    (("Where", ("Greater", X, 20), X, ("Softplus", X)), _named("softplus")),
    (("Where", ("LessOrEqual", X, Number("threshold")), _BELOW, _ABOVE), _relu),
    (("Sub", X, ("ReduceMean", X)), _centred("ReduceMean")),
    (("Sub", X, ("ReduceMax", X)), _centred("ReduceMax")),
    (("Div", X, ("Sqrt", ("Add", _VARIANCE, Number("epsilon")))), _standardised),
    (("Div", X, ("ReduceSum", X)), _normalised),
]


def read_fork(net: NetworkBuilder, term: Term) -> None:
    """Add the layer that a term of several nodes is.

    Raises
    ------
    Refused
        For a form that is not known.
    """
    for pattern, build in _FORMS:
        if match(pattern, term, found := {}):
            build(net, found)
            return
    raise Refused(
        "joins values of a form that is not known: nbbn has layers in a row, no second path"
    )
