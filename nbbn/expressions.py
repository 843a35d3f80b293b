"""Functions of one number as expressions: written once, evaluated by NumPy, printed by others.

`X` is the number, `parameter(name)` a constant that has a value where the function is used.
Python's operators and the functions below build an `Expression`; whoever prints one goes through
its tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Expression:
    """A node of the tree.

    Attributes
    ----------
    operator : str
        `x`, `number`, `parameter`, or a key of `OPERATORS`.
    operands : tuple
        Expressions; the value of a `number`, the name of a `parameter`.
    """

    operator: str
    operands: tuple = ()

    def __add__(self, other: Expression | float) -> Expression:
        return call("add", self, other)

    def __radd__(self, other: float) -> Expression:
        return call("add", other, self)

    def __sub__(self, other: Expression | float) -> Expression:
        return call("subtract", self, other)

    def __mul__(self, other: Expression | float) -> Expression:
        return call("multiply", self, other)

    def __rmul__(self, other: float) -> Expression:
        return call("multiply", other, self)

    def __truediv__(self, other: Expression | float) -> Expression:
        return call("divide", self, other)

    def __rtruediv__(self, other: float) -> Expression:
        return call("divide", other, self)

    def __neg__(self) -> Expression:
        return call("negative", self)


X = Expression("x")


def parameter(name: str) -> Expression:
    """A constant that gets its value where the function is used."""
    return Expression("parameter", (name,))


def call(operator: str, *operands: Expression | float) -> Expression:
    """An operator on expressions and numbers."""
    return Expression(operator, tuple(map(_expression, operands)))


def _expression(value: Expression | float) -> Expression:
    return value if isinstance(value, Expression) else Expression("number", (float(value),))


def _of_one(operator: str) -> Callable[[Expression], Expression]:
    return lambda x: call(operator, x)


exp = _of_one("exp")  # e^x
expm1 = _of_one("expm1")  # e^x - 1, exact near 0
log1p = _of_one("log1p")  # log(1 + x), exact near 0
erf = _of_one("erf")  # the error function
sqrt = _of_one("sqrt")  # the square root
tanh = _of_one("tanh")  # the hyperbolic tangent
sigmoid = _of_one("sigmoid")  # 1 / (1 + e^-x), without overflow
absolute = _of_one("absolute")  # |x|
relu = _of_one("relu")  # max(x, 0); NaN stays NaN


def minimum(x: Expression, bound: Expression | float) -> Expression:
    """The smaller; a NaN in `x` stays NaN."""
    return call("minimum", x, bound)


def scaled(factor: Expression, x: Expression) -> Expression:
    """`factor * x`, and 0 where the factor is 0, of an infinite `x` too."""
    return call("scaled", factor, x)


def where_at_most(x: Expression, bound: Expression | float, below: Expression | float,
                  above: Expression) -> Expression:
    """`below` where `x <= bound`, else `above`: what becomes of a NaN is the second's to say."""
    return call("where_at_most", x, bound, below, above)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf as error_function

    return error_function(x)


def _scaled(factor: np.ndarray, x: np.ndarray) -> np.ndarray:
    return factor * x if factor != 0 else np.zeros_like(x)


# Operator -> NumPy's function.
OPERATORS: dict[str, Callable] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "negative": np.negative, "exp": np.exp, "expm1": np.expm1, "log1p": np.log1p, "erf": _erf,
    "sqrt": np.sqrt, "tanh": np.tanh, "sigmoid": _sigmoid, "absolute": np.abs,
    "relu": lambda x: np.maximum(x, 0),
    "minimum": np.minimum, "scaled": _scaled,
    "where_at_most": lambda x, bound, below, above: np.where(x <= bound, below, above),
}


def evaluate(expression: Expression, x: np.ndarray, parameters: Mapping[str, float]) -> np.ndarray:
    """The expression's value for each number of `x`, in the dtype of `x`."""
    if expression.operator == "x":
        return x
    if expression.operator == "number":
        return x.dtype.type(expression.operands[0])
    if expression.operator == "parameter":
        return x.dtype.type(parameters[expression.operands[0]])
    values = (evaluate(operand, x, parameters) for operand in expression.operands)
    return OPERATORS[expression.operator](*values)
