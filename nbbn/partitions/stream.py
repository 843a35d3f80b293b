"""Epochs over partitions: their order, the rows of a window in memory, the next one read ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn.partitions.partitions import Partitions
from nbbn.partitions.read_ahead import ReadAhead
from nbbn.partitions.sources import Header, Part
from nbbn.training_loop import Plan, Samples, Stretch, without_weightless


@dataclass(frozen=True)
class Order:
    """In which order rows are seen: partitions in windows, rows within a window."""

    counts: tuple[int, ...]  # rows of each partition
    window: int  # partitions at a time
    key: int | None  # that all orders follow from, with the epoch's number; None: as they lie
    partitions: bool = True  # whether these are shuffled, too

    def windows(self, epoch: int) -> list[np.ndarray]:
        """The partitions of each window; all have rows."""
        full = np.flatnonzero(self.counts)
        if self.key is not None and self.partitions:
            full = np.random.default_rng([self.key, epoch, 0]).permutation(full)
        return [full[i : i + self.window] for i in range(0, len(full), self.window)]

    def rows(self, epoch: int, window: int, count: int) -> np.ndarray:
        """The order of so many rows of a window."""
        if self.key is None:
            return np.arange(count)
        return np.random.default_rng([self.key, epoch, 1, window]).permutation(count)

    @property
    def most(self) -> int:
        """The most rows that a window can have."""
        return sum(sorted(self.counts)[-self.window :])


class _Room:
    """Memory for the rows of a window, filled from the front."""

    def __init__(self, rows: int, like: Samples):
        weights = None if like.row_weights is None else np.empty(rows)
        self.samples = Samples(np.empty((rows, *like.x.shape[1:]), like.x.dtype),
                               np.empty((rows, *like.y.shape[1:]), like.y.dtype), weights)
        self.used = 0

    def begin(self, carried: Samples | None) -> None:
        self.used = 0
        if carried is not None:
            self.add(carried)

    def add(self, some: Samples) -> None:
        own = slice(self.used, self.used + len(some))
        full = self.samples
        full.x[own], full.y[own] = some.x, some.y
        if full.row_weights is not None:
            full.row_weights[own] = some.row_weights
        self.used = own.stop

    def taken(self) -> Samples:
        return self.samples[: self.used]


class Stream:
    """The epochs of a fit over partitions, ready to train on; a `with` block ends its thread.

    Parameters
    ----------
    partitions : Partitions
    order : Order
    edges : ndarray
        First row of each batch of an epoch, with the end.
    prepare : callable
        Makes checked samples of a partition's number and its `Part`; called by the thread. What it
        raises ends the fit.
    like : Samples
        Without rows, of the shapes and dtypes that are trained on.
    epochs : range
        Which epochs, counted from 0.
    skip_weightless : bool
        Whether batches whose weights sum to 0 are left out, since they have no mean.
    """

    def __init__(self, partitions: Partitions, order: Order, edges: np.ndarray,
                 prepare: Callable[[int, Part], Samples], like: Samples, epochs: Sequence[int], *,
                 skip_weightless: bool = False):
        self._partitions, self._order, self._edges = partitions, order, edges
        self._prepare, self._skip_weightless = prepare, skip_weightless
        self._rooms = [_Room(order.most + int(np.diff(edges).max(initial=0)), like)
                       for _ in range(2)]
        self._ahead = ReadAhead(self._stretches(epochs))

    def plans(self) -> Iterator[Plan]:
        """An epoch after the other."""
        while True:
            yield Plan(len(self._edges) - 1, self._epoch())

    def _epoch(self) -> Iterator[Stretch]:
        for stretch, is_last in self._ahead:
            yield stretch
            if is_last:
                return

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ahead.close()

    # -- in the thread

    def _stretches(self, epochs: Sequence[int]) -> Iterator[tuple[Stretch, bool]]:
        """What is trained on at once, and whether an epoch ends with it."""
        turn, edges = 0, self._edges
        for epoch in epochs:
            read, windows = self._reader(), self._order.windows(epoch)
            carried: Samples | None = None
            step = 0
            for number, window in enumerate(windows):
                # Not the room of the last stretch, which is being trained on.
                room = self._rooms[turn % 2]
                room.begin(carried)
                before = room.used
                for partition in window:
                    room.add(read(int(partition)))
                moved = before + self._order.rows(epoch, number, room.used - before)
                order = np.concatenate([np.arange(before), moved])
                # Rows of the epoch up to here, and the steps that end within them.
                end = edges[step] + len(order)
                last = int(np.searchsorted(edges, end, side="right")) - 1
                own = edges[step : last + 1] - edges[step]
                samples = room.taken()
                carried, step = samples[order[own[-1]:]], last
                if len(own) > 1:
                    turn += 1
                    stretch = Stretch(samples, *self._full(samples, order[: own[-1]], own))
                    yield stretch, number == len(windows) - 1

    def _full(self, samples: Samples, order: np.ndarray,
              edges: np.ndarray) -> tuple[Any, np.ndarray]:
        if not self._skip_weightless or samples.row_weights is None:
            return order, edges
        return without_weightless(order, edges, samples.row_weights)

    def _reader(self) -> Callable[[int], Samples]:
        read, at = self._partitions.reader(), 0

        def checked(number: int) -> Samples:
            nonlocal at
            while self._partitions.in_order and at < number:  # empty ones, which no window names
                read(at)
                at += 1
            samples = self._prepare(number, read(number))
            at = number + 1
            if len(samples) != self._order.counts[number]:
                raise ValueError(f"{self._partitions.name(number)}: has {len(samples)} rows now, "
                                 f"it had {self._order.counts[number]} when the fit began; give "
                                 "the same rows every time")
            return samples

        return checked


def rows_of(headers: Sequence[Header]) -> tuple[int, ...]:
    """Rows of each partition."""
    return tuple(header.rows for header in headers)
