"""Several nodes that fork and meet again as one layer, as exporters write gelu and norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from nbbn.activations import ELEMENTWISE
from nbbn.expressions import Expression, expm1, minimum, parameter, relu
from nbbn.expressions import X as ARGUMENT
from nbbn.formats.files import Refused
from nbbn.formats.onnx.builder import Centred, NetworkBuilder, OfLengthOne
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.operators import ACTIVATIONS, EXPRESSIONS
from nbbn.formats.onnx.read_activations import add_function, add_prelu, round_trip
from nbbn.formats.onnx.read_products import MOST_LEAST
from nbbn.layers import Activation, GroupNormalization, LayerNormalization, LeakyReLU, Softmax


class _X:
    """The value that goes in."""


X = _X()


@dataclass(frozen=True, eq=False)
class Term:
    """A node's result: of the value that goes in (`X`), constants, and other terms."""

    node: OnnxNode
    args: tuple


# -- patterns


class Number(NamedTuple):
    """A constant of one number, called `name` in what matches; with a value this one alone."""

    name: str
    value: float | None = None


class Numbers(NamedTuple):
    """A constant of any shape, called `name` in what matches."""

    name: str


class Product(NamedTuple):
    """Factors in any order, and numbers whose product is `coefficient`.

    With a name any other product, which is called so in what matches as a multiple of that.
    """

    coefficient: float
    factors: tuple
    name: str = ""


# What matched: numbers by name, terms by operator.
Found = dict[str, Any]
Build = Callable[[NetworkBuilder, Found], None]
_COMMUTE = ("Add", "Mul", "Max", "Min")


def match(pattern: Any, term: Any, found: Found) -> Found | None:
    """What is found, besides, in a term of a pattern's form; None for any other term.

    A pattern is `X`, a number, a `Number`, `Numbers`, a `Product`, a list of patterns of which one
    must do, or `(operator, *patterns)`.
    """
    if pattern is X:
        return found if term is X else None
    if isinstance(pattern, list):
        tried = (match(one, term, found) for one in pattern)
        return next((one for one in tried if one is not None), None)
    if isinstance(pattern, Product):
        coefficient, factors = _factors(term)
        one = _numbered(pattern.name, coefficient / pattern.coefficient, found)
        return None if one is None else _match_all(pattern.factors, factors, one, commute=True)
    if isinstance(pattern, Number | float | int):
        value = _number(term)
        wanted = pattern.value if isinstance(pattern, Number) else pattern
        if value is None or (wanted is not None and not _close(value, wanted)):
            return None
        return _numbered(pattern.name, value, found) if isinstance(pattern, Number) else found
    if isinstance(pattern, Numbers):
        return {**found, pattern.name: term} if isinstance(term, np.ndarray) else None
    operator, *parts = pattern
    if not isinstance(term, Term) or term.node.operator != operator:
        return None
    # Patterns name the values that go in; what follows them are options such as axes.
    args, found = term.args[: len(parts)], {**found, operator: term}
    return _match_all(parts, args, found, commute=operator in _COMMUTE)


def _match_all(parts: Sequence[Any], terms: Sequence[Any], found: Found, *,
               commute: bool) -> Found | None:
    for order in permutations(terms) if commute and len(parts) == len(terms) else (terms,):
        one: Found | None = found if len(parts) == len(terms) else None
        for part, term in zip(parts, order):
            one = None if one is None else match(part, term, one)
        if one is not None:
            return one
    return None


def _numbered(name: str, value: float, found: Found) -> Found | None:
    """With a number, which is 1 where it has no name."""
    wanted = found.get(name, value) if name else 1.0
    return {**found, name: value} if _close(value, wanted) else None


def _close(value: float, wanted: float) -> bool:
    return math.isclose(value, wanted, rel_tol=1e-6, abs_tol=0 if wanted else 1e-12)


def _number(term: Any) -> float | None:
    """A constant of one number."""
    one = isinstance(term, np.ndarray) and term.size == 1 and term.dtype.kind in "fi"
    return round_trip(term) if one else None


