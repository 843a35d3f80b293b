"""What a parameter is where nothing is given: without batch norm, and with it in any layer."""

from __future__ import annotations

from nbbn.estimators.mlp.parameters import Parameters
from nbbn.estimators.mlp.rules import hidden_layers

# Those without batch norm are scikit-learn's; docs/when_batch_norm_helps.md says how the others
# were found.
DEFAULTS = {"learning_rate_init": (0.001, 0.002), "alpha": (0.0001, 0.05)}


def has_norm(estimator: Parameters) -> bool:
    """Whether any hidden layer has batch norm."""
    return any(layer.norm for layer in hidden_layers(estimator))


def value_of(estimator: Parameters, name: str) -> float:
    """The number that was given, or the default."""
    given = getattr(estimator, name)
    return float(DEFAULTS[name][has_norm(estimator)] if given is None else given)


def normalizes_y(estimator: Parameters) -> bool:
    """Whether a regressor's targets are standardised; counts never are."""
    given = estimator.normalize_y
    return estimator.loss != "poisson" and bool(has_norm(estimator) if given is None else given)
