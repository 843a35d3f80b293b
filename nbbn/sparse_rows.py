"""Rows of which only some elements are stored (CSR), as the kernels read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nbbn.dtypes import SOURCE_DTYPES

MOST_COLUMNS = np.iinfo(np.int32).max
# Bytes of rows that are dense at once, where what reads them knows no other.
DENSE_BYTES = 8 << 20


@dataclass(frozen=True, eq=False)
class SparseRows:
    """CSR rows.

    Indexed by a slice they give a view, by row numbers a copy.

    Attributes
    ----------
    values : ndarray, shape (stored,)
        The stored elements, C-contiguous.
    columns : ndarray of int32, shape (stored,)
        Of each element; within a row ascending, each once.
    starts : ndarray of int64, shape (rows + 1,)
        First element of each row and, at the end, the last row's end.
    width : int
        Columns of the rows.
    """

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.width

    @property
    def dtype(self) -> np.dtype:
        """Of the elements."""
        return self.values.dtype

    @property
    def stored(self) -> int:
        """How many elements are stored."""
        return int(self.starts[-1] - self.starts[0])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, which: Any) -> SparseRows:
        if isinstance(which, slice):
            first, end, _ = which.indices(len(self))
            return replace(self, starts=self.starts[first : max(first, end) + 1])
        begins = self.starts[:-1][which]
        starts = np.append(0, np.cumsum(self.starts[1:][which] - begins))
        taken = np.arange(starts[-1]) + np.repeat(begins - starts[:-1], np.diff(starts))
        return SparseRows(self.values[taken], self.columns[taken], starts, self.width)

    def astype(self, dtype: DTypeLike) -> SparseRows:
        """With elements of another dtype; itself where they are of it."""
        if self.dtype == dtype:
            return self
        with np.errstate(over="ignore"):
            return replace(self, values=self.values.astype(dtype))

    def toarray(self) -> np.ndarray:
        """A new C-contiguous array of all elements."""
        array = np.zeros(self.shape, self.dtype)
        own = slice(self.starts[0], self.starts[-1])
        rows = np.repeat(np.arange(len(self)), np.diff(self.starts))
        array[rows, self.columns[own]] = self.values[own]
        return array

    def dense_parts(self) -> Iterator[np.ndarray]:
        """All rows, as arrays of some each."""
        step = max(1, DENSE_BYTES // max(1, self.width * self.dtype.itemsize))
        for first in range(0, len(self), step):
            yield self[first : first + step].toarray()

    def most_stored(self, order: np.ndarray, edges: np.ndarray) -> int:
        """The most elements of a batch of the rows `order`, whose batches begin at `edges`."""
        ends = np.append(0, np.cumsum(np.diff(self.starts)[order]))
        return int(np.diff(ends[edges]).max(initial=0))


def stored_elements(X: Any) -> SparseRows:
    """A CSR matrix of scipy's as the kernels read it; the caller's arrays stay as they are.

    Raises ValueError where its arrays do not fit each other, or for too many columns.
    """
    import scipy.sparse

    if X.shape[1] > MOST_COLUMNS:
        raise ValueError(f"X has {X.shape[1]} columns: sparse rows may have {MOST_COLUMNS}; "
                         "hash them into fewer")
    # An object of our own: what it finds out about its arrays the caller may have changed since.
    own = scipy.sparse.csr_array((X.data, X.indices, X.indptr), shape=X.shape)
    try:
        own.check_format(full_check=True)
    except ValueError as err:
        raise ValueError(f"X is no valid sparse matrix: {err}") from None
    if not own.has_canonical_format:
        # By way of columns: sorting row by row takes several times as long.
        own = own.tocsc().tocsr() if own.nnz > own.shape[1] else own.copy()
        own.sum_duplicates()
    name = "uint8" if own.dtype == bool else own.dtype.name
    return SparseRows(
        np.ascontiguousarray(own.data, name if name in SOURCE_DTYPES else "float64"),
        np.ascontiguousarray(own.indices, np.int32), np.ascontiguousarray(own.indptr, np.int64),
        own.shape[1],
    )  # fmt: skip
