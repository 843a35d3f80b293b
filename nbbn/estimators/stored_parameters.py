"""An estimator's parameters as a file keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbbn import losses, optimizers, schedules
from nbbn.losses import Loss
from nbbn.optimizers import Optimizer
from nbbn.schedules import Schedule

# Parameters that a file does not hold: functions, paths, the state of a random generator, and
# layers, which have a place of their own.
_APART = ("callbacks", "checkpoint", "layers", "random_state")


def _class_weight(value: Any) -> Any:
    """A dict, whose labels may be of any kind, or one for each label of a row."""
    return [_class_weight(v) for v in value] if isinstance(value, list) else dict(value["items"])


# Parameters that stand in a file as a mapping, and what makes them of it.
_READERS: dict[str, Callable[[Any], Any]] = {
    "class_weight": _class_weight, "learning_rate": schedules.from_config, "loss": losses.get,
    "optimizer": optimizers.get,
}  # fmt: skip


def to_json(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as JSON-ready values; what a file cannot keep is left out."""
    kept = {name: value for name, value in params.items() if name not in _APART}
    described = Loss, Optimizer, Schedule
    return {name: _plain(value) for name, value in kept.items()
            if isinstance(value, described) or not callable(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, (Loss, Optimizer, Schedule)):
        return value.config()
    if isinstance(value, dict):
        return {"items": [[_plain(label), float(weight)] for label, weight in value.items()]}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return "inf" if isinstance(value, float) and value == float("inf") else value


def from_json(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters that `to_json` described; sequences are tuples."""
    return {name: _taken(name, value) for name, value in values.items()}


def _taken(name: str, value: Any) -> Any:
    if name in _READERS and isinstance(value, (dict, list)):
        return _READERS[name](value)
    if isinstance(value, list):
        return tuple(value)
    return float("inf") if value == "inf" else value
