"""What is known of each loss that has a kernel: its value row by row, and which end it wants.

A loss that is worth a kernel has a function of rows and a row in `RECORDS` here, the class of that
engine's name, and the kernel of the name in `nbbn.kernels.loss`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# -- row by row: targets, outputs -> (rows,) of float64


def _softmax_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-log p[row, label]`; p are kept off 0 by the dtype's epsilon, as scikit-learn does.

    0 for a label of no class, as a metric may get beside a loss that ignores it.
    """
    known = (labels >= 0) & (labels < probabilities.shape[1])
    picked = probabilities[np.arange(len(labels)), np.where(known, labels, 0)].astype(np.float64)
    values = -np.log(np.maximum(picked, np.finfo(probabilities.dtype).eps))
    return values if known.all() else np.where(known, values, 0.0)


def _categorical_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-sum(t * log p)` over the units; p are kept off 0 by the dtype's epsilon."""
    p = np.maximum(probabilities, np.finfo(probabilities.dtype).eps).astype(np.float64)
    return -(targets * np.log(p)).sum(1)


def _units_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    eps = np.finfo(probabilities.dtype).eps
    p = np.clip(probabilities.astype(np.float64), eps, 1 - eps)
    return -(targets * np.log(p) + (1 - targets) * np.log1p(-p))


def _sigmoid_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-sum(t * log p + (1 - t) * log(1 - p))` over the units."""
    return _units_cross_entropy(targets, probabilities).sum(1)


def _binary_cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`-mean(t * log p + (1 - t) * log(1 - p))` over the units."""
    return _units_cross_entropy(targets, probabilities).mean(1)


def _squared_error(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean((y - t)^2) / 2` over the units: scikit-learn's."""
    return 0.5 * _mean_squared_error(targets, outputs)


def _mean_squared_error(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean((y - t)^2)` over the units."""
    return np.square(targets.astype(np.float64) - outputs).mean(1)


def _mean_absolute_error(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean(|y - t|)` over the units."""
    return np.abs(targets.astype(np.float64) - outputs).mean(1)


def _huber(targets: np.ndarray, outputs: np.ndarray, delta: float) -> np.ndarray:
    """Mean over the units of `s^2 / 2` where `|s| <= delta`, else `delta * (|s| - delta / 2)`."""
    slip = np.abs(targets.astype(np.float64) - outputs)
    return np.where(slip <= delta, 0.5 * slip * slip, delta * (slip - 0.5 * delta)).mean(1)


def _log_cosh(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """`mean(log(cosh(y - t)))` over the units."""
    slip = np.abs(targets.astype(np.float64) - outputs)
    return (slip + np.log1p(np.exp(-2 * slip)) - math.log(2)).mean(1)


def _quantile(targets: np.ndarray, outputs: np.ndarray, level: float) -> np.ndarray:
    """Mean over the units of `level * s` where `s = t - y > 0`, else `(level - 1) * s`."""
    slip = targets.astype(np.float64) - outputs
    return np.where(slip > 0, level * slip, (level - 1) * slip).mean(1)


def _poisson(targets: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Half the Poisson deviance `t * log(t / y) - t + y`, mean over the units."""
    t, y = targets.astype(np.float64), means.astype(np.float64)
    counted = t > 0
    log_ratio = np.log(np.where(counted, t, 1.0) / np.where(counted, y, 1.0))
    return (t * log_ratio - t + y).mean(1)


def mean_of(rows: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean over the rows of `weight * loss`: not divided by the weights' sum, as in Keras."""
    return float(rows.mean() if weights is None else (rows * weights).mean())


@dataclass(frozen=True)
class LossRecord:
    """What is to be known of a loss; its kernel in `nbbn.kernels.loss` bears its name.

    Attributes
    ----------
    engine : str
        The engine's name.
    rows : callable
        `(targets, outputs)`, and the parameter where there is one, to the value of each row,
        shape (n,), float64. Outputs are those after the activation `end`.
    end : str or None
        Activation that must end the network: the kernel starts from what stands before it, and
        writes the gradient there. None: any, since the kernel starts from the outputs.
    takes_labels : bool
        Whether targets are class indices (n,), not a row of numbers for each row.
    counts_hits : bool
        Whether the kernel also counts the rows, or the shares of rows, that are right.
    parameter : str or None
        Name of its one number, if it has one.
    sklearn : str or None
        Name in `MLPRegressor`.
    sklearn_sums : bool
        Whether scikit-learn reports the sum over the units where `rows` and the kernel take the
        mean.
    outside : bool
        Whether NumPy computes it, between the kernels of a step.
    """

    engine: str
    rows: Callable[..., np.ndarray]
    end: str | None = None
    takes_labels: bool = False
    counts_hits: bool = False
    parameter: str | None = None
    sklearn: str | None = None
    sklearn_sums: bool = False
    outside: bool = False

    def of_rows(self, targets: np.ndarray, outputs: np.ndarray,
                parameter: float = 0.0) -> np.ndarray:
        """Value of each row, for any loss: those without a parameter do without it.

        Of rows of several axes the mean over all numbers, or over all pixels where each has a loss.
        """
        if outputs.ndim > 2:
            size = len(outputs), -1
            if self.end != "softmax":
                return self.of_rows(targets.reshape(size), outputs.reshape(size), parameter)
            pixels = outputs.reshape(-1, outputs.shape[-1])
            own = targets.reshape(pixels.shape[: 1 if self.takes_labels else 2])
            return self.of_rows(own, pixels, parameter).reshape(size).mean(1)
        if self.parameter is None:
            return self.rows(targets, outputs)
        return self.rows(targets, outputs, parameter)


RECORDS = {
    record.engine: record
    for record in (
        LossRecord("softmax_cross_entropy", _softmax_cross_entropy, "softmax", takes_labels=True,
                   counts_hits=True),
        LossRecord("categorical_cross_entropy", _categorical_cross_entropy, "softmax",
                   counts_hits=True),
        LossRecord("sigmoid_cross_entropy", _sigmoid_cross_entropy, "sigmoid", counts_hits=True),
        LossRecord("binary_cross_entropy", _binary_cross_entropy, "sigmoid", counts_hits=True),
        LossRecord("squared_error", _squared_error, "linear", sklearn="squared_error"),
        LossRecord("mean_squared_error", _mean_squared_error),
        LossRecord("mean_absolute_error", _mean_absolute_error, sklearn="absolute_error"),
        LossRecord("huber", _huber, parameter="delta", sklearn="huber"),
        LossRecord("log_cosh", _log_cosh),
        LossRecord("quantile", _quantile, parameter="level", sklearn="quantile"),
        LossRecord("poisson", _poisson, "exponential", sklearn="poisson", sklearn_sums=True),
    )
}  # fmt: skip

# Of losses that NumPy computes: of numbers, and of labels.
_OUTSIDE = {name: LossRecord(name, _mean_squared_error, takes_labels=labels, outside=True)
            for name, labels in (("numpy", False), ("numpy_labels", True))}


def record_of(engine: str) -> LossRecord:
    """The record of a name."""
    return _OUTSIDE[engine] if engine in _OUTSIDE else RECORDS[engine]
