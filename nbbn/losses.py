"""Losses: one record for each, and Keras's classes and names for `compile`.

`RECORDS` says of each loss, by the engine's name, what the rest of the package asks about it. A new
loss is a function of rows, its row in `RECORDS`, its class for `compile`, and a kernel of the
record's name in `nbbn.kernels.loss`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nbbn import names_of_keras
from nbbn.names import Specification, find, suggesting

__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "Huber", "LogCosh", "Loss",
    "MeanAbsoluteError", "MeanSquaredError", "SparseCategoricalCrossentropy", "get",
]

# -- row by row: targets, outputs -> (rows,) of float64


def _softmax_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-log p[row, label]`; p are kept off 0 by the dtype's epsilon, as scikit-learn does."""
    picked = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(picked, np.finfo(probabilities.dtype).eps))


def _categorical_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-sum(t * log p)` over the units; p are kept off 0 by the dtype's epsilon."""
    p = np.maximum(probabilities, np.finfo(probabilities.dtype).eps).astype(np.float64)
    return -(targets * np.log(p)).sum(1)


def _units_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    eps = np.finfo(probabilities.dtype).eps
    p = np.clip(probabilities.astype(np.float64), eps, 1 - eps)
    return -(targets * np.log(p) + (1 - targets) * np.log1p(-p))


def _sigmoid_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-sum(t * log p + (1 - t) * log(1 - p))` over the units."""
    return _units_cross_entropy(targets, probabilities).sum(1)


def _binary_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-mean(t * log p + (1 - t) * log(1 - p))` over the units."""
    return _units_cross_entropy(targets, probabilities).mean(1)


