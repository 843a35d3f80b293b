"""Rows of partitions for those who go over them in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import DTypeLike

Shape = tuple[int, ...]


class ManyParts:
    """Rows in parts that are read when asked for, all of them each time.

    `read` gives them in order; `shape` is that of a row.
    """

    def __init__(self, read: Callable[[], Iterator[np.ndarray]], rows: int, shape: Shape,
                 dtype: DTypeLike):
        self.read, self.dtype = read, np.dtype(dtype)
        self.shape = (rows, *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, rows: int) -> Iterator[np.ndarray]:
        """All rows, so many at a time, over the borders of parts."""
        held: list[np.ndarray] = []
        for part in self.read():
            while sum(map(len, held)) + len(part) >= rows:
                missing = rows - sum(map(len, held))
                yield np.concatenate([*held, part[:missing]])
                held, part = [], part[missing:]
            if len(part):
                held.append(np.array(part))
        if held:
            yield np.concatenate(held)
