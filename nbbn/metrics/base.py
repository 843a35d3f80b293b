"""What every metric does: sums over rows, and the figure that follows from them."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from nbbn import losses
from nbbn.losses import Loss
from nbbn.names import Specification
from nbbn.number import Number
from nbbn.tensor import Tensor, tensor
from nbbn.utils import keras_name


class Variable(Tensor):
    """What a metric of one's own keeps: an array that is assigned to."""

    def assign(self, value: Any) -> None:
        """Take a value."""
        self[...] = value

    def assign_add(self, value: Any) -> None:
        """Add a value."""
        self[...] += np.asarray(value)


@dataclass(frozen=True, kw_only=True)
class Metric(Specification):
    """What every metric does: it sums over rows, and the figure follows from the sums.

    Parameters
    ----------
    name : str or None
        What the figure is called in `History.history`; None: Keras's name of the class.
    dtype : None
        Taken as in Keras; figures are Python floats.

    Attributes
    ----------
    takes_labels : bool
        Whether targets are class indices `(n, ...)`, not of the outputs' shape.
    rises : bool
        Whether larger is better.

    Notes
    -----
    A metric of one's own is a function of `(y_true, y_pred)`, or a subclass with `update_state`,
    `result` and variables that `add_weight` made.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import MeanAbsoluteError
    >>> metric = MeanAbsoluteError(name="error")
    >>> metric(np.array([[1.0], [2.0]]), np.array([[1.5], [2.0]])), metric.name
    (0.25, 'error')
    >>> metric.update_state([[1.0], [2.0]], [[2.25], [2.25]])
    >>> metric.result()  # of all four rows
    0.5
    >>> metric.reset_state()
    """

    name: str | None = None
    dtype: str | None = None

    record: ClassVar[str] = ""  # the loss of whose rows it is the mean, if of one
    takes_labels: ClassVar[bool] = False
    takes_any: ClassVar[bool] = False  # whether it takes what the loss takes
    rises: ClassVar[bool] = False
    keras_name: ClassVar[str] = ""  # where it does not follow from the class's

    def __post_init__(self) -> None:
        if self.name is None:
            name = type(self).keras_name or keras_name(type(self).__name__)
            object.__setattr__(self, "name", name)
        k = getattr(self, "k", 1)
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise self._error(f"k must be a whole number of at least 1, got {k!r}")

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Each row's figure, `(n, ...)`, for checked targets and outputs."""
        return losses.RECORDS[self.record].of_rows(targets, outputs)

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        """What is added up over rows; weights are `(n,)`."""
        return mean_sums(self.rows(targets, outputs), weights)

    def figure(self, sums: np.ndarray) -> Any:
        """The figure of sums: a number, or an array of several."""
        return sums[0] / sums[1] if sums[1] else 0.0

    def measured(self, targets: np.ndarray, outputs: np.ndarray,
                 sizes: np.ndarray | None = None) -> Any:
        """The figure of checked rows alone; what is kept stays.

        `sizes` are the rows of each batch: a metric of one's own takes them batch by batch, as in
        Keras. None: all at once.
        """
        if type(self).update_state is not Metric.update_state:
            self.reset_state()
            for part in _parts(len(outputs), sizes):
                self.update_state(targets[part], outputs[part])
            found = self.result()
            found = found if isinstance(found, dict) else _shown(np.array(found))
            self.reset_state()
            return found
        return _shown(self.figure(self.sums(targets, outputs, None)))

    # -- Keras's

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take rows.

        Parameters
        ----------
        y_true, y_pred : array-like
            Of one shape, or labels without the last axis.
        sample_weight : array-like of shape (n,), optional
        """
        outputs, targets = np.asarray(y_pred), np.asarray(y_true)
        if self.takes_labels:
            targets = targets.reshape(outputs.shape[:-1]).astype(np.int64)
        elif not self.takes_any:
            targets, outputs = losses.alike(str(self.name), targets, outputs)
        weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        self._add(self.sums(targets, outputs, weights))

    def _add(self, sums: np.ndarray) -> None:
        self.__dict__["_sums"] = self.__dict__.get("_sums", 0) + sums

    def result(self) -> Any:
        """The figure of all rows since the last reset: a number with `numpy()`, or an array."""
        sums = self.__dict__.get("_sums")
        return Number(0.0) if sums is None else _answered(self.figure(sums))

    def reset_state(self) -> None:
        """Forget all rows."""
        self.__dict__.pop("_sums", None)
        for variable in self.variables:
            variable.assign(0)

    def __call__(self, *given: Any, **more: Any) -> Any:
        """`update_state`, then `result`."""
        self.update_state(*given, **more)
        return self.result()

    @property
    def variables(self) -> list[Variable]:
        """What `add_weight` made."""
        return self.__dict__.get("_variables", [])

    def add_weight(self, shape: Any = (), initializer: Any = None, dtype: Any = None,
                   name: str | None = None) -> Variable:
        """A variable that begins at 0, for metrics of one's own."""
        variable = np.zeros(shape, dtype or np.float64).view(Variable)
        self.__dict__.setdefault("_variables", []).append(variable)
        return variable

    add_variable = add_weight

    def get_config(self) -> dict[str, Any]:
        """The arguments, as Keras gives them."""
        return self.config()["config"]


