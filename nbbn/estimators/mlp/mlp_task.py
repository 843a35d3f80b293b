"""The outputs of an MLP: what ends the network, what is minimised, how well it does."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from nbbn import losses
from nbbn.estimators import checks, of_group
from nbbn.estimators.mlp.defaults import normalizes_y
from nbbn.estimators.mlp.parameters import Parameters
from nbbn.estimators.mlp.target_scale import Moments, TargetScale
from nbbn.estimators.task import Task
from nbbn.group import ALONE, Group

# What is minimised, by the estimators' name: the engine's.
REGRESSION_LOSSES = {r.sklearn: r.engine for r in losses.RECORDS.values() if r.sklearn}
_CROSS_ENTROPIES = {"softmax": "softmax_cross_entropy", "logistic": "sigmoid_cross_entropy"}


@dataclass(frozen=True)
class MLPTask(Task):
    """A task, and the loss that it is trained by."""

    loss: str = "log_loss"  # by the estimators' name
    level: float = 1.0  # where the Huber loss turns linear, or the quantile
    scale: TargetScale | None = None  # a regressor's that trains on standardised targets

    @classmethod
    def of_classes(cls, classes: np.ndarray) -> MLPTask:
        """A classifier's; one output tells two classes apart."""
        return cls("classifier", 1 if len(classes) <= 2 else len(classes), classes)

    @classmethod
    def of(cls, estimator: Parameters, y: np.ndarray, *, sparse: bool,
           group: Group = ALONE) -> MLPTask:
        """That of checked targets."""
        if not estimator._classifies:
            return cls("regressor", y.shape[1], loss=estimator.loss, level=_level(estimator))
        if y.ndim == 1:
            return cls.of_classes(of_group.classes_of(group, y))
        return cls("multilabel", y.shape[1], checks.classes_of(y), sparse)

    def scaled(self, estimator: Parameters, moments: Moments) -> MLPTask:
        """With the scale of a regressor's targets, where it standardises them."""
        if not normalizes_y(estimator):
            return self
        return replace(self, scale=TargetScale.of(moments, common=self.loss == "huber"))

    def going_on(self, estimator: Parameters) -> MLPTask:
        """The task of a fit that goes on from this one's."""
        if self.kind != "regressor":
            return self
        return replace(self, loss=estimator.loss, level=_level(estimator))

    @property
    def activation(self) -> str:
        """Activation of the output layer, by scikit-learn's name."""
        if self.kind == "regressor":
            return "exp" if self.loss == "poisson" else "identity"
        return "softmax" if self.kind == "classifier" and self.outputs > 1 else "logistic"

    @property
    def engine_loss(self) -> str:
        """The engine's name of the loss."""
        if self.kind == "regressor":
            return REGRESSION_LOSSES[self.loss]
        return _CROSS_ENTROPIES[self.activation]

    @property
    def engine_level(self) -> float:
        """The level in the units that training sees."""
        if self.scale is None or self.loss != "huber":
            return self.level
        return self.level / self.scale.spread[0]

    def encode(self, y: np.ndarray, name: str = "y") -> np.ndarray:
        """As `Task.encode`; counts below 0 are refused, too."""
        y = super().encode(y, name)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError("Some value(s) of y are out of the valid range of the loss 'poisson': "
                             "they must be >= 0")
        return y

    def targets(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Encoded targets as the trainer reads them: labels of a softmax, else a matrix."""
        if self.activation == "softmax":
            return y
        y = y if self.scale is None else self.scale.standardised(y)
        return np.ascontiguousarray(y.reshape(len(y), math.prod(y.shape[1:])), dtype=dtype)

    def loss_and_score(self, y: np.ndarray, outputs: np.ndarray,
                       row_weights: np.ndarray | None) -> tuple[float, float]:
        """Loss, and accuracy or R^2 (NaN for outputs that are not finite), of encoded targets."""
        targets = self.targets(y, outputs.dtype)
        loss = self.mean_loss(targets, outputs, row_weights)
        if not np.isfinite(outputs).all():
            return loss, float("nan")
        if self.kind == "regressor":
            return loss, float(r2_score(targets, outputs, sample_weight=row_weights))
        return loss, float(accuracy_score(y, self.decide(outputs), sample_weight=row_weights))

    def mean_loss(self, targets: np.ndarray, outputs: np.ndarray,
                  row_weights: np.ndarray | None) -> float:
        """The loss of targets as the trainer reads them."""
        with np.errstate(all="ignore"):
            return float(np.average(self.losses(targets, outputs), weights=row_weights))

    def losses(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The loss of each row."""
        record = losses.RECORDS[self.engine_loss]
        rows = record.of_rows(targets, outputs, self.engine_level)
        return rows * self.outputs if record.sklearn_sums else rows

    @property
    def engine_differs(self) -> bool:
        """Whether the engine's loss is another than scikit-learn's."""
        # It does not keep probabilities off 0, or divides by units.
        sums = losses.RECORDS[self.engine_loss].sklearn_sums
        return self.kind != "regressor" or (sums and self.outputs > 1)


def _level(estimator: Parameters) -> float:
    levels = {"huber": "huber_delta", "quantile": "quantile"}
    return float(getattr(estimator, levels[estimator.loss])) if estimator.loss in levels else 1.0
