"""What an unknown parameter or value may have meant: another library's name, a slip of the pen."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Real
from typing import Any

# Other libraries' names of what is a parameter here, and of values.
NAMES = {"epochs": "max_iter", "n_epochs": "max_iter", "num_epochs": "max_iter",
         "n_iter": "max_iter", "optimizer": "solver", "lr": "learning_rate_init",
         "lr_schedule": "learning_rate", "scheduler": "learning_rate",
         "hidden_units": "hidden_layer_sizes", "hidden_sizes": "hidden_layer_sizes",
         "layers": "hidden_layer_sizes", "units": "hidden_layer_sizes", "l2": "alpha",
         "weight_decay": "alpha", "seed": "random_state", "patience": "n_iter_no_change",
         "validation_split": "validation_fraction", "use_batch_norm": "batch_norm",
         "normalization": "batch_norm", "eps": "bn_epsilon", "rate": "dropout",
         "grad_clip": "clip_norm", "clipnorm": "clip_norm", "global_clipnorm": "clip_norm",
         "max_grad_norm": "clip_norm", "nthread": "n_jobs", "num_threads": "n_jobs",
         "precision": "dtype", "criterion": "loss", "delta": "huber_delta", "tau": "quantile"}
VALUES = {
    "activation": {"sigmoid": "logistic", "linear": "identity", "swish": "silu",
                   "leakyrelu": "leaky_relu"},
    "solver": {"gd": "sgd", "l-bfgs": "lbfgs", "l-bfgs-b": "lbfgs", "nadam": "adam"},
    "learning_rate": {"onecycle": "one_cycle", "one-cycle": "one_cycle", "cosine_decay": "cosine",
                      "plateau": "adaptive", "exponential": "invscaling"},
    "loss": {"mse": "squared_error", "mean_squared_error": "squared_error", "l2": "squared_error",
             "mae": "absolute_error", "mean_absolute_error": "absolute_error",
             "l1": "absolute_error", "pinball": "quantile", "smooth_l1": "huber"},
    "early_stopping": {"val_loss": "loss", "accuracy": "score", "val_score": "score"},
    "dtype": {"float": "float64", "double": "float64", "single": "float32", "f4": "float32",
              "f8": "float64"},
}  # fmt: skip


def _nearest(given: str, known: Iterable[str], others: dict[str, str]) -> str | None:
    """The known name that is meant, or None."""
    names = {name.lower(): name for name in known}
    meant = others.get(given.lower())
    if meant is None or meant not in names.values():
        near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.7)
        meant = names[near[0]] if near else None
    return meant


def of_name(given: str, known: Iterable[str]) -> str:
    """`"; did you mean 'batch_norm'?"`, or nothing."""
    meant = _nearest(given, known, NAMES)
    return f"; did you mean {meant!r}?" if meant else ""


def of_value(parameter: str, value: Any, known: Iterable[str]) -> str:
    """A sentence about a value that breaks its parameter's rule, or nothing."""
    if parameter == "learning_rate" and isinstance(value, Real) and not isinstance(value, bool):
        return f" A number goes in learning_rate_init={value!r}."
    if parameter == "loss" and not isinstance(value, str):
        named = f"hidden_layer_sizes={value!r}"
        return f" The first positional argument is loss; name the other: {named}."
    if parameter == "dtype":  # numpy.float32, or numpy.dtype("float32")
        value = getattr(value, "__name__", getattr(value, "name", value))
    meant = _nearest(value, known, VALUES.get(parameter, {})) if isinstance(value, str) else None
    return f" Did you mean {meant!r}?" if meant else ""
