"""What a fit, measuring and predicting take batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn.group import ALONE
from nbbn.models.batches import Batches, OutOfData, once, told
from nbbn.models.compiled import needs_batches
from nbbn.models.reader import PATIENCE, Piece, Reader
from nbbn.models.rooms import Checks, Room
from nbbn.partitions.read_ahead import ReadAhead
from nbbn.training_loop import Samples, Stretch
from nbbn.warning import warn


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
        self._rooms: list[Room] = []
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

    # -- epochs

    def _open(self, then: str = "") -> None:
        """Begin an epoch: its first piece is there then; OutOfData where there is none."""
        self._start()
        if self._first is None and self._batches.over(0) and not self._batches.is_iterator:
            self._start()  # a pass that went on from the last epoch was over already
        if self._first is None:
            batches = self._batches
            if not then:
                raise ValueError(f"{batches.name} has no batches{once(batches)}")
            raise OutOfData(f"{batches.name} has no batches left{once(batches)}; {then}")
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
            plan = _KnownSoFar(self.steps or 1 << 30, ())
            plan.stretches = self._stretches()
            yield plan

    def _stretches(self) -> Iterator[Stretch]:
        reader, piece, done = self._reader, self._first, 0
        assert reader is not None
        while piece is not None:
            self.largest = max(self.largest, int(np.diff(piece.edges).max()))
            done += len(piece.edges) - 1
            yield Stretch(piece.samples, np.arange(piece.edges[-1]), piece.edges)
            piece = next(iter(reader), None)
        taken = reader.taken
        self.close()
        if self._batches.over(taken):
            warn(f"{self._batches.name} ran out of data: {taken} batches, steps_per_epoch asked "
                 f"for {self._batches.steps}")
        self.steps = self.steps or done
        self._batches.ended()


def read(model: Any, batches: Batches,
         run: Callable[[Any], np.ndarray]) -> tuple[Samples, np.ndarray, np.ndarray]:
    """Targets and weights of all batches, what a network makes of their rows, and their sizes."""
    compiled = model._require_compiled("evaluate")
    checks = Checks(model, batches.name)
    batches.begin()
    reader = Reader(batches, checks, compiled.loss, 1, joins_single=False, rooms=[])
    found: list[tuple[np.ndarray, ...]] = []
    try:
        for piece in reader:
            samples = piece.samples
            kept = () if samples.row_weights is None else (samples.row_weights.copy(),)
            found.append((run(samples.x), np.diff(piece.edges), np.array(samples.given), *kept))
    finally:
        reader.close()
    if not found:
        raise ValueError(f"{batches.name} has no batches{once(batches)}")
    told(batches, reader.taken)
    outputs, sizes, y, *weights = map(np.concatenate, zip(*found))
    return Samples(y, y, *weights), outputs, sizes


def outputs_of_batches(batches: Batches, check: Callable[[Any, str], np.ndarray],
                       run: Callable[[Any], np.ndarray], *, of_lists: bool) -> np.ndarray:
    """What a network makes of the rows of all batches; their targets are left aside.

    `of_lists`: whether a list is the arrays of several inputs.
    """

    def rows() -> Iterator[np.ndarray]:
        for k, item in batches.take():
            batches.look_for_an_end(k)
            kinds = tuple if of_lists else (tuple, list)
            if isinstance(item, kinds) and len(item) in (1, 2, 3) and hasattr(item[0], "__len__"):
                item = item[0]
            # A copy: a source may use its arrays again.
            yield np.array(check(item, f"{batches.name}, batch {k}"))

    batches.begin()
    with ReadAhead(rows(), patience=PATIENCE) as ahead:
        found = [run(x) for x in ahead]
    if not found:
        raise ValueError(f"{batches.name} has no batches{once(batches)}")
    told(batches, len(found))
    return np.concatenate(found)