def _parts(rows: int, sizes: np.ndarray | None) -> list[slice]:
    """The batches of some rows."""
    if sizes is None:
        return [slice(0, rows)]
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for size, end in zip(sizes, ends)]


def _answered(figure: Any) -> Any:
    return tensor(figure) if np.ndim(figure) else Number(figure)


def _shown(figure: Any) -> Any:
    return np.asarray(figure) if np.ndim(figure) else float(figure)


def mean_sums(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The sum of the rows' means, and how many rows there are, both weighted."""
    values = np.asarray(values)
    if values.ndim > 1:
        values = values.reshape(len(values), -1).mean(1, dtype=np.float64)
    if weights is None:
        return np.array([values.sum(dtype=np.float64), np.size(values)])
    weights = np.broadcast_to(weights.reshape(-1), values.shape)
    return np.array([(values * weights).sum(dtype=np.float64), weights.sum()])


class Mean(Metric):
    """The mean of values.

    Examples
    --------
    >>> from nbbn.metrics import Mean
    >>> metric = Mean()
    >>> metric.update_state([1.0, 2.0])
    >>> metric(6.0)
    3.0
    """

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore
        """Take values."""
        weights = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        self._add(mean_sums(np.asarray(values, np.float64), weights))


class Sum(Metric):
    """The sum of values.

    Examples
    --------
    >>> from nbbn.metrics import Sum
    >>> metric = Sum()
    >>> metric.update_state([1.0, 2.0])
    >>> metric(6.0)
    9.0
    """

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore
        """Take values."""
        values = np.asarray(values, np.float64)
        if sample_weight is not None:
            values = values * np.asarray(sample_weight, np.float64)
        self._add(np.array([values.sum(), 1.0]))

    def figure(self, sums: np.ndarray) -> float:
        return float(sums[0])


@dataclass(frozen=True)
class MeanMetricWrapper(Metric):
    """The mean of what a function of `(y_true, y_pred)` gives: a number a row, or one for all.

    Parameters
    ----------
    fn : callable
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import MeanMetricWrapper
    >>> metric = MeanMetricWrapper(lambda t, y: (t == y).all(-1), name="same")
    >>> metric(np.array([[1, 2], [1, 2]]), np.array([[1, 2], [1, 3]]))
    0.5
    """

    fn: Callable[..., Any]

    takes_any = True

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError("MeanMetricWrapper: fn must be a function (y_true, y_pred), "
                            f"got {self.fn!r}")
        if self.name is None:
            object.__setattr__(self, "name", getattr(self.fn, "__name__", "mean_metric_wrapper"))
        super().__post_init__()

    def measured(self, targets: np.ndarray, outputs: np.ndarray,
                 sizes: np.ndarray | None = None) -> Any:
        parts = _parts(len(outputs), sizes)
        sums = [self.sums(targets[part], outputs[part], None) for part in parts]
        return _shown(self.figure(np.sum(sums, 0)))

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        found = np.asarray(self.fn(targets, outputs), np.float64)
        if found.ndim == 0:  # each batch's number counts once, as in Keras
            return np.array([found, 1.0])
        return mean_sums(found, weights)

    def config(self) -> dict:
        """ValueError: functions cannot be written."""
        raise ValueError(f"metric {self.name!r} is a function, which cannot be written to a file; "
                         "compile anew after loading")


def of_loss(loss: type[Loss], targets: np.ndarray, outputs: np.ndarray,
            **arguments: Any) -> np.ndarray:
    """The values of a loss of some arguments."""
    made = loss(**arguments)
    kept = targets if made.takes_labels else targets.astype(np.float64)
    return made.call(made.prepare(kept), outputs.astype(np.float64))
