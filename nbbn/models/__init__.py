"""Models in the manner of Keras."""

from os import PathLike
from typing import Any

from nbbn.models.functional import Model
from nbbn.models.sequential import Sequential

__all__ = ["Model", "Sequential", "SequentialClassifier", "SequentialRegressor", "load_model"]


def load_model(path: str | PathLike[str]) -> Any:
    """Open what `save` wrote: `nbbn.load` by Keras's name.

    Parameters
    ----------
    path : path-like

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
    >>> model.save("model.safetensors")
    >>> nbbn.models.load_model("model.safetensors").output_shape
    (None, 3)
    """
    from nbbn.loading import load

    return load(path)


def __getattr__(name: str) -> Any:
    """The estimators, which need scikit-learn, when they are first asked for."""
    if name in ("SequentialClassifier", "SequentialRegressor"):
        from nbbn import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
