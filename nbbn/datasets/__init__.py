"""Data sets to try things on."""

from nbbn.datasets import mnist

__all__ = ["mnist"]


def __dir__() -> list[str]:
    return __all__
