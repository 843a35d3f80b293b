"""Rows that are read a part at a time: partitions, their files, and epochs over them."""

from nbbn.partitions.partitions import Partitions

__all__ = ["Partitions"]


def __dir__() -> list[str]:
    return __all__
