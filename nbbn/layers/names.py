"""The names that Keras gives layers."""

from __future__ import annotations

from collections.abc import Collection

from nbbn.utils import keras_name


def free_name(class_name: str, taken: Collection[str | None]) -> str:
    """Keras's name of a layer of this class, numbered where it is taken."""
    name, number = keras_name(class_name), 0
    while (found := f"{name}_{number}" if number else name) in taken:
        number += 1
    return found
