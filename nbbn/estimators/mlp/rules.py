"""Rules of the parameters: each for itself, those for every hidden layer, and together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import _param_validation as validation

from nbbn.estimators import suggestions
from nbbn.estimators.mlp.parameters import ACTIVATIONS, PLANNED_RATES, STOCHASTIC, Parameters
from nbbn.warning import warn


@dataclass(frozen=True)
class Hidden:
    """A hidden layer."""

    units: int
    activation: str
    norm: str  # `pre`, `post`, or empty without batch norm
    dropout: float
    shortcut: bool = False  # whether what the layer reads is added to what it gives


def check_each(estimator: Parameters) -> None:
    """Check every parameter by its own rule; scikit-learn's errors, with what may be meant."""
    cls: Any = type(estimator)
    rules, kind, made = estimator._parameter_constraints, cls.__name__, _constraints(cls)
    for name, value in estimator.get_params(deep=False).items():
        if any(rule.is_satisfied_by(value) for rule in made.get(name, ())):
            continue
        try:
            validation.validate_parameter_constraints(rules, {name: value}, kind)
        except validation.InvalidParameterError as err:
            named = (rule for rule in rules[name] if isinstance(rule, validation.StrOptions))
            known = [option for rule in named for option in rule.options]
            hint = suggestions.of_value(name, value, known)
            raise validation.InvalidParameterError(f"{err}{hint}") from None


@functools.cache
def _constraints(cls: Any) -> dict[str, list[Any]]:
    """Its rules as scikit-learn's objects, which it makes anew for every value that it checks."""
    return {name: [validation.make_constraint(rule) for rule in rules]
            for name, rules in cls._parameter_constraints.items() if isinstance(rules, list)}


def hidden_sizes(sizes: Any) -> list[int]:
    """Units of each hidden layer."""
    sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    for n in sizes:
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, Integral):
            raise TypeError(f"hidden_layer_sizes must hold whole numbers, got {n!r}")
    if any(n <= 0 for n in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(n) for n in sizes]


def hidden_layers(estimator: Parameters) -> tuple[Hidden, ...]:
    """The hidden layers that the parameters describe."""
    sizes = hidden_sizes(estimator.hidden_layer_sizes)
    activations = _each("activation", estimator.activation, len(sizes), _activation)
    norms = _each("batch_norm", estimator.batch_norm, len(sizes), _norm)
    rates = _each("dropout", estimator.dropout, len(sizes), _rate)
    if estimator.residual and len(set(sizes)) > 1:
        raise ValueError("residual=True adds what a hidden layer reads to what it gives: all must "
                         f"have one width, got hidden_layer_sizes={sizes}; give each as many "
                         "units, or use residual=False")
    shortcuts = [bool(estimator.residual and k) for k in range(len(sizes))]
    return tuple(Hidden(*of_layer)
                 for of_layer in zip(sizes, activations, norms, rates, shortcuts))


def _each(name: str, given: Any, count: int, check: Callable[[Any], Any]) -> list[Any]:
    """A parameter's value for each hidden layer."""
    entries = list(given) if isinstance(given, (list, tuple, np.ndarray)) else [given] * count
    if len(entries) != count:
        raise ValueError(f"{name} has {len(entries)} entries for {count} hidden layers; "
                         "give one value, or one per hidden layer")
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
    if isinstance(entry, str) and entry in ("pre", "post"):
        return str(entry)
    raise ValueError(f"batch_norm entries must be True, False, 'pre' or 'post', got {entry!r}")


def _rate(entry: Any) -> float:
    if isinstance(entry, bool) or not isinstance(entry, Real) or not 0 <= float(entry) < 1:
        raise ValueError(f"dropout entries must be numbers from 0 to below 1, got {entry!r}")
    return float(entry)


def check_together(estimator: Parameters, hidden: tuple[Hidden, ...], incremental: bool) -> None:
    """Refuse parameters that do not go together; ValueError names them."""
    if any(layer.norm for layer in hidden):
        if estimator.batch_size == 1 and estimator.solver != "lbfgs":
            raise ValueError("batch_size=1 has no batch statistics: use at least 2 rows a batch, "
                             "or batch_norm=False")
        if (momentum := estimator.bn_momentum) < 0.5:
            warn(f"bn_momentum={momentum} weights the old running value; PyTorch's momentum "
                 f"weights the new one: its {momentum} is {1 - momentum:g} here")
    if estimator.solver == "lbfgs":
        _check_lbfgs(estimator, hidden)
    if isinstance(estimator.learning_rate, type):
        name = estimator.learning_rate.__name__
        raise TypeError(f"learning_rate is the class {name}; make an object of it: {name}(...)")
    if incremental and estimator.early_stopping:
        raise ValueError("partial_fit does not support early_stopping=True")
    if incremental and estimator.checkpoint is not None:
        raise ValueError("partial_fit does not support checkpoint: "
                         "save or pickle the estimator between calls, or use fit")


def _check_lbfgs(estimator: Parameters, hidden: tuple[Hidden, ...]) -> None:
    rate = estimator.learning_rate
    wrong = {
        "dropout": (any(x.dropout for x in hidden), "it needs a loss without chance"),
        "clip_norm": (estimator.clip_norm, "its line search needs the gradients as they are"),
        "learning_rate": (callable(rate) or rate in PLANNED_RATES, "it has no learning rate"),
        "early_stopping": (isinstance(estimator.early_stopping, str), "it goes by the gradient"),
        "checkpoint": (estimator.checkpoint is not None, "it has no epochs"),
    }
    for name, (is_set, why) in wrong.items():
        if is_set:
            raise ValueError("solver='lbfgs' does not support "
                             f"{name}={getattr(estimator, name)!r}: {why}; leave {name} out, or "
                             f"use one of the solvers {', '.join(STOCHASTIC)}")
