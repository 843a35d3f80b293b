"""Penalties on a layer's weights that join the loss: Keras's L1, L2 and both.

The names in lower case (`l1`, `l2`, `l1_l2`) are the same classes, as in `keras.regularizers`.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Regularizer:
    """What every regularizer has: the factors `l1` and `l2` of `l1 * sum(abs(w)) + l2 * sum(w ** 2)`.

    The penalty's gradient is `l1 * sign(w) + 2 * l2 * w`.
    """

    l1: ClassVar[float] = 0.0
    l2: ClassVar[float] = 0.0

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:
                raise ValueError(
                    f"{type(self).__name__}: {f.name} must be a finite number of at least 0, got {value!r}"
                )
            object.__setattr__(self, f.name, float(value))

    def __call__(self, weights: np.ndarray) -> float:
        """The penalty of an array, summed in float64."""
        w = np.asarray(weights, np.float64)
        return self.l1 * float(np.abs(w).sum()) + self.l2 * float(np.square(w).sum())

    def config(self) -> dict:
        """The regularizer as JSON-ready values, in Keras's form; `get` reads them."""
        return {
            "class_name": type(self).__name__,
            "config": {f.name: getattr(self, f.name) for f in fields(self)},
        }


@dataclass(frozen=True)
class L1(Regularizer):
    """`l1 * sum(abs(w))`.

    Parameters
    ----------
    l1 : float
        At least 0.
    """

    l1: float = 0.01


@dataclass(frozen=True)
class L2(Regularizer):
    """`l2 * sum(w ** 2)`, without a factor of one half.

    Parameters
    ----------
    l2 : float
        At least 0.
    """

    l2: float = 0.01


@dataclass(frozen=True)
class L1L2(Regularizer):
    """`l1 * sum(abs(w)) + l2 * sum(w ** 2)`.

    Parameters
    ----------
    l1, l2 : float
        At least 0; as in Keras both are 0 unless given.
    """

    l1: float = 0.0
    l2: float = 0.0


l1, l2, l1_l2 = L1, L2, L1L2

_NAMES: dict[str, type[Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}
_ALIASES = {"L1": L1, "L2": L2, "L1L2": L1L2, "l1l2": L1L2}


def get(identifier) -> Regularizer | None:
    """The regularizer that a name, a class, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Regularizer, type, dict or None
        A name as in `"l2"`, which has the default factors; what `Regularizer.config` gave; None
        stays None.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one, or a config of something else.
    TypeError
        For any other type.
    """
    if identifier is None or isinstance(identifier, Regularizer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Regularizer):
        return identifier()
    if isinstance(identifier, str):
        return _class(identifier)()
    if isinstance(identifier, dict):
        return _from_config(identifier)
    raise TypeError(
        f"a regularizer is a name, an object of nbbn.regularizers or None, got {type(identifier).__name__}"
    )


def _class(name: str) -> type[Regularizer]:
    known = {**_NAMES, **_ALIASES}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), _NAMES, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(_NAMES)}"
    raise ValueError(f"unknown regularizer {name!r}; {hint}")


def _from_config(config: dict) -> Regularizer:
    name, arguments = config.get("class_name"), config.get("config", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(
            "a regularizer's config must be a dict of class_name (a string) and config (a dict)"
        )
    cls = _class(name)
    unknown = sorted(set(arguments) - {f.name for f in fields(cls)})
    if unknown:
        raise ValueError(f"{cls.__name__} does not take {', '.join(unknown)}")
    return cls(**arguments)