def _squared_error(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean((y - t)^2) / 2` over the units: scikit-learn's."""
    return 0.5 * _mean_squared_error(targets, outputs)


def _mean_squared_error(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean((y - t)^2)` over the units."""
    return np.square(targets.astype(np.float64) - outputs).mean(1)


def _mean_absolute_error(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean(|y - t|)` over the units."""
    return np.abs(targets.astype(np.float64) - outputs).mean(1)


def _huber(targets: np.ndarray, outputs: np.ndarray, delta: float) -> np.ndarray:
    """Mean over the units of `s^2 / 2` where `|s| <= delta`, else `delta * (|s| - delta / 2)`."""
    slip = np.abs(targets.astype(np.float64) - outputs)
    return np.where(slip <= delta, 0.5 * slip * slip, delta * (slip - 0.5 * delta)).mean(1)


def _log_cosh(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean(log(cosh(y - t)))` over the units."""
    slip = np.abs(targets.astype(np.float64) - outputs)
    return (slip + np.log1p(np.exp(-2 * slip)) - math.log(2)).mean(1)


def _quantile(targets: np.ndarray, outputs: np.ndarray, level: float) -> np.ndarray:
    """Mean over the units of `level * s` where `s = t - y > 0`, else `(level - 1) * s`."""
    slip = targets.astype(np.float64) - outputs
    return np.where(slip > 0, level * slip, (level - 1) * slip).mean(1)


def _poisson(targets: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Half the Poisson deviance `t * log(t / y) - t + y`, mean over the units."""
    t, y = targets.astype(np.float64), means.astype(np.float64)
    counted = t > 0
    log_ratio = np.log(np.where(counted, t, 1.0) / np.where(counted, y, 1.0))
    return (t * log_ratio - t + y).mean(1)


def mean_of(rows: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean over the rows of `weight * loss`: not divided by the weights' sum, as in Keras."""
    return float(rows.mean() if weights is None else (rows * weights).mean())


@dataclass(frozen=True)
class LossRecord:
    """What is to be known of a loss; its kernel in `nbbn.kernels.loss` bears its name.

    Attributes
    ----------
    engine : str
        The engine's name.
    rows : callable
        `(targets, outputs)`, and the parameter where there is one, to the value of each row,
        shape (n,), float64. Outputs are those after the activation `end`.
    end : str or None
        Activation that must end the network: the kernel starts from what stands before it, and
        writes the gradient there. None: any, since the kernel starts from the outputs.
    takes_labels : bool
        Whether targets are class indices (n,), not a row of numbers for each row.
    counts_hits : bool
        Whether the kernel also counts the rows, or the shares of rows, that are right.
    parameter : str or None
        Name of its one number, if it has one.
    sklearn : str or None
        Name in `MLPRegressor`.
    sklearn_sums : bool
        Whether scikit-learn reports the sum over the units where `rows` and the kernel take the
        mean.
    """

    engine: str
    rows: Callable[..., np.ndarray]
    end: str | None = None
    takes_labels: bool = False
    counts_hits: bool = False
    parameter: str | None = None
    sklearn: str | None = None
    sklearn_sums: bool = False

    def of_rows(self, targets: np.ndarray, outputs: np.ndarray,
                parameter: float = 0.0) -> np.ndarray:
        """Value of each row, for any loss: those without a parameter do without it."""
        if self.parameter is None:
            return self.rows(targets, outputs)
        return self.rows(targets, outputs, parameter)


RECORDS = {
    record.engine: record
    for record in (
        LossRecord("softmax_cross_entropy", _softmax_cross_entropy, "softmax", takes_labels=True,
                   counts_hits=True),
        LossRecord("categorical_cross_entropy", _categorical_cross_entropy, "softmax",
                   counts_hits=True),
        LossRecord("sigmoid_cross_entropy", _sigmoid_cross_entropy, "sigmoid", counts_hits=True),
        LossRecord("binary_cross_entropy", _binary_cross_entropy, "sigmoid", counts_hits=True),
        LossRecord("squared_error", _squared_error, "linear", sklearn="squared_error"),
        LossRecord("mean_squared_error", _mean_squared_error),
        LossRecord("mean_absolute_error", _mean_absolute_error, sklearn="absolute_error"),
        LossRecord("huber", _huber, parameter="delta", sklearn="huber"),
        LossRecord("log_cosh", _log_cosh),
        LossRecord("quantile", _quantile, parameter="level", sklearn="quantile"),
        LossRecord("poisson", _poisson, "exponential", sklearn="poisson", sklearn_sums=True),
    )
}  # fmt: skip


# -- Keras's


@dataclass(frozen=True, kw_only=True)
class Loss(Specification):
    """What every loss of `compile` has.

    Parameters
    ----------
    reduction : str
        Only `sum_over_batch_size` (`mean`): the mean over the rows.
    name : str or None
    axis : int
        Only -1: the units stand last.
    dtype : None
        Taken as in Keras; the layers' dtype decides.

    Attributes
    ----------
    engine : str
        Name of its record in `RECORDS`.
    names : tuple of str
        What it is called by in `compile`; the first is the one that messages use.
    aliases : tuple of str
        Further names, beside the class's own.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Huber
    >>> loss = Huber(delta=1.0)
    >>> loss.rows(np.array([[0.0], [0.0]]), np.array([[0.5], [3.0]]))
    array([0.125, 2.5  ])
    >>> loss.config()["config"]["delta"], loss.shown
    (1.0, 'huber')
    """

    reduction: str = "sum_over_batch_size"
    name: str | None = None
    axis: int = -1
    dtype: str | None = None

    engine: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    aliases: ClassVar[tuple[str, ...]] = ()
    # Without annotation: a field only of the subclasses that have it.
    from_logits = False

    def __post_init__(self) -> None:
        if self.reduction not in ("sum_over_batch_size", "mean"):
            raise self._error(f"reduction {self.reduction!r} is not supported; "
                              "use 'sum_over_batch_size'")
        if self.axis != -1:
            raise self._error(f"axis must be -1, got {self.axis!r}; put the units last")
        if not isinstance(self.from_logits, bool):
            raise TypeError(f"{type(self).__name__}: from_logits must be True or False, "
                            f"got {self.from_logits!r}")
        if hasattr(self, "label_smoothing"):
            self._number("label_smoothing", 0, 1, "a number in [0, 1]")

    @property
    def shown(self) -> str:
        """The loss by the name that a user would give it."""
        return self.names[0]

    @property
    def record(self) -> LossRecord:
        """What is to be known of it."""
        return RECORDS[self.engine]

    @property
    def end(self) -> str | None:
        """Activation that the network must end with; None for any."""
        return self.record.end

    @property
    def takes_labels(self) -> bool:
        """Whether targets are class indices (n,), not a row of numbers for each row."""
        return self.record.takes_labels

    @property
    def parameter(self) -> float:
        """Its one number; 0 where it has none."""
        return getattr(self, self.record.parameter) if self.record.parameter else 0.0

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        """Targets as the engine takes them: smoothed where asked for."""
        return targets

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Value of each row.

        Parameters
        ----------
        targets : ndarray
            As `prepare` gives them.
        outputs : ndarray, shape (n, units)
            After the activation `end`.

        Returns
        -------
        ndarray, shape (n,)
            float64.
        """
        return self.record.of_rows(targets, outputs, self.parameter)


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """`-log p[label]`: for class indices and a softmax.

    Parameters
    ----------
    from_logits : bool
        Whether the model ends before the softmax.
    ignore_class : None
        Not supported.
    **base
        See `Loss`.

    Examples
    --------
    >>> import nbbn
    >>> head = nbbn.layers.Dense(3, activation="softmax", input_shape=(4,))
    >>> model = nbbn.Sequential([head])
    >>> model.compile("adam", nbbn.losses.SparseCategoricalCrossentropy())
    >>> round(model.evaluate([[0.0, 0.0, 0.0, 0.0]], [2], verbose=0), 4)  # log(3)
    1.0986
    """

    from_logits: bool = False
    ignore_class: int | None = None

    engine = "softmax_cross_entropy"
    names = ("sparse_categorical_crossentropy",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ignore_class is not None:
            raise self._error("ignore_class is not supported; "
                              "give those rows a sample_weight of 0")


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """`-sum(t * log p)`: for rows of class probabilities, such as one-hot rows, and a softmax.

    Parameters
    ----------
    from_logits : bool
        Whether the model ends before the softmax.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / classes`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalCrossentropy
    >>> loss = CategoricalCrossentropy(label_smoothing=0.3)
    >>> loss.prepare(np.array([[0.0, 1.0, 0.0]])).round(6)
    array([[0.1, 0.8, 0.1]])
    >>> CategoricalCrossentropy().rows(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])).round(6)
    array([0.693147])
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    engine = "categorical_cross_entropy"
    names = ("categorical_crossentropy",)

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        s = targets.dtype.type(self.label_smoothing)
        return targets * (1 - s) + s / targets.shape[1] if s else targets


