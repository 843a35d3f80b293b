"""Losses of what targets and outputs share: one number for a batch, or one along axes."""

from dataclasses import dataclass
from typing import Any

from nbbn import loss_formulas as formulas
from nbbn.losses.base import Loss


@dataclass(frozen=True)
class _Overlap(Loss):
    """What the losses of overlaps share."""

    axis: Any = None

    any_axis = True

    def __post_init__(self) -> None:
        super().__post_init__()
        axis = self.axis
        if not (axis is None or isinstance(axis, int | list | tuple)):
            raise TypeError(f"{type(self).__name__}: axis must be None, a whole number or several, "
                            f"got {axis!r}")
        object.__setattr__(self, "axis", tuple(axis) if isinstance(axis, list) else axis)


@dataclass(frozen=True)
class Dice(_Overlap):
    """`1 - 2 * sum(t * y) / (sum(t) + sum(y))`, of the whole batch or along `axis`.

    Parameters
    ----------
    axis : None, int or sequence of int
        Axes to sum over, the rows' counted; None: all of them.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Dice
    >>> round(Dice()(np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]])), 4)
    0.3333
    """

    names = ("dice",)
    formula = formulas.dice
    arguments = ("axis",)


@dataclass(frozen=True)
class Tversky(_Overlap):
    """`1 - tp / (tp + alpha * fp + beta * fn)`, of the whole batch or along `axis`.

    Salehi et al. (2017); as in Keras `fp` is `sum((1 - y) * t)`.

    Parameters
    ----------
    alpha, beta : float
    axis : None, int or sequence of int
        Axes to sum over, the rows' counted; None: all of them.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Tversky
    >>> round(Tversky()(np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]])), 4)
    0.3333
    """

    alpha: float = 0.5
    beta: float = 0.5

    names = ("tversky",)
    formula = formulas.tversky
    arguments = ("alpha", "beta", "axis")
