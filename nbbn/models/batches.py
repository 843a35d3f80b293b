"""Where batches come from: generators, datasets of batches, any iterable of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nbbn.partitions.partitions import Partitions
from nbbn.warning import warn

# Batches after which a source may be thought to have no end.
MANY = 100_000
# What looks like one array, whatever else it can do.
_OF_ARRAYS = ("__array__", "__array_interface__", "shape", "dtype", "iloc", "nnz")


class OutOfData(Exception):
    """An iterator has no further batches."""


def in_batches(x: Any, y: Any = None) -> bool:
    """Whether `x` gives batches, one after the other, and is no array."""
    if x is None or isinstance(x, str | bytes | dict | set | Partitions):
        return False
    if any(hasattr(x, name) for name in _OF_ARRAYS):
        return False
    if isinstance(x, list | deque):
        # A list of several inputs is none of batches, nor is one of rows.
        return y is None and len(x) > 0 and all(
            isinstance(item, tuple) and len(item) in (2, 3)
            and not any(isinstance(part, int | float) for part in item) for item in x)
    if isinstance(x, tuple | range | memoryview | bytearray):
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


@dataclass
class Batches:
    """Where batches come from.

    `name` is the argument's; `steps` are taken at a time, None: all of them.
    """

    given: Any
    name: str
    steps: int | None = None
    argument: str = "steps"  # what the user gives `steps` by
    is_slow: bool = False  # whether a thread asks for them
    _current: Iterator[tuple[int, Any]] | None = None  # what is left of a pass

    @property
    def is_dataset(self) -> bool:
        """Whether batches are asked for by number."""
        return not hasattr(self.given, "__next__") and hasattr(self.given, "__getitem__")

    @property
    def is_iterator(self) -> bool:
        """Whether it can be gone over once."""
        return hasattr(self.given, "__next__")

    @property
    def count(self) -> int | None:
        """Batches of a pass; None where it is not known."""
        if self.is_iterator:
            return None
        try:
            return int(self.given.num_batches if hasattr(self.given, "num_batches")
                       else len(self.given))
        except (TypeError, NotImplementedError, AttributeError):
            return None

    def _pass(self, order: Callable[[int], Iterable[int]] | None) -> Iterator[tuple[int, Any]]:
        """All batches, with their numbers from 1 on."""
        if self.is_dataset and self.count is not None:
            numbers = range(self.count) if order is None else order(self.count)
            return ((int(k) + 1, self.given[int(k)]) for k in numbers)
        return enumerate(iter(self.given), 1)

    def begin(self, order: Callable[[int], Iterable[int]] | None = None) -> None:
        """Make ready for `take`: with `steps` a pass goes on where it was left."""
        if self._current is None or self.steps is None:
            self._current = self._pass(order)

    def take(self) -> Iterator[tuple[int, Any]]:
        """The next batches, with their numbers; to be called by the thread that reads."""
        assert self._current is not None
        return self._current if self.steps is None else islice(self._current, self.steps)

    def look_for_an_end(self, taken: int) -> None:
        """Warn where `MANY` were taken, and nobody has said how many there are to be."""
        if taken == MANY and self.steps is None and self.count is None:
            warn(f"{self.name} has given {taken} batches and has not ended; a generator that does "
                 f"not end needs {self.argument}")

    def over(self, taken: int) -> bool:
        """So many were taken: whether less than were asked for, and the pass is over."""
        short = self.steps is not None and taken < self.steps
        if self.steps is None or short or (self.count is not None and self.count == taken):
            self._current = None
        return short

    def ended(self) -> None:
        """An epoch is over."""
        if self.is_dataset and hasattr(self.given, "on_epoch_end"):
            self.given.on_epoch_end()


@dataclass(frozen=True)
class Batch:
    """A batch, its parts as they came."""

    number: int
    x: Any
    y: Any
    weights: Any

    @classmethod
    def of(cls, number: int, item: Any, name: str) -> Batch:
        """What a user's source gives; TypeError for anything but a batch with targets."""
        if isinstance(item, tuple | list) and len(item) in (2, 3):
            return cls(number, *item, *(None,) * (3 - len(item)))
        got = type(item).__name__
        got += f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise TypeError(f"{name}, batch {number}: must be (x, y) or (x, y, sample_weight), "
                        f"got {got}")


def once(batches: Batches) -> str:
    """What to say of an iterator that is empty."""
    return (": an iterator can be gone over once; give a list or a PyDataset, or as many batches "
            "as are asked for in all") if batches.is_iterator else ""


def told(batches: Batches, taken: int) -> None:
    if batches.steps is not None and taken < batches.steps:
        warn(f"{batches.name} ran out of data: {taken} batches, {batches.steps} steps were asked "
             "for")
    batches.over(taken)
    if batches.steps is not None and not batches.is_iterator:
        batches._current = None  # measuring begins at the beginning
