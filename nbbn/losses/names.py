"""Losses by name, object, config or function."""

import inspect
from typing import Any

from nbbn import names_of_keras
from nbbn.losses.base import MEANS, Loss
from nbbn.losses.custom import CustomLoss
from nbbn.losses.functions import OF_FUNCTIONS
from nbbn.losses.gradients import compare_gradient
from nbbn.names import find, suggesting
from nbbn.utils import keras_name

CLASSES: tuple[type[Loss], ...] = tuple(OF_FUNCTIONS.values())
for _each in CLASSES:
    suggesting(_each)
_NAMES = {name: cls for cls in CLASSES for name in cls.names}
_ALIASES = {alias: cls for cls in CLASSES for alias in (cls.__name__, *cls.aliases)}


def get(identifier: Any) -> Loss:
    """The loss that a name, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Loss, dict, function or tuple
        A name as in `"mse"` or `"MeanSquaredError"`; what `Loss.config` gave; a function of this
        module; a pair of functions, or an object with both, as `CustomLoss` takes them.

    Returns
    -------
    Loss

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import losses
    >>> losses.get("mse").shown
    'mean_squared_error'
    >>> losses.get("huber").delta
    1.0
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, dict):
        return _class(identifier.get("class_name"))(**identifier["config"])
    if isinstance(identifier, str):
        return _class(identifier)()
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        name = identifier.__name__
        raise TypeError(f"loss is the class {name}; make an object of it: {name}()")
    if inspect.isfunction(identifier) and identifier in OF_FUNCTIONS:
        return OF_FUNCTIONS[identifier]()
    if isinstance(identifier, tuple | list) and [*map(callable, identifier)] == [True, True]:
        return CustomLoss(*identifier)
    value = getattr(identifier, "value", None) or getattr(identifier, "call", None)
    slope = getattr(identifier, "gradient", None)
    if callable(value) and callable(slope) and not isinstance(identifier, type):
        name = getattr(identifier, "name", None) or keras_name(type(identifier).__name__)
        return CustomLoss(value=value, slope=slope, name=name,
                          check_gradient=bool(getattr(identifier, "check_gradient", False)))
    raise TypeError(f"loss must be a name or an object of nbbn.losses, got {identifier!r}; "
                    "functions are not supported without their gradient: give a pair "
                    "(value, gradient) of NumPy functions, as nbbn.losses.CustomLoss takes them")


def to_train(identifier: Any) -> Loss:
    """`get`, for `compile`: ValueError or TypeError for a loss that cannot be trained by."""
    loss = get(identifier)
    if loss.reduction not in MEANS:
        raise loss._error(f"reduction {loss.reduction!r} is for calls, compile takes the mean over "
                          "the rows; use 'sum_over_batch_size'")
    if type(loss).call is not Loss.call and type(loss).gradient is Loss.gradient:
        loss.gradient(None, None)
    return loss


def _class(name: object) -> type[Loss]:
    return find("loss", name, _NAMES, _ALIASES,
                instead=names_of_keras.INSTEAD["losses"])


def check_gradient(loss: Any, y_true: Any, y_pred: Any) -> None:
    """Compare a loss's gradient with central differences, at up to 64 numbers of up to 16 rows.

    Parameters
    ----------
    loss : Loss, str or tuple
        As `get` takes it.
    y_true, y_pred : array-like
        Some targets and outputs.

    Raises
    ------
    ValueError
        For a wrong gradient, with the place.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.losses import CustomLoss, check_gradient
    >>> wrong = CustomLoss(lambda t, y: ((y - t) ** 2).sum(-1), lambda t, y: y - t)
    >>> try:
    ...     check_gradient(wrong, np.array([[0.0]]), np.array([[1.0]]))
    ... except ValueError as err:
    ...     print(str(err).partition(";")[0])
    CustomLoss: the gradient at row 0, unit 0 is 1, but central differences of the value give 2
    """
    compare_gradient(get(loss), y_true, y_pred)
