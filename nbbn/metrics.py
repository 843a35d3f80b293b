"""Metrics: Keras's classes and names for `compile`, on NumPy arrays in float64."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from nbbn import losses, names_of_keras
from nbbn.losses import Loss
from nbbn.names import Specification, find, suggesting
from nbbn.utils import keras_name

__all__ = [
    "AUC", "BinaryAccuracy", "BinaryCrossentropy", "CategoricalAccuracy", "CategoricalCrossentropy",
    "MeanAbsoluteError", "MeanSquaredError", "Metric", "Precision", "Recall",
    "RootMeanSquaredError", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy", "TopKCategoricalAccuracy", "get",
]


@dataclass(frozen=True, kw_only=True)
class Metric(Specification):
    """What every metric does: it measures each row, and the mean over the rows is the figure.

    Parameters
    ----------
    name : str or None
        What the figure is called in `History.history`; None: Keras's name of the class.
    dtype : None
        Taken as in Keras; figures are Python floats.

    Attributes
    ----------
    takes_labels : bool
        Whether targets are class indices `(n,)`, not a row of numbers for each row.
    rises : bool
        Whether larger is better.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import MeanAbsoluteError
    >>> metric = MeanAbsoluteError(name="error")
    >>> metric(np.array([[1.0], [2.0]]), np.array([[1.5], [2.0]])), metric.name
    (0.25, 'error')
    """

    name: str | None = None
    dtype: str | None = None

    record: ClassVar[str]  # the loss of whose rows it is the mean, if of one
    takes_labels: ClassVar[bool] = False
    rises: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", keras_name(type(self).__name__))
        k = getattr(self, "k", 1)
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise self._error(f"k must be a whole number of at least 1, got {k!r}")

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Each row's figure, `(n,)`, for targets as given to `fit` and outputs `(n, units)`."""
        return losses.RECORDS[self.record].rows(targets, outputs)

    def __call__(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        """The figure of all rows."""
        return float(self.rows(targets, outputs).mean(dtype=np.float64))


class SparseCategoricalAccuracy(Metric):
    """Share of rows whose largest output is the label's.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import SparseCategoricalAccuracy
    >>> SparseCategoricalAccuracy()(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]))
    0.5
    """

    takes_labels = rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmax(1) == targets


class CategoricalAccuracy(Metric):
    """Share of rows whose largest output is where the largest target is.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import CategoricalAccuracy
    >>> CategoricalAccuracy()(np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.7, 0.3]]))
    0.5
    """

    rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmax(1) == targets.argmax(1)


@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """Share of units on the right side of a threshold.

    Parameters
    ----------
    threshold : float
        Of the outputs; targets are 1 above 0.5.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import BinaryAccuracy
    >>> targets, outputs = np.array([[1.0], [0.0]]), np.array([[0.6], [0.4]])
    >>> BinaryAccuracy()(targets, outputs), BinaryAccuracy(threshold=0.3)(targets, outputs)
    (1.0, 0.5)
    """

    threshold: float = 0.5

    rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return ((outputs > self.threshold) == (targets > 0.5)).mean(1)


@dataclass(frozen=True)
class SparseTopKCategoricalAccuracy(Metric):
    """Share of rows whose label is among the `k` largest outputs.

    Parameters
    ----------
    k : int
        At least 1.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import SparseTopKCategoricalAccuracy
    >>> outputs = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    >>> SparseTopKCategoricalAccuracy(k=2)(np.array([1, 2]), outputs)
    0.5
    """

    k: int = 5

    takes_labels = rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        picked = np.take_along_axis(outputs, targets[:, None], 1)
        return (outputs > picked).sum(1) < self.k


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """Share of rows whose largest target is where one of the `k` largest outputs is.

    Parameters
    ----------
    k : int
        At least 1.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import TopKCategoricalAccuracy
    >>> TopKCategoricalAccuracy(k=2)(np.array([[0, 1, 0]]), np.array([[0.5, 0.3, 0.2]]))
    1.0
    """

    takes_labels = False

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return super().rows(targets.argmax(1), outputs)


class MeanSquaredError(Metric):
    """`mean((y - t)^2)`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import MeanSquaredError
    >>> MeanSquaredError()(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    2.0
    """

    record = "mean_squared_error"


class RootMeanSquaredError(MeanSquaredError):
    """`sqrt(mean((y - t)^2))`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import RootMeanSquaredError
    >>> round(RootMeanSquaredError()(np.array([[1.0], [2.0]]), np.array([[4.0], [6.0]])), 4)
    3.5355
    """

    def __call__(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        return super().__call__(targets, outputs) ** 0.5


class MeanAbsoluteError(Metric):
    """`mean(|y - t|)`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import MeanAbsoluteError
    >>> MeanAbsoluteError()(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    1.0
    """

    record = "mean_absolute_error"


class SparseCategoricalCrossentropy(Metric):
    """`-log p[label]`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import SparseCategoricalCrossentropy
    >>> round(SparseCategoricalCrossentropy()(np.array([0]), np.array([[0.5, 0.5]])), 6)
    0.693147
    """

    takes_labels = True
    record = "softmax_cross_entropy"


class CategoricalCrossentropy(Metric):
    """`-sum(t * log p)`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import CategoricalCrossentropy
    >>> round(CategoricalCrossentropy()(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])), 6)
    0.693147
    """

    record = "categorical_cross_entropy"


class BinaryCrossentropy(Metric):
    """`-mean(t * log p + (1 - t) * log(1 - p))`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import BinaryCrossentropy
    >>> round(BinaryCrossentropy()(np.array([[1.0]]), np.array([[0.5]])), 6)
    0.693147
    """

    record = "binary_cross_entropy"


@dataclass(frozen=True)
class Precision(Metric):
    """Share of the units found that are in the targets, over all rows; 0 where none is found.

    Parameters
    ----------
    thresholds : float
        A unit is found where its output is above; it is in the targets where they are above 0.5.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import Precision
    >>> Precision()(np.array([[1.0], [0.0], [0.0]]), np.array([[0.9], [0.8], [0.1]]))
    0.5
    """

    thresholds: float = 0.5

    rises = True

    def __call__(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        found = outputs > self.thresholds
        return float((targets > 0.5)[found].mean()) if found.any() else 0.0


@dataclass(frozen=True)
class Recall(Metric):
    """Share of the units in the targets that are found, over all rows; 0 without such units.

    Parameters
    ----------
    thresholds : float
        As of `Precision`.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import Recall
    >>> Recall()(np.array([[1.0], [1.0], [0.0]]), np.array([[0.9], [0.2], [0.1]]))
    0.5
    """

    thresholds: float = 0.5

    rises = True

    def __call__(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        wanted = targets > 0.5
        return float((outputs > self.thresholds)[wanted].mean()) if wanted.any() else 0.0


class AUC(Metric):
    """Area under the receiver operating characteristic, of all units together.

    Exact, where Keras sums over 200 thresholds; 0 where the targets are all alike.

    Parameters
    ----------
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import AUC
    >>> targets = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> outputs = np.array([[0.1], [0.4], [0.3], [0.8]])
    >>> AUC()(targets, outputs)
    0.75
    """

    rises = True

    def __call__(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        from sklearn.metrics import roc_auc_score

        wanted = np.ravel(targets > 0.5)
        mixed = 0 < wanted.sum() < wanted.size
        return float(roc_auc_score(wanted, np.ravel(outputs))) if mixed else 0.0


_CLASSES: tuple[type[Metric], ...] = (
    SparseCategoricalAccuracy, CategoricalAccuracy, BinaryAccuracy, SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy, MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError,
    SparseCategoricalCrossentropy, CategoricalCrossentropy, BinaryCrossentropy, Precision, Recall,
    AUC,
)  # fmt: skip
for _each in _CLASSES:
    suggesting(_each)
_NAMES = {keras_name(cls.__name__): cls for cls in _CLASSES} | {
    "mse": MeanSquaredError, "mae": MeanAbsoluteError
}  # fmt: skip
_ALIASES = {cls.__name__: cls for cls in _CLASSES} | {
    "MSE": MeanSquaredError, "MAE": MeanAbsoluteError
}  # fmt: skip
_ACCURACY = ("accuracy", "acc", "Accuracy")


def get(identifier: str | Metric | dict, loss: Loss, units: int | None) -> Metric:
    """The metric that a name, an object or a config stands for, beside this loss.

    Parameters
    ----------
    identifier : str, Metric or dict
        `"accuracy"` and `"acc"` mean what the loss makes of them: sparse, categorical or binary
        accuracy; beside another loss, binary for one unit and categorical for more. A name is what
        the figure is called.
    loss : Loss
    units : int or None
        Outputs of the network; None: not known yet.

    Returns
    -------
    Metric

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one, and for a metric that takes other targets
        than the loss.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import losses, metrics
    >>> loss = losses.get("sparse_categorical_crossentropy")
    >>> metrics.get("accuracy", loss, 10)
    SparseCategoricalAccuracy(name='accuracy', dtype=None)
    """
    metric = _of(identifier, loss, units)
    if metric.takes_labels != loss.takes_labels:
        forms = {True: "class indices (n,)", False: "a row of numbers for each row"}
        raise ValueError(f"metric {metric.name!r} takes {forms[metric.takes_labels]}, but loss "
                         f"{loss.shown!r} takes {forms[loss.takes_labels]}; use 'accuracy', which "
                         "follows the loss, or another metric")
    return metric


def _of(identifier: object, loss: Loss, units: int | None) -> Metric:
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, dict):
        return _class(identifier.get("class_name"))(**identifier["config"])
    if isinstance(identifier, str):
        cls = accuracy_of(loss, units) if identifier in _ACCURACY else _class(identifier)
        return replace(cls(), name=identifier)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        name = identifier.__name__
        raise TypeError(f"a metric is the class {name}; make an object of it: {name}()")
    raise TypeError(f"a metric must be a name or an object of nbbn.metrics, got {identifier!r}; "
                    "functions are not supported")


def accuracy_of(loss: Loss, units: int | None = None) -> type[Metric]:
    """What `accuracy` means beside a loss."""
    if loss.end == "softmax":
        return SparseCategoricalAccuracy if loss.takes_labels else CategoricalAccuracy
    return BinaryAccuracy if loss.end == "sigmoid" or units in (None, 1) else CategoricalAccuracy


def _class(name: object) -> type[Metric]:
    return find("metric", name, _NAMES, _ALIASES, ("accuracy",))


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
