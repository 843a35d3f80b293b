"""Rules of the estimators' parameters: each for itself, and which do not go together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)  # fmt: skip

from nbbn.estimators.base import NetworkEstimator
from nbbn.estimators.mlp import suggestions
from nbbn.warning import warn

STOCHASTIC = ("sgd", "adam", "adamw", "rmsprop")
ACTIVATIONS = (
    "identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus",
)  # fmt: skip
BATCH_NORM = ("pre", "post")
# Schedules that know how many steps there will be.
PLANNED_RATES = ("cosine", "one_cycle")

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS)), list, tuple, np.ndarray],
    "solver": [StrOptions({"lbfgs", *STOCHASTIC})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [
        StrOptions({"constant", "invscaling", "adaptive", *PLANNED_RATES}), callable,
    ],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean", StrOptions({"loss", "score"})],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [
        Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf}),
    ],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "batch_norm": ["boolean", StrOptions(set(BATCH_NORM)), list, tuple, np.ndarray],
    "bn_momentum": [Interval(Real, 0, 1, closed="left")],
    "bn_epsilon": [Interval(Real, 0, None, closed="neither")],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple, np.ndarray],
    "clip_norm": [None, Interval(Real, 0, None, closed="neither")],
    "dtype": [None, StrOptions({"float32", "float64"})],
    "n_jobs": [None, Integral],
    "callbacks": [
        None, list, tuple, HasMethods("__call__"),
        HasMethods(["setup", "teardown", "on_fit_task_end"]),
    ],
    "checkpoint": [None, str, os.PathLike],
}


class Parameters(NetworkEstimator):
    """What an MLP can be asked for; what one class alone has is asked of that class."""

    loss: str
    hidden_layer_sizes: Any
    activation: Any
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str | Callable[[int], float]
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool | str
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    batch_norm: Any
    bn_momentum: float
    bn_epsilon: float
    dropout: Any
    class_weight: Any
    huber_delta: float
    quantile: float
    clip_norm: float | None
    dtype: str | None
    checkpoint: str | os.PathLike[str] | None

    _parameter_constraints: dict[str, list[Any]] = CONSTRAINTS


@dataclass(frozen=True)
class Hidden:
    """A hidden layer.

    Attributes
    ----------
    units : int
    activation : str
    norm : str
        `"pre"`, `"post"`, or empty without batch norm.
    dropout : float
    """

    units: int
    activation: str
    norm: str
    dropout: float


def check_each(estimator: Parameters) -> None:
    """Check every parameter by its own rule, with scikit-learn's errors and a word on what may have
    been meant.

    Raises
    ------
    InvalidParameterError
        A ValueError and a TypeError.
    """
    rules = estimator._parameter_constraints
    for name, value in estimator.get_params(deep=False).items():
        try:
            validate_parameter_constraints(rules, {name: value}, type(estimator).__name__)
        except InvalidParameterError as err:
            named = [rule.options for rule in rules[name] if isinstance(rule, StrOptions)]
            known = [option for options in named for option in options]
            hint = suggestions.of_value(name, value, known)
            raise InvalidParameterError(f"{err}{hint}") from None


def hidden_sizes(sizes: Any) -> list[int]:
    """Units of each hidden layer.

    Raises
    ------
    TypeError
        For anything but whole numbers.
    ValueError
        For one that is not above 0.
    """
    sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    for n in sizes:
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, Integral):
            raise TypeError(f"hidden_layer_sizes must hold whole numbers, got {n!r}")
    if any(n <= 0 for n in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(n) for n in sizes]


def hidden_layers(estimator: Parameters) -> tuple[Hidden, ...]:
    """The hidden layers that the parameters describe.

    Raises
    ------
    ValueError
        For a list whose length is not the number of hidden layers, or one of its entries that
        breaks the parameter's rule.
    """
    sizes = hidden_sizes(estimator.hidden_layer_sizes)
    activations = _each("activation", estimator.activation, len(sizes), _activation)
    norms = _each("batch_norm", estimator.batch_norm, len(sizes), _norm)
    rates = _each("dropout", estimator.dropout, len(sizes), _rate)
    return tuple(Hidden(*of_layer) for of_layer in zip(sizes, activations, norms, rates))


def _each(name: str, given: Any, count: int, check: Callable[[Any], Any]) -> list[Any]:
    """A parameter's value for each hidden layer."""
    entries = list(given) if isinstance(given, (list, tuple, np.ndarray)) else [given] * count
    if len(entries) != count:
        raise ValueError(
            f"{name} has {len(entries)} entries for {count} hidden layers; give one value, or one "
            f"per hidden layer"
        )
    return [check(entry) for entry in entries]


