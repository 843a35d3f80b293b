"""Penalties on a layer's weights that join the loss: Keras's L1, L2 and both.

The names in lower case (`l1`, `l2`, `l1_l2`) are the same classes, as in `keras.regularizers`.
"""

from dataclasses import dataclass, fields

import numpy as np

from nbbn.names import Specification, made_of, suggesting

__all__ = ["L1", "L1L2", "L2", "Regularizer", "get", "l1", "l1_l2", "l2"]


@dataclass(frozen=True)
class Regularizer(Specification):
    """What every regularizer has: the factors `l1` and `l2`.

    The penalty is `l1 * sum(abs(w)) + l2 * sum(w ** 2)`, its gradient `l1 * sign(w) + 2 * l2 * w`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.regularizers import L2
    >>> round(L2(0.1)(np.array([1.0, 2.0])), 6)
    0.5
    """

    # Without annotation: fields only of the subclasses that have them.
    l1 = 0.0
    l2 = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            number = self._number(f.name, least=0, rule="a finite number of at least 0")
            object.__setattr__(self, f.name, number)

    def __call__(self, weights: np.ndarray) -> float:
        """The penalty of an array, summed in float64."""
        w = np.asarray(weights, np.float64)
        return self.l1 * float(np.abs(w).sum()) + self.l2 * float(np.square(w).sum())


@dataclass(frozen=True)
class L1(Regularizer):
    """`l1 * sum(abs(w))`.

    Parameters
    ----------
    l1 : float
        At least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.regularizers import L1
    >>> round(L1(0.1)(np.array([1.0, -2.0])), 6)
    0.3
    """

    l1: float = 0.01


@dataclass(frozen=True)
class L2(Regularizer):
    """`l2 * sum(w ** 2)`, without a factor of one half.

    Parameters
    ----------
    l2 : float
        At least 0.

    Examples
    --------
    >>> from nbbn import layers, regularizers
    >>> layer = layers.Dense(8, kernel_regularizer=regularizers.L2(1e-4))
    >>> layer.kernel_regularizer
    L2(l2=0.0001)
    """

    l2: float = 0.01


@dataclass(frozen=True)
class L1L2(Regularizer):
    """`l1 * sum(abs(w)) + l2 * sum(w ** 2)`.

    Parameters
    ----------
    l1, l2 : float
        At least 0; as in Keras both are 0 unless given.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.regularizers import L1L2
    >>> round(L1L2(l1=0.1, l2=0.01)(np.array([1.0, -2.0])), 6)
    0.35
    """

    l1: float = 0.0
    l2: float = 0.0


l1, l2, l1_l2 = L1, L2, L1L2

for _each in (L1, L2, L1L2):
    suggesting(_each)

_NAMES: dict[str, type[Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}
_ALIASES = {"L1": L1, "L2": L2, "L1L2": L1L2, "l1l2": L1L2}


def get(identifier: str | Regularizer | type | dict | None) -> Regularizer | None:
    """The regularizer that a name, a class, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Regularizer, type, dict or None
        A name as in `"l2"`, which has the default factors; what `Regularizer.config` gave; None
        stays None.

    Returns
    -------
    Regularizer or None

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one, or a config of something else.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import regularizers
    >>> regularizers.get("l2")
    L2(l2=0.01)
    """
    return made_of("a regularizer", identifier, Regularizer, _NAMES, _ALIASES)


def __dir__() -> list[str]:
    return __all__
