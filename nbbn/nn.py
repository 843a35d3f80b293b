"""Activations as functions of arrays, by the names that programs for TensorFlow use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbbn import fallback
from nbbn.activations import ELEMENTWISE, SYNONYMS
from nbbn.tensor import Tensor, tensor

__all__ = ["elu", "gelu", "leaky_relu", "log_softmax", "mish", "relu", "selu", "sigmoid", "silu",
           "softmax", "softplus", "softsign", "swish", "tanh"]


def _floats(x: Any) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"x must be numeric, got dtype {array.dtype}")
    return array if array.dtype.kind == "f" else array.astype(np.float32)


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
    return tensor(np.moveaxis(fallback.softmax(np.moveaxis(_floats(x), axis, -1)), -1, axis))


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
    >>> nbbn.nn.{name}([0.0]).numpy()
    {record(np.zeros(1))!r}
    """
    return function


elu, gelu, leaky_relu, mish, relu, selu, sigmoid, silu, softplus, softsign, swish, tanh = map(
    _function, ("elu", "gelu", "leaky_relu", "mish", "relu", "selu", "sigmoid", "silu", "softplus",
                "softsign", "swish", "tanh"))


def __dir__() -> list[str]:
    return __all__
