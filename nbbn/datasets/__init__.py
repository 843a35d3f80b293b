"""Data sets to try things on."""

from typing import Any

from nbbn import names_of_keras
from nbbn.datasets import cifar10, fashion_mnist, mnist

__all__ = ["cifar10", "fashion_mnist", "mnist"]


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
