"""What `y` becomes: indices of classes, or a matrix of numbers."""

from __future__ import annotations

import numpy as np
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets


def labels(y, name: str = "y") -> np.ndarray:
    """Class labels `(n,)`."""
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name=name)
    check_classification_targets(y)
    return y


def encode(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Each label's index in `classes`."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y holds labels that are not among the classes {classes}: {unknown}")
    return np.searchsorted(classes, y).astype(np.int64)


def numbers(y, name: str = "y") -> np.ndarray:
    """Targets `(n, outputs)`, float64."""
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name=name)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return y.reshape(len(y), -1)
