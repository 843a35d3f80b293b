"""How a batch is shared out to processes, and in which order what its shards leave is added up.

The rows fall into shards, runs of them in their order; a rank has some, one after another. Sums
over rows are taken in each shard and merged in a tree over all shards, whose form follows from
their number alone: the bits do not depend on who has which.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Calls:
    """The functions of an MPI and the handles that they take, as words of a program's row."""

    gather: int  # the address of MPI_Allgather
    scatter: int  # of MPI_Alltoall
    in_place: int
    comm: int
    kinds: dict[str, int]  # MPI's types, by dtype


@dataclass(frozen=True)
class World:
    """Who has which shards.

    Attributes
    ----------
    rank : int
        This process.
    owned : tuple of int
        Shards of each rank.
    calls : Calls or None
        None where there is one rank, which calls nobody.
    """

    rank: int
    owned: tuple[int, ...]
    calls: Calls | None = None

    @property
    def ranks(self) -> int:
        """Processes."""
        return len(self.owned)

    @property
    def shards(self) -> int:
        """Of all ranks."""
        return sum(self.owned)

    @property
    def here(self) -> int:
        """Shards that this rank's program works on: one without rows where it has none."""
        return max(1, self.owned[self.rank])

    @property
    def most(self) -> int:
        """Places that each rank has for what its shards leave."""
        return max(1, *self.owned)

    def first(self, rank: int) -> int:
        """A rank's first shard."""
        return sum(self.owned[:rank])

    def place(self, shard: int) -> int:
        """Where this rank's shard leaves its part of what all gather."""
        return self.rank * self.most + shard

    @property
    def places(self) -> list[int]:
        """Where every shard's part stands, in their order."""
        return [rank * self.most + k for rank, count in enumerate(self.owned) for k in range(count)]

    def trees(self, rank: int) -> list[tuple[int, int]]:
        """The largest subtrees, ranges of shards, that lie within a rank's shards."""
        at, end, found = self.first(rank), self.first(rank) + self.owned[rank], []
        while at < end:
            size = 1
            while at % (2 * size) == 0 and size < self.shards:
                if min(at + 2 * size, self.shards) > end:
                    break
                size *= 2
            found.append((at, min(at + size, self.shards)))
            at += size
        return found

    @property
    def slots(self) -> int:
        """Partial sums that a rank sends at most."""
        return max(1, *(len(self.trees(rank)) for rank in range(self.ranks)))


Pairs = list[tuple[int, int]]


def additions(first: int, end: int, shards: int, at: dict[tuple[int, int], int]) -> Pairs:
    """How a subtree becomes one sum: `(a, b)` for "add b to a", in order.

    `at` says where the sums of ranges of shards stand; the subtree's is where that of its first
    one was.
    """
    pairs: Pairs = []

    def reduced(first: int, end: int) -> int:
        if (first, end) in at:
            return at[first, end]
        size = 1
        while 2 * size < end - first:
            size *= 2
        left, right = reduced(first, first + size), reduced(first + size, end)
        pairs.append((left, right))
        return left

    reduced(first, end)
    return pairs
