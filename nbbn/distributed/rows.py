"""Rows as users give them: how many there are, and those that go to another rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from nbbn.distributed.ranks import Ranks
from nbbn.partitions.partitions import Partitions


def check_arrays(**given: Any) -> None:
    """TypeError for partitions."""
    for name, value in given.items():
        if isinstance(value, Partitions):
            raise TypeError(f"{name} is Partitions, which nbbn.distributed does not take: give "
                            "each rank its own rows as arrays, or as memory-mapped arrays "
                            "(np.load(path, mmap_mode='r'))")


def count_of(*arrays: Any) -> int:
    """Rows of the first array; ValueError where the others have not as many."""
    counts = [_count(array) for array in arrays if array is not None]
    if len(set(counts)) > 1:
        raise ValueError(f"X, y and sample_weight must have as many rows as each other, got "
                         f"{', '.join(map(str, counts))}")
    return counts[0] if counts else 0


def _count(array: Any) -> int:
    shape = getattr(array, "shape", None)
    return int(shape[0]) if shape else len(array)


def settled(group: Ranks, arrays: tuple[Any, ...], ends: np.ndarray,
            wanted: np.ndarray) -> list[Any]:
    """The rows that a rank shall have: what it has of them, and what the others send.

    Parameters
    ----------
    group : Ranks
    arrays : tuple
        Of this rank's rows, or None.
    ends : ndarray
        First row of each rank as they lie and, at the end, how many there are.
    wanted : ndarray
        The same as they shall.
    """
    first, mine = ends[group.rank], range(group.ranks)
    cuts = [np.clip([wanted[k], wanted[k + 1]], first, ends[group.rank + 1]) - first for k in mine]
    found = []
    for array in arrays:
        if array is not None and ends[group.rank + 1] > first:
            array = array if hasattr(array, "shape") else np.asarray(array)
            parts = [_slice(array, *cut) if cut[1] > cut[0] else None for cut in cuts]
        else:
            parts = [None] * group.ranks
        kept, parts[group.rank] = parts[group.rank], None  # what stays is not copied
        came = group.comm.alltoall(parts)
        came[group.rank] = kept
        found.append(_joined([part for part in came if part is not None]))
    return found


def _slice(array: Any, first: int, end: int) -> Any:
    if hasattr(array, "iloc"):
        return array.iloc[first:end]
    return array.tocsr()[first:end] if scipy.sparse.issparse(array) else array[first:end]


def _joined(parts: list[Any]) -> Any:
    if len(parts) < 2:
        return parts[0] if parts else None
    if hasattr(parts[0], "iloc"):
        import pandas as pd
        return pd.concat(parts)
    if scipy.sparse.issparse(parts[0]):
        return scipy.sparse.vstack(parts, format="csr")
    return np.concatenate(parts)
