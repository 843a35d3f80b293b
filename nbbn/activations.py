"""Activations: one record each, from which NumPy, C, ONNX and the docs have them.

The kernels are written by hand (`nbbn.kernels.activation`) and tested against these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbbn.expressions import (
    Expression,
    X,
    absolute,
    erf,
    evaluate,
    exp,
    expm1,
    log1p,
    minimum,
    parameter,
    relu,
    scaled,
    sigmoid,
    sqrt,
    tanh,
    where_at_most,
)
from nbbn.tensor import Tensor, tensor

# Klambauer, Unterthiner, Mayr and Hochreiter (2017), eq. 2.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@dataclass(frozen=True)
class ActivationFunction:
    """A function of one number, applied to each.

    Attributes
    ----------
    name : str
    expression : Expression
    formula : str
        As the docs show it.
    parameters : dict
        Name to default, in the order in which an operation gives their values.
    in_double : bool
        Whether it is computed in float64 whatever the dtype, since it cancels.
    not_negative : bool
        Whether no value is below 0, whatever the parameters.
    """

    name: str
    expression: Expression
    formula: str
    parameters: dict[str, float] = field(default_factory=dict)
    in_double: bool = False
    not_negative: bool = False

    @property
    def defaults(self) -> tuple[float, ...]:
        """The parameters' default values."""
        return tuple(self.parameters.values())

    def named(self, numbers: Sequence[float]) -> dict[str, float]:
        """The parameters' values by name."""
        return dict(zip(self.parameters, numbers, strict=True))

    def __call__(self, x: np.ndarray, *numbers: float) -> np.ndarray:
        """Values of the dtype of `x`, for parameters in order.

        The defaults where none are given.
        """
        # What `where_at_most` leaves aside may overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            wide = x.astype(np.float64) if self.in_double else x
            value = evaluate(self.expression, wide, self.named(numbers or self.defaults))
            return np.asarray(value, x.dtype)

    def moves_zero(self, numbers: Sequence[float]) -> bool:
        """Whether `f(0)` is not 0."""
        return bool(self(np.zeros(1), *numbers)[0] != 0)


_slope, _alpha, _top, _threshold, _scale, _offset = map(
    parameter, ("slope", "alpha", "top", "threshold", "scale", "offset"))



def _between(low: float, high: float) -> Expression:
    return where_at_most(X, low, low, minimum(X, high))


def _tanh_shrink() -> Expression:
    """`x - tanh(x)`, whose digits near 0 a continued fraction keeps (Lambert, 1761)."""
    square = X * X
    below = 15.0 + square / 17
    for odd in range(13, 1, -2):
        below = odd + square / below
    rest = square / below
    return where_at_most(absolute(X), 1, X * (rest / (1.0 + rest)), X - tanh(X))


_FUNCTIONS = (
    ActivationFunction("relu", relu(X), "max(x, 0)", not_negative=True),
    ActivationFunction(
        "leaky_relu",
        where_at_most(X, 0, scaled(_slope, X), X),
        "x where x > 0, else 0.2 x (the layer `LeakyReLU` has a slope of 0.3 by default)",
        {"slope": 0.2},
    ),
    ActivationFunction("elu", where_at_most(X, 0, _alpha * expm1(X), X),
                       "x where x > 0, else exp(x) - 1 (`celu`; Clevert et al., 2016)",
                       {"alpha": 1.0}),
    ActivationFunction(
        "selu",
        SELU_SCALE * where_at_most(X, 0, SELU_ALPHA * expm1(X), X),
        "1.0507 x where x > 0, else 1.0507 * 1.67326 (exp(x) - 1) (Klambauer et al., 2017)",
    ),
    ActivationFunction(
        "gelu",
        X * (0.5 * (1.0 + erf(X * math.sqrt(0.5)))),
        "x Phi(x) = x (1 + erf(x / sqrt(2))) / 2, exact (Hendrycks and Gimpel, 2016)",
        in_double=True,
    ),
    ActivationFunction("silu", X * sigmoid(X), "x sigmoid(x) (`swish`)"),
    ActivationFunction("softplus", relu(X) + log1p(exp(-absolute(X))), "log(1 + exp(x))",
                       in_double=True, not_negative=True),
    ActivationFunction("sigmoid", sigmoid(X), "1 / (1 + exp(-x)) (`logistic`)", not_negative=True),
    ActivationFunction("tanh", tanh(X), "tanh(x)"),
    ActivationFunction("softsign", X / (1.0 + absolute(X)), "x / (1 + |x|) (Turian et al., 2009)"),
    ActivationFunction("mish", X * tanh(relu(X) + log1p(exp(-absolute(X)))),
                       "x tanh(softplus(x)) (Misra, 2019)"),
    ActivationFunction("exponential", exp(X), "exp(x) (`exp`)", not_negative=True),
    ActivationFunction("relu6", minimum(relu(X), 6), "min(max(x, 0), 6) (Krizhevsky, 2010)",
                       not_negative=True),
    ActivationFunction("hard_sigmoid", minimum(relu(X + 3), 6) / 6, "relu6(x + 3) / 6",
                       not_negative=True),
    ActivationFunction("hard_silu", (1 / 6) * (X * minimum(relu(X + 3), 6)),
                       "x relu6(x + 3) / 6 (`hard_swish`; Howard et al., 2019)"),
    ActivationFunction("hard_tanh", _between(-1, 1), "x between -1 and 1, else the nearer of them"),
    ActivationFunction("hard_shrink", where_at_most(absolute(X), 0.5, 0, X),
                       "x where |x| > 0.5, else 0"),
    ActivationFunction("soft_shrink", X - _between(-0.5, 0.5),
                       "sign(x) (|x| - 0.5) where |x| > 0.5, else 0"),
    ActivationFunction("tanh_shrink", _tanh_shrink(), "x - tanh(x)", in_double=True),
    ActivationFunction("log_sigmoid", minimum(X, 0) - log1p(exp(-absolute(X))), "log(sigmoid(x))",
                       in_double=True),
    ActivationFunction("sparse_plus", where_at_most(X, -1, 0, where_at_most(
        X, 1, 0.25 * ((X + 1) * (X + 1)), X)), "0 up to -1, (x + 1)^2 / 4 up to 1, then x",
                       not_negative=True),
    ActivationFunction("sparse_sigmoid", 0.5 * minimum(relu(X + 1), 2),
                       "(x + 1) / 2 between 0 and 1", not_negative=True),
    # Of negative numbers the same without a difference.
    ActivationFunction("squareplus", where_at_most(
        X, 0, 2 / (sqrt(X * X + 4) - X), 0.5 * (X + sqrt(X * X + 4))),
                       "(x + sqrt(x^2 + 4)) / 2 (Barron, 2021)", in_double=True, not_negative=True),
)
# Not an activation by name: what the layer `ReLU` is with a bound or a threshold.
_CLIPPED_RELU = ActivationFunction(
    "clipped_relu",
    where_at_most(X, _threshold, scaled(_slope, X - _threshold), minimum(X, _top)),
    "min(x, top) where x > threshold, else slope * (x - threshold)",
    {"slope": 0.0, "top": math.inf, "threshold": 0.0},
)
# Nor this one, which layers are made of.
_AFFINE = ActivationFunction("affine", _scale * X + _offset, "scale * x + offset",
                             {"scale": 1.0, "offset": 0.0})

