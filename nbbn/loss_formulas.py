"""Losses and their gradients as NumPy computes them, with Keras's formulas.

A formula takes targets `t` and outputs `y` of one shape, or labels without the last axis, and gives
the values, over whose last axis it has summed, and each value's derivative by the outputs. One
number for the whole batch has the gradient of that number.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# Keras's `backend.epsilon()`.
EPSILON = 1e-7

Pair = tuple[np.ndarray, np.ndarray]
Formula = Callable[..., Pair]


def _mean(values: np.ndarray, slopes: np.ndarray) -> Pair:
    """Of each number to the mean over the last axis."""
    return values.mean(-1), slopes / slopes.shape[-1]


def _within(x: np.ndarray, low: float, high: float) -> Pair:
    """Clipped numbers, and 1 where they are what they were."""
    return np.clip(x, low, high), (x >= low) & (x <= high)


def squared_error(t: np.ndarray, y: np.ndarray) -> Pair:
    """`mean((y - t)^2)`."""
    slip = y - t
    return _mean(slip * slip, 2 * slip)


def absolute_error(t: np.ndarray, y: np.ndarray) -> Pair:
    """`mean(|y - t|)`."""
    return _mean(np.abs(y - t), np.sign(y - t))


def percentage_error(t: np.ndarray, y: np.ndarray) -> Pair:
    """`100 * mean(|y - t| / |t|)`, `|t|` kept off 0."""
    size = np.maximum(np.abs(t), EPSILON)
    return _mean(100 * np.abs(y - t) / size, 100 * np.sign(y - t) / size)


def squared_logarithmic_error(t: np.ndarray, y: np.ndarray) -> Pair:
    """`mean((log(1 + y) - log(1 + t))^2)`, both kept above 0."""
    slip = np.log(np.maximum(y, EPSILON) + 1) - np.log(np.maximum(t, EPSILON) + 1)
    return _mean(slip * slip, np.where(y > EPSILON, 2 * slip / (np.maximum(y, 0) + 1), 0))


def huber(t: np.ndarray, y: np.ndarray, delta: float) -> Pair:
    """`mean(s^2 / 2)` where `|s| <= delta`, else of `delta * (|s| - delta / 2)`."""
    slip, size = y - t, np.abs(y - t)
    values = np.where(size <= delta, 0.5 * slip * slip, delta * (size - 0.5 * delta))
    return _mean(values, np.clip(slip, -delta, delta))


def log_cosh(t: np.ndarray, y: np.ndarray) -> Pair:
    """`mean(log(cosh(y - t)))`."""
    size = np.abs(y - t)
    return _mean(size + np.log1p(np.exp(-2 * size)) - np.log(2), np.tanh(y - t))


def _signs(t: np.ndarray) -> np.ndarray:
    """Targets as -1 and 1, where all of them are 0 or 1."""
    return 2 * t - 1 if ((t == 0) | (t == 1)).all() else t


def hinge(t: np.ndarray, y: np.ndarray) -> Pair:
    """`mean(max(1 - t * y, 0))`; targets of 0 and 1 are taken as -1 and 1."""
    t = _signs(t)
    room = np.maximum(1 - t * y, 0)
    return _mean(room, np.where(room > 0, -t, 0))


def squared_hinge(t: np.ndarray, y: np.ndarray) -> Pair:
    """`mean(max(1 - t * y, 0)^2)`; targets of 0 and 1 are taken as -1 and 1."""
    t = _signs(t)
    room = np.maximum(1 - t * y, 0)
    return _mean(room * room, -2 * room * t)


def categorical_hinge(t: np.ndarray, y: np.ndarray) -> Pair:
    """`max(1 + max((1 - t) * y) - sum(t * y), 0)`."""
    others = (1 - t) * y
    top = others.argmax(-1)[..., None]
    values = np.maximum(1 + np.take_along_axis(others, top, -1)[..., 0] - (t * y).sum(-1), 0)
    slopes = -t.astype(y.dtype)
    at_top = np.take_along_axis(slopes, top, -1) + np.take_along_axis(1 - t, top, -1)
    np.put_along_axis(slopes, top, at_top, -1)
    return values, np.where(values[..., None] > 0, slopes, 0)


def kl_divergence(t: np.ndarray, y: np.ndarray) -> Pair:
    """`sum(t * log(t / y))`, both within epsilon to 1."""
    t = np.clip(t, EPSILON, 1)
    y, kept = _within(y, EPSILON, 1)
    return (t * np.log(t / y)).sum(-1), np.where(kept, -t / y, 0)


def poisson(t: np.ndarray, y: np.ndarray) -> Pair:
    """`mean(y - t * log(y + epsilon))`."""
    return _mean(y - t * np.log(y + EPSILON), 1 - t / (y + EPSILON))


def cosine_similarity(t: np.ndarray, y: np.ndarray) -> Pair:
    """`-sum(t * y) / (|t| * |y|)`."""
    t = t / _length(t)
    length = _length(y)
    y = y / length
    values = -(t * y).sum(-1)
    return values, (-t - values[..., None] * y) / length


def _length(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum((x * x).sum(-1, keepdims=True), EPSILON**2))


# -- cross-entropies of probabilities


def _shares(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Outputs divided by their sum and clipped, whether they stayed, and the way back of slopes."""
    total = y.sum(-1, keepdims=True)
    p = y / total
    clipped, kept = _within(p, EPSILON, 1 - EPSILON)
    return clipped, kept, lambda slope: (slope - (slope * p).sum(-1, keepdims=True)) / total


