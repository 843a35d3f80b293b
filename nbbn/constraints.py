"""What a layer's weights are brought back to after each step of the optimiser: Keras's constraints.

The names in lower case (`max_norm`, `non_neg`, `unit_norm`, `min_max_norm`) are the same classes,
as in `keras.constraints`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from nbbn import names_of_keras
from nbbn.names import find, suggesting

__all__ = ["Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "get", "max_norm",
           "min_max_norm", "non_neg", "unit_norm"]

# Keras's, so that no norm of 0 divides.
_EPSILON = 1e-7

Axis = int | tuple[int, ...] | None


class Constraint:
    """What every constraint has: called with an array of weights, it gives what they become.

    Notes
    -----
    One of your own is a subclass with `__call__(w)`, an array to one of the same shape, and
    `get_config()` where it has arguments; or any function of an array, which no file holds.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.constraints import Constraint
    >>> from nbbn.layers import Dense
    >>> class Centred(Constraint):
    ...     def __call__(self, w):
    ...         return w - w.mean(axis=0)
    >>> layer = Dense(8, kernel_constraint=Centred())
    >>> layer.kernel_constraint(np.array([1.0, 3.0]))
    array([-1.,  1.])
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """The weights as they may stay; these are not written."""
        return w

    def get_config(self) -> dict[str, Any]:
        """The arguments by name."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The constraint of these arguments."""
        return cls(**config)

    def config(self) -> dict[str, Any]:
        """The object as JSON-ready values, in Keras's form; `get` reads them."""
        return {"class_name": type(self).__name__, "config": self.get_config()}

    def check(self, shape: tuple[int, ...]) -> None:
        """ValueError where it cannot take arrays of a shape."""


@dataclass(frozen=True)
class _Known(Constraint):
    """One of Keras's, with its arguments as fields."""

    def get_config(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(self).items()}

    def _error(self, text: str) -> ValueError:
        return ValueError(f"{type(self).__name__}: {text}")

    def _number(self, name: str, most: float = np.inf) -> None:
        value: object = getattr(self, name)
        plain = isinstance(value, Real) and not isinstance(value, bool)
        if not plain or not 0 <= float(value) <= most or value == np.inf:  # type: ignore[arg-type]
            rule = "a finite number of at least 0" if most == np.inf else f"a number in [0, {most}]"
            raise self._error(f"{name} must be {rule}, got {value!r}")


@dataclass(frozen=True)
class _OfNorms(_Known):
    """One of the norms along its `axis`, the last of its arguments."""

    @property
    def _along(self) -> Axis:
        return vars(self)["axis"]

    def __post_init__(self) -> None:
        given: Any = self._along
        if isinstance(given, list | tuple | np.ndarray):
            axes = tuple(given)
        else:
            axes = () if given is None else (given,)
        if any(isinstance(k, bool) or not isinstance(k, Integral) for k in axes):
            raise self._error("axis must be a whole number, a list of them, or None for all, "
                              f"got {given!r}")
        whole = tuple(map(int, axes))
        kept = whole if isinstance(given, list | tuple | np.ndarray) else given and whole[0]
        object.__setattr__(self, "axis", kept)

    def check(self, shape: tuple[int, ...]) -> None:
        axis, rank = self._along, len(shape)
        axes = axis if isinstance(axis, tuple) else () if axis is None else (axis,)
        known = {k % rank for k in axes if -rank <= k < rank}
        if len(known) < len(axes):
            raise self._error(f"axis {axis} does not fit weights of shape {shape}; give axes of "
                              f"0 to {rank - 1}, each once")

    def _norms(self, w: np.ndarray) -> np.ndarray:
        """Root of the sum of squares along the axis, kept as an axis of length 1."""
        return np.sqrt(np.sum(np.square(w), axis=self._along, keepdims=True))


@dataclass(frozen=True)
class MaxNorm(_OfNorms):
    """Weights of a norm above `max_value` are scaled down to it.

    `w * clip(norm, 0, max_value) / (1e-7 + norm)` with the norms of `w` along `axis`.

    Parameters
    ----------
    max_value : float
        At least 0.
    axis : int, list of int or None
        Along which a norm is taken: 0 for each unit of a dense kernel `(in, units)`, `[0, 1, 2]`
        for each filter of a kernel of images; None is one norm of all.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.constraints import MaxNorm
    >>> MaxNorm(5.0)(np.array([[3.0, 30.0], [4.0, 40.0]])).round(4)
    array([[3., 3.],
           [4., 4.]])
    """

    max_value: float = 2
    axis: Axis = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("max_value")

    def __call__(self, w: np.ndarray) -> np.ndarray:
        norms = self._norms(w)
        return w * (np.clip(norms, 0, self.max_value) / (_EPSILON + norms))


