"""The few functions of `keras.backend` that programs still call."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbbn.utils import clear_session

__all__ = ["clear_session", "epsilon", "floatx", "get_value", "set_value"]


def epsilon() -> float:
    """What losses keep probabilities away from 0 and 1 by: 1e-7.

    Examples
    --------
    >>> import nbbn
    >>> nbbn.backend.epsilon()
    1e-07
    """
    return 1e-7


def floatx() -> str:
    """What layers compute in unless they say otherwise: `"float32"`.

    Examples
    --------
    >>> import nbbn
    >>> nbbn.backend.floatx()
    'float32'
    """
    return "float32"


def get_value(x: Any) -> np.ndarray:
    """The number or the array of a learning rate, or of a variable of a model.

    Parameters
    ----------
    x : float, array-like or Variable

    Examples
    --------
    >>> import nbbn
    >>> float(nbbn.backend.get_value(nbbn.optimizers.SGD(0.5).learning_rate))
    0.5
    """
    return np.array(x)


def set_value(x: Any, value: Any) -> None:
    """Set a learning rate, or a variable of a model.

    Parameters
    ----------
    x : what an optimiser's `learning_rate` gives, or Variable
    value : float or array-like

    Examples
    --------
    >>> import nbbn
    >>> optimizer = nbbn.optimizers.SGD(0.5)
    >>> nbbn.backend.set_value(optimizer.learning_rate, 0.1)
    >>> optimizer.learning_rate
    0.1
    """
    if not hasattr(x, "assign"):
        raise TypeError(f"set_value takes an optimiser's learning_rate or a variable of a model, "
                        f"got {type(x).__name__}")
    x.assign(value)


def __dir__() -> list[str]:
    return __all__
