"""Metrics that are the mean of a figure of each row."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nbbn import losses
from nbbn.losses import Loss
from nbbn.metrics.base import Metric, of_loss


class Accuracy(Metric):
    """Share of numbers that are their targets.

    Examples
    --------
    >>> from nbbn.metrics import Accuracy
    >>> Accuracy()([[1], [2]], [[1], [3]])
    0.5
    """

    rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return outputs == targets


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
        return outputs.argmax(-1) == targets


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
        return outputs.argmax(-1) == targets.argmax(-1)


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
        return ((outputs > self.threshold) == (targets > 0.5)).mean(-1)


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
        known = (targets >= 0) & (targets < outputs.shape[-1])  # a loss may ignore other labels
        picked = np.take_along_axis(outputs, np.where(known, targets, 0)[..., None], -1)
        return ((outputs > picked).sum(-1) < self.k) & known


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
        return super().rows(targets.argmax(-1), outputs)


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

    def figure(self, sums: np.ndarray) -> float:
        return float(super().figure(sums)) ** 0.5


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


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Metric):
    """`-log p[label]`.

    Parameters
    ----------
    from_logits : bool
        Whether outputs are those before the activation.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import SparseCategoricalCrossentropy
    >>> round(SparseCategoricalCrossentropy()(np.array([0]), np.array([[0.5, 0.5]])), 6)
    0.693147
    """

    from_logits: bool = False

    takes_labels = True
    record = "softmax_cross_entropy"

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        if self.from_logits:
            return of_loss(losses.SparseCategoricalCrossentropy, targets, outputs,
                           from_logits=self.from_logits)
        return super().rows(targets, outputs)


@dataclass(frozen=True)
class CategoricalCrossentropy(Metric):
    """`-sum(t * log p)`.

    Parameters
    ----------
    from_logits : bool
        Whether outputs are those before the activation.
    label_smoothing : float
        In [0, 1], as of the loss.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import CategoricalCrossentropy
    >>> round(CategoricalCrossentropy()(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])), 6)
    0.693147
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    record = "categorical_cross_entropy"

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        if self.from_logits or self.label_smoothing:
            return of_loss(losses.CategoricalCrossentropy, targets, outputs,
                           from_logits=self.from_logits, label_smoothing=self.label_smoothing)
        return super().rows(targets, outputs)


@dataclass(frozen=True)
class BinaryCrossentropy(Metric):
    """`-mean(t * log p + (1 - t) * log(1 - p))`.

    Parameters
    ----------
    from_logits : bool
        Whether outputs are those before the activation.
    label_smoothing : float
        In [0, 1], as of the loss.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import BinaryCrossentropy
    >>> round(BinaryCrossentropy()(np.array([[1.0]]), np.array([[0.5]])), 6)
    0.693147
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    record = "binary_cross_entropy"

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        if self.from_logits or self.label_smoothing:
            return of_loss(losses.BinaryCrossentropy, targets, outputs,
                           from_logits=self.from_logits, label_smoothing=self.label_smoothing)
        return super().rows(targets, outputs)


class _OfLoss(Metric):
    """The mean of a loss that has no record."""

    loss: ClassVar[type[Loss]]

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return of_loss(self.loss, targets, outputs)


class MeanAbsolutePercentageError(_OfLoss):
    """`100 * mean(|y - t| / |t|)`.

    Examples
    --------
    >>> from nbbn.metrics import MeanAbsolutePercentageError
    >>> MeanAbsolutePercentageError()([[2.0, 4.0]], [[1.0, 4.0]])
    25.0
    """

    loss = losses.MeanAbsolutePercentageError


class MeanSquaredLogarithmicError(_OfLoss):
    """`mean((log(1 + y) - log(1 + t))^2)`.

    Examples
    --------
    >>> from nbbn.metrics import MeanSquaredLogarithmicError
    >>> round(MeanSquaredLogarithmicError()([[1.0]], [[3.0]]), 4)
    0.4805
    """

    loss = losses.MeanSquaredLogarithmicError


class LogCoshError(_OfLoss):
    """`mean(log(cosh(y - t)))`.

    Examples
    --------
    >>> from nbbn.metrics import LogCoshError
    >>> round(LogCoshError()([[0.0]], [[1.0]]), 4)
    0.4338
    """

    loss = losses.LogCosh
    keras_name = "logcosh"


class Hinge(_OfLoss):
    """`mean(max(1 - t * y, 0))`.

    Examples
    --------
    >>> from nbbn.metrics import Hinge
    >>> Hinge()([[-1.0], [1.0]], [[-2.0], [0.5]])
    0.25
    """

    loss = losses.Hinge


class SquaredHinge(_OfLoss):
    """`mean(max(1 - t * y, 0)^2)`.

    Examples
    --------
    >>> from nbbn.metrics import SquaredHinge
    >>> SquaredHinge()([[-1.0], [1.0]], [[-2.0], [0.5]])
    0.125
    """

    loss = losses.SquaredHinge


class CategoricalHinge(_OfLoss):
    """`max(1 + max((1 - t) * y) - sum(t * y), 0)`.

    Examples
    --------
    >>> from nbbn.metrics import CategoricalHinge
    >>> CategoricalHinge()([[1.0, 0.0]], [[0.5, 0.25]])
    0.75
    """

    loss = losses.CategoricalHinge


class KLDivergence(_OfLoss):
    """`sum(t * log(t / y))`.

    Examples
    --------
    >>> from nbbn.metrics import KLDivergence
    >>> round(KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]]), 4)
    0.1438
    """

    loss = losses.KLDivergence


class Poisson(_OfLoss):
    """`mean(y - t * log(y))`.

    Examples
    --------
    >>> from nbbn.metrics import Poisson
    >>> round(Poisson()([[2.0]], [[1.0]]), 4)
    1.0
    """

    loss = losses.Poisson


class CosineSimilarity(_OfLoss):
    """`sum(t * y) / (|t| * |y|)`: the loss's negative.

    Examples
    --------
    >>> from nbbn.metrics import CosineSimilarity
    >>> CosineSimilarity()([[1.0, 0.0]], [[3.0, 4.0]])
    0.6
    """

    loss = losses.CosineSimilarity
    rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return -super().rows(targets, outputs)


class PearsonCorrelation(Metric):
    """The mean over the rows of the correlation of targets and outputs along the last axis.

    Examples
    --------
    >>> from nbbn.metrics import PearsonCorrelation
    >>> round(PearsonCorrelation()([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]), 6)
    1.0
    """

    rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        t, y = (x - x.mean(-1, keepdims=True) for x in _wide(targets, outputs))
        return (t * y).mean(-1) / (t.std(-1) * y.std(-1))


class ConcordanceCorrelation(Metric):
    """The mean over the rows of the concordance of targets and outputs along the last axis.

    Lin (1989).

    Examples
    --------
    >>> from nbbn.metrics import ConcordanceCorrelation
    >>> round(ConcordanceCorrelation()([[0.0, 1.0, 2.0]], [[1.0, 2.0, 3.0]]), 4)
    0.5714
    """

    rises = True

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        t, y = _wide(targets, outputs)
        middle = y.mean(-1, keepdims=True)
        apart = (t.mean(-1, keepdims=True) - middle) ** 2
        norm = t.var(-1, keepdims=True) + y.var(-1, keepdims=True) + apart
        return (2 * (t - middle) * (y - middle) / (norm + 1e-7)).mean(-1)


def _wide(targets: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return targets.astype(np.float64), outputs.astype(np.float64)
