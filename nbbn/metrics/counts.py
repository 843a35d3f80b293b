"""Metrics of what is found and what is missed, at thresholds: Keras's."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nbbn.loss_formulas import EPSILON, sigmoid
from nbbn.metrics.base import Metric
from nbbn.number import Number

# Rows of the sums, each with a number for each threshold.
TP, FP, TN, FN = range(4)
_LOWEST = -1e10  # below every output


def counts(targets: np.ndarray, outputs: np.ndarray, thresholds: np.ndarray,
           weights: np.ndarray | None) -> np.ndarray:
    """Right and wrong units above and below ascending thresholds, `(4, thresholds)`, weighted."""
    t, y = np.ravel(targets) != 0, np.ravel(outputs)
    w = np.ones(t.size) if weights is None else np.ravel(weights)
    above = np.searchsorted(thresholds, y, side="left")  # how many thresholds it exceeds
    found = []
    for mark in (t, ~t):
        of_bin = np.bincount(above[mark], w[mark], minlength=len(thresholds) + 1)
        exceeding = of_bin[::-1].cumsum()[::-1]
        found.append((exceeding[1:], of_bin.sum() - exceeding[1:]))
    (tp, fn), (fp, tn) = found
    return np.array([tp, fp, tn, fn])


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, 0 where that is 0."""
    return np.divide(part, whole, out=np.zeros_like(whole, np.float64), where=whole != 0)


def even(number: int) -> np.ndarray:
    """Thresholds from 0 to 1."""
    return np.arange(number) / (number - 1) if number > 1 else np.array([0.5])


@dataclass(frozen=True)
class _AtThresholds(Metric):
    """What the counts at given thresholds share."""

    thresholds: Any = None

    default: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.thresholds
        if isinstance(given, list | tuple | np.ndarray):
            object.__setattr__(self, "thresholds", tuple(float(v) for v in given))
        try:
            values = np.atleast_1d(np.asarray(0.5 if given is None else given, np.float64))
        except (TypeError, ValueError):
            values = np.array([np.nan])
        if not ((values >= 0) & (values <= 1)).all():
            raise self._error(f"thresholds must lie in [0, 1], got {given!r}")

    @property
    def _values(self) -> np.ndarray:
        given = self.default if self.thresholds is None else self.thresholds
        return np.atleast_1d(np.asarray(given, np.float64))

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        order = np.argsort(self._values, kind="stable")
        sums = counts(targets, outputs, self._values[order], by_unit(weights, outputs))
        return sums[:, np.argsort(order, kind="stable")]

    def figure(self, sums: np.ndarray) -> Any:
        found = self.of_counts(sums)
        return found if isinstance(self.thresholds, tuple) and len(found) > 1 else found[0]

    def of_counts(self, sums: np.ndarray) -> np.ndarray:
        """The figure at each threshold."""
        raise NotImplementedError


def by_unit(weights: np.ndarray | None, outputs: np.ndarray) -> np.ndarray | None:
    """Weights of the rows as weights of all units."""
    if weights is None or weights.size == outputs.size:
        return weights
    shape = (-1,) + (1,) * (outputs.ndim - 1)
    return np.broadcast_to(weights.reshape(shape), outputs.shape)


class TruePositives(_AtThresholds):
    """Units that are found and in the targets.

    Parameters
    ----------
    thresholds : float or sequence of float
        A unit is found where its output is above; None: 0.5.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import TruePositives
    >>> TruePositives()([[1], [1], [0]], [[0.9], [0.2], [0.8]])
    1.0
    """

    rises = True

    def of_counts(self, sums: np.ndarray) -> np.ndarray:
        return sums[TP]


class FalsePositives(_AtThresholds):
    """Units that are found and not in the targets.

    Parameters
    ----------
    thresholds : float or sequence of float
        As of `TruePositives`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import FalsePositives
    >>> FalsePositives()([[1], [1], [0]], [[0.9], [0.2], [0.8]])
    1.0
    """

    def of_counts(self, sums: np.ndarray) -> np.ndarray:
        return sums[FP]


class TrueNegatives(_AtThresholds):
    """Units that are neither found nor in the targets.

    Parameters
    ----------
    thresholds : float or sequence of float
        As of `TruePositives`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import TrueNegatives
    >>> TrueNegatives()([[1], [1], [0]], [[0.9], [0.2], [0.8]])
    0.0
    """

    rises = True

    def of_counts(self, sums: np.ndarray) -> np.ndarray:
        return sums[TN]


class FalseNegatives(_AtThresholds):
    """Units in the targets that are not found.

    Parameters
    ----------
    thresholds : float or sequence of float
        As of `TruePositives`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import FalseNegatives
    >>> FalseNegatives()([[1], [1], [0]], [[0.9], [0.2], [0.8]])
    1.0
    """

    def of_counts(self, sums: np.ndarray) -> np.ndarray:
        return sums[FN]


