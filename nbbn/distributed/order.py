"""Whose rows are whose: runs of rows in the ranks' order, runs of rows that are shards.

Rows stay where they lie. A batch is some rows of one order that every rank can compute; each takes
those that it has, shard by shard. An order of few rows every rank has as an array; of more it knows
the places of its own rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nbbn.distributed.permutation import Permutation
from nbbn.group import Order, OwnOrder, Share

# The most rows, of all ranks, whose orders every rank has as arrays: those of one machine's fit.
MOST_ROWS = 1 << 27


@dataclass(frozen=True)
class Layout:
    """Which rows this rank has.

    Attributes
    ----------
    first : int
        Its first row's number among all.
    edges : ndarray
        Where each of its shards begins, counted from its first row, and where the last ends.
    rows : int
        Of all ranks.
    """

    first: int
    edges: np.ndarray
    rows: int

    @property
    def own(self) -> int:
        """How many it has."""
        return int(self.edges[-1])

    def of(self, chosen: np.ndarray) -> np.ndarray:
        """Of row numbers those that it has, counted from its first."""
        mine = (chosen >= self.first) & (chosen < self.first + self.own)
        return chosen[mine] - self.first

    def narrowed(self, chosen: np.ndarray) -> Layout:
        """The layout of some rows alone, in their order; `chosen` are their numbers, ascending."""
        places = np.searchsorted(chosen, self.first + self.edges)
        return replace(self, first=int(places[0]), edges=places - places[0], rows=len(chosen))

    def in_order(self, first: int, end: int) -> OwnOrder:
        """This rank's part of the rows from `first` to `end`, as they lie."""
        own = np.arange(*np.clip([self.first, self.first + self.own], first, end))
        return OwnOrder(own - self.first, own - first, end - first)

    def keyed(self, rows: int, key: bytes) -> OwnOrder:
        """This rank's part of the order that a key gives the first `rows` rows of all."""
        first, end = min(self.first, rows), min(self.first + self.own, rows)
        places = Permutation(rows, key).places(first, end)
        order = np.argsort(places)
        return OwnOrder(order, places[order], rows)

    def _found(self, order: Order) -> OwnOrder:
        """This rank's part of an order."""
        if isinstance(order, OwnOrder):
            return order
        mine = np.flatnonzero((order >= self.first) & (order < self.first + self.own))
        return OwnOrder(order[mine] - self.first, mine, len(order))

    def share(self, order: Order, edges: np.ndarray) -> Share:
        """This rank's part of batches of the rows `order`, which begin at `edges`."""
        count, shards, own = len(edges) - 1, len(self.edges) - 1, self._found(order)
        local, begins = own.order, np.searchsorted(own.places, edges)
        places = own.places - np.repeat(edges[:-1], np.diff(begins))
        if shards == 1:
            return Share(np.ascontiguousarray(local, np.int64), begins, np.diff(edges), places,
                         None, np.broadcast_to(0, len(local)))
        batch = np.repeat(np.arange(count), np.diff(begins))
        of_shard = np.searchsorted(self.edges, local, "right") - 1
        key = batch * shards + of_shard
        by = np.argsort(key, kind="stable")
        local, places, of_shard, key = local[by], places[by], of_shard[by], key[by]
        begins = np.searchsorted(key, np.arange(count * shards + 1))
        starts = begins[:-1].reshape(count, shards)
        own_edges = np.append(starts[:, 0], len(local))
        table = np.concatenate([starts, own_edges[1:, None]], axis=1)
        return Share(np.ascontiguousarray(local, np.int64), own_edges, np.diff(edges),
                     np.ascontiguousarray(places, np.int64), table, of_shard)


def shard_edges(rows: int, shards: int) -> np.ndarray:
    """First row of each of so many shards and, at the end, `rows`."""
    return np.array([rows * k // shards for k in range(shards + 1)])


def owners(rows: list[int], shards: int) -> np.ndarray:
    """The rank that has most of each shard, by the rows that each rank has."""
    ends = np.append(0, np.cumsum(rows))
    edges = shard_edges(int(ends[-1]), shards)
    found: list[int] = []
    for first, end in pairwise(edges.tolist()):
        held = np.minimum(ends[1:], end) - np.maximum(ends[:-1], first)
        found.append(int(np.argmax(held)) if end > first else (found[-1] if found else 0))
    return np.array(found)