@dataclass(frozen=True)
class NonNeg(_Known):
    """Weights below 0 become 0.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.constraints import NonNeg
    >>> NonNeg()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return np.maximum(w, 0)


@dataclass(frozen=True)
class UnitNorm(_OfNorms):
    """Weights are scaled to a norm of 1: `w / (1e-7 + norm)`.

    Parameters
    ----------
    axis : int, list of int or None
        As in `MaxNorm`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.constraints import UnitNorm
    >>> UnitNorm()(np.array([[3.0], [4.0]])).round(4)
    array([[0.6],
           [0.8]])
    """

    axis: Axis = 0

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return w / (_EPSILON + self._norms(w))


@dataclass(frozen=True)
class MinMaxNorm(_OfNorms):
    """Weights are scaled towards a norm between two bounds.

    `w * (rate * clip(norm, min_value, max_value) + (1 - rate) * norm) / (1e-7 + norm)`.

    Parameters
    ----------
    min_value, max_value : float
        At least 0.
    rate : float
        In [0, 1]: how much of the way to the bound a step goes; 1 is all of it.
    axis : int, list of int or None
        As in `MaxNorm`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.constraints import MinMaxNorm
    >>> MinMaxNorm(1.0, 2.0, rate=0.5)(np.array([[3.0], [4.0]])).round(4)
    array([[2.1],
           [2.8]])
    """

    min_value: float = 0.0
    max_value: float = 1.0
    rate: float = 1.0
    axis: Axis = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("min_value")
        self._number("max_value")
        self._number("rate", 1)
        if self.min_value > self.max_value:
            raise self._error("min_value must not be above max_value, "
                              f"got {self.min_value} and {self.max_value}")

    def __call__(self, w: np.ndarray) -> np.ndarray:
        norms = self._norms(w)
        bounded = np.clip(norms, self.min_value, self.max_value)
        wanted = self.rate * bounded + (1 - self.rate) * norms
        return w * (wanted / (_EPSILON + norms))


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

for _each in (MaxNorm, UnitNorm, MinMaxNorm):
    suggesting(_each)

_NAMES: dict[str, type[Constraint]] = {
    "max_norm": MaxNorm, "non_neg": NonNeg, "unit_norm": UnitNorm, "min_max_norm": MinMaxNorm,
}
_ALIASES: dict[str, type[Constraint]] = {cls.__name__: cls for cls in _NAMES.values()}

Identifier = str | Constraint | type | dict | Callable[[np.ndarray], Any] | None


def get(identifier: Identifier) -> Callable[[np.ndarray], Any] | None:
    """The constraint that a name, a class, an object, a config or a function stands for.

    Parameters
    ----------
    identifier : str, Constraint, type, dict, callable or None
        A name as in `"max_norm"`, which has the default arguments; what `Constraint.config` gave,
        of a class of your own too, which must be defined by then; a function of an array; None
        stays None.

    Returns
    -------
    callable or None

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one, or a config of something else.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import constraints
    >>> constraints.get("max_norm")
    MaxNorm(max_value=2, axis=0)
    """
    if isinstance(identifier, str):
        return find("constraint", identifier, _NAMES, _ALIASES)()
    if isinstance(identifier, dict):
        return _from_config(identifier)
    if isinstance(identifier, type):
        if not issubclass(identifier, Constraint):
            raise TypeError(f"a constraint is an object, got the class {identifier.__name__}; make "
                            f"an object of it: {identifier.__name__}()")
        return identifier()
    if identifier is None or callable(identifier):
        return identifier
    raise TypeError("a constraint is a name, an object of nbbn.constraints, a function of an array "
                    f"or None, got {type(identifier).__name__}")


def _from_config(config: dict) -> Constraint:
    name, arguments = config.get("class_name"), config.get("config", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(
            "a constraint's config must be a dict of class_name (a string) and config (a dict)"
        )
    own = {cls.__name__: cls for cls in _subclasses(Constraint)}
    if name not in own and name not in _NAMES:
        raise ValueError(f"unknown constraint {name!r}; choose one of {', '.join(_NAMES)}, or "
                         "define the subclass of nbbn.constraints.Constraint of this name first")
    try:
        return (own | _NAMES | _ALIASES)[name].from_config(arguments)
    except TypeError as err:
        raise ValueError(f"{name} is not made of {arguments}: {err}; its get_config gives what its "
                         "class takes") from None


def _subclasses(cls: type) -> Iterator[type[Any]]:
    """All public classes that come of one."""
    one: type[Any]
    for one in cls.__subclasses__():
        if not one.__name__.startswith("_"):
            yield one
        yield from _subclasses(one)


def checked(constraint: Any, shape: tuple[int, ...]) -> None:
    """ValueError where a constraint says that it cannot take weights of a shape."""
    if isinstance(constraint, Constraint):
        constraint.check(shape)


def applied(where: str, constraint: Callable[[np.ndarray], Any], weights: np.ndarray) -> np.ndarray:
    """What a constraint makes of weights, in the words of an argument where it gives no such array.

    Raises
    ------
    ValueError
        For anything but numbers of the weights' shape.
    """
    found = np.asarray(constraint(weights))
    if found.shape != weights.shape or found.dtype.kind not in "fiub":
        got = f"shape {found.shape}" if found.dtype.kind != "O" else type(found.tolist()).__name__
        raise ValueError(f"{where} must give an array of the weights' shape {weights.shape}, "
                         f"got {got}")
    return found


def __getattr__(name: str) -> Any:
    """What to use in place of Keras's names that are not here."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
