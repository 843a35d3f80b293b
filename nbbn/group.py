"""The processes that fit one model together; mostly a group of one.

What a fit asks of all rows, it asks its group: how many there are, which classes, whether all is
well. `nbbn.distributed` has the group of several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:  # it imports numba: only those who train need it
    from nbbn.program.shards import World

T = TypeVar("T")

# Of a key that an order follows from.
KEY_BYTES = 48


@dataclass(frozen=True)
class Share:
    """This process's part of some batches.

    Attributes
    ----------
    order : ndarray of int64
        Its rows, batch by batch.
    edges : ndarray
        First row of each batch in `order` and, at the end, their number.
    rows : ndarray
        Rows of each whole batch.
    places : ndarray of int64 or None
        Where each of its rows stands in its batch.
    shards : ndarray of int64 or None
        For each batch where each of the process's shards begins in `order`, and the last ends.
    of_shard : ndarray or None
        The shard of each row of `order`, from 0.
    """

    order: np.ndarray
    edges: np.ndarray
    rows: np.ndarray
    places: np.ndarray | None = None
    shards: np.ndarray | None = None
    of_shard: np.ndarray | None = None


@dataclass(frozen=True)
class OwnOrder:
    """This process's rows of an order of all rows, which no process holds.

    Attributes
    ----------
    order : ndarray of int64
        Its rows, counted from its first, as they come in the order.
    places : ndarray of int64
        Where each of them stands in the whole order; ascending.
    rows : int
        Of the whole order.
    """

    order: np.ndarray
    places: np.ndarray
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, which: slice) -> OwnOrder:
        """A run of the order."""
        first, end, _ = which.indices(self.rows)
        a, b = np.searchsorted(self.places, [first, end])
        return OwnOrder(self.order[a:b], self.places[a:b] - first, end - first)

    def of_batches(self, chosen: np.ndarray, edges: np.ndarray) -> OwnOrder:
        """The order of some batches alone; `chosen` says of each whether it is one of them."""
        sizes, own = np.diff(edges), np.diff(np.searchsorted(self.places, edges))
        gone = np.cumsum(np.where(chosen, 0, sizes))
        kept = np.repeat(chosen, own)
        places = (self.places - np.repeat(gone, own))[kept]
        return OwnOrder(self.order[kept], places, int(sizes[chosen].sum()))


# An order of rows: their numbers among those of all processes, or this process's part alone.
Order: TypeAlias = "np.ndarray | OwnOrder"


class Group:
    """A group of one process, which has all rows."""

    rank, ranks = 0, 1
    # How a training program is shared out; None for a group of one without shards.
    world: World | None = None
    # Into how many parts all rows fall, whoever has them; None where each process's are one.
    fixed_shards: int | None = None

    # -- what all have to say

    def gathered(self, value: T) -> list[T]:
        """What each process gives."""
        return [value]

    def from_first(self, value: T) -> T:
        """What the first process gives."""
        return value

    def at_first(self, function: Callable[[], T]) -> T:
        """What a function gives that the first process alone calls; its errors are everybody's."""
        return function()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one process refuses within, all refuse. Nothing may be exchanged within."""
        yield

    def all_true(self, flag: bool) -> bool:
        """Whether it is true of every process."""
        return flag

    def any_true(self, flag: bool) -> bool:
        """Whether it is true of a process."""
        return any(self.gathered(flag))

    def agreed(self, what: str, own: Any) -> Any:
        """What all processes have that have any; ValueError where they differ."""
        given = {rank: value for rank, value in enumerate(self.gathered(own)) if value is not None}
        if not given:
            raise ValueError(f"no rank has any rows to take {what} from")
        (first, value), *others = given.items()
        for rank, other in others:
            if other != value:
                raise ValueError(f"rank {rank} has {what} {other}, rank {first} has {value}: "
                                 "all ranks need the same")
        return value

    def measured(self, function: Callable[..., T], *arrays: Any) -> T:
        """What a function makes of the rows of all processes; None stays None."""
        return function(*arrays)

    def check_same(self, arrays: list[np.ndarray]) -> None:
        """RuntimeError where processes have not the same bits."""

    # -- rows

    def count(self, rows: int) -> int:
        """Rows of all processes."""
        return rows

    def whole(self, array: Any) -> Any:
        """The rows of all processes, at each of them, in the processes' order."""
        return array

    def own(self, chosen: np.ndarray) -> np.ndarray:
        """Of row numbers of the whole those that this process has, counted from its first."""
        return chosen

    def narrowed(self, chosen: np.ndarray) -> Group:
        """The same processes with some of their rows alone: row numbers of the whole, ascending."""
        return self

    def has_orders_of(self, rows: int) -> bool:
        """Whether an order of so many rows is an array, which every process has."""
        return True

    def in_order(self, first: int, end: int) -> Order:
        """Rows of the whole as they lie, from one to another."""
        return np.arange(first, end)

    def keyed_order(self, rows: int, key: bytes) -> Order:
        """An order of the first `rows` rows that follows from a key alone."""
        raise NotImplementedError("a group of one has every order as an array")

    def share(self, order: Order, edges: np.ndarray) -> Share:
        """This process's part of batches of the rows `order`, which begin at `edges`."""
        assert isinstance(order, np.ndarray)
        return Share(order, edges, np.diff(edges))

    def masses(self, weights: np.ndarray, order: Order, edges: np.ndarray) -> np.ndarray:
        """The sum of each batch's weights; `weights` are of the process's own rows."""
        assert isinstance(order, np.ndarray)
        return np.add.reduceat(weights[order], edges[:-1])

    def total(self, values: np.ndarray, share: Share) -> float:
        """The sum of a number for each row of a share, over all processes."""
        return float(values.sum())

    # -- steps

    def compiled(self, function: Callable[[], T]) -> T:
        """What a function gives that compiles kernels: one process of a machine calls it first."""
        return function()

    def steps(self, wanted: int) -> int:
        """How many steps all take next; KeyboardInterrupt where one was interrupted."""
        return wanted


ALONE = Group()