@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """`-mean(t * log p + (1 - t) * log(1 - p))` over the units: for targets in [0, 1] and sigmoids.

    Parameters
    ----------
    from_logits : bool
        Whether the model ends before the sigmoid.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / 2`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import BinaryCrossentropy
    >>> BinaryCrossentropy().rows(np.array([[1.0], [0.0]]), np.array([[0.9], [0.9]])).round(4)
    array([0.1054, 2.3026])
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    engine = "binary_cross_entropy"
    names = ("binary_crossentropy",)

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        s = targets.dtype.type(self.label_smoothing)
        return targets * (1 - s) + s / 2 if s else targets


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


_CLASSES: tuple[type[Loss], ...] = (
    SparseCategoricalCrossentropy, CategoricalCrossentropy, BinaryCrossentropy, MeanSquaredError,
    MeanAbsoluteError, Huber, LogCosh,
)  # fmt: skip
for _each in _CLASSES:
    suggesting(_each)
_NAMES = {name: cls for cls in _CLASSES for name in cls.names}
_ALIASES = {alias: cls for cls in _CLASSES for alias in (cls.__name__, *cls.aliases)}


def get(identifier: str | Loss | dict) -> Loss:
    """The loss that a name, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Loss or dict
        A name as in `"mse"` or `"MeanSquaredError"`; what `Loss.config` gave.

    Returns
    -------
    Loss

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import losses
    >>> losses.get("mse").shown
    'mean_squared_error'
    >>> losses.get("huber").delta
    1.0
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, dict):
        return _class(identifier.get("class_name"))(**identifier["config"])
    if isinstance(identifier, str):
        return _class(identifier)()
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        name = identifier.__name__
        raise TypeError(f"loss is the class {name}; make an object of it: {name}()")
    raise TypeError(f"loss must be a name or an object of nbbn.losses, got {identifier!r}; "
                    "functions are not supported")


def _class(name: object) -> type[Loss]:
    return find("loss", name, _NAMES, _ALIASES)


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