@dataclass(frozen=True)
class _OfClass(_AtThresholds):
    """What precision and recall share."""

    top_k: int | None = None
    class_id: int | None = None

    rises = True

    @property
    def _values(self) -> np.ndarray:
        if self.thresholds is None and self.top_k is not None:
            return np.array([_LOWEST])
        return super()._values

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        if self.top_k is not None:
            first = np.argsort(-outputs, -1, kind="stable")[..., : self.top_k]
            kept = np.zeros(outputs.shape, bool)
            np.put_along_axis(kept, first, True, -1)
            outputs = np.where(kept, outputs, _LOWEST)
        if self.class_id is not None:
            targets, outputs = targets[..., self.class_id], outputs[..., self.class_id]
        return super().sums(targets, outputs, weights)


class Precision(_OfClass):
    """Share of the units found that are in the targets, over all rows; 0 where none is found.

    Parameters
    ----------
    thresholds : float or sequence of float
        A unit is found where its output is above; None: 0.5.
    top_k : int or None
        Only the largest so many outputs of a row are found, without a threshold unless one is
        given.
    class_id : int or None
        Only this unit counts.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import Precision
    >>> Precision()(np.array([[1.0], [0.0], [0.0]]), np.array([[0.9], [0.8], [0.1]]))
    0.5
    """

    def of_counts(self, sums: np.ndarray) -> np.ndarray:
        return share(sums[TP], sums[TP] + sums[FP])


