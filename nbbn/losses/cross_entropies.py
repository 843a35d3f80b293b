"""Cross-entropies: of classes by their number, of rows of probabilities, of units each for itself.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from nbbn import loss_formulas as formulas
from nbbn.losses.base import Loss, as_given


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """`-log p[label]`: for class indices and a softmax.

    Parameters
    ----------
    from_logits : bool
        Whether the model ends before the softmax.
    ignore_class : int or None
        A label, of a class or of none, that does not count: the loss is the mean over the others.
    **base
        See `Loss`.

    Examples
    --------
    >>> import nbbn
    >>> head = nbbn.layers.Dense(3, activation="softmax", input_shape=(4,))
    >>> model = nbbn.Sequential([head])
    >>> model.compile("adam", nbbn.losses.SparseCategoricalCrossentropy())
    >>> round(model.evaluate([[0.0, 0.0, 0.0, 0.0]], [2], verbose=0), 4)  # log(3)
    1.0986
    """

    from_logits: bool = False
    ignore_class: int | None = None

    engine = "softmax_cross_entropy"
    names = ("sparse_categorical_crossentropy",)
    formula = formulas.sparse_categorical_crossentropy
    of_logits = formulas.sparse_of_logits

    def of_probabilities(self) -> Loss:
        return as_given(self, "softmax", "numpy_labels")

    def __post_init__(self) -> None:
        super().__post_init__()
        ignored: Any = self.ignore_class
        if ignored is None:
            return
        if isinstance(ignored, bool) or not isinstance(ignored, Integral):
            raise self._error(f"ignore_class must be None or a whole number, got {ignored!r}")
        # NumPy computes it, from the outputs as they are.
        self.__dict__.update(engine="numpy_labels", _end=None if self.from_logits else "softmax")

    def counted(self, targets: np.ndarray) -> np.ndarray | None:
        return None if self.ignore_class is None else targets != self.ignore_class

    def pair(self, targets: np.ndarray, outputs: np.ndarray) -> formulas.Pair:
        counted = self.counted(targets)
        if counted is None:
            return super().pair(targets, outputs)
        values, slopes = super().pair(np.where(counted, targets, 0), outputs)
        return np.where(counted, values, 0.0), np.where(counted[..., None], slopes, 0.0)


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """`-sum(t * log p)`: for rows of class probabilities, such as one-hot rows, and a softmax.

    Parameters
    ----------
    from_logits : bool
        Whether the model ends before the softmax.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / classes`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalCrossentropy
    >>> loss = CategoricalCrossentropy(label_smoothing=0.3)
    >>> loss.prepare(np.array([[0.0, 1.0, 0.0]])).round(6)
    array([[0.1, 0.8, 0.1]])
    >>> CategoricalCrossentropy().rows(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])).round(6)
    array([0.693147])
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    engine = "categorical_cross_entropy"
    names = ("categorical_crossentropy",)
    formula = formulas.categorical_crossentropy
    of_logits = formulas.categorical_of_logits

    def of_probabilities(self) -> Loss:
        return as_given(self, "softmax", "numpy")

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        s = targets.dtype.type(self.label_smoothing)
        return targets * (1 - s) + s / targets.shape[-1] if s else targets


@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """`-mean(t * log p + (1 - t) * log(1 - p))` over the units: for targets in [0, 1] and sigmoids.

    Parameters
    ----------
    from_logits : bool
        Whether the model ends before the sigmoid.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / 2`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import BinaryCrossentropy
    >>> BinaryCrossentropy().rows(np.array([[1.0], [0.0]]), np.array([[0.9], [0.9]])).round(4)
    array([0.1054, 2.3026])
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    engine = "binary_cross_entropy"
    names = ("binary_crossentropy",)
    aliases = ("bce", "BCE")
    formula = formulas.binary_crossentropy
    of_logits = formulas.binary_of_logits

    def of_probabilities(self) -> Loss:
        return as_given(self, "sigmoid", "numpy")

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        s = targets.dtype.type(self.label_smoothing)
        return targets * (1 - s) + s / 2 if s else targets
