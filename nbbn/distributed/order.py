"""Whose rows are whose: runs of rows in the ranks' order, runs of rows that are shards.

Rows stay where they lie. A batch is some rows of one order that every rank can compute; each takes
those that it has, shard by shard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nbbn.group import Share


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

    def share(self, order: np.ndarray, edges: np.ndarray) -> Share:
        """This rank's part of batches of the rows `order`, which begin at `edges`."""
        count, shards = len(edges) - 1, len(self.edges) - 1
        mine = np.flatnonzero((order >= self.first) & (order < self.first + self.own))
        local = order[mine] - self.first
        batch = np.searchsorted(edges, mine, "right") - 1
        places = mine - edges[batch]
        of_shard = np.searchsorted(self.edges, local, "right") - 1
        key = batch * shards + of_shard
        if shards > 1:
            by = np.argsort(key, kind="stable")
            local, places, of_shard, key = local[by], places[by], of_shard[by], key[by]
        begins = np.searchsorted(key, np.arange(count * shards + 1))
        starts = begins[:-1].reshape(count, shards)
        own_edges = np.append(starts[:, 0], len(local))
        table = np.concatenate([starts, own_edges[1:, None]], axis=1) if shards > 1 else None
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
