"""Rules of the estimators' parameters: each for itself, and which do not go together."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)  # fmt: skip

from nbbn.estimators.mlp import suggestions

STOCHASTIC = ("sgd", "adam", "adamw", "rmsprop")
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus")
BATCH_NORM = ("pre", "post")
# Schedules that know how many steps there will be.
PLANNED_RATES = ("cosine", "one_cycle")

CONSTRAINTS: dict = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS)), list, tuple, np.ndarray],
    "solver": [StrOptions({"lbfgs", *STOCHASTIC})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive", *PLANNED_RATES}), callable],
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
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "batch_norm": ["boolean", StrOptions(set(BATCH_NORM)), list, tuple, np.ndarray],
    "bn_momentum": [Interval(Real, 0, 1, closed="left")],
    "bn_epsilon": [Interval(Real, 0, None, closed="neither")],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple, np.ndarray],
    "clip_norm": [None, Interval(Real, 0, None, closed="neither")],
    "dtype": [None, StrOptions({"float32", "float64"})],
    "n_jobs": [None, Integral],
    "callbacks": [None, list, tuple, HasMethods("__call__"), HasMethods(["setup", "teardown", "on_fit_task_end"])],
    "checkpoint": [None, str, os.PathLike],
}


def keep(estimator, arguments: dict) -> None:
    """Every argument of a constructor becomes the attribute of its name."""
    vars(estimator).update({name: value for name, value in arguments.items() if name != "self"})


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


def check_each(estimator) -> None:
    """Check every parameter by its own rule, with scikit-learn's errors and a word on what may have been meant.

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
            known = [option for rule in rules[name] if isinstance(rule, StrOptions) for option in rule.options]
            raise InvalidParameterError(f"{err}{suggestions.of_value(name, value, known)}") from None


def hidden_sizes(sizes) -> list[int]:
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


def hidden_layers(estimator) -> tuple[Hidden, ...]:
    """The hidden layers that the parameters describe.

    Raises
    ------
    ValueError
        For a list whose length is not the number of hidden layers, or one of its entries that breaks the parameter's rule.
    """
    sizes = hidden_sizes(estimator.hidden_layer_sizes)
    activations = _each("activation", estimator.activation, len(sizes), _activation)
    norms = _each("batch_norm", estimator.batch_norm, len(sizes), _norm)
    rates = _each("dropout", estimator.dropout, len(sizes), _rate)
    return tuple(Hidden(*of_layer) for of_layer in zip(sizes, activations, norms, rates))


def _each(name: str, given, count: int, check) -> list:
    """A parameter's value for each hidden layer."""
    entries = list(given) if isinstance(given, (list, tuple, np.ndarray)) else [given] * count
    if len(entries) != count:
        raise ValueError(f"{name} has {len(entries)} entries for {count} hidden layers; give one value, or one per hidden layer")
    return [check(entry) for entry in entries]


def _activation(entry) -> str:
    if not isinstance(entry, str) or entry not in ACTIVATIONS:
        hint = suggestions.of_value("activation", entry, ACTIVATIONS)
        raise ValueError(f"activation entries must be among {', '.join(ACTIVATIONS)}; got {entry!r}.{hint}")
    return str(entry)


def _norm(entry) -> str:
    if isinstance(entry, (bool, np.bool_)):
        return "pre" if entry else ""
    if isinstance(entry, str) and entry in BATCH_NORM:
        return str(entry)
    raise ValueError(f"batch_norm entries must be True, False, 'pre' or 'post', got {entry!r}")


def _rate(entry) -> float:
    if isinstance(entry, bool) or not isinstance(entry, Real) or not 0 <= entry < 1:
        raise ValueError(f"dropout entries must be numbers from 0 to below 1, got {entry!r}")
    return float(entry)


def check_together(estimator, hidden: tuple[Hidden, ...], *, incremental: bool) -> None:
    """Refuse parameters that do not go together.

    Raises
    ------
    ValueError
        Names them.
    """
    if any(layer.norm for layer in hidden):
        if estimator.batch_size == 1 and estimator.solver != "lbfgs":
            raise ValueError("batch_size=1 has no batch statistics: use at least 2 rows a batch, or batch_norm=False")
        _warn_of_other_momentum(estimator.bn_momentum)
    if estimator.solver == "lbfgs":
        _check_lbfgs(estimator, hidden)
    if isinstance(estimator.learning_rate, type):
        name = estimator.learning_rate.__name__
        raise TypeError(f"learning_rate is the class {name}; make an object of it: {name}(...)")
    if incremental and estimator.checkpoint is not None:
        raise ValueError("partial_fit does not support checkpoint: save or pickle the estimator between calls, or use fit")


def _check_lbfgs(estimator, hidden: tuple[Hidden, ...]) -> None:
    wrong = {
        "dropout": any(layer.dropout for layer in hidden) and "it needs a loss without chance",
        "clip_norm": estimator.clip_norm is not None and "its line search needs the gradients as they are",
        "learning_rate": (callable(estimator.learning_rate) or estimator.learning_rate in PLANNED_RATES)
        and "it has no learning rate",
        "early_stopping": isinstance(estimator.early_stopping, str) and "it goes by the gradient",
        "checkpoint": estimator.checkpoint is not None and "it has no epochs",
    }
    for name, why in wrong.items():
        if why:
            raise ValueError(
                f"solver='lbfgs' does not support {name}={getattr(estimator, name)!r}: {why}; leave {name} out, or use one of "
                f"the solvers {', '.join(STOCHASTIC)}"
            )


def _warn_of_other_momentum(momentum: float) -> None:
    if momentum < 0.5:
        warnings.warn(
            f"bn_momentum={momentum} weights the old running value; PyTorch's momentum weights the new one: its {momentum} is "
            f"{1 - momentum:g} here",
            stacklevel=5,
        )


def threads(n_jobs: int | None) -> int | None:
    """How many threads `n_jobs` asks for; None: as many as nbbn uses anyway.

    Raises
    ------
    ValueError
        For 0.
    """
    if n_jobs is None:
        return None
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no task; give a number of threads, -1 for all cores, or None")
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