def categorical_crossentropy(t: np.ndarray, y: np.ndarray) -> Pair:
    """`-sum(t * log(p))` of `p = y / sum(y)`."""
    p, kept, back = _shares(y)
    return -(t * np.log(p)).sum(-1), back(np.where(kept, -t / p, 0))


def sparse_categorical_crossentropy(t: np.ndarray, y: np.ndarray) -> Pair:
    """`-log(p[label])` of `p = y / sum(y)`."""
    return categorical_crossentropy(one_hot(t, y), y)


def one_hot(labels: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 at each label's place along the last axis of `y`, 0 elsewhere."""
    return (labels.astype(np.int64)[..., None] == np.arange(y.shape[-1])).astype(y.dtype)


def binary_crossentropy(t: np.ndarray, y: np.ndarray) -> Pair:
    """`-mean(t * log(y) + (1 - t) * log(1 - y))`."""
    values, slopes = _binary(t, y)
    return _mean(values, slopes)


def _binary(t: np.ndarray, y: np.ndarray) -> Pair:
    y, kept = _within(y, EPSILON, 1 - EPSILON)
    return -(t * np.log(y) + (1 - t) * np.log(1 - y)), np.where(kept, (y - t) / (y * (1 - y)), 0)


def binary_focal_crossentropy(t: np.ndarray, y: np.ndarray, gamma: float, alpha: float,
                              apply_class_balancing: bool) -> Pair:
    """The binary cross-entropy, each number's times `(1 - p_t)^gamma` (Lin et al., 2018)."""
    values, slopes = _binary(t, y)
    away = 1 - (t * y + (1 - t) * (1 - y))
    factor = away**gamma
    weight = t * alpha + (1 - t) * (1 - alpha) if apply_class_balancing else 1.0
    grown = gamma * away ** (gamma - 1) * (1 - 2 * t) if gamma else 0.0
    return _mean(weight * factor * values, weight * (factor * slopes + grown * values))


def categorical_focal_crossentropy(t: np.ndarray, y: np.ndarray, gamma: float,
                                   alpha: Any) -> Pair:
    """`-sum(alpha * (1 - p)^gamma * t * log(p))` of `p = y / sum(y)` (Lin et al., 2018)."""
    p, kept, back = _shares(y)
    factor, alpha = (1 - p) ** gamma, np.asarray(alpha)
    values = -(alpha * factor * t * np.log(p)).sum(-1)
    slopes = alpha * t * (gamma * (1 - p) ** (gamma - 1) * np.log(p) - factor / p)
    return values, back(np.where(kept, slopes, 0))


def categorical_generalized_cross_entropy(t: np.ndarray, y: np.ndarray, q: float) -> Pair:
    """`(1 - y[label]^q) / q` (Zhang and Sabuncu, 2018)."""
    marked = one_hot(t, y)
    p = (y * marked).sum(-1)
    return (1 - p**q) / q, -(p ** (q - 1))[..., None] * marked


# -- overlaps, of the whole batch or of some axes


def dice(t: np.ndarray, y: np.ndarray, axis: Any) -> Pair:
    """`1 - 2 * sum(t * y) / (sum(t) + sum(y))`."""
    both, total = _sum(t * y, axis), _sum(t, axis) + _sum(y, axis) + EPSILON
    return _overlap(2 * both / total, 2 * t / total - 2 * both / total**2, axis)


def tversky(t: np.ndarray, y: np.ndarray, alpha: float, beta: float, axis: Any) -> Pair:
    """`1 - tp / (tp + alpha * fp + beta * fn)` (Salehi et al., 2017), named as in Keras."""
    both = _sum(t * y, axis)
    total = both + alpha * _sum((1 - y) * t, axis) + beta * _sum(y * (1 - t), axis) + EPSILON
    slope_of_total = t - alpha * t + beta * (1 - t)
    return _overlap(both / total, t / total - both / total**2 * slope_of_total, axis)


def _sum(x: np.ndarray, axis: Any) -> np.ndarray:
    return x.sum(axis, keepdims=True)


def _overlap(shares: np.ndarray, slopes: np.ndarray, axis: Any) -> Pair:
    """The loss of shares, which is one number where the rows' axis is among the axes."""
    axes = range(slopes.ndim) if axis is None else np.atleast_1d(axis) % slopes.ndim
    if 0 in axes:
        return np.asarray((1 - shares).mean()), -slopes / shares.size
    return (1 - shares).reshape(len(shares), -1), -slopes


# -- outputs before their activation


def sigmoid(y: np.ndarray) -> np.ndarray:
    """`1 / (1 + exp(-y))`."""
    e = np.exp(-np.abs(y))
    return np.where(y >= 0, 1 / (1 + e), e / (1 + e))


def softmax(y: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(y - y.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def of_sigmoid(formula: Formula, t: np.ndarray, y: np.ndarray, **numbers: Any) -> Pair:
    """A formula of `sigmoid(y)`."""
    p = sigmoid(y)
    values, slopes = formula(t, p, **numbers)
    return values, slopes * p * (1 - p)


def of_softmax(formula: Formula, t: np.ndarray, y: np.ndarray, **numbers: Any) -> Pair:
    """A formula of `softmax(y)`."""
    p = softmax(y)
    values, slopes = formula(t, p, **numbers)
    return values, p * (slopes - (slopes * p).sum(-1, keepdims=True))


def binary_of_logits(t: np.ndarray, y: np.ndarray) -> Pair:
    """The binary cross-entropy of `sigmoid(y)`, without its clipping."""
    values = np.maximum(y, 0) - y * t + np.log1p(np.exp(-np.abs(y)))
    return _mean(values, sigmoid(y) - t)


def categorical_of_logits(t: np.ndarray, y: np.ndarray) -> Pair:
    """The cross-entropy of `softmax(y)`, without its clipping."""
    top = y.max(-1, keepdims=True)
    logs = y - top - np.log(np.exp(y - top).sum(-1, keepdims=True))
    return -(t * logs).sum(-1), np.exp(logs) * t.sum(-1, keepdims=True) - t


def sparse_of_logits(t: np.ndarray, y: np.ndarray) -> Pair:
    """The same of labels."""
    return categorical_of_logits(one_hot(t, y), y)