def _factors(term: Any) -> tuple[float, list[Any]]:
    """A term as a product: its numbers' product, and the other factors."""
    number = _number(term)
    if number is not None:
        return number, []
    operator = term.node.operator if isinstance(term, Term) and len(term.args) == 2 else ""
    if operator == "Mul":
        (a, first), (b, second) = map(_factors, term.args)
        return a * b, first + second
    divisor = _number(term.args[1]) if operator == "Div" else None
    if divisor:
        coefficient, factors = _factors(term.args[0])
        return coefficient / divisor, factors
    return 1.0, [term]


# -- activations


# Functions that have an operator of their own.
_BY_EXPRESSION = {ELEMENTWISE[name].expression: of for name, (of, _) in ACTIVATIONS.items()}


def pattern_of(e: Expression) -> Any:
    """The forms that exporters give an expression."""
    written = _pattern_of_nodes(e)
    return [(_BY_EXPRESSION[e], X), written] if e in _BY_EXPRESSION else written


def _pattern_of_nodes(e: Expression) -> Any:
    if e.operator == "x":
        return X
    if e.operator in ("number", "parameter"):
        return e.operands[0] if e.operator == "number" else Number(e.operands[0])
    if e.operator in ("multiply", "scaled"):
        return _product(e)
    parts = [pattern_of(operand) for operand in e.operands]
    if e.operator == "expm1":
        return ("Sub", ("Exp", *parts), 1)
    if e.operator == "log1p":
        return ("Log", ("Add", *parts, 1))
    if e.operator == "where_at_most":
        x, bound, below, above = parts
        up = ("Where", ("Greater", x, bound), above, below)
        return [("Where", ("LessOrEqual", x, bound), below, above), up]
    form = (EXPRESSIONS[e.operator], *parts)
    # A bound that is left out has no end.
    unbounded = e.operator == "minimum" and isinstance(parts[1], Number)
    return [form, parts[0]] if unbounded else form


def _product(e: Expression) -> Any:
    """A product of any number of factors; one that is `scaled` may be the number 0."""
    coefficient, name, factors, left = 1.0, "", [], [e]
    while left:
        one = left.pop(0)
        if one.operator in ("multiply", "scaled"):
            left = [*one.operands, *left]
        elif one.operator == "number":
            coefficient *= one.operands[0]
        elif one.operator == "parameter":
            name = one.operands[0]
        else:
            factors.append(pattern_of(one))
    product = Product(coefficient, tuple(factors), name)
    return [product, Number(name, 0.0)] if e.operator == "scaled" else product


def _function(name: str) -> Build:
    """Adds the function that was found, times what is left over."""
    parameters = ELEMENTWISE[name].parameters

    def build(net: NetworkBuilder, found: Found) -> None:
        numbers = [found.get(p, default) for p, default in parameters.items()]
        add_function(net, name, numbers, found.get("factor", 1.0))

    return build


def _functions() -> Iterator[tuple[Any, Build]]:
    """Those without parameters first: they are what others are for some."""
    for record in sorted(ELEMENTWISE.values(), key=lambda record: len(record.parameters)):
        pattern = pattern_of(record.expression)
        if isinstance(pattern, Product) and not pattern.name:
            pattern = pattern._replace(name="factor")
        yield pattern, _function(record.name)


def _leaky_relu(net: NetworkBuilder, found: Found) -> None:
    net.add(LeakyReLU(found["slope"]))


def _is_leaky_relu(found: Found) -> bool:
    """Whether the larger, or smaller, of `x` and its multiple bends as a LeakyReLU."""
    slope, largest = found["slope"], "Max" in found
    return bool(slope >= 0 and (slope == 1 or largest == (slope < 1)))


# -- norms


def _centred(operator: str) -> Build:
    return lambda net, found: net.add(Centred(operator, _axes(net, found[operator])))


