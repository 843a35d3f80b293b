"""Metrics of a confusion matrix, and the coefficient of determination: Keras's."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn.loss_formulas import EPSILON
from nbbn.metrics.base import Metric


class _Overlap(Metric):
    """What the metrics of a confusion matrix share."""

    # Without annotation: fields of the subclasses.
    sparse_y_true = sparse_y_pred = True
    axis = -1

    takes_any = rises = True

    def __post_init__(self) -> None:
        super().__post_init__()
        ids = tuple(int(k) for k in self._own("target_class_ids"))
        self.__dict__["target_class_ids"] = ids
        if ids and max(ids) >= self._classes:
            raise self._error(f"target_class_ids must lie in 0 to {self._classes - 1}, "
                              f"got {max(ids)}")
        if self.axis != -1:
            raise self._error(f"axis must be -1, got {self.axis!r}; put the classes last")

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        t = targets if self.sparse_y_true else targets.argmax(-1)
        y = self._found(outputs)
        t, y = t.reshape(-1).astype(np.int64), y.reshape(-1).astype(np.int64)
        w = np.ones(t.size) if weights is None else np.repeat(weights, t.size // weights.size)
        kept = (t >= 0) & (t < self._classes) & (y >= 0) & (y < self._classes)
        if (ignored := getattr(self, "ignore_class", None)) is not None:
            kept &= t != ignored
        places = t[kept] * self._classes + y[kept]
        found = np.bincount(places, w[kept], minlength=self._classes**2)
        return found.reshape(self._classes, self._classes)

    def _found(self, outputs: np.ndarray) -> np.ndarray:
        return outputs if self.sparse_y_pred else outputs.argmax(-1)

    def figure(self, sums: np.ndarray) -> float:
        tp = np.diag(sums)
        union = sums.sum(0) + sums.sum(1) - tp
        ids = list(self._own("target_class_ids")) or list(range(self._classes))
        tp, union = tp[ids], union[ids]
        there = union > 1e-9
        overlap = np.where(there, tp / (union + EPSILON), 0)
        return float(overlap.sum() / (there.sum() + EPSILON))

    @property
    def _classes(self) -> int:
        return int(self._own("num_classes"))

    def _own(self, name: str) -> Any:
        return getattr(self, name, ())


@dataclass(frozen=True)
class IoU(_Overlap):
    """Intersection over union of some classes: `tp / (tp + fp + fn)`, the mean over them.

    Parameters
    ----------
    num_classes : int
    target_class_ids : sequence of int
        The classes that count.
    ignore_class : int or None
        Targets that do not count.
    sparse_y_true, sparse_y_pred : bool
        Whether targets, and outputs, are class indices; else the largest of the last axis is.
    axis : int
        Only -1.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import IoU
    >>> round(IoU(2, target_class_ids=[0])([0, 0, 1, 1], [0, 1, 0, 1]), 4)
    0.3333
    """

    num_classes: int
    target_class_ids: Any
    ignore_class: int | None = None
    sparse_y_true: bool = True
    sparse_y_pred: bool = True
    axis: int = -1


@dataclass(frozen=True)
class MeanIoU(_Overlap):
    """Intersection over union, the mean over all classes.

    Parameters
    ----------
    num_classes, ignore_class, sparse_y_true, sparse_y_pred, axis
        See `IoU`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import MeanIoU
    >>> round(MeanIoU(num_classes=2)([0, 0, 1, 1], [0, 1, 0, 1]), 4)
    0.3333
    """

    num_classes: int
    ignore_class: int | None = None
    sparse_y_true: bool = True
    sparse_y_pred: bool = True
    axis: int = -1


@dataclass(frozen=True)
class OneHotIoU(_Overlap):
    """`IoU` of one-hot targets and outputs of as many.

    Parameters
    ----------
    num_classes, target_class_ids, ignore_class, sparse_y_pred, axis
        See `IoU`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import OneHotIoU
    >>> round(OneHotIoU(2, [0])([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]]), 4)
    1.0
    """

    num_classes: int
    target_class_ids: Any
    ignore_class: int | None = None
    sparse_y_pred: bool = False
    axis: int = -1

    sparse_y_true = False


@dataclass(frozen=True)
class OneHotMeanIoU(_Overlap):
    """`MeanIoU` of one-hot targets and outputs of as many.

    Parameters
    ----------
    num_classes, ignore_class, sparse_y_pred, axis
        See `IoU`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import OneHotMeanIoU
    >>> round(OneHotMeanIoU(2)([[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]]), 4)
    1.0
    """

    num_classes: int
    ignore_class: int | None = None
    sparse_y_pred: bool = False
    axis: int = -1

    sparse_y_true = False


@dataclass(frozen=True)
class BinaryIoU(_Overlap):
    """`IoU` of targets 0 and 1, and outputs that are 1 from a threshold on.

    Parameters
    ----------
    target_class_ids : sequence of int
        Both, or one of them.
    threshold : float
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import BinaryIoU
    >>> round(BinaryIoU(threshold=0.3)([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7]), 4)
    0.3333
    """

    target_class_ids: Any = (0, 1)
    threshold: float = 0.5

    num_classes = 2

    def _found(self, outputs: np.ndarray) -> np.ndarray:
        return outputs >= self.threshold


@dataclass(frozen=True)
class R2Score(Metric):
    """The coefficient of determination, `1 - sum((y - t)^2) / sum((t - mean(t))^2)`.

    Parameters
    ----------
    class_aggregation : {"uniform_average", "variance_weighted_average", None}
        Of the units; None: a number for each.
    num_regressors : int
        Of the adjusted coefficient; 0: the plain one.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import R2Score
    >>> round(R2Score()([[1.0], [4.0], [3.0]], [[2.0], [4.0], [4.0]]), 4)
    0.5714
    """

    class_aggregation: str | None = "uniform_average"
    num_regressors: int = 0

    rises = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise self._error("class_aggregation must be 'uniform_average', "
                              "'variance_weighted_average' or None, got "
                              f"{self.class_aggregation!r}")
        if self.num_regressors < 0:
            raise self._error(f"num_regressors must be at least 0, got {self.num_regressors!r}")

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        t, y = targets.astype(np.float64), outputs.astype(np.float64)
        w = np.ones((len(t), 1)) if weights is None else weights.reshape(-1, 1)
        w = np.broadcast_to(w, t.shape)
        size = np.full(t.shape[1:], float(t.size))
        parts = (w * t, w * t * t, w * (t - y) ** 2, w)
        return np.array([*(part.sum(0) for part in parts), size])

    def figure(self, sums: np.ndarray) -> Any:
        whole, squares, slips, count, size = sums
        total = squares - whole * (whole / count)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = 1 - slips / total
        scores = np.where(np.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation is not None:
            scores = (total * scores).sum() / total.sum()
        samples = size.flat[0]
        if 0 < self.num_regressors < samples - 1:
            scores = 1 - (1 - scores) * (samples - 1) / (samples - self.num_regressors - 1)
        return scores
