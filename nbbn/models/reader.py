"""Batches of an epoch put together to pieces, between their use or by a thread meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbbn.losses import Loss
from nbbn.models.batches import MANY, Batches
from nbbn.models.joint_loss import JointLoss
from nbbn.models.rooms import Checks, Room
from nbbn.partitions.read_ahead import ReadAhead
from nbbn.training_loop import Samples

# Seconds after which a piece is used, however few batches it has.
_SECONDS = 0.02
# Seconds that a source takes, to those in which its batches are used, from which a thread asks for
# them: on few cores it stands in the way of the engine's.
_WORTH_A_THREAD = 0.1
# Seconds that the end of a fit waits for a source that is asked by a thread.
PATIENCE = 5.0
_NONE: tuple[int, Any] = (0, None)


@dataclass(frozen=True)
class Piece:
    """Some batches in a row, checked, in memory; `edges` are those of steps."""

    samples: Samples
    edges: np.ndarray


def _is_single(item: Any) -> bool:
    """Whether a batch has one row."""
    x = item[0] if isinstance(item, tuple | list) and len(item) else ()
    if isinstance(x, dict):
        x = next(iter(x.values()), ())
    elif isinstance(x, list | tuple) and len(x) and hasattr(x[0], "shape"):
        x = x[0]
    return hasattr(x, "__len__") and len(x) == 1


class Reader:
    """Pieces of one epoch.

    They are made between those who use them, or by a thread meanwhile, where the source takes long.
    A piece may be written over as soon as the next one is asked for.

    Parameters
    ----------
    batches : Batches
        Begun.
    checks : Checks
    loss : Loss or JointLoss
    accumulated : int
        Batches of a step: pieces are whole steps.
    joins_single : bool
        Whether a batch of one row goes with the one before.
    rooms : list of Room
        Free ones; gets those that are made besides.
    """

    def __init__(self, batches: Batches, checks: Checks, loss: Loss | JointLoss, accumulated: int,
                 joins_single: bool, rooms: list[Room]):
        self._batches, self._checks, self._loss = batches, checks, loss
        self._accumulated, self._joins_single = accumulated, joins_single
        self._running = self._pieces_in_turn()
        self._asked = 0.0  # seconds that the source took for the last piece
        self._rooms, self._free = rooms, list(rooms)
        self._error: Exception | None = None  # of the source
        self.taken = 0  # batches

    def __iter__(self) -> Iterator[Piece]:
        return self._running

    def close(self) -> None:
        """End the thread."""
        self._running.close()

    def _pieces_in_turn(self) -> Generator[Piece]:
        pieces = self._pieces()
        if not self._batches.is_slow:
            for piece in pieces:
                began = time.perf_counter()
                yield piece
                if self._asked > _WORTH_A_THREAD * (time.perf_counter() - began):
                    self._batches.is_slow = True
                    break
        with ReadAhead(pieces, patience=PATIENCE) as ahead:
            yield from ahead

    # -- in the thread, where there is one

    def _pieces(self) -> Iterator[Piece]:
        items, room, used = self._batches.take(), self._free_room(), deque[Room]()
        while True:
            further = self._free_room()
            self._asked = 0.0
            if self._error is None:
                self._fill(room, items, further)
            if not room.rows:
                if self._error is not None:
                    raise self._error
                return
            found = self._checks.samples(room)
            yield Piece(replace(found, y=self._loss.prepare(found.y), given=found.y),
                        self._edges(room))
            used.append(room)
            while len(used) > self._batches.is_slow:  # the thread is ahead: the last one is in use
                self._free.append(used.popleft())
            room = self._beginning_with(further)

    def _beginning_with(self, further: Room) -> Room:
        """A room with what is in another, which is small: the caches have the one used last."""
        like = self._checks.like
        if like is None or further.rows >= like.large or not self._free:
            return further
        room = self._free_room()
        room.move(further, like)
        self._free.append(further)
        return room

    def _free_room(self) -> Room:
        if not self._free:
            self._rooms.append(Room())
            self._free.append(self._rooms[-1])
        room = self._free.pop()
        room.begin()
        return room

    def _fill(self, room: Room, items: Iterator[tuple[int, Any]], further: Room) -> None:
        """Add the next batches, whole steps of them; one of the next piece goes to `further`."""
        clock, add = time.perf_counter, self._checks.add
        now = clock()
        until, full = now + _SECONDS, room.rows > 0 and self._is_full(room)
        while not full or self._joins_single:
            began = clock()
            try:
                number, item = next(items, _NONE)
            except Exception as error:  # to be raised behind the batches before it
                self._error, number = error, 0
            now = clock()
            self._asked += now - began
            if not number:
                return
            self.taken += 1
            if self.taken == MANY:
                self._batches.look_for_an_end(self.taken)
            if full and not _is_single(item):
                add(number, item, further)
                return
            add(number, item, room)
            full = full or (now >= until and self._ends_a_step(room)) or self._is_full(room)

    def _ends_a_step(self, room: Room) -> bool:
        return len(room.numbers) % self._accumulated == 0

    def _is_full(self, room: Room) -> bool:
        ends, like = room.ends, self._checks.like
        assert like is not None
        return 2 * ends[-1] - ends[-2] > like.room and self._ends_a_step(room)

    def _edges(self, room: Room) -> np.ndarray:
        """First row of each step, and the end."""
        ends, k = room.ends, self._accumulated
        edges = ends if k == 1 else [*ends[:-1:k], ends[-1]]
        if not self._joins_single:
            return np.array(edges)
        if edges[1] == 1:
            raise ValueError(f"{self._checks.name}, batch {room.numbers[0]}: one row has no batch "
                             "statistics: give batches of at least 2 rows")
        joined = np.array(edges)
        return joined[np.append(np.diff(joined) != 1, True)] if len(joined) > 2 else joined
