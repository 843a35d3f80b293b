"""Losses of one's own: a pair of NumPy functions, value and gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn import loss_formulas as formulas
from nbbn.losses.base import Loss
from nbbn.losses.gradients import compare_gradient


@dataclass(frozen=True)
class CustomLoss(Loss):
    """A loss of one's own, of two NumPy functions.

    Parameters
    ----------
    value : callable
        `(y_true, y_pred)` to a number for each row `(n,)`, or several, whose mean counts; or to one
        number for the whole batch. Both arrays are float64, of the outputs' shape.
    slope : callable
        `(y_true, y_pred)` to the derivative of each row's number by `y_pred`, of its shape.
    check_gradient : bool
        Compare the derivative with central differences, on the first batch.
    **base
        See `Loss`.

    Raises
    ------
    ValueError
        In training, for values or derivatives of another shape; with `check_gradient` for a wrong
        derivative, with the place.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CustomLoss
    >>> loss = CustomLoss(lambda t, y: ((y - t) ** 4).mean(-1),
    ...                   lambda t, y: 4 * (y - t) ** 3 / y.shape[-1], check_gradient=True)
    >>> loss(np.array([[0.0], [0.0]]), np.array([[1.0], [2.0]]))
    8.5
    """

    value: Callable[..., Any]
    slope: Callable[..., Any]
    check_gradient: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("value", "slope"):
            if not callable(getattr(self, name)):
                raise TypeError(f"CustomLoss: {name} must be a function (y_true, y_pred), "
                                f"got {getattr(self, name)!r}")

    @property
    def shown(self) -> str:
        return self.name or str(getattr(self.value, "__name__", "custom_loss"))

    def call(self, y_true: Any, y_pred: Any) -> np.ndarray:
        return np.asarray(self.value(y_true, y_pred))

    def gradient(self, y_true: Any, y_pred: Any) -> np.ndarray:
        return np.asarray(self.slope(y_true, y_pred))

    def pair(self, targets: np.ndarray, outputs: np.ndarray) -> formulas.Pair:
        found = super().pair(targets, outputs)
        if self.check_gradient and "_checked" not in self.__dict__:
            compare_gradient(self, targets, outputs)
            self.__dict__["_checked"] = True
        return found

    def config(self) -> dict:
        """ValueError: functions cannot be written."""
        raise ValueError(f"loss {self.shown!r} is made of functions, which cannot be written to a "
                         "file; save the weights, or compile anew after loading")
