"""What a network's outputs stand for: how targets go in, and how answers come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse

from nbbn.answers import chosen, probabilities
from nbbn.estimators import checks


@dataclass(frozen=True)
class Task:
    """Classes, labels or numbers."""

    kind: str  # `classifier`, `multilabel` or `regressor`
    # Numbers in a row of y, labels of an indicator matrix; what a classifier makes of its classes.
    outputs: int
    classes: np.ndarray | None = None  # of a classifier; the label indices of a multilabel one
    sparse: bool = False  # whether a multilabel target was sparse, so that answers are too

    # In which words targets are refused that are not as at the first fit.
    unknown: ClassVar[str] = (
        "`y` has classes not in `self.classes_`. `self.classes_` has {classes}. 'y' has {found}."
    )
    columns: ClassVar[str] = "y must have {outputs} columns, as at the first fit; got {columns}"

    def encode(self, y: np.ndarray, name: str = "y") -> np.ndarray:
        """Checked targets as indices `(n,)`, int64 indicators or numbers `(n, outputs)`."""
        if self.kind == "regressor":
            if y.shape[1] != self.outputs:
                since = "the model was fitted with" if name == "y" else "y has"
                words = {"name": name, "outputs": self.outputs, "columns": y.shape[1]}
                raise ValueError(self.columns.format(**words, since=since))
            return y
        if self.kind == "classifier" and y.ndim == 1 and self.classes is not None:
            index = checks.indices(y, self.classes)
            if index is None:
                new, found = np.setdiff1d(y, self.classes), np.unique(y)
                raise ValueError(self.unknown.format(classes=self.classes, found=found, new=new))
            return index
        if self.kind == "multilabel" and y.ndim == 2 and y.shape[1] == self.outputs:
            return np.ascontiguousarray(y, dtype=np.int64)
        expected = "labels (n,)"
        if self.kind == "multilabel":
            expected = f"an indicator matrix of {self.outputs} columns"
        raise ValueError(f"y must be {expected}, as at the first fit; got shape {y.shape}")

    @property
    def one_class(self) -> list[Any]:
        """Of a classifier that knows one class alone that class, else nothing."""
        if self.kind != "classifier" or self.classes is None or len(self.classes) > 1:
            return []
        return self.classes.tolist()

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Encoded answers to a network's outputs."""
        if self.one_class:
            return np.zeros(len(outputs), np.int64)
        return chosen(outputs, self.kind)

    def answers(self, outputs: np.ndarray) -> Any:
        """What `predict` gives for a network's outputs."""
        decided = self.decide(outputs)
        if self.kind == "classifier" and self.classes is not None:
            return self.classes[decided]
        return scipy.sparse.csr_matrix(decided) if self.sparse else decided

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """What `predict_proba` gives for a network's outputs."""
        return probabilities(outputs) if self.kind == "classifier" else outputs
