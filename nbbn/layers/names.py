"""The names that Keras gives layers."""

from __future__ import annotations

import re
from collections.abc import Collection


def keras_name(class_name: str) -> str:
    """A class's name in snake case: `Conv2DTranspose` becomes `conv2d_transpose`."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def free_name(class_name: str, taken: Collection[str | None]) -> str:
    """Keras's name of a layer of this class, numbered where it is taken."""
    name, number = keras_name(class_name), 0
    while (found := f"{name}_{number}" if number else name) in taken:
        number += 1
    return found
