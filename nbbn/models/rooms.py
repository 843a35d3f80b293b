"""Memory for batches in a row, which are checked on their way into it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn import compiler
from nbbn.inputs import CheckedCopies
from nbbn.models.batches import Batch
from nbbn.training_loop import Samples

# Bytes that a room has: enough batches that a step is not worth the way there and back.
_BYTES = 16 << 20
# Bytes of a batch that is not worth another copy.
_LARGE = 4 << 20


class Room:
    """Memory for a piece, filled from the front: a source may use its own arrays again."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._copies: CheckedCopies | None = None
        self.begin()

    def begin(self) -> None:
        """Forget what is in it."""
        self.ends, self.numbers = [0], list[int]()
        self._seen = 0  # rows that were looked over on their way in
        if self._copies is not None:
            self._copies.were_finite()

    @property
    def rows(self) -> int:
        """How many are in it."""
        return self.ends[-1]

    @property
    def is_finite(self) -> bool:
        """Whether all rows were looked over on their way in, and hold no NaN and no infinity."""
        return (self._copies is not None and self._seen == self.rows
                and self._copies.were_finite())

    def add(self, number: int, parts: Sequence[np.ndarray], like: Like) -> None:
        """Put a batch behind the others: rows, targets and, where there are any, weights."""
        arrays, (x, *others), first = self._arrays, parts, self.ends[-1]
        end = first + len(x)
        if not arrays or end > len(arrays[0]):
            # A room for one batch of the next piece stays small.
            arrays = self._grow(first, max(end, like.room if first else 0), like)
        if self._copies is not None and x.dtype == like.x.dtype and x.flags.c_contiguous:
            self._copies.copy(x, arrays[0][first:end])
            self._seen += len(x)
        else:
            arrays[0][first:end] = x
        for k, part in enumerate(others, 1):
            arrays[k][first:end] = part
        self.ends.append(end)
        self.numbers.append(number)

    def move(self, other: Room, like: Like) -> None:
        """Put the batches of another room behind those of this one."""
        for number, first, end in zip(other.numbers, other.ends, other.ends[1:]):
            parts = [part for part in other.part(first, end) if part is not None]
            self.add(number, parts, like)

    def _grow(self, used: int, room: int, like: Like) -> list[np.ndarray]:
        larger = [np.empty((room, *one.shape[1:]), one.dtype) for one in like.parts]
        for array, before in zip(larger, self._arrays):
            array[:used] = before[:used]
        self._arrays = larger
        if self._copies is None and like.x.dtype in (np.float32, np.float64):
            self._copies = CheckedCopies(like.x.dtype) if compiler.available() else None
        return larger

    def part(self, first: int, last: int) -> tuple[Any, Any, Any]:
        """Some of its rows, with targets and weights."""
        x, y, weights = (*(array[first:last] for array in self._arrays), None)[:3]
        return x, y, weights


class Like:
    """A batch as all others must be.

    Parameters
    ----------
    parts : sequence of ndarray
        Rows, targets and, where there are any, weights, as rooms keep them.
    row_shape, dtype
        Of the rows as they came; None: what comes is checked batch by batch.
    """

    def __init__(self, parts: Sequence[np.ndarray], row_shape: Any, dtype: Any):
        self.parts, self.row_shape, self.dtype = parts, row_shape, dtype
        x, y, *weights = parts
        self.x, self.weighted = x, bool(weights)
        self.of_y, self.dtype_of_y = y.shape[1:], y.dtype
        self.keeps_shape = row_shape == x.shape[1:]
        row = max(1, math.prod(x.shape[1:]) * x.itemsize)
        # Rows that a piece has memory for, and those of a large batch.
        self.room, self.large = max(1, _BYTES // row), -(-_LARGE // row)

    def fits(self, x: Any, y: Any) -> bool:
        """Whether rows and targets came as the first ones did."""
        return (type(x) is np.ndarray and type(y) is np.ndarray and x.ndim > 0 and y.ndim > 0
                and x.dtype == self.dtype and x.shape[1:] == self.row_shape
                and y.dtype == self.dtype_of_y and y.shape[1:] == self.of_y
                and len(x) == len(y) > 0)


@dataclass
class Checks:
    """How batches are checked and put together: as arrays are, by what the model takes."""

    model: Any
    name: str
    class_weight: Any = None
    like: Like | None = None

    def add(self, number: int, item: Any, room: Room) -> None:
        """Put what a source gave into a room; errors in words where it does not fit."""
        like = self.like
        if like is not None and not like.weighted and type(item) is tuple and len(item) == 2:
            x, y = item
            if like.fits(x, y):
                if not like.keeps_shape:
                    x = x.reshape(len(x), *like.x.shape[1:])
                room.add(number, (x, y), like)
                return
        self._add_checked(Batch.of(number, item, self.name), room)

    def _add_checked(self, batch: Batch, room: Room) -> None:
        found = self._alone(batch.number, batch.x, batch.y, batch.weights)
        x, like, where = batch.x, self.like, f"{self.name}, batch {batch.number}:"
        weights = () if found.row_weights is None else (found.row_weights,)
        if like is None:
            plain = type(x) is np.ndarray and x.dtype.kind in "fiu" and x.dtype.isnative and (
                type(batch.y) is np.ndarray and not weights)
            y = batch.y if plain else found.y
            like = self.like = Like((found.x[:1], y[:1], *(w[:1] for w in weights)),
                                    x.shape[1:] if plain else None, x.dtype if plain else None)
        elif like.weighted != bool(weights):
            has = "has no" if like.weighted else "has a"
            raise ValueError(f"{where} {has} sample_weight, unlike the first batch; give all of "
                             "them or none")
        elif found.x.dtype != like.x.dtype and not found.x.dtype.kind == like.x.dtype.kind == "f":
            raise ValueError(f"{where} x is of dtype {found.x.dtype}, unlike the first batch's "
                             f"{like.x.dtype}; give all batches in one dtype")
        y = found.y.reshape(len(found), *like.of_y)
        room.add(batch.number, (found.x, y, *weights), like)

    def _alone(self, number: int, x: Any, y: Any, weights: Any) -> Samples:
        return self.model._samples(x, y, weights, self.class_weight,
                                   f"{self.name}, batch {number}: ")

    def samples(self, room: Room) -> Samples:
        """What is in a room, checked."""
        x, y, weights = room.part(0, room.rows)
        assert self.like is not None
        if self.like.row_shape is None:
            return Samples(x, y, weights)
        try:
            return self.model._samples(x, y, finite=not room.is_finite)
        except Exception:  # which of them, in words
            for number, first, last in zip(room.numbers, room.ends, room.ends[1:]):
                self._alone(number, *room.part(first, last))
            raise
