"""Losses: Keras's classes and names for `compile`, and what a network's outputs are measured by, in float64.

`LOSSES` holds a function `(targets, outputs, weights=None)` for each loss that the engine trains by, under the engine's name: the
mean over the rows of `weight * loss`. `ROWS` holds the losses row by row.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Real
from typing import ClassVar

import numpy as np

# -- row by row: targets, outputs -> (rows,) of float64


def _softmax_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-log p[row, label]`; probabilities are kept off 0 by the dtype's epsilon, as scikit-learn does."""
    picked = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(picked, np.finfo(probabilities.dtype).eps))


def _categorical_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-sum(t * log p)` over the units; probabilities are kept off 0 by the dtype's epsilon."""
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


def _huber(targets: np.ndarray, outputs: np.ndarray, delta: float = 1.0) -> np.ndarray:
    """Mean over the units of `s^2 / 2` where `|s| <= delta`, else `delta * (|s| - delta / 2)` (Huber, 1964)."""
    slip = np.abs(targets.astype(np.float64) - outputs)
    return np.where(slip <= delta, 0.5 * slip * slip, delta * (slip - 0.5 * delta)).mean(1)


def _quantile(targets: np.ndarray, outputs: np.ndarray, delta: float = 0.5) -> np.ndarray:
    """Mean over the units of `delta * s` where `s = t - y > 0`, else `(delta - 1) * s` (Koenker and Bassett, 1978)."""
    slip = targets.astype(np.float64) - outputs
    return np.where(slip > 0, delta * slip, (delta - 1) * slip).mean(1)


def _poisson(targets: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Half the Poisson deviance `t * log(t / y) - t + y`, mean over the units; y are kept off 0 by the dtype's epsilon."""
    t, y = targets.astype(np.float64), np.maximum(means, np.finfo(means.dtype).eps).astype(np.float64)
    return (t * np.log(np.where(t > 0, t, 1) / np.where(t > 0, y, 1)) - t + y).mean(1)


def mean_of(rows: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean over the rows of `weight * loss`: not divided by the weights' sum, as in Keras."""
    return float(rows.mean() if weights is None else (rows * weights).mean())


def _mean(rows_of: Callable) -> Callable:
    def mean(targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None) -> float:
        return mean_of(rows_of(targets, outputs), weights)

    mean.__doc__ = f"Mean over the rows of {rows_of.__doc__}"
    return mean


ROWS = {
    f.__name__[1:]: f
    for f in (
        _softmax_cross_entropy, _sigmoid_cross_entropy, _squared_error, _categorical_cross_entropy, _binary_cross_entropy,
        _mean_squared_error, _mean_absolute_error, _huber, _quantile, _poisson,
    )
}  # fmt: skip
LOSSES = {name: _mean(rows_of) for name, rows_of in ROWS.items()}


# -- Keras's


@dataclass(frozen=True, kw_only=True)
class Loss:
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
        Name of the loss in `LOSSES`.
    end : str or None
        Activation that the network must end with; None for any.
    takes_labels : bool
        Whether targets are class indices `(n,)`, not a row of numbers for each row.
    """

    reduction: str = "sum_over_batch_size"
    name: str | None = None
    axis: int = -1
    dtype: str | None = None

    engine: ClassVar[str]
    end: ClassVar[str | None] = None
    takes_labels: ClassVar[bool] = False
    # Fields of the subclasses that have them.
    from_logits: ClassVar[bool] = False
    delta: ClassVar[float] = 1.0

    def __post_init__(self):
        if self.reduction not in ("sum_over_batch_size", "mean"):
            raise ValueError(f"{self._class}: reduction {self.reduction!r} is not supported; use 'sum_over_batch_size'")
        if self.axis != -1:
            raise ValueError(f"{self._class}: axis must be -1, got {self.axis!r}; put the units last")
        if not isinstance(self.from_logits, bool):
            raise TypeError(f"{self._class}: from_logits must be True or False, got {self.from_logits!r}")
        smoothing = getattr(self, "label_smoothing", 0.0)
        if isinstance(smoothing, bool) or not isinstance(smoothing, Real) or not 0 <= smoothing <= 1:
            raise ValueError(f"{self._class}: label_smoothing must be a number in [0, 1], got {smoothing!r}")

    @property
    def _class(self) -> str:
        return type(self).__name__

    @property
    def shown(self) -> str:
        """The loss by the name that a user would give it."""
        return next(name for name, cls in _NAMES.items() if cls is type(self))

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        """Targets as the engine takes them: smoothed where asked for."""
        return targets

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Each row's loss, `(n,)` of float64, for prepared targets and outputs `(n, units)` after the activation `end`."""
        return ROWS[self.engine](targets, outputs)

    def config(self) -> dict:
        """The loss as JSON-ready values; `get` reads them."""
        return {"class_name": self._class, "config": asdict(self)}


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
    """

    from_logits: bool = False
    ignore_class: int | None = None

    engine = "softmax_cross_entropy"
    end = "softmax"
    takes_labels = True

    def __post_init__(self):
        super().__post_init__()
        if self.ignore_class is not None:
            raise ValueError(f"{self._class}: ignore_class is not supported; give those rows a sample_weight of 0")


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
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    engine = "categorical_cross_entropy"
    end = "softmax"

    def prepare(self, targets):
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
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    engine = "binary_cross_entropy"
    end = "sigmoid"

    def prepare(self, targets):
        s = targets.dtype.type(self.label_smoothing)
        return targets * (1 - s) + s / 2 if s else targets


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """`mean((y - t)^2)` over the units."""

    engine = "mean_squared_error"


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """`mean(|y - t|)` over the units."""

    engine = "mean_absolute_error"


@dataclass(frozen=True)
class Huber(Loss):
    """Mean over the units of `s^2 / 2` where `|s| <= delta`, else `delta * (|s| - delta / 2)` (Huber, 1964).

    Parameters
    ----------
    delta : float
        Above 0.
    **base
        See `Loss`.
    """

    delta: float = 1.0

    engine = "huber"

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.delta, bool) or not isinstance(self.delta, Real) or not 0 < self.delta < math.inf:
            raise ValueError(f"Huber: delta must be a finite number above 0, got {self.delta!r}")

    def rows(self, targets, outputs):
        return _huber(targets, outputs, self.delta)


_NAMES: dict[str, type[Loss]] = {
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "huber": Huber,
}
_ALIASES = {cls.__name__: cls for cls in _NAMES.values()} | {
    "MSE": MeanSquaredError, "MAE": MeanAbsoluteError, "huber_loss": Huber,
}  # fmt: skip


def get(identifier) -> Loss:
    """The loss that a name, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Loss or dict
        A name as in `"mse"` or `"MeanSquaredError"`; what `Loss.config` gave.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one.
    TypeError
        For any other type.
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, dict):
        return _class(identifier.get("class_name"))(**identifier["config"])
    if isinstance(identifier, str):
        return _class(identifier)()
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        raise TypeError(f"loss is the class {identifier.__name__}; make an object of it: {identifier.__name__}()")
    raise TypeError(f"loss must be a name or an object of nbbn.losses, got {identifier!r}; functions are not supported")


def _class(name) -> type[Loss]:
    known = {**_NAMES, **_ALIASES}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(str(name).lower(), _NAMES, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(_NAMES)}"
    raise ValueError(f"unknown loss {name!r}; {hint}")
