"""Losses as NumPy functions of targets and outputs: what a validation set is measured by. Mean over the rows, float64."""

from __future__ import annotations

import numpy as np


def softmax_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """`-mean(log p[row, label])`; probabilities are kept off 0 by the dtype's epsilon, as scikit-learn does."""
    picked = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(picked, np.finfo(probabilities.dtype).eps)).mean())


def sigmoid_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """`-mean(sum(t * log p + (1 - t) * log(1 - p)))` over the rows; the sum runs over the units."""
    eps = np.finfo(probabilities.dtype).eps
    p = np.clip(probabilities.astype(np.float64), eps, 1 - eps)
    return float(-(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum(1).mean())


def squared_error(targets: np.ndarray, outputs: np.ndarray) -> float:
    """`mean((t - y)^2) / 2` over rows and units: scikit-learn's."""
    return float(0.5 * np.square(targets.astype(np.float64) - outputs).mean())


LOSSES = {f.__name__: f for f in (softmax_cross_entropy, sigmoid_cross_entropy, squared_error)}
