"""Activations as functions of arrays, by the names that programs for TensorFlow use."""

from nbbn.activations import FUNCTIONS

__all__ = [name for name in FUNCTIONS if name != "linear"]
globals().update({name: FUNCTIONS[name] for name in __all__})


def __dir__() -> list[str]:
    return __all__
