"""What a network's outputs stand for: classes, labels or numbers; how targets go in and answers come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.special import xlogy
from sklearn.metrics import accuracy_score, r2_score

from nbbn import losses
from nbbn.estimators import checks as data

# What is minimised, by the estimators' name: the engine's.
REGRESSION_LOSSES = {
    "squared_error": "squared_error", "absolute_error": "mean_absolute_error", "huber": "huber", "poisson": "poisson",
    "quantile": "quantile",
}  # fmt: skip
_CROSS_ENTROPIES = {"softmax": "softmax_cross_entropy", "logistic": "sigmoid_cross_entropy"}


@dataclass(frozen=True)
class Task:
    """The outputs of an estimator's network.

    Attributes
    ----------
    kind : str
        `classifier`, `multilabel` or `regressor`.
    outputs : int
        Units of the output layer; 1 for two classes.
    classes : ndarray or None
        Of a classifier; the label indices of a multilabel one.
    loss : str
        By the estimators' name.
    level : float
        Where the Huber loss turns linear, or the quantile.
    sparse : bool
        Whether a multilabel target was sparse, so that answers are too.
    """

    kind: str
    outputs: int
    classes: np.ndarray | None = None
    loss: str = "log_loss"
    level: float = 1.0
    sparse: bool = False

    @classmethod
    def of_classes(cls, classes: np.ndarray) -> Task:
        """A classifier's."""
        return cls("classifier", 1 if len(classes) <= 2 else len(classes), classes)

    @classmethod
    def of_labels(cls, y: np.ndarray, *, sparse: bool = False) -> Task:
        """That of checked labels, or of an indicator matrix."""
        if y.ndim == 1:
            return cls.of_classes(data.classes_of(y))
        return cls("multilabel", y.shape[1], data.classes_of(y), sparse=sparse)

    @property
    def activation(self) -> str:
        """Activation of the output layer, by scikit-learn's name."""
        if self.kind == "regressor":
            return "exp" if self.loss == "poisson" else "identity"
        return "softmax" if self.kind == "classifier" and self.outputs > 1 else "logistic"

    @property
    def engine_loss(self) -> str:
        """The engine's name of the loss."""
        return REGRESSION_LOSSES[self.loss] if self.kind == "regressor" else _CROSS_ENTROPIES[self.activation]

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Checked targets as indices `(n,)`, indicators or numbers `(n, outputs)`.

        Raises
        ------
        ValueError
            For unknown classes, another number of columns, or counts below 0.
        """
        if self.kind == "regressor":
            return self._numbers(y)
        if self.kind == "classifier" and y.ndim == 1:
            return data.encode(y, self.classes)
        if self.kind == "multilabel" and y.ndim == 2 and y.shape[1] == self.outputs:
            return np.ascontiguousarray(y, dtype=np.int64)
        expected = f"an indicator matrix of {self.outputs} columns" if self.kind == "multilabel" else "labels (n,)"
        raise ValueError(f"y must be {expected}, as at the first fit; got shape {y.shape}")

    def _numbers(self, y: np.ndarray) -> np.ndarray:
        if y.shape[1] != self.outputs:
            raise ValueError(f"y must have {self.outputs} columns, as at the first fit; got {y.shape[1]}")
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError("Some value(s) of y are out of the valid range of the loss 'poisson': they must be >= 0")
        return y

    def targets(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Encoded targets as the trainer reads them: int64 labels for a softmax, else a matrix of the computing dtype."""
        return y if self.activation == "softmax" else np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Encoded answers to a network's outputs."""
        if self.kind == "regressor":
            return outputs[:, 0] if self.outputs == 1 else outputs
        if self.kind == "multilabel":
            return (outputs > 0.5).astype(np.int64)
        if len(self.classes) == 1:
            return np.zeros(len(outputs), np.int64)
        return outputs.argmax(1) if self.outputs > 1 else (outputs[:, 0] > 0.5).astype(np.int64)

    def answers(self, outputs: np.ndarray):
        """What `predict` gives for a network's outputs."""
        decided = self.decide(outputs)
        if self.kind == "classifier":
            return self.classes[decided]
        return scipy.sparse.csr_matrix(decided) if self.sparse else decided

    def loss_and_score(self, y: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
        """Loss, and accuracy or R^2 (NaN for outputs that are not finite), of encoded targets."""
        loss = self.mean_loss(self.targets(y, outputs.dtype), outputs, weights)
        if not np.isfinite(outputs).all():
            return loss, float("nan")
        score = r2_score if self.kind == "regressor" else accuracy_score
        return loss, float(score(y, self.decide(outputs), sample_weight=weights))

    def mean_loss(self, targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The loss of targets as the trainer reads them."""
        with np.errstate(all="ignore"):
            return float(np.average(self._rows(targets, outputs), weights=weights))

    @property
    def engine_differs(self) -> bool:
        """Whether the engine's loss is another than scikit-learn's: it does not keep probabilities off 0, or divides by units."""
        return self.kind != "regressor" or (self.loss == "poisson" and self.outputs > 1)

    def _rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Each row's loss, float64."""
        if self.loss == "huber":
            return losses.Huber(delta=self.level).rows(targets, outputs)
        if self.loss in _ROWS:
            return _ROWS[self.loss](targets.astype(np.float64), outputs.astype(np.float64), self.level)
        return losses.ROWS[self.engine_loss](targets, outputs)


def _half_poisson_deviance(t: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """`t log(t / y) - t + y`, summed over the units as in scikit-learn."""
    return (xlogy(t, t / y) - t + y).sum(1)


def _pinball(t: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """Mean over the units of Koenker and Bassett's (1978) loss."""
    return np.where(y < t, level * (t - y), (1 - level) * (y - t)).mean(1)


_ROWS = {"poisson": _half_poisson_deviance, "quantile": _pinball}
