"""What `Sequential.fit` is given, in memory or in partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nbbn import inputs
from nbbn.group import ALONE, Group
from nbbn.losses import Loss
from nbbn.models.joint_loss import JointLoss
from nbbn.operations import Indices
from nbbn.partitions.many_parts import ManyParts
from nbbn.partitions.partitions import Partitions
from nbbn.partitions.sources import Header, Part, common_dtype, count, targets_and_weights
from nbbn.partitions.stream import Order, Stream
from nbbn.training_loop import Plan, Samples, Stretch, in_memory

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InMemory:
    """Rows with targets and weights, checked."""

    samples: Samples  # targets as given
    rows: int  # how many are trained on, in all processes
    group: Group = ALONE  # whose process has these rows
    steps: int | None = None  # batches of an epoch, None: all

    largest = 0  # batches do not grow

    @property
    def source(self) -> np.dtype:
        """Dtype of the rows."""
        return self.samples.x.dtype

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self.samples.row_weights is not None

    @contextmanager
    def plans(self, model: Any, loss: Loss | JointLoss, edges: np.ndarray, shuffle: bool,
              epochs: int) -> Iterator[Iterator[Plan]]:
        """So many epochs of batches."""
        samples = self.samples
        targets = replace(samples, y=loss.prepare(samples.y), given=samples.y)
        orders = model._plans(edges, shuffle, self.group)
        yield in_memory(targets, orders if self.steps is None else _cut(orders, self.steps))

    def steps_of(self, edges: np.ndarray) -> Callable[[], int]:
        """What gives the number of an epoch's steps."""
        return lambda: min(len(edges) - 1, self.steps or len(edges))


