"""What a network's outputs stand for: classes, labels or numbers; how targets go in and answers come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from nbbn import losses
from nbbn.estimators import data

_LOSSES = {"softmax": "softmax_cross_entropy", "logistic": "sigmoid_cross_entropy", "identity": "squared_error"}


@dataclass(frozen=True)
class Meaning:
    """The outputs of an estimator's network.

    Attributes
    ----------
    kind : str
        `classifier`, `multilabel` or `regressor`.
    outputs : int
        Units of the output layer; 1 for two classes.
    classes : ndarray or None
        Of a classifier; the label indices of a multilabel one.
    """

    kind: str
    outputs: int
    classes: np.ndarray | None = None

    @classmethod
    def of_classes(cls, classes: np.ndarray) -> Meaning:
        """A classifier's.

        Raises
        ------
        ValueError
            For a single class.
        """
        if len(classes) < 2:
            raise ValueError(f"a classifier needs 2 classes or more, got 1 class: {classes}")
        return cls("classifier", 1 if len(classes) == 2 else len(classes), classes)

    @classmethod
    def of_labels(cls, y: np.ndarray) -> Meaning:
        """That of checked labels, or of an indicator matrix."""
        if y.ndim == 1:
            return cls.of_classes(data.classes_of(y))
        return cls("multilabel", y.shape[1], data.classes_of(y))

    @property
    def activation(self) -> str:
        """Activation of the output layer, by scikit-learn's name."""
        if self.kind == "regressor":
            return "identity"
        return "softmax" if self.kind == "classifier" and self.outputs > 1 else "logistic"

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return _LOSSES[self.activation]

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Checked targets as indices `(n,)`, indicators or numbers `(n, outputs)`.

        Raises
        ------
        ValueError
            For unknown classes or another number of columns.
        """
        if self.kind == "regressor":
            if y.shape[1] != self.outputs:
                raise ValueError(f"y must have {self.outputs} columns, as at the first fit; got {y.shape[1]}")
            return y
        if self.kind == "classifier" and y.ndim == 1:
            return data.encode(y, self.classes)
        if self.kind == "multilabel" and y.ndim == 2 and y.shape[1] == self.outputs:
            return np.ascontiguousarray(y, dtype=np.int64)
        expected = f"an indicator matrix of {self.outputs} columns" if self.kind == "multilabel" else "labels (n,)"
        raise ValueError(f"y must be {expected}, as at the first fit; got shape {y.shape}")

    def targets(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Encoded targets as the trainer reads them: int64 labels for a softmax, else a matrix of the computing dtype."""
        return y if self.activation == "softmax" else np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Encoded answers to a network's outputs."""
        if self.kind == "regressor":
            return outputs[:, 0] if self.outputs == 1 else outputs
        if self.kind == "multilabel":
            return (outputs > 0.5).astype(np.int64)
        return outputs.argmax(1) if self.outputs > 1 else (outputs[:, 0] > 0.5).astype(np.int64)

    def loss_and_score(self, y: np.ndarray, outputs: np.ndarray) -> tuple[float, float]:
        """Loss, and accuracy or R^2 (NaN for outputs that are not finite), of encoded targets."""
        loss = losses.LOSSES[self.loss](self.targets(y, outputs.dtype), outputs)
        if not np.isfinite(outputs).all():
            return loss, float("nan")
        score = r2_score if self.kind == "regressor" else accuracy_score
        return loss, float(score(y, self.decide(outputs)))
