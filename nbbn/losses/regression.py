"""Losses of numbers: errors, counts, directions."""

import math
from dataclasses import dataclass

from nbbn import loss_formulas as formulas
from nbbn.losses.base import Loss


class MeanSquaredError(Loss):
    """`mean((y - t)^2)` over the units.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import MeanSquaredError
    >>> MeanSquaredError().rows(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    array([2.])
    """

    engine = "mean_squared_error"
    names = ("mean_squared_error", "mse")
    aliases = ("MSE",)


class MeanAbsoluteError(Loss):
    """`mean(|y - t|)` over the units.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import MeanAbsoluteError
    >>> MeanAbsoluteError().rows(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    array([1.])
    """

    engine = "mean_absolute_error"
    names = ("mean_absolute_error", "mae")
    aliases = ("MAE",)
    formula = formulas.absolute_error


@dataclass(frozen=True)
class Huber(Loss):
    """Mean over the units of `s^2 / 2` where `|s| <= delta`, else `delta * (|s| - delta / 2)`.

    Huber (1964).

    Parameters
    ----------
    delta : float
        Above 0.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Huber
    >>> Huber(delta=1.0).rows(np.array([[0.0], [0.0]]), np.array([[0.5], [3.0]]))
    array([0.125, 2.5  ])
    """

    delta: float = 1.0

    engine = "huber"
    names = ("huber",)
    aliases = ("huber_loss",)
    formula = formulas.huber
    arguments = ("delta",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("delta", math.ulp(0.0), rule="a finite number above 0")


class LogCosh(Loss):
    """`mean(log(cosh(y - t)))` over the units: quadratic near 0, linear far away.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import LogCosh
    >>> LogCosh().rows(np.array([[0.0], [0.0]]), np.array([[0.1], [1.0]])).round(4)
    array([0.005 , 0.4338])
    """

    engine = "log_cosh"
    names = ("log_cosh",)
    aliases = ("logcosh",)
    formula = formulas.log_cosh


class MeanAbsolutePercentageError(Loss):
    """`100 * mean(|y - t| / |t|)` over the units.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import MeanAbsolutePercentageError
    >>> MeanAbsolutePercentageError()(np.array([[2.0, 4.0]]), np.array([[1.0, 4.0]]))
    25.0
    """

    names = ("mean_absolute_percentage_error", "mape")
    aliases = ("MAPE",)
    formula = formulas.percentage_error


class MeanSquaredLogarithmicError(Loss):
    """`mean((log(1 + y) - log(1 + t))^2)` over the units.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import MeanSquaredLogarithmicError
    >>> round(MeanSquaredLogarithmicError()(np.array([[1.0]]), np.array([[3.0]])), 4)
    0.4805
    """

    names = ("mean_squared_logarithmic_error", "msle")
    aliases = ("MSLE",)
    formula = formulas.squared_logarithmic_error


class Poisson(Loss):
    """`mean(y - t * log(y))` over the units: for counts and positive outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Poisson
    >>> round(Poisson()(np.array([[2.0]]), np.array([[1.0]])), 4)
    1.0
    """

    names = ("poisson",)
    formula = formulas.poisson


class CosineSimilarity(Loss):
    """`-sum(t * y) / (|t| * |y|)`, of the last axis.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CosineSimilarity
    >>> CosineSimilarity()(np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]]))
    -0.6
    """

    names = ("cosine_similarity",)
    formula = formulas.cosine_similarity
