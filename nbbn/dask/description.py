"""An estimator's way to the ranks and back: JSON, and a model's file; nothing is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError

from nbbn import estimators
from nbbn.estimators.mlp import rules
from nbbn.estimators.stored_parameters import from_json, to_json
from nbbn.formats import native
from nbbn.formats.content import labels_from_json

_CLASSES = {"MLPClassifier": estimators.MLPClassifier, "MLPRegressor": estimators.MLPRegressor}
# Errors that ranks raise, by name; others are RuntimeErrors here.
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (TypeError, ValueError, InvalidParameterError)}


def described(model: Any) -> dict[str, Any]:
    """What makes an estimator like this; TypeError or ValueError for what cannot be sent."""
    name = type(model).__name__
    if _CLASSES.get(name) is not type(model):
        raise TypeError(f"model must be an MLPClassifier or MLPRegressor of nbbn, got a {name}; "
                        "others fit in a script of ranks, nbbn.distributed.fit")
    rules.check_each(model)
    params = model.get_params(deep=False)
    if params["callbacks"] is not None:
        raise ValueError("callbacks are functions of this process, and the fit is in others: set "
                         "callbacks=None, or use nbbn.distributed.fit in a script of ranks")
    if params["warm_start"]:
        raise ValueError("warm_start=True is not supported: a fit on ranks begins anew; give a "
                         "checkpoint to go on from")
    seed, checkpoint = params["random_state"], params["checkpoint"]
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer | None):
        raise ValueError(f"random_state must be a whole number or None, got {seed!r}: the state of "
                         "a generator is not sent")
    kept = to_json(params)
    functions = set(params) - set(kept) - {"callbacks", "checkpoint", "random_state"}
    if functions:
        raise ValueError(f"{', '.join(sorted(functions))}: functions are not sent to ranks; give "
                         "names or numbers")
    return {"class": name, "params": kept, "seed": None if seed is None else int(seed),
            "checkpoint": None if checkpoint is None else str(Path(checkpoint).absolute())}


def made(description: dict[str, Any]) -> Any:
    """The estimator that was described."""
    return _CLASSES[description["class"]](
        **from_json(description["params"]), random_state=description["seed"],
        checkpoint=description["checkpoint"])


def take(model: Any, path: Path) -> None:
    """Fit a model by the file of one like it."""
    content = native.load(path)
    classes = content.meta.get("classes")
    labels = None if classes is None else labels_from_json(classes)
    found = type(model).from_content(content, labels)
    params = model.get_params(deep=False)
    fitted = {name: value for name, value in vars(found).items() if name not in params}
    model.__dict__ = {**params, **fitted}


def error_of(name: str, text: str) -> Exception:
    """An error that all ranks have raised."""
    return _ERRORS.get(name, RuntimeError)(text)


def warning_of(name: str) -> type[Warning]:
    """The class of a rank's warning."""
    return ConvergenceWarning if name == ConvergenceWarning.__name__ else UserWarning
