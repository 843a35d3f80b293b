"""Models in the manner of Keras."""

import json
from os import PathLike
from typing import Any

from nbbn.models.functional import Model
from nbbn.models.sequential import Sequential

__all__ = ["Model", "Sequential", "SequentialClassifier", "SequentialRegressor", "clone_model",
           "load_model", "model_from_json", "save_model"]


def load_model(filepath: str | PathLike[str], custom_objects: Any = None, compile: bool = True,
               safe_mode: bool = True) -> Any:
    """Open what `save` wrote: `nbbn.load` by Keras's name.

    Parameters
    ----------
    filepath : path-like
    custom_objects, safe_mode
        Keras's; without effect: nothing in a file is executed.
    compile : bool
        Whether the model is compiled, as it was saved.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
    >>> model.save("model.safetensors")
    >>> nbbn.models.load_model("model.safetensors").output_shape
    (None, 3)
    """
    from nbbn.loading import load

    model = load(filepath)
    if not compile and isinstance(model, Sequential | Model):
        model._compiled = None
    return model


def save_model(model: Any, filepath: str | PathLike[str], overwrite: bool = True) -> None:
    """`model.save` by Keras's name.

    Parameters
    ----------
    model : Sequential or Model
    filepath : path-like
    overwrite : bool

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
    >>> nbbn.models.save_model(model, "model.safetensors")
    """
    model.save(filepath, overwrite)


def clone_model(model: Any) -> Any:
    """A model of the same layers, with initial weights of its own, not compiled.

    Parameters
    ----------
    model : Sequential or Model

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
    >>> other = nbbn.models.clone_model(model)
    >>> bool((other.get_weights()[0] == model.get_weights()[0]).all())
    False
    """
    if not isinstance(model, Sequential | Model):
        raise TypeError(f"clone_model takes a Sequential or a Model, got {type(model).__name__}")
    return type(model).from_config(model.get_config())


def model_from_json(json_string: str, custom_objects: Any = None) -> Any:
    """The model that `model.to_json()` described, with initial weights, not compiled.

    Parameters
    ----------
    json_string : str
    custom_objects
        Keras's; without effect.

    Raises
    ------
    ValueError
        For any other text.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
    >>> nbbn.models.model_from_json(model.to_json()).count_params()
    15
    """
    try:
        found = json.loads(json_string)
        made: Any = {"Sequential": Sequential, "Model": Model}[found["class_name"]]
        return made.from_config(found["config"])
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError("json_string must be what model.to_json() gave; a model of Keras's is "
                         f"read from its file, nbbn.interop.from_keras(path) ({error})") from None


def __getattr__(name: str) -> Any:
    """The estimators, which need scikit-learn, when they are first asked for."""
    if name in ("SequentialClassifier", "SequentialRegressor"):
        from nbbn import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
