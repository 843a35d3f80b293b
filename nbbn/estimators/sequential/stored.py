"""A fitted estimator's parameters and attributes as JSON-ready values, and back."""

from __future__ import annotations

import numpy as np

from nbbn import losses, optimizers
from nbbn.layers import layer_from_config
from nbbn.losses import Loss
from nbbn.models.sequential import Sequential
from nbbn.network import Network
from nbbn.optimizers import Optimizer

# Parameters that a file does not hold: functions, the state of a random generator, and layers, which have a place of their own.
_APART = ("callbacks", "random_state", "layers")
_ATTRIBUTES = ("n_features_in_", "n_outputs_", "history_", "loss_curve_", "n_iter_", "_given_flat")


def described(estimator) -> tuple[dict, dict[str, np.ndarray]]:
    """What a file keeps besides the classes, the network and its weights; and the optimiser's state."""
    params = {name: value for name, value in estimator.get_params(deep=False).items() if name not in _APART}
    names = getattr(estimator, "feature_names_in_", None)
    training, slots = estimator.model_.training_state()
    about = {
        "params": {name: _plain(value) for name, value in params.items()},
        "layers": [layer.config() for layer in estimator._specs],
        "attributes": {name: getattr(estimator, name) for name in _ATTRIBUTES if hasattr(estimator, name)},
        "row_shape": list(estimator._row_shape),
        "feature_names": None if names is None else [str(name) for name in names],
        "training": training,
    }
    return about, slots


def restored(cls: type, network: Network, classes: np.ndarray | None, meta: dict, slots: dict[str, np.ndarray]):
    """The estimator that `described` described.

    Raises
    ------
    ValueError, TypeError, KeyError
        For anything else.
    """
    specs = tuple(layer_from_config(config) for config in meta["layers"])
    estimator = cls(list(specs), **{name: _taken(name, value) for name, value in meta["params"].items()})
    estimator._validate_params()
    vars(estimator).update({name: meta["attributes"][name] for name in _ATTRIBUTES if name in meta["attributes"]})
    model = Sequential()
    model.restore(network, meta["training"], slots)
    estimator._specs, estimator._row_shape = specs, tuple(int(n) for n in meta["row_shape"])
    estimator.adopt(model)
    if meta["feature_names"] is not None:
        estimator.feature_names_in_ = np.array(meta["feature_names"], object)
    if classes is not None:
        estimator.classes_ = classes
    return estimator


def _plain(value):
    if isinstance(value, (Loss, Optimizer)):
        return value.config()
    if isinstance(value, dict):  # class_weight, whose labels may be of any kind
        return {"items": [[_plain(label), float(weight)] for label, weight in value.items()]}
    return value.item() if isinstance(value, np.generic) else value


def _taken(name: str, value):
    if not isinstance(value, dict):
        return value
    if name == "class_weight":
        return dict(value["items"])
    return losses.get(value) if name == "loss" else optimizers.get(value)