def _cut(orders: Iterator[tuple[Any, np.ndarray]],
         steps: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Epochs of so many steps; what is left of a pass, and the end of one, is an epoch as well."""
    for order, edges in orders:
        for first in range(0, len(edges) - 1, steps):
            own = edges[first : first + steps + 1]
            yield order[own[0] : own[-1]], own - own[0]


@dataclass(frozen=True)
class Rules:
    """How partitions are checked: as arrays are, by what the model takes."""

    loss: Loss
    shape: Shape  # of a row
    outputs: Shape
    dtype: np.dtype
    class_weight: Any = None
    indices: Sequence[Indices] = ()

    def rows(self, name: str, x: Any) -> np.ndarray:
        """Rows of the partition called `name`."""
        return inputs.check_rows(x, self.shape, self.dtype, f"{name}: x", indices=self.indices)

    def targets(self, name: str, part: Part, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Its targets, and the weights of its rows."""
        y = inputs.check_targets(part.y, self.loss, self.outputs, rows, self.dtype, f"{name}: y",
                                 f"{name}: x")
        units = int(np.prod(self.outputs))
        return y, inputs.check_weights(part.sample_weight, self.class_weight, y, units,
                                       f"{name}: sample_weight",
                                       softmax=self.loss.end == "softmax")


@dataclass(frozen=True)
class Streamed:
    """Partitions, of which a few are in memory at a time."""

    given: Partitions
    headers: list[Header]
    rules: Rules

    group = ALONE
    largest = 0

    def steps_of(self, edges: np.ndarray) -> Callable[[], int]:
        """What gives the number of an epoch's steps."""
        return lambda: len(edges) - 1

    @property
    def rows(self) -> int:
        """How many are trained on."""
        return sum(header.rows for header in self.headers)

    @property
    def source(self) -> np.dtype:
        """Dtype of the rows."""
        found, dtype = common_dtype([header.dtype for header in self.headers]), self.rules.dtype
        wide = found.kind == "f" and found.itemsize > dtype.itemsize
        return dtype if wide else found

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self._example.row_weights is not None

    @cached_property
    def _example(self) -> Samples:
        """A row of the first partition that has some."""
        for number, header, part in self.given.with_headers():
            if header.rows:
                samples = self._checked(number, part)
                return samples[:1]
        raise ValueError("the partitions hold no rows")

    def _checked(self, number: int, part: Part) -> Samples:
        name = self.given.name(number)
        x = self.rules.rows(name, part.X)
        y, weights = self.rules.targets(name, part, len(x))
        return Samples(x, y, weights)

    def _stepped(self, number: int, part: Part) -> Samples:
        samples = self._checked(number, part)
        if (samples.row_weights is not None) != self.weighted:
            has = "has no" if self.weighted else "has a"
            raise ValueError(f"{self.given.name(number)}: {has} sample_weight, unlike the first "
                             "partition; give all of them or none")
        return samples

    @contextmanager
    def plans(self, model: Any, loss: Loss | JointLoss, edges: np.ndarray, shuffle: bool,
              epochs: int) -> Iterator[Iterator[Plan]]:
        """So many epochs of batches."""
        counts = tuple(header.rows for header in self.headers)
        key = model._layers.seed if shuffle else None
        order = Order(counts, self.given.window, key, not self.given.in_order)
        example, first = self._example, model._shuffles
        like = Samples(np.empty((1, *self.rules.shape), self.source), example.y,
                       example.row_weights)
        numbers = range(first, first + epochs)
        with Stream(self.given, order, edges, self._stepped, like, numbers) as stream:
            yield self._counted(model, stream.plans(), shuffle)

    def _counted(self, model: Any, plans: Iterator[Plan], shuffle: bool) -> Iterator[Plan]:
        for plan in plans:
            model._shuffles += int(shuffle)
            yield replace(plan, stretches=map(self._ready, plan.stretches))

    def _ready(self, stretch: Stretch) -> Stretch:
        samples, loss = stretch.samples, self.rules.loss
        return replace(stretch, samples=replace(samples, y=loss.prepare(samples.y),
                                                given=samples.y))


def loaded(parts: list[tuple[int, Header, Part]], given: Partitions, rules: Rules) -> Part:
    """Partitions in one, in memory; what does not fit is refused by the partition."""
    found = {}
    for number, header, part in parts:
        if header.rows:
            rules.targets(given.name(number), part,
                          len(rules.rows(given.name(number), part.X)))
            found[number] = part._replace(X=np.asarray(part.X))
    if not found:
        raise ValueError("the partitions hold no rows")
    return given.joined(found)


def many_rows(given: Partitions, headers: list[Header], shape: Shape, dtype: np.dtype, *,
              finite: bool = True, indices: Sequence[Indices] = ()) -> ManyParts:
    """Rows that are read anew each time, and checked then."""

    def read() -> Iterator[np.ndarray]:
        for number, part in enumerate(given):
            if count(part.X):
                name = f"{given.name(number)}: x"
                yield inputs.check_rows(part.X, shape, dtype, name, finite=finite,
                                        indices=indices)

    return ManyParts(read, sum(header.rows for header in headers), shape, dtype)


def targets_of(given: Partitions,
               rules: Rules) -> tuple[list[Header], np.ndarray, np.ndarray | None]:
    """What is known of all partitions, and their targets and weights, in one pass."""
    targets: list[np.ndarray] = []
    weights: list[np.ndarray | None] = []

    def see(name: str, part: Part) -> None:
        if part.y is None:
            inputs.check_targets(None, rules.loss, rules.outputs, 0, rules.dtype, f"{name}: y")
        if rows := count(part.y):
            y, own = rules.targets(name, part, rows)
            targets.append(y)
            weights.append(own)

    headers = given.headers(see)
    return headers, *targets_and_weights(targets, weights)


def outputs_of(run: Callable[[Any], np.ndarray], x: Any) -> np.ndarray:
    """What a network makes of rows, those of partitions one after the other."""
    return np.concatenate([run(part) for part in x.read()]) if isinstance(x, ManyParts) else run(x)
