"""Where a partition comes from: arrays in memory, or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from nbbn.dtypes import SOURCE_DTYPES

Shape = tuple[int, ...]


class Part(NamedTuple):
    """A partition in memory; targets and weights are None where it has none."""

    X: Any
    y: Any = None
    sample_weight: Any = None


@dataclass(frozen=True)
class Header:
    """What is known of a partition without its numbers."""

    rows: int
    shape: Shape  # of a row
    dtype: np.dtype  # that its rows are read in by the kernels
    columns: tuple[str, ...] | None = None  # their names, where they have some

    @classmethod
    def of(cls, X: Any) -> Header:
        """That of rows in memory."""
        names = tuple(getattr(X, "columns", ()))
        shape = tuple(int(n) for n in np.shape(X))
        if not shape:
            raise ValueError("holds no rows, but a single value")
        kinds = list(X.dtypes) if names else [np.asarray(X[:0]).dtype]
        dtypes = [d if isinstance(d, np.dtype) else np.dtype(object) for d in kinds]
        known = bool(names) and all(isinstance(name, str) for name in names)
        return cls(shape[0], shape[1:], common_dtype(dtypes), names if known else None)


def common_dtype(dtypes: list[np.dtype]) -> np.dtype:
    """What the kernels read rows of these dtypes in."""
    names = {"uint8" if d.kind == "b" else d.name for d in dtypes}
    found = np.dtype(names.pop()) if len(names) == 1 else np.dtype(np.float64)
    if names:
        numeric = all(d.kind in "fiub" for d in dtypes)
        found = np.result_type(*dtypes) if numeric else found
    return np.dtype(found.name if found.name in SOURCE_DTYPES else "float64")


class Source(Protocol):
    """A partition that can be read again and again."""

    @property
    def name(self) -> str:
        """For messages: a file, or the partition's number."""

    @property
    def size(self) -> int | None:
        """Bytes of its file, where it is one."""

    def header(self) -> Header | None:
        """What is known without reading it; None for nothing."""

    def read(self) -> Part:
        """All of it."""

    def read_targets(self) -> Part:
        """Without its rows where they can be left out."""


def as_part(name: str, given: Any) -> Part:
    """What stands for rows, or for rows, targets and weights; errors name the partition."""
    if given is None or isinstance(given, (dict, str)):
        raise TypeError(f"{name}: a partition must be X, (X, y) or (X, y, sample_weight), got "
                        f"{type(given).__name__}")
    if isinstance(given, Part):
        return given
    if not isinstance(given, tuple):
        return Part(given)
    if len(given) not in (1, 2, 3):
        raise ValueError(f"{name}: a partition must be X, (X, y) or (X, y, sample_weight), got a "
                         f"tuple of {len(given)}")
    return Part(*given)


def check_lengths(name: str, part: Part) -> Part:
    """The part; ValueError where its arrays have not the same number of rows."""
    rows = count(part.X)
    for what, array in (("y", part.y), ("sample_weight", part.sample_weight)):
        if array is not None and count(array) != rows:
            raise ValueError(f"{name}: X has {rows} rows, but {what} has {count(array)}; give one "
                             "entry for each row")
    return part


def count(array: Any) -> int:
    """Rows of an array, a frame or a list."""
    shape = getattr(array, "shape", None)
    return int(shape[0]) if shape else len(array)


@dataclass(frozen=True)
class Arrays:
    """A partition in memory."""

    name: str
    part: Part
    size: int | None = None

    def header(self) -> Header | None:
        return header_of(self.name, self.part)

    def read(self) -> Part:
        return self.part

    read_targets = read


@dataclass(frozen=True)
class Made:
    """A partition that a function makes."""

    name: str
    make: Callable[[], Any]
    size: int | None = None

    def header(self) -> Header | None:
        return None

    def read(self) -> Part:
        return check_lengths(self.name, as_part(self.name, self.make()))

    read_targets = read


def header_of(name: str, part: Part) -> Header:
    """That of a partition in memory; errors name it."""
    try:
        return Header.of(part.X)
    except (TypeError, ValueError) as err:
        raise type(err)(f"{name}: {err}") from None


def targets_and_weights(targets: list[np.ndarray],
                        weights: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """Targets of all partitions, and their weights, of which all have some or none."""
    if not targets:
        raise ValueError("the partitions hold no rows")
    given = [own for own in weights if own is not None]
    if given and len(given) < len(targets):
        raise ValueError("some partitions have a sample_weight and others none; give all or none")
    return np.concatenate(targets), np.concatenate(given) if given else None
