"""Metrics by name, beside a loss, and as functions."""

from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from inspect import Parameter, signature
from typing import Any

import numpy as np

from nbbn.losses import Loss
from nbbn.metrics import base, counts, means, overlaps
from nbbn.metrics.base import MeanMetricWrapper, Metric
from nbbn.metrics.means import (
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
)
from nbbn.names import find, suggesting
from nbbn.tensor import Tensor, tensor
from nbbn.utils import keras_name

CLASSES: dict[str, type[Metric]] = {
    name: value for module in (means, counts, overlaps, base) for name, value in
    vars(module).items() if isinstance(value, type) and issubclass(value, Metric)
    and value is not Metric and value.__module__ == module.__name__ and name[0] != "_"
}
for _each in CLASSES.values():
    suggesting(_each)


def _of_name(cls: type[Metric]) -> bool:
    """Whether a metric can be made without arguments."""
    return all(f.default is not MISSING for f in fields(cls)) and not issubclass(
        cls, base.Mean | base.Sum)


_NAMES = {cls.keras_name or keras_name(name): cls for name, cls in CLASSES.items()
          if _of_name(cls) and cls is not means.Accuracy}
_SHORT = {"mse": "MeanSquaredError", "mae": "MeanAbsoluteError", "bce": "BinaryCrossentropy",
          "mape": "MeanAbsolutePercentageError", "msle": "MeanSquaredLogarithmicError"}
_NAMES |= {short: CLASSES[name] for short, name in _SHORT.items()}
_ALIASES = CLASSES | {short.upper(): CLASSES[name] for short, name in _SHORT.items()} | {
    "log_cosh_error": means.LogCoshError, "log_cosh": means.LogCoshError,
    "f_beta_score": counts.FBetaScore, "cosine_proximity": means.CosineSimilarity,
    "kld": means.KLDivergence, "KLD": means.KLDivergence,
}
_ACCURACY = ("accuracy", "acc", "Accuracy")


def get(identifier: Any, loss: Loss, units: int | None) -> Metric:
    """The metric that a name, an object or a config stands for, beside this loss.

    Parameters
    ----------
    identifier : str, Metric, dict or function
        `"accuracy"` and `"acc"` are, as in Keras 3, sparse beside a loss of labels, binary for one
        unit and categorical for more. A name is what the figure is called. A function takes
        `(y_true, y_pred)` and gives a number a row, or one for all.
    loss : Loss
    units : int or None
        Outputs of the network; None: not known yet.

    Returns
    -------
    Metric

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one, and for a metric that takes other targets
        than the loss.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import losses, metrics
    >>> loss = losses.get("sparse_categorical_crossentropy")
    >>> metrics.get("accuracy", loss, 10)
    SparseCategoricalAccuracy(name='accuracy', dtype=None)
    """
    metric = _of(identifier, loss, units)
    own = not type(metric).update_state.__module__.startswith("nbbn.")  # it knows what it takes
    if metric.takes_labels != loss.takes_labels and not metric.takes_any and not own:
        forms = {True: "class indices (n,)", False: "a row of numbers for each row"}
        raise ValueError(f"metric {metric.name!r} takes {forms[metric.takes_labels]}, but loss "
                         f"{loss.shown!r} takes {forms[loss.takes_labels]}; use 'accuracy', which "
                         "follows the loss, or another metric")
    return metric


def _of(identifier: object, loss: Loss, units: int | None) -> Metric:
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, dict):
        return _class(identifier.get("class_name"))(**identifier["config"])
    if isinstance(identifier, str):
        cls = accuracy_of(loss, units) if identifier in _ACCURACY else _class(identifier)
        return replace(cls(), name=identifier)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        name = identifier.__name__
        raise TypeError(f"a metric is the class {name}; make an object of it: {name}()")
    if callable(identifier) and _takes_two(identifier):
        return FUNCTIONS[identifier]() if identifier in FUNCTIONS else MeanMetricWrapper(identifier)
    raise TypeError("a metric must be a name or an object of nbbn.metrics, or a function of "
                    f"(y_true, y_pred), got {identifier!r}")


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with targets and outputs."""
    try:
        given = signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    plain = [p for p in given if p.kind in (Parameter.POSITIONAL_ONLY,
                                            Parameter.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in plain if p.default is Parameter.empty]
    several = any(p.kind is Parameter.VAR_POSITIONAL for p in given)
    return len(needed) <= 2 and (len(plain) >= 2 or several)


def accuracy_of(loss: Loss, units: int | None = None) -> type[Metric]:
    """What `accuracy` means beside a loss: as in Keras 3 the outputs' last axis decides."""
    if loss.takes_labels:
        return SparseCategoricalAccuracy
    return BinaryAccuracy if units in (None, 1) and loss.end != "softmax" else CategoricalAccuracy


def counted_accuracy(loss: Loss) -> type[Metric]:
    """What kernels count as hits."""
    if loss.end == "sigmoid":
        return BinaryAccuracy
    return SparseCategoricalAccuracy if loss.takes_labels else CategoricalAccuracy


def _class(name: object) -> type[Metric]:
    return find("metric", name, _NAMES, _ALIASES, ("accuracy",))


# -- as functions


FUNCTIONS: dict[Any, type[Metric]] = {}


def _function(cls: type[Metric]) -> Callable[..., Tensor]:
    """The rows' figures as a function of targets and outputs, of Keras's name."""

    def function(y_true: Any, y_pred: Any, **arguments: Any) -> Tensor:
        metric, outputs, targets = cls(**arguments), np.asarray(y_pred), np.asarray(y_true)
        if metric.takes_labels:
            targets = targets.reshape(outputs.shape[:-1]).astype(np.int64)
        return tensor(np.asarray(metric.rows(targets, outputs), np.float64))

    name = cls.keras_name or keras_name(cls.__name__)
    targets = "[0]" if cls.takes_labels else "[[0.0, 1.0]]"
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""`{cls.__name__}` of each row, as a function.

    Parameters
    ----------
    y_true, y_pred : array-like
    **arguments
        Of `{cls.__name__}`.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> from nbbn.metrics import {name}
    >>> rows = {name}({targets}, [[0.25, 0.75]])
    """
    FUNCTIONS[function] = cls
    return function


binary_accuracy = _function(BinaryAccuracy)
categorical_accuracy = _function(CategoricalAccuracy)
concordance_correlation = _function(means.ConcordanceCorrelation)
pearson_correlation = _function(means.PearsonCorrelation)
sparse_categorical_accuracy = _function(SparseCategoricalAccuracy)
sparse_top_k_categorical_accuracy = _function(means.SparseTopKCategoricalAccuracy)
top_k_categorical_accuracy = _function(means.TopKCategoricalAccuracy)
