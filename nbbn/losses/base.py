"""What every loss of `compile` has, and what comes of its values."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nbbn import loss_formulas as formulas
from nbbn.losses.records import LossRecord, record_of
from nbbn.names import Specification
from nbbn.number import Number
from nbbn.tensor import Tensor, tensor
from nbbn.utils import keras_name


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
        if self.reduction not in (*MEANS, *_OTHER_REDUCTIONS):
            known = ", ".join(map(repr, (*MEANS, *_OTHER_REDUCTIONS)))
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
        if values.ndim == 0:
            return np.full(len(outputs), values)
        return by_row(values) * self._scale(targets)

    def counted(self, targets: np.ndarray) -> np.ndarray | None:
        """Which values count in a mean; None for all of them."""
        return None

    def _scale(self, targets: np.ndarray) -> float:
        """What the mean of all values is multiplied by to be that of those which count."""
        counted = self.counted(targets)
        return 1.0 if counted is None else counted.size / max(int(counted.sum()), 1)

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
        if (scale := self._scale(own)) != 1:
            values, gradient = values * scale, gradient * scale
        return by_row(values) if values.ndim else values, gradient

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
        if self.reduction == "sum":
            return Number(values.sum())
        if self.reduction == "mean_with_sample_weight":
            if (counted := self.counted(y_true)) is not None:
                weights = counted * (1.0 if weights is None else weights)
            if weights is not None:
                total = weights.sum()
                return Number(values.sum() / total if total else 0.0)
        return Number(values.mean() * self._scale(y_true))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as Keras gives them."""
        return self.config()["config"]


MEANS = ("sum_over_batch_size", "mean")
_OTHER_REDUCTIONS: tuple[str | None, ...] = ("sum", "mean_with_sample_weight", "none", None)


def by_row(values: np.ndarray) -> np.ndarray:
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


def as_given(loss: Loss, end: str, engine: str) -> Loss:
    """A cross-entropy of probabilities that no activation ends: NumPy computes it."""
    found = copy.copy(loss)
    found.__dict__.update(engine=engine, _end=end)
    return found
