"""Parameters as JSON-ready values, and back."""

from __future__ import annotations

import numpy as np

from nbbn import schedules
from nbbn.schedules import Schedule

# Parameters that a file does not hold: functions, paths, and the state of a random generator.
_NOT_STORED = ("callbacks", "random_state", "checkpoint")


def stored(params: dict) -> dict:
    """Parameters as a file keeps them; what it cannot keep is left out."""
    found = {}
    for name, value in params.items():
        if name in _NOT_STORED or (callable(value) and not isinstance(value, Schedule)):
            continue
        if isinstance(value, Schedule):
            value = value.config()
        elif isinstance(value, dict):
            value = {"items": [[_plain(label), float(weight)] for label, weight in value.items()]}
        found[name] = _plain(value)
    return found


def _plain(value):
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return "inf" if isinstance(value, float) and value == float("inf") else value


def taken(params: dict) -> dict:
    """Those parameters that a file keeps in a form of its own, as they were."""
    found = {}
    rate, weights = params["learning_rate"], params.get("class_weight")
    if isinstance(rate, dict):
        found["learning_rate"] = schedules.from_config(rate)
    if isinstance(weights, dict):
        found["class_weight"] = dict(weights["items"])
    return found