ELEMENTWISE = {function.name: function for function in (*_FUNCTIONS, _CLIPPED_RELU, _AFFINE)}
# Names that layers take, and what else they are called.
ACTIVATIONS = ("linear", *(function.name for function in _FUNCTIONS), "softmax", "log_softmax")
SYNONYMS = {"identity": "linear", "logistic": "sigmoid", "swish": "silu", "exp": "exponential",
            "celu": "elu", "hard_swish": "hard_silu"}


def table() -> str:
    """The activations as a table in reStructuredText: name and function."""
    rows = [
        ("linear", "x (`identity`, None)"),
        *((function.name, function.formula) for function in _FUNCTIONS),
        ("softmax", "exp(x) / sum(exp(x)) over the last axis"),
        ("log_softmax", "x - log(sum(exp(x))) over the last axis"),
    ]
    names, formulas = zip(*rows)
    rule = f"{'=' * max(map(len, names))} {'=' * max(map(len, formulas))}"
    width = max(map(len, names))
    lines = [f"{name:{width}} {formula}" for name, formula in (("name", "function"), *rows)]
    return "\n".join((rule, lines[0], rule, *lines[1:], rule))


# -- as functions of arrays, by Keras's names: from here on these names are theirs


def _floats(x: Any) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"x must be numeric, got dtype {array.dtype}")
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def linear(x: Any) -> Tensor:
    """The same numbers.

    Parameters
    ----------
    x : array-like
    """
    return tensor(_floats(x))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """`exp(x) / sum(exp(x))` over an axis.

    Parameters
    ----------
    x : array-like
    axis : int

    Returns
    -------
    Tensor
        An array, which has `numpy()` besides.

    Examples
    --------
    >>> import nbbn
    >>> nbbn.nn.softmax([[0.0, 0.0]]).numpy()
    array([[0.5, 0.5]])
    """
    x = _floats(x)
    e = np.exp(x - x.max(axis, keepdims=True))
    return tensor(e / e.sum(axis, keepdims=True))


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`, without its overflow.

    Parameters
    ----------
    x : array-like
    axis : int

    Examples
    --------
    >>> import nbbn
    >>> nbbn.nn.log_softmax([[0.0, 0.0]]).numpy().round(3)
    array([[-0.693, -0.693]])
    """
    x = _floats(x)
    x = x - x.max(axis, keepdims=True)
    return tensor(x - np.log(np.exp(x).sum(axis, keepdims=True)))


def _function(name: str) -> Callable[[Any], Tensor]:
    record = ELEMENTWISE[SYNONYMS.get(name, name)]

    def function(x: Any) -> Tensor:
        return tensor(record(_floats(x)))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{record.formula}.

    Parameters
    ----------
    x : array-like

    Examples
    --------
    >>> import nbbn
    >>> nbbn.nn.{name}([-1.0, 0.0, 1.0]).shape
    (3,)
    """
    return function


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "linear": linear, "softmax": softmax, "log_softmax": log_softmax,
    **{name: _function(name) for name in (*ACTIVATIONS, *SYNONYMS) if name in ELEMENTWISE
       or SYNONYMS.get(name) in ELEMENTWISE},
}
globals().update(FUNCTIONS)


def get(identifier: Any) -> Callable[..., Tensor]:
    """The function of a name; a function stays.

    Parameters
    ----------
    identifier : str, callable or None

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if callable(identifier):
        return identifier
    found = FUNCTIONS.get("linear" if identifier is None else identifier)
    if found is None:
        raise ValueError(f"unknown activation {identifier!r}; choose one of {', '.join(FUNCTIONS)}")
    return found