class Recall(_OfClass):
    """Share of the units in the targets that are found, over all rows; 0 without such units.

    Parameters
    ----------
    thresholds, top_k, class_id
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

    def of_counts(self, sums: np.ndarray) -> np.ndarray:
        return share(sums[TP], sums[TP] + sums[FN])


@dataclass(frozen=True)
class AUC(Metric):
    """Area under a curve over thresholds, of all units together.

    Parameters
    ----------
    num_thresholds : int or None
        Even ones, as in Keras; None: the exact area under the receiver operating characteristic.
    curve : {"ROC", "PR"}
        Receiver operating characteristic, or precision over recall.
    summation_method : {"interpolation", "minoring", "majoring"}
        Of the area between two thresholds.
    thresholds : sequence of float or None
        In the place of even ones; 0 and 1 come to them.
    multi_label : bool
        Whether each unit has a curve of its own, of whose areas the mean counts.
    num_labels : int or None
        Taken as in Keras; the outputs tell.
    label_weights : sequence of float or None
        Weights of the units.
    from_logits : bool
        Whether outputs are those before the sigmoid.
    **base
        See `Metric`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.metrics import AUC
    >>> targets = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> outputs = np.array([[0.1], [0.4], [0.3], [0.8]])
    >>> AUC()(targets, outputs), AUC(num_thresholds=None)(targets, outputs)
    (0.75, 0.75)
    """

    num_thresholds: int | None = 200
    curve: str = "ROC"
    summation_method: str = "interpolation"
    thresholds: Any = None
    multi_label: bool = False
    num_labels: int | None = None
    label_weights: Any = None
    from_logits: bool = False

    rises = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("curve", ("ROC", "PR")),
                            ("summation_method", ("interpolation", "minoring", "majoring"))):
            value = str(getattr(self, name))
            value = value.upper() if name == "curve" else value.lower()
            if value not in known:
                raise self._error(f"{name} must be one of {', '.join(known)}, "
                                  f"got {getattr(self, name)!r}")
            object.__setattr__(self, name, value)
        if self.num_thresholds is None and (self.curve != "ROC" or self.multi_label):
            raise self._error("num_thresholds=None is the exact area under one ROC curve; give a "
                              "number")
        if self.num_thresholds is not None and self.num_thresholds < 2:
            raise self._error(f"num_thresholds must be above 1, got {self.num_thresholds!r}")
        for name in ("thresholds", "label_weights"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))

    @property
    def _values(self) -> np.ndarray:
        inner = even(self.num_thresholds or 2)[1:-1] if self.thresholds is None else \
            np.sort(self.thresholds)
        return np.array([-EPSILON, *inner, 1 + EPSILON])

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        y = sigmoid(outputs.astype(np.float64)) if self.from_logits else outputs
        y, by_units = np.clip(y, 0, 1), by_unit(weights, outputs)
        if self.multi_label:
            units = [None if by_units is None else by_units[:, k] for k in range(y.shape[1])]
            return np.stack([counts(targets[:, k], y[:, k], self._values, w)
                             for k, w in enumerate(units)], -1)
        if self.label_weights is not None:
            own = np.broadcast_to(np.asarray(self.label_weights), y.shape)
            by_units = own if by_units is None else own * by_units
        return counts(targets, y, self._values, by_units)

    def figure(self, sums: np.ndarray) -> float:
        areas = self._areas(sums)
        if areas.ndim and self.label_weights is not None:
            return float(np.average(areas, weights=self.label_weights))
        return float(areas.mean())

    def _areas(self, sums: np.ndarray) -> np.ndarray:
        tp, fp, tn, fn = sums
        recall = share(tp, tp + fn)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return _interpolated(tp, fp, fn)
        x, y = (share(fp, fp + tn), recall) if self.curve == "ROC" else \
            (recall, share(tp, tp + fp))
        left, right = y[:-1], y[1:]
        heights = {"interpolation": (left + right) / 2, "minoring": np.minimum(left, right),
                   "majoring": np.maximum(left, right)}[self.summation_method]
        return ((x[:-1] - x[1:]) * heights).sum(0)

    # -- the exact area needs all rows

    def measured(self, targets: np.ndarray, outputs: np.ndarray,
                 sizes: np.ndarray | None = None) -> Any:
        if self.num_thresholds is not None:
            return super().measured(targets, outputs)
        return _exact(targets, outputs, None)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if self.num_thresholds is not None:
            super().update_state(y_true, y_pred, sample_weight)
            return
        weights = np.ones(len(y_pred)) if sample_weight is None else np.asarray(sample_weight)
        by_units = by_unit(weights.astype(np.float64), np.asarray(y_pred))
        assert by_units is not None
        rows = self.__dict__.setdefault("_rows", [])
        rows.append((np.ravel(y_true), np.ravel(y_pred), np.ravel(by_units)))

    def result(self) -> Any:
        if self.num_thresholds is not None:
            return super().result()
        return Number(_exact(*map(np.concatenate, zip(*self.__dict__["_rows"]))))

    def reset_state(self) -> None:
        self.__dict__.pop("_rows", None)
        super().reset_state()


def _exact(targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None) -> float:
    """The area itself; 0 where the targets are all alike."""
    from sklearn.metrics import roc_auc_score

    wanted = np.ravel(targets > 0.5)
    mixed = 0 < wanted.sum() < wanted.size
    return float(roc_auc_score(wanted, np.ravel(outputs), sample_weight=weights)) if mixed else 0.0


def _interpolated(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """Area under precision over recall, between whose points both counts are straight lines.

    Davis and Goadrich (2006).
    """
    p = tp + fp
    dtp, dp = tp[:-1] - tp[1:], p[:-1] - p[1:]
    slope = share(dtp, np.maximum(dp, 0))
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    ratio = np.where(both, share(p[:-1], np.maximum(p[1:], 0)), 1.0)
    return share(slope * (dtp + intercept * np.log(ratio)),
                 np.maximum(tp[1:] + fn[1:], 0)).sum(0)


class _Best(Metric):
    """The largest of one figure where another reaches a level, over even thresholds."""

    # Without annotation: fields of the subclasses.
    num_thresholds = 200

    rises = True
    level: ClassVar[str]  # the argument that it reaches
    wanted: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number(self.level, 0, 1, "a number in [0, 1]")
        if self.num_thresholds < 1:
            raise self._error(f"num_thresholds must be above 0, got {self.num_thresholds!r}")

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        if (unit := getattr(self, "class_id", None)) is not None:
            targets, outputs = targets[..., unit], outputs[..., unit]
        return counts(targets, np.clip(outputs, 0, 1), even(self.num_thresholds),
                      by_unit(weights, outputs))

    def figure(self, sums: np.ndarray) -> float:
        tp, fp, tn, fn = sums
        found = {"recall": share(tp, tp + fn), "precision": share(tp, tp + fp),
                 "sensitivity": share(tp, tp + fn), "specificity": share(tn, tn + fp)}
        reached = found[self.level] >= getattr(self, self.level)
        return float(np.where(reached, found[self.wanted], 0).max(initial=0))


@dataclass(frozen=True)
class SensitivityAtSpecificity(_Best):
    """The largest sensitivity at thresholds where the specificity is as large as asked.

    Parameters
    ----------
    specificity : float
    num_thresholds : int
    class_id : int or None
        Only this unit counts.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import SensitivityAtSpecificity
    >>> SensitivityAtSpecificity(0.5)([[0], [0], [1], [1]], [[0.1], [0.5], [0.3], [0.8]])
    1.0
    """

    specificity: float = 0.5
    num_thresholds: int = 200
    class_id: int | None = None

    level, wanted = "specificity", "sensitivity"


@dataclass(frozen=True)
class SpecificityAtSensitivity(_Best):
    """The largest specificity at thresholds where the sensitivity is as large as asked.

    Parameters
    ----------
    sensitivity : float
    num_thresholds, class_id
        See `SensitivityAtSpecificity`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import SpecificityAtSensitivity
    >>> SpecificityAtSensitivity(0.5)([[0], [0], [1], [1]], [[0.1], [0.5], [0.3], [0.8]])
    1.0
    """

    sensitivity: float = 0.5
    num_thresholds: int = 200
    class_id: int | None = None

    level, wanted = "sensitivity", "specificity"


@dataclass(frozen=True)
class PrecisionAtRecall(_Best):
    """The largest precision at thresholds where the recall is as large as asked.

    Parameters
    ----------
    recall : float
    num_thresholds, class_id
        See `SensitivityAtSpecificity`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import PrecisionAtRecall
    >>> PrecisionAtRecall(0.5)([[0], [0], [1], [1]], [[0.1], [0.5], [0.3], [0.8]])
    1.0
    """

    recall: float = 0.5
    num_thresholds: int = 200
    class_id: int | None = None

    level, wanted = "recall", "precision"


@dataclass(frozen=True)
class RecallAtPrecision(_Best):
    """The largest recall at thresholds where the precision is as large as asked.

    Parameters
    ----------
    precision : float
    num_thresholds, class_id
        See `SensitivityAtSpecificity`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import RecallAtPrecision
    >>> RecallAtPrecision(0.8)([[0], [0], [1], [1]], [[0.1], [0.5], [0.3], [0.8]])
    0.5
    """

    precision: float = 0.5
    num_thresholds: int = 200
    class_id: int | None = None

    level, wanted = "precision", "recall"


class _FScore(Metric):
    """What the scores of precision and recall share."""

    # Without annotation: fields of the subclasses.
    beta = 1.0

    rises = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if (average := self._own("average")) not in (None, "micro", "macro", "weighted"):
            raise self._error("average must be None, 'micro', 'macro' or 'weighted', "
                              f"got {average!r}")
        if self._number("beta", 0, rule="a finite number above 0") == 0:
            raise self._error("beta must be a finite number above 0, got 0")
        if self._own("threshold") is not None:
            self._number("threshold", 0, 1, "None or a number in (0, 1]")

    def _own(self, name: str) -> Any:
        return getattr(self, name)

    def sums(self, targets: np.ndarray, outputs: np.ndarray,
             weights: np.ndarray | None) -> np.ndarray:
        if (threshold := self._own("threshold")) is None:
            largest = outputs.max(-1, keepdims=True)
            found = (outputs >= largest) & (np.abs(outputs) > 1e-9)
        else:
            found = outputs > threshold
        t, y = targets.astype(np.float64), found.astype(np.float64)
        w = np.ones((len(t), 1)) if weights is None else weights.reshape(-1, 1)
        axis = None if self._own("average") == "micro" else 0
        return np.array([(w * part).sum(axis) for part in (y * t, y * (1 - t), (1 - y) * t, t)])

    def figure(self, sums: np.ndarray) -> Any:
        tp, fp, fn, wanted = sums
        precision, recall = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
        squared = self.beta**2
        scores = precision * recall / (squared * precision + recall + EPSILON) * (1 + squared)
        if (average := self._own("average")) == "weighted":
            return (scores * (wanted / (wanted.sum() + EPSILON))).sum()
        return scores if average is None else np.mean(scores)


@dataclass(frozen=True)
class FBetaScore(_FScore):
    """`(1 + b^2) * precision * recall / (b^2 * precision + recall)` of each unit.

    Parameters
    ----------
    average : {None, "micro", "macro", "weighted"}
        None: a number for each unit; over all units together; the mean over the units; that
        weighted by how often they are in the targets.
    beta : float
        Above 0.
    threshold : float or None
        A unit is found where its output is above; None: the largest of each row.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import FBetaScore
    >>> metric = FBetaScore("macro", beta=2.0, threshold=0.5)
    >>> round(metric([[1], [1], [0]], [[0.9], [0.2], [0.8]]), 4)
    0.5
    """

    average: str | None = None
    beta: float = 1.0
    threshold: float | None = None

    keras_name = "fbeta_score"


@dataclass(frozen=True)
class F1Score(_FScore):
    """`2 * precision * recall / (precision + recall)` of each unit.

    Parameters
    ----------
    average, threshold
        See `FBetaScore`.
    **base
        See `Metric`.

    Examples
    --------
    >>> from nbbn.metrics import F1Score
    >>> round(F1Score("macro", 0.5)([[1], [1], [0]], [[0.9], [0.2], [0.8]]), 4)
    0.5
    """

    average: str | None = None
    threshold: float | None = None

    keras_name = "f1_score"
