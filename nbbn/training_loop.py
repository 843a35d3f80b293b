"""The ladder of training: a run has epochs, an epoch parts, a part some steps of a trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbbn.group import ALONE, Group, Order
from nbbn.sparse_rows import SparseRows
from nbbn.trainer import Epoch, Trainer

# The last epoch's loss may be so many times the first's before a fit is said to diverge.
_GROWS = 10


@dataclass(frozen=True)
class Samples:
    """Rows with their targets and weights."""

    # An array, `SparseRows`, or an object that gives an array for row numbers, `rows_of_a_part` at
    # once.
    x: Any
    y: np.ndarray
    row_weights: np.ndarray | None = None  # float64 `(n,)`
    # Targets as metrics take them, where these are others: without a loss's smoothing.
    given: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, which: Any) -> Samples:
        others = (None if one is None else one[which] for one in (self.row_weights, self.given))
        return Samples(self.x[which], self.y[which], *others)

    @property
    def _are_read_as_they_are(self) -> bool:
        return isinstance(self.x, np.ndarray | SparseRows)

    def as_arrays(self, order: Any) -> tuple[Samples, Any]:
        """What the kernels read some rows from, and the numbers of the rows in it."""
        if self._are_read_as_they_are:
            return self, order
        return self[order], np.arange(len(order))

    def steps_of_a_part(self, edges: np.ndarray) -> int:
        """How many of the steps between the edges may be taken at once."""
        if self._are_read_as_they_are:
            return len(edges) - 1
        return max(1, self.x.rows_of_a_part // int(np.diff(edges).max(initial=1)))


def diverged(losses: Sequence[float]) -> str:
    """What is wrong with the losses of a fit's epochs, in words; empty where nothing is."""
    if not losses:
        return ""
    bad = next((i for i, loss in enumerate(losses) if not np.isfinite(loss)), None)
    if bad is not None:
        return f"the loss is {losses[bad]} from epoch {bad + 1} of {len(losses)} on"
    first, last = losses[0], losses[-1]
    if 0 < _GROWS * first < last:
        return f"the loss grew from {first:.3g} in the first epoch to {last:.3g} in the last"
    return ""


class Watcher:
    """What goes on between the rungs; a fit overrides what it needs."""

    def epoch_begins(self, epoch: int) -> None:
        """Epoch `epoch` begins, counted from 0."""

    def part_begins(self, done: int, left: int) -> int:
        """So many steps of the epoch are done, so many left: how many to take now."""
        return left

    def part_ends(self, done: int, part: Epoch, so_far: Epoch) -> bool:
        """So many steps are done now; whether to leave the epoch."""
        return False

    def epoch_ends(self, epoch: int, whole: Epoch) -> bool:
        """The epoch is over; whether to stop."""
        return False


@dataclass(frozen=True)
class Stretch:
    """Rows in memory, with the order in which they are trained on.

    `edges` are the first row of each batch in the order, with the end.
    """

    samples: Samples  # as the trainer reads them
    order: Order
    edges: np.ndarray


@dataclass(frozen=True)
class Plan:
    """An epoch: stretch after stretch."""

    steps: int
    stretches: Iterable[Stretch]
    # Whether the losses of all rows are to be added up at once, however many stretches there are.
    in_pieces: bool = False


def in_memory(samples: Samples,
              orders: Iterable[tuple[Order, np.ndarray]]) -> Iterator[Plan]:
    """Epochs over the same rows, of each the order and the batches' edges."""
    for order, edges in orders:
        yield Plan(len(edges) - 1, (Stretch(samples, order, edges),))


def without_weightless(order: Order, edges: np.ndarray, weights: np.ndarray,
                       group: Group = ALONE) -> tuple[Order, np.ndarray]:
    """Rows in batches, without the batches whose weights sum to 0, which have no mean.

    `order` counts the rows of the whole group, `weights` are of the process's own.
    """
    full = group.masses(weights, order, edges) != 0
    if full.all():
        return order, edges
    sizes = np.diff(edges)
    if isinstance(order, np.ndarray):
        order = order[np.repeat(full, sizes)]
    else:
        order = order.of_batches(full, edges)
    return order, np.append(0, np.cumsum(sizes[full]))


def _added_at_once(whole: Epoch, losses: list[np.ndarray]) -> Epoch:
    """The epoch's sums as those of one stretch have the same bits."""
    penalties = whole.loss - sum(float(part.sum()) for part in losses)
    return replace(whole, loss=float(np.concatenate(losses).sum()) + penalties)


@dataclass
class Loop:
    """Training that is ready to run."""

    trainer: Trainer  # the watcher may put another in its place
    plans: Iterator[Plan]  # one for each epoch
    # Learning rates and weight decays of these steps, as `Trainer.epoch` takes them.
    rates: Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray | None]] = (
        lambda optimizer, steps: (optimizer.rates(steps), optimizer.shrinks(steps)))

    def run(self, first: int, last: int, watcher: Watcher) -> bool:
        """Train epochs `first` to `last`, counted from 0; whether the watcher stopped it."""
        for epoch in range(first, last):
            watcher.epoch_begins(epoch)
            if watcher.epoch_ends(epoch, self.epoch(watcher)):
                return True
        return False

    def epoch(self, watcher: Watcher) -> Epoch:
        """Train one epoch; sums over its rows."""
        plan = next(self.plans)
        done, whole, losses = 0, Epoch(0, 0.0, 0.0, 0.0), list[np.ndarray]()
        for stretch in plan.stretches:
            edges = stretch.edges
            most, at, steps = stretch.samples.steps_of_a_part(edges), 0, len(edges) - 1
            while at < steps:
                count = min(most, watcher.part_begins(done, plan.steps - done), steps - at)
                part = self.part(stretch, at, at + count)
                whole += part
                if plan.in_pieces:
                    losses.append(part.losses)
                at, done = at + count, done + count
                if watcher.part_ends(done, part, whole):
                    return whole
        return whole if not losses else _added_at_once(whole, losses)

    def part(self, stretch: Stretch, first: int, last: int) -> Epoch:
        """Train on some batches of a stretch; sums over their rows."""
        trainer, edges = self.trainer, stretch.edges[first : last + 1]
        samples, order = stretch.samples.as_arrays(stretch.order[edges[0] : edges[-1]])
        steps = np.arange(trainer.step, trainer.step + len(edges) - 1)
        rates, shrinks = self.rates(trainer.optimizer, steps)
        part = trainer.epoch(samples.x, samples.y, order, edges - edges[0], rates,
                             samples.row_weights, shrinks)
        if part.kept is not None:
            y = samples.y if samples.given is None else samples.given
            part.kept = replace(part.kept, targets=y[part.kept.rows])
        return part
