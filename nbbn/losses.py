"""Losses: one record for each, and Keras's classes and names for `compile`.

`RECORDS` says of each loss that has a kernel, by the engine's name, what the rest of the package
asks about it. A new loss is a formula in `nbbn.loss_formulas` and its class for `compile`. Where it
is worth a kernel, a function of rows, a row in `RECORDS`, and the kernel of the record's name in
`nbbn.kernels.loss` come to it.
"""

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nbbn import loss_formulas as formulas
from nbbn import names_of_keras
from nbbn.names import Specification, find, suggesting
from nbbn.number import Number
from nbbn.tensor import Tensor, tensor
from nbbn.utils import keras_name

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
    outside : bool
        Whether NumPy computes it, between the kernels of a step.
    """

    engine: str
    rows: Callable[..., np.ndarray]
    end: str | None = None
    takes_labels: bool = False
    counts_hits: bool = False
    parameter: str | None = None
    sklearn: str | None = None
    sklearn_sums: bool = False
    outside: bool = False

    def of_rows(self, targets: np.ndarray, outputs: np.ndarray,
                parameter: float = 0.0) -> np.ndarray:
        """Value of each row, for any loss: those without a parameter do without it.

        Of rows of several axes the mean over all numbers, or over all pixels where each has a loss.
        """
        if outputs.ndim > 2:
            size = len(outputs), -1
            if self.end != "softmax":
                return self.of_rows(targets.reshape(size), outputs.reshape(size), parameter)
            pixels = outputs.reshape(-1, outputs.shape[-1])
            own = targets.reshape(pixels.shape[: 1 if self.takes_labels else 2])
            return self.of_rows(own, pixels, parameter).reshape(size).mean(1)
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

# Of losses that NumPy computes: of numbers, and of labels.
_OUTSIDE = {name: LossRecord(name, _mean_squared_error, takes_labels=labels, outside=True)
            for name, labels in (("numpy", False), ("numpy_labels", True))}


def record_of(engine: str) -> LossRecord:
    """The record of a name."""
    return _OUTSIDE[engine] if engine in _OUTSIDE else RECORDS[engine]


# -- Keras's


@dataclass(frozen=True, kw_only=True)
class Loss(Specification):
    """What every loss of `compile` has.

    Parameters
    ----------
    reduction : str
        `sum_over_batch_size` (`mean`): the mean over the rows, and the only one that `compile`
        takes. Called, a loss also gives the `sum`, `mean_with_sample_weight`, which divides by the
        weights' sum, and with `none` or None the values.
    name : str or None
    axis : int
        Only -1: the units stand last.
    dtype : None
        Taken as in Keras; the layers' dtype decides.

    Attributes
    ----------
    engine : str
        Name of its record, `numpy` for a loss without a kernel.
    names : tuple of str
        What it is called by in `compile`; the first is the one that messages use.
    aliases : tuple of str
        Further names, beside the class's own.

    Notes
    -----
    A loss of one's own is a subclass with `call(y_true, y_pred)` and `gradient(y_true, y_pred)`, or
    a `CustomLoss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Huber
    >>> loss = Huber(delta=1.0)
    >>> loss.rows(np.array([[0.0], [0.0]]), np.array([[0.5], [3.0]]))
    array([0.125, 2.5  ])
    >>> loss.config()["config"]["delta"], loss.shown
    (1.0, 'huber')
    >>> loss(np.array([[0.0], [0.0]]), np.array([[0.5], [3.0]]))
    1.3125
    """

    reduction: str = "sum_over_batch_size"
    name: str | None = None
    axis: int = -1
    dtype: str | None = None

    engine: ClassVar[str] = "numpy"
    names: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[tuple[str, ...]] = ()
    formula: ClassVar[formulas.Formula] = formulas.squared_error
    # Of outputs before their activation.
    of_logits: ClassVar[formulas.Formula | None] = None
    # Arguments that the formula takes.
    arguments: ClassVar[tuple[str, ...]] = ()
    any_axis: ClassVar[bool] = False
    # Without annotation: a field only of the subclasses that have it.
    from_logits = False

    def __post_init__(self) -> None:
        if self.reduction not in (*_MEANS, *_OTHER_REDUCTIONS):
            known = ", ".join(map(repr, (*_MEANS, *_OTHER_REDUCTIONS)))
            raise self._error(f"reduction {self.reduction!r} is not supported; "
                              f"use 'sum_over_batch_size', or one of {known}")
        if self.axis != -1 and not self.any_axis:
            raise self._error(f"axis must be -1, got {self.axis!r}; put the units last")
        if not isinstance(self.from_logits, bool):
            raise TypeError(f"{type(self).__name__}: from_logits must be True or False, "
                            f"got {self.from_logits!r}")
        if hasattr(self, "label_smoothing"):
            self._number("label_smoothing", 0, 1, "a number in [0, 1]")

    @property
    def shown(self) -> str:
        """The loss by the name that a user would give it."""
        return self.names[0] if self.names else self.name or keras_name(type(self).__name__)

    @property
    def record(self) -> LossRecord:
        """What is to be known of it."""
        return record_of(self.engine)

    @property
    def end(self) -> str | None:
        """Activation that what it compares comes from; None for any."""
        return self.__dict__.get("_end", self.record.end)

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
        outputs : ndarray, shape (n, ..., units)
            After the activation `end`.

        Returns
        -------
        ndarray, shape (n,)
            float64.
        """
        if not self.record.outside:
            return self.record.of_rows(targets, outputs, self.parameter)
        values = np.asarray(self.pair(targets.astype(np.float64), outputs.astype(np.float64))[0])
        return np.full(len(outputs), values) if values.ndim == 0 else _by_row(values)

    def of_probabilities(self) -> "Loss":
        """The same of outputs that are taken as they are: probabilities that no activation ends."""
        return self

    def pair(self, targets: np.ndarray, outputs: np.ndarray) -> formulas.Pair:
        """Values, and the derivatives of the rows' losses by the outputs, in NumPy.

        The targets are prepared; the values are a row's or more, or one number for all rows.
        """
        if type(self).call is not Loss.call:
            return np.asarray(self.call(targets, outputs)), self.gradient(targets, outputs)
        numbers = {name: getattr(self, name) for name in self.arguments}
        formula = type(self).of_logits if self.from_logits else None
        values, slopes = (formula or type(self).formula)(targets, outputs, **numbers)
        return values, slopes / max(values[:1].size, 1) if values.ndim > 1 else slopes

    def in_step(self, targets: np.ndarray, outputs: np.ndarray) -> formulas.Pair:
        """The rows' losses, or one number for all, and their gradients, as a step takes them.

        Raises
        ------
        ValueError
            For values or gradients of another shape.
        """
        wide, shape = outputs.astype(np.float64), outputs.shape
        own = targets.reshape(shape[:-1]) if self.takes_labels else \
            targets.reshape(shape).astype(np.float64)
        values, gradient = self.pair(own, wide)
        values, gradient = np.asarray(values), np.asarray(gradient)
        if values.ndim and len(values) != len(outputs):
            raise self._error(f"the value must have a number for each of the {len(outputs)} rows, "
                              f"or be one number, got shape {values.shape}")
        if gradient.shape != outputs.shape:
            raise self._error("the gradient must have the outputs' shape "
                              f"{outputs.shape}, got {gradient.shape}")
        return _by_row(values) if values.ndim else values, gradient

    def call(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """The values, over whose last axis the loss has summed: a number a row, or a pixel."""
        return self.pair(y_true, y_pred)[0]

    def gradient(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """The derivative of each row's number, the mean of its values, by `y_pred`."""
        if type(self).call is not Loss.call:
            raise TypeError(f"loss {self.shown!r} has no gradient: give its class a method "
                            "gradient(y_true, y_pred), or use CustomLoss(value, gradient)")
        return self.pair(y_true, y_pred)[1]

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Number | Tensor:
        """The loss of some rows.

        Parameters
        ----------
        y_true, y_pred : array-like
            Of one shape, or labels without the last axis.
        sample_weight : array-like, optional
            A number a row, or for each value.

        Returns
        -------
        Number or Tensor
            A float with `numpy()`; without reduction an array of the values.
        """
        y_pred, y_true = np.asarray(y_pred, np.float64), np.asarray(y_true)
        if self.takes_labels:
            y_true = y_true.reshape(y_pred.shape[:-1])
        else:
            y_true, y_pred = alike(self.shown, y_true.astype(np.float64), y_pred)
        values = np.asarray(self.call(self.prepare(y_true), y_pred), np.float64)
        weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weights is not None:
            if weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
                weights = weights[..., 0]
            if weights.ndim < values.ndim:
                weights = weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim))
            values = values * weights
        if self.reduction in (None, "none"):
            return tensor(values) if values.ndim else Number(values)
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            total = weights.sum()
            return Number(values.sum() / total if total else 0.0)
        return Number(values.sum() if self.reduction == "sum" else values.mean())

    def get_config(self) -> dict[str, Any]:
        """The arguments, as Keras gives them."""
        return self.config()["config"]


_MEANS = ("sum_over_batch_size", "mean")
_OTHER_REDUCTIONS: tuple[str | None, ...] = ("sum", "mean_with_sample_weight", "none", None)


def _by_row(values: np.ndarray) -> np.ndarray:
    """The mean of each row's values."""
    return values.reshape(len(values), -1).mean(1) if values.ndim > 1 else values


def alike(name: str, t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets and outputs of one shape: a last axis of length 1 may be there or not."""
    if t.ndim == y.ndim + 1 and t.shape[-1] == 1:
        t, y = (t, y[..., None]) if y.ndim == 1 else (t[..., 0], y)
    elif y.ndim == t.ndim + 1 and y.shape[-1] == 1:
        t, y = (t[..., None], y) if t.ndim == 1 else (t, y[..., 0])
    if t.shape != y.shape:
        raise ValueError(f"{name} compares y_true and y_pred of one shape, got {t.shape} and "
                         f"{y.shape}")
    return t, y


def _as_given(loss: Loss, end: str, engine: str) -> Loss:
    """A cross-entropy of probabilities that no activation ends: NumPy computes it."""
    found = copy.copy(loss)
    found.__dict__.update(engine=engine, _end=end)
    return found


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
    formula = formulas.sparse_categorical_crossentropy
    of_logits = formulas.sparse_of_logits

    def of_probabilities(self) -> Loss:
        return _as_given(self, "softmax", "numpy_labels")

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
    formula = formulas.categorical_crossentropy
    of_logits = formulas.categorical_of_logits

    def of_probabilities(self) -> Loss:
        return _as_given(self, "softmax", "numpy")

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        s = targets.dtype.type(self.label_smoothing)
        return targets * (1 - s) + s / targets.shape[-1] if s else targets


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
    aliases = ("bce", "BCE")
    formula = formulas.binary_crossentropy
    of_logits = formulas.binary_of_logits

    def of_probabilities(self) -> Loss:
        return _as_given(self, "sigmoid", "numpy")

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


# -- those that NumPy computes between the kernels of a step


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


class Hinge(Loss):
    """`mean(max(1 - t * y, 0))` over the units; targets are -1 and 1, or 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Hinge
    >>> Hinge()(np.array([[-1.0], [1.0]]), np.array([[-2.0], [0.5]]))
    0.25
    """

    names = ("hinge",)
    formula = formulas.hinge


class SquaredHinge(Loss):
    """`mean(max(1 - t * y, 0)^2)` over the units; targets are -1 and 1, or 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import SquaredHinge
    >>> SquaredHinge()(np.array([[-1.0], [1.0]]), np.array([[-2.0], [0.5]]))
    0.125
    """

    names = ("squared_hinge",)
    formula = formulas.squared_hinge


class CategoricalHinge(Loss):
    """`max(1 + max((1 - t) * y) - sum(t * y), 0)`: for one-hot rows.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalHinge
    >>> CategoricalHinge()(np.array([[1.0, 0.0]]), np.array([[0.5, 0.25]]))
    0.75
    """

    names = ("categorical_hinge",)
    formula = formulas.categorical_hinge


class KLDivergence(Loss):
    """`sum(t * log(t / y))` over the units, both kept within 1e-7 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import KLDivergence
    >>> round(KLDivergence()(np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])), 4)
    0.1438
    """

    names = ("kl_divergence",)
    aliases = ("kld", "KLD", "kullback_leibler_divergence")
    formula = formulas.kl_divergence


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


@dataclass(frozen=True)
class _Focal(Loss):
    """What the focal cross-entropies share."""

    alpha: float = 0.25
    gamma: float = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("gamma", 0, rule="a finite number of at least 0")


def _focal_of_sigmoid(t: np.ndarray, y: np.ndarray, **numbers: Any) -> formulas.Pair:
    return formulas.of_sigmoid(formulas.binary_focal_crossentropy, t, y, **numbers)


def _focal_of_softmax(t: np.ndarray, y: np.ndarray, **numbers: Any) -> formulas.Pair:
    return formulas.of_softmax(formulas.categorical_focal_crossentropy, t, y, **numbers)


@dataclass(frozen=True)
class BinaryFocalCrossentropy(_Focal):
    """The binary cross-entropy, each unit's times `(1 - p)^gamma` of its right answer.

    Lin et al. (2018).

    Parameters
    ----------
    apply_class_balancing : bool
        Whether units are weighed by `alpha`, and those of target 0 by `1 - alpha`.
    alpha, gamma : float
    from_logits : bool
        Whether the model ends before the sigmoid.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / 2`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import BinaryFocalCrossentropy
    >>> round(BinaryFocalCrossentropy()(np.array([[1.0]]), np.array([[0.5]])), 4)
    0.1733
    """

    apply_class_balancing: bool = False
    alpha: float = 0.25
    gamma: float = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0

    names = ("binary_focal_crossentropy",)
    formula = formulas.binary_focal_crossentropy
    of_logits = _focal_of_sigmoid
    arguments = ("alpha", "gamma", "apply_class_balancing")
    prepare = BinaryCrossentropy.prepare


@dataclass(frozen=True)
class CategoricalFocalCrossentropy(_Focal):
    """`-sum(alpha * (1 - p)^gamma * t * log p)`: for one-hot rows.

    Lin et al. (2018).

    Parameters
    ----------
    alpha : float or sequence of float
        A weight, or one for each class.
    gamma : float
    from_logits : bool
        Whether the model ends before the softmax.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / classes`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalFocalCrossentropy
    >>> loss = CategoricalFocalCrossentropy()
    >>> round(loss(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])), 4)
    0.0433
    """

    names = ("categorical_focal_crossentropy",)
    formula = formulas.categorical_focal_crossentropy
    of_logits = _focal_of_softmax
    arguments = ("alpha", "gamma")
    prepare = CategoricalCrossentropy.prepare


@dataclass(frozen=True)
class CategoricalGeneralizedCrossEntropy(Loss):
    """`(1 - p[label]^q) / q`: for class indices that may be wrong (Zhang and Sabuncu, 2018).

    Parameters
    ----------
    q : float
        Above 0 and below 1.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalGeneralizedCrossEntropy
    >>> CategoricalGeneralizedCrossEntropy()(np.array([0]), np.array([[0.25, 0.75]]))
    1.0
    """

    q: float = 0.5

    engine = "numpy_labels"
    names = ("categorical_generalized_cross_entropy",)
    formula = formulas.categorical_generalized_cross_entropy
    arguments = ("q",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self._number("q", 0, 1, "a number between 0 and 1") < 1:
            raise self._error(f"q must be a number between 0 and 1, got {self.q!r}")


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
            check_gradient(self, targets, outputs)
            self.__dict__["_checked"] = True
        return found

    def config(self) -> dict:
        """ValueError: functions cannot be written."""
        raise ValueError(f"loss {self.shown!r} is made of functions, which cannot be written to a "
                         "file; save the weights, or compile anew after loading")


# Rows and numbers that a gradient is checked at; a step, as a share of the number's size; how far
# off a derivative may be, as a share of its size.
_CHECKED_ROWS, _CHECKED_NUMBERS = 16, 64
_STEP, _SLIP = 1e-5, 1e-4


def check_gradient(loss: Any, y_true: Any, y_pred: Any) -> None:
    """Compare a loss's gradient with central differences, at up to 64 numbers of up to 16 rows.

    Parameters
    ----------
    loss : Loss, str or tuple
        As `get` takes it.
    y_true, y_pred : array-like
        Some targets and outputs.

    Raises
    ------
    ValueError
        For a wrong gradient, with the place.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CustomLoss, check_gradient
    >>> wrong = CustomLoss(lambda t, y: ((y - t) ** 2).sum(-1), lambda t, y: y - t)
    >>> try:
    ...     check_gradient(wrong, np.array([[0.0]]), np.array([[1.0]]))
    ... except ValueError as err:
    ...     print(str(err).partition(";")[0])
    CustomLoss: the gradient at row 0, unit 0 is 1, but central differences of the value give 2
    """
    loss = get(loss)
    y = np.array(y_pred, np.float64)[:_CHECKED_ROWS]
    t = np.asarray(y_true)[:_CHECKED_ROWS]
    if not loss.takes_labels:
        t = t.astype(np.float64)

    def total() -> float:
        values = np.asarray(loss.call(t, y), np.float64)
        return float(_by_row(values).sum() if values.ndim else values)

    slopes = np.asarray(loss.gradient(t, y))
    if slopes.shape != y.shape:
        raise loss._error(f"the gradient must have the outputs' shape {y.shape}, "
                          f"got {slopes.shape}")
    for at in np.unique(np.linspace(0, y.size - 1, _CHECKED_NUMBERS).astype(int)):
        place = np.unravel_index(at, y.shape)
        number = float(y[place])
        step = _STEP * max(1.0, abs(number))
        here, sides = total(), []
        for moved in (number - step, number + step):
            y[place] = moved
            sides.append(total())
        y[place] = number
        left, right = (here - sides[0]) / step, (sides[1] - here) / step
        # At a kink any slope between those of both sides will do.
        slip = _SLIP * max(1.0, abs(left), abs(right))
        got = float(slopes[place])
        if not min(left, right) - slip <= got <= max(left, right) + slip:
            where = ", ".join(map(str, place[1:])) or "0"
            raise loss._error(f"the gradient at row {place[0]}, unit {where} is {got:.6g}, but "
                              "central differences of the value give "
                              f"{0.5 * (left + right):.6g}; it must be the derivative of each "
                              "row's number by y_pred")


_CLASSES: tuple[type[Loss], ...] = (
    SparseCategoricalCrossentropy, CategoricalCrossentropy, BinaryCrossentropy, MeanSquaredError,
    MeanAbsoluteError, Huber, LogCosh, MeanAbsolutePercentageError, MeanSquaredLogarithmicError,
    Hinge, SquaredHinge, CategoricalHinge, KLDivergence, Poisson, CosineSimilarity,
    BinaryFocalCrossentropy, CategoricalFocalCrossentropy, CategoricalGeneralizedCrossEntropy, Dice,
    Tversky,
)  # fmt: skip
for _each in _CLASSES:
    suggesting(_each)
_NAMES = {name: cls for cls in _CLASSES for name in cls.names}
_ALIASES = {alias: cls for cls in _CLASSES for alias in (cls.__name__, *cls.aliases)}
def _function(cls: type[Loss]) -> Callable[..., Number | Tensor]:
    """The loss as a function of targets and outputs, of Keras's name."""

    def function(y_true: Any, y_pred: Any, **arguments: Any) -> Number | Tensor:
        return cls(reduction="none", **arguments)(y_true, y_pred)

    name = keras_name(cls.__name__) if not cls.names else cls.names[0]
    targets = "[0]" if cls().takes_labels else "[[0.25, 0.75]]"
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""`{cls.__name__}` without reduction, as a function.

    Parameters
    ----------
    y_true, y_pred : array-like
    **arguments
        Of `{cls.__name__}`.

    Returns
    -------
    Tensor
        The values, over whose last axis the loss has summed.

    Examples
    --------
    >>> from nbbn.losses import {name}
    >>> value = {name}({targets}, [[0.5, 0.5]])
    """
    _OF_FUNCTIONS[function] = cls
    return function


_OF_FUNCTIONS: dict[Callable[..., Any], type[Loss]] = {}
binary_crossentropy = _function(BinaryCrossentropy)
binary_focal_crossentropy = _function(BinaryFocalCrossentropy)
categorical_crossentropy = _function(CategoricalCrossentropy)
categorical_focal_crossentropy = _function(CategoricalFocalCrossentropy)
categorical_generalized_cross_entropy = _function(CategoricalGeneralizedCrossEntropy)
categorical_hinge = _function(CategoricalHinge)
cosine_similarity = _function(CosineSimilarity)
dice = _function(Dice)
hinge = _function(Hinge)
huber = _function(Huber)
kl_divergence = _function(KLDivergence)
log_cosh = _function(LogCosh)
mean_absolute_error = _function(MeanAbsoluteError)
mean_absolute_percentage_error = _function(MeanAbsolutePercentageError)
mean_squared_error = _function(MeanSquaredError)
mean_squared_logarithmic_error = _function(MeanSquaredLogarithmicError)
poisson = _function(Poisson)
sparse_categorical_crossentropy = _function(SparseCategoricalCrossentropy)
squared_hinge = _function(SquaredHinge)
tversky = _function(Tversky)

__all__ = [
    *sorted(cls.__name__ for cls in (*_CLASSES, CustomLoss, Loss)),
    *sorted(function.__name__ for function in _OF_FUNCTIONS), "check_gradient", "get",
]


def get(identifier: Any) -> Loss:
    """The loss that a name, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Loss, dict, function or tuple
        A name as in `"mse"` or `"MeanSquaredError"`; what `Loss.config` gave; a function of this
        module; a pair of functions, or an object with both, as `CustomLoss` takes them.

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
    if inspect.isfunction(identifier) and identifier in _OF_FUNCTIONS:
        return _OF_FUNCTIONS[identifier]()
    if isinstance(identifier, tuple | list) and [*map(callable, identifier)] == [True, True]:
        return CustomLoss(*identifier)
    value = getattr(identifier, "value", None) or getattr(identifier, "call", None)
    slope = getattr(identifier, "gradient", None)
    if callable(value) and callable(slope) and not isinstance(identifier, type):
        name = getattr(identifier, "name", None) or keras_name(type(identifier).__name__)
        return CustomLoss(value=value, slope=slope, name=name,
                          check_gradient=bool(getattr(identifier, "check_gradient", False)))
    raise TypeError(f"loss must be a name or an object of nbbn.losses, got {identifier!r}; "
                    "functions are not supported without their gradient: give a pair "
                    "(value, gradient) of NumPy functions, as nbbn.losses.CustomLoss takes them")


def to_train(identifier: Any) -> Loss:
    """`get`, for `compile`: ValueError or TypeError for a loss that cannot be trained by."""
    loss = get(identifier)
    if loss.reduction not in _MEANS:
        raise loss._error(f"reduction {loss.reduction!r} is for calls, compile takes the mean over "
                          "the rows; use 'sum_over_batch_size'")
    if type(loss).call is not Loss.call and type(loss).gradient is Loss.gradient:
        loss.gradient(None, None)
    return loss


def _class(name: object) -> type[Loss]:
    return find("loss", name, _NAMES, _ALIASES,
                instead=names_of_keras.INSTEAD["losses"])


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