def _activation(entry: Any) -> str:
    if not isinstance(entry, str) or entry not in ACTIVATIONS:
        hint = suggestions.of_value("activation", entry, ACTIVATIONS)
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation entries must be among {known}; got {entry!r}.{hint}")
    return str(entry)


def _norm(entry: Any) -> str:
    if isinstance(entry, (bool, np.bool_)):
        return "pre" if entry else ""
    if isinstance(entry, str) and entry in BATCH_NORM:
        return str(entry)
    raise ValueError(f"batch_norm entries must be True, False, 'pre' or 'post', got {entry!r}")


def _rate(entry: Any) -> float:
    if isinstance(entry, bool) or not isinstance(entry, Real) or not 0 <= entry < 1:
        raise ValueError(f"dropout entries must be numbers from 0 to below 1, got {entry!r}")
    return float(entry)


def check_together(
    estimator: Parameters, hidden: tuple[Hidden, ...], *, incremental: bool
) -> None:
    """Refuse parameters that do not go together.

    Raises
    ------
    ValueError
        Names them.
    """
    if any(layer.norm for layer in hidden):
        if estimator.batch_size == 1 and estimator.solver != "lbfgs":
            raise ValueError(
                "batch_size=1 has no batch statistics: use at least 2 rows a batch, or "
                "batch_norm=False"
            )
        _warn_of_other_momentum(estimator.bn_momentum)
    if estimator.solver == "lbfgs":
        _check_lbfgs(estimator, hidden)
    if isinstance(estimator.learning_rate, type):
        name = estimator.learning_rate.__name__
        raise TypeError(f"learning_rate is the class {name}; make an object of it: {name}(...)")
    if incremental and estimator.early_stopping:
        raise ValueError("partial_fit does not support early_stopping=True")
    if incremental and estimator.checkpoint is not None:
        raise ValueError(
            "partial_fit does not support checkpoint: save or pickle the estimator between calls, "
            "or use fit"
        )


def _check_lbfgs(estimator: Parameters, hidden: tuple[Hidden, ...]) -> None:
    wrong = {
        "dropout": (any(x.dropout for x in hidden), "it needs a loss without chance"),
        "clip_norm": (
            estimator.clip_norm is not None, "its line search needs the gradients as they are",
        ),
        "learning_rate": (
            callable(estimator.learning_rate) or estimator.learning_rate in PLANNED_RATES,
            "it has no learning rate",
        ),
        "early_stopping": (isinstance(estimator.early_stopping, str), "it goes by the gradient"),
        "checkpoint": (estimator.checkpoint is not None, "it has no epochs"),
    }  # fmt: skip
    for name, (is_set, why) in wrong.items():
        if is_set:
            raise ValueError(
                f"solver='lbfgs' does not support {name}={getattr(estimator, name)!r}: {why}; "
                f"leave {name} out, or use one of the solvers {', '.join(STOCHASTIC)}"
            )


def _warn_of_other_momentum(momentum: float) -> None:
    if momentum < 0.5:
        warn(
            f"bn_momentum={momentum} weights the old running value; PyTorch's momentum weights the "
            f"new one: its {momentum} is {1 - momentum:g} here"
        )