def _axes(net: NetworkBuilder, term: Term) -> tuple[int, ...]:
    """The axes that a reduction goes over: of the row, or of the graph's within a group norm."""
    given = term.args[1] if len(term.args) > 1 else term.node.attributes.get("axes")
    if given is None or not term.node.attributes.get("keepdims", 1):
        raise Refused("reduces without naming axes, or drops them")
    axes = np.asarray(given).reshape(-1).tolist()
    if net.split is None:
        return net.own_axes(axes)
    rank = len(net.split.inside) + 1
    return tuple(sorted(axis + rank if axis < 0 else axis for axis in axes))


def _standardised(net: NetworkBuilder, found: Found) -> None:
    axes = _axes(net, found["ReduceMean"])
    if net.last != Centred("ReduceMean", axes):
        raise Refused("a variance is not about the mean over the same axes")
    net.drop()
    options = {"epsilon": found["epsilon"], "center": False, "scale": False}
    if net.split is None:
        net.add(LayerNormalization(tuple(axis + 1 for axis in axes), **options))
    else:
        net.add(GroupNormalization(net.split.groups, net.split.axis + 1, **options))


def _normalised(net: NetworkBuilder, found: Found) -> None:
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


def _of_length_one(net: NetworkBuilder, found: Found) -> None:
    """`x` over its length, of vectors along one axis."""
    axes = _axes(net, found["ReduceL2" if "ReduceL2" in found else "ReduceSum"])
    if len(axes) > 1 or not 0 <= found["least"] <= MOST_LEAST:
        raise Refused("divides by a length along several axes, or of another least length than "
                      "nearly 0")
    if "Clip" in found and len(found["Clip"].args) > 2:
        raise Refused("divides by a length that has a largest value")
    if "Expand" in found:
        shape = net.constant(found["Expand"].node.inputs[1])
        if shape is None or tuple(shape[1:].tolist()) != net.graph_shape:
            raise Refused("divides by lengths of another shape")
    net.add(OfLengthOne(*axes))


def _slopes(net: NetworkBuilder, found: Found) -> None:
    add_prelu(net, found["slopes"])


_VARIANCE = ("ReduceMean", [("Mul", X, X), ("Pow", X, 2)])
_SLOPE = ("Mul", X, Number("slope"))
_LENGTH = [("Sqrt", ("ReduceSum", [("Mul", X, X), ("Pow", X, 2)])), ("ReduceL2", X)]
_LEAST = [(bound, _LENGTH, Number("least")) for bound in ("Max", "Clip")]
_ELU = relu(ARGUMENT) + parameter("alpha") * expm1(minimum(ARGUMENT, 0))
_FORMS: list[tuple[Any, Build]] = [
    *_functions(),
    ([("Max", X, _SLOPE), ("Min", X, _SLOPE)], _leaky_relu),
    (pattern_of(_ELU), _function("elu")),
    (("Where", ("Greater", X, 20), X, ("Softplus", X)), _function("softplus")),
    (("Sub", X, ("Tanh", X)), _function("tanh_shrink")),
    (("Sub", ("Min", X, 0), ("Softplus", ("Neg", ("Abs", X)))), _function("log_sigmoid")),
    (("Sub", X, ("ReduceMean", X)), _centred("ReduceMean")),
    (("Sub", X, ("ReduceMax", X)), _centred("ReduceMax")),
    (("Div", X, ("Sqrt", ("Add", _VARIANCE, Number("epsilon")))), _standardised),
    (("Div", X, ("ReduceSum", X)), _normalised),
    (("Div", X, [*_LEAST, ("Expand", _LEAST)]), _of_length_one),
    (("Add", ("Relu", X), ("Mul", ("Min", X, 0), Numbers("slopes"))), _slopes),
]

# What must hold of what was found, besides.
_HOLDS: dict[Build, Callable[[Found], bool]] = {_leaky_relu: _is_leaky_relu}


def found_form(term: Term) -> tuple[Build, Found] | None:
    """What adds the layer that a term of several nodes is, and what it needs; None for no form."""
    for pattern, build in _FORMS:
        found = match(pattern, term, {})
        if found is not None and _HOLDS.get(build, bool)(found):
            return build, found
    return None
