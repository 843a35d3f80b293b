"""What several processes exchange within a step, and what each makes of its shards of a batch.

The functions of MPI are called by address: a program's row holds it, and the handles that it takes.
The first thread calls, the others wait at the barriers that stand around it. `MPI_Allgather` and
`MPI_Alltoall` have the same arguments. Errors end the job: that is how the communicator is set up.

A shard is a part of the whole batch's rows, of any length, 0 included. What is summed over the rows
is summed in each shard, and these sums are merged in the shards' order, whoever has them.
"""

from __future__ import annotations

from numba import int64

from nbbn.kernels.registry import CONTEXT, INDICES, Read, Write, kernel
from nbbn.kernels.simd import address_of, call_seven, lanes, load, pointer_to, shift, splat, store
from nbbn.kernels.team import share
from nbbn.kernels.window import clear

ROWS, FIRST = CONTEXT["rows"], CONTEXT["first"]


@kernel
def gather_in_place(buffer: Write.ALONE, count, function, in_place, kind, comm, thread):
    """Every rank's `count` numbers, in the ranks' order; the own ones are in their place."""
    if thread == 0:
        call_seven(function, in_place, 0, kind, address_of(buffer), count, kind, comm)


@kernel
def exchange(source: Write.ALONE, target: Write.ALONE, count, function, kind, comm, thread):
    """`count` numbers from each rank to each, or to all, as the function does it."""
    if thread == 0:
        call_seven(function, address_of(source), count, kind, address_of(target), count, kind, comm)


@kernel
def take_shard(edges: INDICES, shards, shard, step, context):
    """From here on the step's rows are those of a shard.

    `edges` holds the number of a first step and, for it and each that follows, the first row of
    each shard in it, and the end of the last.
    """
    at = 1 + (step - edges[0]) * (shards + 1) + shard
    words = pointer_to(address_of(context), int64)
    words[FIRST] = edges[at]
    words[ROWS] = edges[at + 1] - edges[at]


@kernel
def add_in_order(x: Write.COLUMNS, pairs: INDICES, count, apart, panels, thread, threads):
    """`x[a] += x[b]` of each pair of arrays, `apart` numbers from each other, one after another."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for k in range(count):
        target, source = shift(x, pairs[2 * k] * apart), shift(x, pairs[2 * k + 1] * apart)
        for i in range(first * v, end * v, v):
            store(target, i, load(target, i) + load(source, i))


@kernel
def merge_shards(partial: Read.ALL, places: INDICES, count, out: Write.COLUMNS, panels, thread,
                 threads):
    """The sum of some arrays that stand in `places`, in this order."""
    v = lanes(partial)
    first, end = share(panels, thread, threads)
    for i in range(first * v, end * v, v):
        merged = splat(partial, 0.0)
        for k in range(count):
            merged = merged + load(partial, places[k] * panels * v + i)
        store(out, i, merged)


@kernel
def clear_if_empty(x: Write.COLUMNS, length, panels, rows, thread, threads):
    """Zeros, `length` a panel, where there are no rows to sum."""
    if rows == 0:
        first, end = share(panels, thread, threads)
        clear(shift(x, first * length), (end - first) * length)
