"""Losses as functions of targets and outputs, of Keras's names."""

from collections.abc import Callable
from typing import Any

from nbbn.losses.base import Loss
from nbbn.losses.classification import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    Hinge,
    KLDivergence,
    SquaredHinge,
)
from nbbn.losses.cross_entropies import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)
from nbbn.losses.overlaps import Dice, Tversky
from nbbn.losses.regression import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
)
from nbbn.number import Number
from nbbn.tensor import Tensor
from nbbn.utils import keras_name


def _function(cls: type[Loss]) -> Callable[..., Number | Tensor]:
    """The loss as a function of targets and outputs, of Keras's name."""

    def function(y_true: Any, y_pred: Any, **arguments: Any) -> Number | Tensor:
        return cls(reduction="none", **arguments)(y_true, y_pred)

    name = keras_name(cls.__name__) if not cls.names else cls.names[0]
    targets = "[0]" if cls().takes_labels else "[[0.25, 0.75]]"
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""`{cls.__name__}` without reduction, as a function.

    Parameters
    ----------
    y_true, y_pred : array-like
    **arguments
        Of `{cls.__name__}`.

    Returns
    -------
    Tensor
        The values, over whose last axis the loss has summed.

    Examples
    --------
    >>> from nbbn.losses import {name}
    >>> value = {name}({targets}, [[0.5, 0.5]])
    """
    OF_FUNCTIONS[function] = cls
    return function


# In the order in which messages name them.
OF_FUNCTIONS: dict[Callable[..., Any], type[Loss]] = {}
sparse_categorical_crossentropy = _function(SparseCategoricalCrossentropy)
categorical_crossentropy = _function(CategoricalCrossentropy)
binary_crossentropy = _function(BinaryCrossentropy)
mean_squared_error = _function(MeanSquaredError)
mean_absolute_error = _function(MeanAbsoluteError)
huber = _function(Huber)
log_cosh = _function(LogCosh)
mean_absolute_percentage_error = _function(MeanAbsolutePercentageError)
mean_squared_logarithmic_error = _function(MeanSquaredLogarithmicError)
hinge = _function(Hinge)
squared_hinge = _function(SquaredHinge)
categorical_hinge = _function(CategoricalHinge)
kl_divergence = _function(KLDivergence)
poisson = _function(Poisson)
cosine_similarity = _function(CosineSimilarity)
binary_focal_crossentropy = _function(BinaryFocalCrossentropy)
categorical_focal_crossentropy = _function(CategoricalFocalCrossentropy)
categorical_generalized_cross_entropy = _function(CategoricalGeneralizedCrossEntropy)
dice = _function(Dice)
tversky = _function(Tversky)
