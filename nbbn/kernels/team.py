"""A team of threads that walk one program together: joining, splitting work, waiting.

A team is four int64 words, each on a cache line of its own: arrivals, size, arrivals at barriers,
and how many of these a barrier has let pass.
"""

from __future__ import annotations

from nbbn.kernels.registry import inline, kernel
from nbbn.kernels.simd import atomic_add, atomic_load, atomic_store, pause, yield_core

LINE = 64  # bytes of a cache line
ARRIVED, SIZE, WAITING, PASSED = 0, LINE, 2 * LINE, 3 * LINE
TEAM_BYTES = 4 * LINE
CLOSED = 1 << 40
# Pauses before a waiting thread yields its core: 25 us, so that short waits never enter the kernel.
SPINS = 1000
# Turns that the first thread gives the others to come (2.6 ms); a parallel region may get fewer
# threads than asked.
PATIENCE = 100_000


@inline
def join(team, expected):
    """Enter the team; return this thread's number, or -1 if the team has started without it."""
    me = atomic_add(team + ARRIVED, 1)
    if me >= CLOSED:
        return -1
    if me > 0:
        spins = 0
        while atomic_load(team + SIZE) == 0:
            spins = wait_a_little(spins)
        return me
    turns = 0
    while atomic_load(team + ARRIVED) < expected and turns < PATIENCE:
        pause()
        turns += 1
        if turns % SPINS == 0:
            yield_core()
    atomic_store(team + SIZE, atomic_add(team + ARRIVED, CLOSED))
    return me


@inline
def wait_a_little(spins):
    """One turn of a waiting loop."""
    if spins < SPINS:
        pause()
    else:
        yield_core()
    return spins + 1


# A barrier in two parts: a thread says that it has come where others need what it has done, and
# waits for them only where it needs what they have done. In between it works on.


@inline
def arrive(team, threads, passed):
    """Tell the others; return the count to wait for, and to hand in next time (0 at first)."""
    passed += threads
    if threads > 1:
        arrived = atomic_add(team + WAITING, 1) + 1
        if threads > 2 and arrived == passed:
            atomic_store(team + PASSED, passed)
    return passed


@inline
def wait(team, threads, passed):
    """Wait until every thread has arrived."""
    if threads > 1:
        # Many who wait at the counter would keep its line from those to come.
        gate = team + (PASSED if threads > 2 else WAITING)
        spins = 0
        while atomic_load(gate) < passed:
            spins = wait_a_little(spins)


@kernel
def meet(thread):
    """Nothing, for threads that only meet."""


@inline
def share(count, thread, threads):
    """First and last-plus-one of the consecutive items that a thread owns."""
    return count * thread // threads, count * (thread + 1) // threads


# Rows that belong together in a split by rows: a multiple of every tile's height.
ROW_GROUP = 8


@inline
def share_rows(rows, thread, threads):
    """First and last-plus-one of the rows that a thread owns, in whole groups."""
    first, end = share((rows + ROW_GROUP - 1) // ROW_GROUP, thread, threads)
    return min(first * ROW_GROUP, rows), min(end * ROW_GROUP, rows)


# Parts of the rows of a grid that leave its columns whole, however many threads there are.
BY_ROWS = 1 << 20


@inline
def grid_part(parts, thread, threads):
    """A thread's place in a grid of `parts` parts of the rows, and as many of the columns as go.

    Part of the rows, number of these; part of the columns, number of these. Threads that are left
    over get one beyond the last.
    """
    parts = min(parts, threads)
    return thread % parts, parts, thread // parts, threads // parts


@inline
def share_grid(columns, parts, thread, threads):
    """First and last-plus-one of a thread's columns in a grid; none for threads left over."""
    _, _, part, whole = grid_part(parts, thread, threads)
    first, end = share(columns, part, whole)
    return min(first, columns), min(end, columns)


# In the place of a number of blocks: threads share images, and where they can the lines of each.
BY_LINES = 0


@inline
def share_images(images, blocks, thread, threads):
    """First and last-plus-one of a thread's images: whole blocks, as many for any team."""
    if blocks == BY_LINES:
        return share(images, thread, threads)
    first, end = share(blocks, thread, threads)
    return images * first // blocks, images * end // blocks


@inline
def share_lines(images, lines, blocks, thread, threads):
    """First and last-plus-one of a thread's lines, counted over all images."""
    if blocks == BY_LINES:
        return share(images * lines, thread, threads)
    first, end = share_images(images, blocks, thread, threads)
    return first * lines, end * lines


@inline
def images_of(first, end, lines):
    """First and last-plus-one of the images that lines, counted over all, are of."""
    return first // lines, (end + lines - 1) // lines


@inline
def lines_within(image, first, end, lines):
    """Which lines of an image are among those from `first` to `end`, counted over all."""
    start = image * lines
    return max(first - start, 0), min(end - start, lines)
