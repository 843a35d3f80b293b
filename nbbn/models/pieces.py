"""Data that come in batches: generators, datasets of batches, any iterable of them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from nbbn.group import ALONE
from nbbn.losses import Loss
from nbbn.models.compiled import needs_batches
from nbbn.models.joint_loss import JointLoss
from nbbn.partitions.partitions import Partitions
from nbbn.partitions.read_ahead import ReadAhead
from nbbn.training_loop import Samples, Stretch
from nbbn.warning import warn

# Batches that are trained on at once: as many as come within so many seconds, with so many bytes.
# A step is not worth the way there and back.
_SECONDS, _BYTES = 0.02, 16 << 20
# Batches of a piece where figures depend on where it ends.
_ALIKE = 8
# Seconds that a source takes, to those in which its batches are used, from which a thread asks for
# them: on few cores it stands in the way of the engine's.
_WORTH_A_THREAD = 0.1
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
    is_slow: bool = False  # whether a thread asks for them
    alike: bool = False  # whether pieces are so long however fast they come
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
        yield from self._current if self.steps is None else islice(self._current, self.steps)

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
class Piece:
    """Some batches in a row, checked, in memory.

    `y` are the targets as the metrics take them; `samples` have them as they are trained on.
    """

    samples: Samples
    y: np.ndarray
    edges: np.ndarray


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


def _is_single(item: Any) -> bool:
    """Whether a batch has one row."""
    x = item[0] if isinstance(item, tuple | list) and len(item) else ()
    if isinstance(x, dict):
        x = next(iter(x.values()), ())
    elif isinstance(x, list | tuple) and len(x) and hasattr(x[0], "shape"):
        x = x[0]
    return hasattr(x, "__len__") and len(x) == 1


def _own(given: Any) -> Any:
    """The same with copies of its arrays, which nobody writes over."""
    if isinstance(given, dict):
        return {key: _own(one) for key, one in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(_own(one) for one in given)
    return given.copy() if isinstance(given, np.ndarray) else given


class Room:
    """Memory for a piece, filled from the front: a source may use its own arrays again."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self.begin()

    def begin(self) -> None:
        """Forget what is in it."""
        self.ends, self.numbers = [0], list[int]()

    @property
    def rows(self) -> int:
        """How many are in it."""
        return self.ends[-1]

    def add(self, number: int, parts: Sequence[np.ndarray], like: Like) -> None:
        """Put a batch behind the others: rows, targets and, where there are any, weights."""
        arrays, first = self._arrays, self.ends[-1]
        end = first + len(parts[0])
        if not arrays or end > len(arrays[0]):
            arrays = self._grow(first, max(end, like.room), like)
        for array, part in zip(arrays, parts):
            array[first:end] = part
        self.ends.append(end)
        self.numbers.append(number)

    def _grow(self, used: int, room: int, like: Like) -> list[np.ndarray]:
        larger = [np.empty((room, *one.shape[1:]), one.dtype) for one in like.parts]
        for array, before in zip(larger, self._arrays):
            array[:used] = before[:used]
        self._arrays = larger
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
        # Rows that a piece has memory for.
        self.room = max(1, _BYTES // max(1, math.prod(x.shape[1:]) * x.itemsize))

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
            return self.model._samples(x, y)
        except Exception:  # which of them, in words
            for number, first, last in zip(room.numbers, room.ends, room.ends[1:]):
                self._alone(number, *room.part(first, last))
            raise


class Reader:
    """Pieces of one epoch.

    They are made between those who use them, or by a thread meanwhile, where the source takes long.
    A piece may be written over as soon as the next one is asked for.
    """

    def __init__(self, batches: Batches, checks: Checks, loss: Loss | JointLoss, accumulated: int,
                 joins_single: bool, rooms: tuple[Room, Room] | None = None):
        self._batches, self._checks, self._loss = batches, checks, loss
        self._accumulated, self._joins_single = accumulated, joins_single
        self._running = self._pieces_in_turn()
        self._asked = 0.0  # seconds that the source took for the last piece
        self._rooms = rooms or (Room(), Room())
        self._is_first = checks.like is None  # the first batch of all is a piece
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
        with ReadAhead(pieces) as ahead:
            yield from ahead

    # -- in the thread, where there is one

    def _pieces(self) -> Iterator[Piece]:
        items, further, turn = self._batches.take(), deque[tuple[int, Any]](), 0
        while True:
            room = self._rooms[turn % 2]
            room.begin()
            self._asked = 0.0
            self._fill(room, items, further)
            if not room.rows:
                return
            found, self._is_first = self._checks.samples(room), False
            yield Piece(replace(found, y=self._loss.prepare(found.y)), found.y, self._edges(room))
            turn += self._batches.is_slow  # the thread is ahead: the last piece is in use

    def _fill(self, room: Room, items: Iterator[tuple[int, Any]],
              further: deque[tuple[int, Any]]) -> None:
        """The next batches, whole steps of them; one that belongs to a later piece goes to
        `further`."""
        clock, add, full = time.perf_counter, self._checks.add, False
        until = clock() + _SECONDS
        if further:
            add(*further.popleft(), room)
            full = self._is_full(room, until)
        while not full or self._joins_single:
            began = clock()
            number, item = next(items, (0, None))
            self._asked += clock() - began
            if not number:
                return
            self.taken += 1
            if full and not _is_single(item):
                further.append((number, _own(item)))
                return
            add(number, item, room)
            full = full or self._is_full(room, until)

    def _is_full(self, room: Room, until: float) -> bool:
        number, ends = len(room.numbers), room.ends
        if number % self._accumulated:
            return False
        if self._batches.alike:
            return number >= _ALIKE
        assert self._checks.like is not None
        return (self._is_first or time.perf_counter() >= until
                or 2 * ends[-1] - ends[-2] > self._checks.like.room)

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


@dataclass
class _KnownSoFar:
    """A `Plan` of steps that are not counted beforehand."""

    steps: int
    stretches: Iterable[Stretch]
    in_pieces = True


class InPieces:
    """What a fit takes batch by batch: a `with` of `plans` ends its thread.

    Parameters
    ----------
    model : TrainedModel
    batches : Batches
    class_weight : dict or None
    shuffle : bool
        Whether batches that are asked for by number are so in an order of each epoch's own.
    """

    group = ALONE

    def __init__(self, model: Any, batches: Batches, class_weight: Any, shuffle: bool):
        self._model, self._batches = model, batches
        self._checks = Checks(model, batches.name, class_weight)
        self._shuffle = bool(shuffle) and batches.is_dataset
        compiled = model._require_compiled("fit")
        self._loss, self._optimizer = compiled.loss, compiled.optimizer
        self.steps = self._steps(batches.steps or batches.count)
        self.largest = 0  # rows of a step so far
        self._run: Callable[[Any], np.ndarray] | None = None
        self._measured: list[tuple[np.ndarray, np.ndarray]] = []
        self._rooms = Room(), Room()
        self._used: Piece | None = None
        self._reader: Reader | None = None
        self._first: Piece | None = None
        self._open()

    def _steps(self, batches: int | None) -> int | None:
        accumulated = self._optimizer.gradient_accumulation_steps or 1
        return None if batches is None else -(-batches // accumulated)

    def steps_of(self, edges: Any) -> Callable[[], int | None]:
        """What gives the number of an epoch's steps, once it is known."""
        return lambda: self.steps

    @property
    def source(self) -> np.dtype:
        """Dtype of the rows."""
        assert self._checks.like is not None
        return self._checks.like.x.dtype

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self._checks.like is not None and self._checks.like.weighted

    def figures(self) -> Samples | None:
        """The outputs of the epoch's rows, measured when they were trained on, with targets."""
        self._measure()
        if self._run is None:
            return None
        ys, outputs = zip(*self._measured)
        self._measured = []
        return Samples(np.concatenate(outputs), np.concatenate(ys))

    # -- epochs

    def measure_with(self, run: Callable[[Any], np.ndarray]) -> None:
        """Keep what a stretch gives in inference once it was trained on."""
        self._run, self._batches.alike = run, True

    def _open(self, then: str = "") -> None:
        """Begin an epoch: its first piece is there then; OutOfData where there is none."""
        self._start()
        if self._first is None and self._batches.over(0) and not self._batches.is_iterator:
            self._start()  # a pass that went on from the last epoch was over already
        if self._first is None:
            batches = self._batches
            if not then:
                raise ValueError(f"{batches.name} has no batches{_once(batches)}")
            raise OutOfData(f"{batches.name} has no batches left{_once(batches)}; {then}")
        self.largest = max(self.largest, int(np.diff(self._first.edges).max()))

    def _start(self) -> None:
        self.close()
        model = self._model
        self._batches.begin(self._order if self._shuffle else None)
        singles = needs_batches(model._layers.layers)
        self._reader = Reader(self._batches, self._checks, self._loss,
                              self._optimizer.gradient_accumulation_steps or 1, singles,
                              self._rooms)
        try:
            self._first = next(iter(self._reader), None)
        except BaseException:
            self.close()
            raise

    def _order(self, count: int) -> Iterable[int]:
        model = self._model
        model._shuffles += 1
        return np.random.default_rng([model._layers.seed, model._shuffles, 1]).permutation(count)

    def close(self) -> None:
        """End the thread that reads."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    @contextmanager
    def plans(self, model: Any, loss: Any, edges: Any, shuffle: bool,
              epochs: int) -> Iterator[Iterator[Any]]:
        """So many epochs."""
        try:
            yield self._plans(epochs)
        finally:
            self.close()

    def _plans(self, epochs: int) -> Iterator[Any]:
        for epoch in range(epochs):
            if epoch:
                self._open(f"training stops after epoch {epoch} of {epochs}")
            self._measured, self._used = [], None
            plan = _KnownSoFar(self.steps or 1 << 30, ())
            plan.stretches = self._stretches()
            yield plan

    def _stretches(self) -> Iterator[Stretch]:
        reader, piece, done = self._reader, self._first, 0
        assert reader is not None
        while piece is not None:
            self._used = piece
            self.largest = max(self.largest, int(np.diff(piece.edges).max()))
            done += len(piece.edges) - 1
            yield Stretch(piece.samples, np.arange(piece.edges[-1]), piece.edges)
            self._measure()
            piece = next(iter(reader), None)
        taken = reader.taken
        self.close()
        if self._batches.over(taken):
            warn(f"{self._batches.name} ran out of data: {taken} batches, steps_per_epoch asked "
                 f"for {self._batches.steps}")
        self.steps = self.steps or done
        self._batches.ended()

    def _measure(self) -> None:
        if self._run is not None and self._used is not None:
            self._measured.append((self._used.y.copy(), self._run(self._used.samples.x)))
        self._used = None


def read(model: Any, batches: Batches,
         run: Callable[[Any], np.ndarray]) -> tuple[Samples, np.ndarray]:
    """Targets and weights of all batches, and what a network makes of their rows."""
    compiled = model._require_compiled("evaluate")
    checks = Checks(model, batches.name)
    batches.begin()
    reader = Reader(batches, checks, compiled.loss, 1, joins_single=False)
    found: list[tuple[np.ndarray, np.ndarray | None, np.ndarray]] = []
    try:
        for piece in reader:
            weights = piece.samples.row_weights
            found.append((piece.y.copy(), None if weights is None else weights.copy(),
                          run(piece.samples.x)))
    finally:
        reader.close()
    if not found:
        raise ValueError(f"{batches.name} has no batches{_once(batches)}")
    _told(batches, reader.taken)
    y, weights = np.concatenate([own for own, *_ in found]), None
    if checks.like is not None and checks.like.weighted:
        weights = np.concatenate([np.asarray(own) for _, own, _ in found])
    return Samples(y, y, weights), np.concatenate([outputs for *_, outputs in found])


def outputs_of_batches(batches: Batches, check: Callable[[Any, str], np.ndarray],
                       run: Callable[[Any], np.ndarray], *, of_lists: bool) -> np.ndarray:
    """What a network makes of the rows of all batches; their targets are left aside.

    `of_lists`: whether a list is the arrays of several inputs.
    """

    def rows() -> Iterator[np.ndarray]:
        for k, item in batches.take():
            kinds = tuple if of_lists else (tuple, list)
            if isinstance(item, kinds) and len(item) in (1, 2, 3) and hasattr(item[0], "__len__"):
                item = item[0]
            # A copy: a source may use its arrays again.
            yield np.array(check(item, f"{batches.name}, batch {k}"))

    batches.begin()
    with ReadAhead(rows()) as ahead:
        found = [run(x) for x in ahead]
    if not found:
        raise ValueError(f"{batches.name} has no batches{_once(batches)}")
    _told(batches, len(found))
    return np.concatenate(found)


def _once(batches: Batches) -> str:
    """What to say of an iterator that is empty."""
    return (": an iterator can be gone over once; give a list or a PyDataset, or as many batches "
            "as are asked for in all") if batches.is_iterator else ""


def _told(batches: Batches, taken: int) -> None:
    if batches.steps is not None and taken < batches.steps:
        warn(f"{batches.name} ran out of data: {taken} batches, {batches.steps} steps were asked "
             "for")
    batches.over(taken)
    if batches.steps is not None and not batches.is_iterator:
        batches._current = None  # measuring begins at the beginning


