"""Rows of any kind: arrays, sparse ones, and those of a dtype that the kernels do not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbbn.partitions.many_parts import ManyParts
from nbbn.sparse_rows import DENSE_BYTES, SparseRows

# Bytes of rows that are arrays at once.
PART_BYTES = DENSE_BYTES
# Parts of so many rows end where the kernels' tiles do, so that they have the bits of the whole.
WHOLE_TILES = 64


class LazyRows:
    """Rows of a dtype that the kernels do not read; they become arrays a part at a time.

    Indexed by a slice or by row numbers they give a C-contiguous array of `dtype`.
    """

    def __init__(self, source: Any, dtype: Any):
        self.source, self.dtype = source, np.dtype(dtype)
        self.shape: tuple[int, int] = source.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        return np.ascontiguousarray(self.source[which], dtype=self.dtype)

    @property
    def rows_of_a_part(self) -> int:
        """How many rows become arrays at once."""
        return max(1, PART_BYTES // max(1, self.shape[1] * self.dtype.itemsize))


Rows = np.ndarray | LazyRows | SparseRows


def select(x: Rows, which: np.ndarray) -> Rows:
    """Some of the rows, as a copy."""
    return LazyRows(x.source[which], x.dtype) if isinstance(x, LazyRows) else x[which]


def parts(x: Rows | ManyParts) -> Iterator[np.ndarray]:
    """All rows, as arrays that the kernels read."""
    if isinstance(x, SparseRows):
        yield from x.dense_parts()
        return
    if isinstance(x, ManyParts):
        yield from x.read()
        return
    if not isinstance(x, LazyRows):
        yield x
        return
    for first in range(0, len(x), x.rows_of_a_part):
        yield x[first : first + x.rows_of_a_part]


def outputs_of(run: Callable[[Any], np.ndarray], x: Rows | ManyParts) -> np.ndarray:
    """What `run`, converting thousands of rows at once, makes of them; of wide ones in parts."""
    if isinstance(x, SparseRows):
        return run(x)
    if isinstance(x, ManyParts):
        return np.concatenate([outputs_of(run, part) for part in x.read()])
    step = PART_BYTES // (8 * max(1, x.shape[1])) // WHOLE_TILES * WHOLE_TILES
    as_they_are = isinstance(x, LazyRows) or (x.dtype.kind == "f" and x.flags.c_contiguous)
    if as_they_are or step >= len(x):
        found = [run(part) for part in parts(x)]
    else:
        step = max(step, WHOLE_TILES)
        found = [run(x[first : first + step]) for first in range(0, len(x), step)]
    return found[0] if len(found) == 1 else np.concatenate(found)
