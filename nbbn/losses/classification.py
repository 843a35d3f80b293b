"""Other losses of classes: focal, generalised, of distributions, of margins."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn import loss_formulas as formulas
from nbbn.losses.base import Loss
from nbbn.losses.cross_entropies import BinaryCrossentropy, CategoricalCrossentropy


@dataclass(frozen=True)
class _Focal(Loss):
    """What the focal cross-entropies share."""

    alpha: float = 0.25
    gamma: float = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("gamma", 0, rule="a finite number of at least 0")


def _focal_of_sigmoid(t: np.ndarray, y: np.ndarray, **numbers: Any) -> formulas.Pair:
    return formulas.of_sigmoid(formulas.binary_focal_crossentropy, t, y, **numbers)


def _focal_of_softmax(t: np.ndarray, y: np.ndarray, **numbers: Any) -> formulas.Pair:
    return formulas.of_softmax(formulas.categorical_focal_crossentropy, t, y, **numbers)


@dataclass(frozen=True)
class BinaryFocalCrossentropy(_Focal):
    """The binary cross-entropy, each unit's times `(1 - p)^gamma` of its right answer.

    Lin et al. (2018).

    Parameters
    ----------
    apply_class_balancing : bool
        Whether units are weighed by `alpha`, and those of target 0 by `1 - alpha`.
    alpha, gamma : float
    from_logits : bool
        Whether the model ends before the sigmoid.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / 2`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import BinaryFocalCrossentropy
    >>> round(BinaryFocalCrossentropy()(np.array([[1.0]]), np.array([[0.5]])), 4)
    0.1733
    """

    apply_class_balancing: bool = False
    alpha: float = 0.25
    gamma: float = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0

    names = ("binary_focal_crossentropy",)
    formula = formulas.binary_focal_crossentropy
    of_logits = _focal_of_sigmoid
    arguments = ("alpha", "gamma", "apply_class_balancing")
    prepare = BinaryCrossentropy.prepare


@dataclass(frozen=True)
class CategoricalFocalCrossentropy(_Focal):
    """`-sum(alpha * (1 - p)^gamma * t * log p)`: for one-hot rows.

    Lin et al. (2018).

    Parameters
    ----------
    alpha : float or sequence of float
        A weight, or one for each class.
    gamma : float
    from_logits : bool
        Whether the model ends before the softmax.
    label_smoothing : float
        In [0, 1]: targets become `t * (1 - s) + s / classes`.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalFocalCrossentropy
    >>> loss = CategoricalFocalCrossentropy()
    >>> round(loss(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])), 4)
    0.0433
    """

    names = ("categorical_focal_crossentropy",)
    formula = formulas.categorical_focal_crossentropy
    of_logits = _focal_of_softmax
    arguments = ("alpha", "gamma")
    prepare = CategoricalCrossentropy.prepare


@dataclass(frozen=True)
class CategoricalGeneralizedCrossEntropy(Loss):
    """`(1 - p[label]^q) / q`: for class indices that may be wrong (Zhang and Sabuncu, 2018).

    Parameters
    ----------
    q : float
        Above 0 and below 1.
    **base
        See `Loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalGeneralizedCrossEntropy
    >>> CategoricalGeneralizedCrossEntropy()(np.array([0]), np.array([[0.25, 0.75]]))
    1.0
    """

    q: float = 0.5

    engine = "numpy_labels"
    names = ("categorical_generalized_cross_entropy",)
    formula = formulas.categorical_generalized_cross_entropy
    arguments = ("q",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self._number("q", 0, 1, "a number between 0 and 1") < 1:
            raise self._error(f"q must be a number between 0 and 1, got {self.q!r}")


class KLDivergence(Loss):
    """`sum(t * log(t / y))` over the units, both kept within 1e-7 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import KLDivergence
    >>> round(KLDivergence()(np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])), 4)
    0.1438
    """

    names = ("kl_divergence",)
    aliases = ("kld", "KLD", "kullback_leibler_divergence")
    formula = formulas.kl_divergence


class Hinge(Loss):
    """`mean(max(1 - t * y, 0))` over the units; targets are -1 and 1, or 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import Hinge
    >>> Hinge()(np.array([[-1.0], [1.0]]), np.array([[-2.0], [0.5]]))
    0.25
    """

    names = ("hinge",)
    formula = formulas.hinge


class SquaredHinge(Loss):
    """`mean(max(1 - t * y, 0)^2)` over the units; targets are -1 and 1, or 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import SquaredHinge
    >>> SquaredHinge()(np.array([[-1.0], [1.0]]), np.array([[-2.0], [0.5]]))
    0.125
    """

    names = ("squared_hinge",)
    formula = formulas.squared_hinge


class CategoricalHinge(Loss):
    """`max(1 + max((1 - t) * y) - sum(t * y), 0)`: for one-hot rows.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CategoricalHinge
    >>> CategoricalHinge()(np.array([[1.0, 0.0]]), np.array([[0.5, 0.25]]))
    0.75
    """

    names = ("categorical_hinge",)
    formula = formulas.categorical_hinge
