"""Data sets to try things on."""

from nbbn.datasets import mnist

__all__ = ["mnist"]
