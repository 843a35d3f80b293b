"""The executor: runs any program, for any number of steps, on a team of threads.

The only parallel code there is.
`run_team` walks a training program: all threads call each kernel, each for its own part, with a
barrier where the program says so. `run_blocks` walks an inference program: each thread takes the
next block of rows and runs all layers on it; `run_together` walks it on one block of few rows, all
threads on each operation.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import config, int64, njit, prange

from nbbn.kernels.cache import kernel_cache
from nbbn.kernels.registry import BASES, CONTEXT_WORDS, OPTIONS, inline
from nbbn.kernels.simd import atomic_add, call_kernel, pointer_to
from nbbn.kernels.team import LINE, SIZE, TEAM_BYTES, arrive, atomic_load, join, share, wait

# Columns of the step table: rows, first row, step of the running statistics; rate, shrink and mass
# (a float64's bits); rows of the whole batch, which other processes may have too. They go into the
# context behind thread and threads.
STEP_WORDS = BASES - 2
CONTEXT_BYTES = 8 * CONTEXT_WORDS
# Segments by number (program.Segment) that the functions below bind.
PARAMS, WORK, X, Y, OUT, GAMMA, BETA, PRIVATE = 0, 1, 2, 3, 7, 8, 9, 10


# What stands in a row behind the kernel's address: whether a barrier follows (threads wait here for
# each other) and whether they arrive at the next one here; and, in the first row of a group of
# operations that go image by image, their number and that of the blocks of images.
BARRIER, ARRIVAL, GROUP_SHIFT, GROUP_MASK, BLOCKS_SHIFT = 1, 2, 8, 0xFFFF, 32


class _Lazy:
    """A dispatcher whose cache folder is looked up at the first call, not at import."""

    def __init__(self, function, **options):
        self._function, self._options, self._call = function, options, None

    def __call__(self, *args):
        return self.ready()(*args)

    def ready(self):
        """The dispatcher itself, for calls that count nanoseconds."""
        if self._call is None:
            dispatcher = njit(nogil=True, **OPTIONS, **self._options)(self._function)
            dispatcher._cache = kernel_cache(self._function)
            self._call = dispatcher
        return self._call


@inline
def walk(program, operations, width, context, team, threads, passed):
    """Call each kernel of the program once; return the barrier count."""
    row, end = program, program + operations * 8 * width
    while row < end:
        words = pointer_to(row, int64)
        group = (words[1] >> GROUP_SHIFT) & GROUP_MASK
        if group > 1:
            walk_blocks(row, group, width, words[1] >> BLOCKS_SHIFT, context)
            row += 8 * width * (group - 1)
            words = pointer_to(row, int64)
        else:
            call_kernel(words[0], words, pointer_to(context, int64))
        if words[1] & ARRIVAL != 0:
            passed = arrive(team, threads, passed)
        if words[1] & BARRIER != 0:
            wait(team, threads, passed)
        row += 8 * width
    return passed


@inline
def walk_blocks(program, operations, width, blocks, context):
    """Call a group of kernels for each of a thread's blocks of images in turn.

    What one leaves in the cache the next one finds. A kernel that is told it is thread `block` of
    `blocks` takes that block alone.
    """
    state = pointer_to(context, int64)
    thread, threads = state[0], state[1]
    first, end = share(blocks, thread, threads)
    state[1] = blocks
    for block in range(first, end):
        state[0] = block
        row = program
        for _ in range(operations):
            words = pointer_to(row, int64)
            call_kernel(words[0], words, state)
            row += 8 * width
    state[0], state[1] = thread, threads


@inline
def run_member(program, operations, width, steps, n_steps, contexts, team, me, threads):
    """One thread's way through all the steps."""
    context = contexts + 8 * CONTEXT_WORDS * me
    words = pointer_to(context, int64)
    words[0], words[1] = me, threads
    passed = 0
    for s in range(n_steps):
        step = pointer_to(steps + 8 * STEP_WORDS * s, int64)
        for k in range(STEP_WORDS):
            words[2 + k] = step[k]
        passed = walk(program, operations, width, context, team, threads, passed)


@functools.partial(_Lazy, parallel=True)
def run_team(program, operations, width, steps, n_steps, contexts, team, threads):
    for _ in prange(threads):
        me = join(team, threads)
        if me >= 0:
            size = atomic_load(team + SIZE)
            run_member(program, operations, width, steps, n_steps, contexts, team, me, size)


@_Lazy
def run_alone(program, operations, width, steps, n_steps, contexts, team):
    run_member(program, operations, width, steps, n_steps, contexts, team, 0, 1)


@inline
def address(array):
    """The array's address as a signed integer (a mix with unsigned ones would turn into floats)."""
    return int64(array.ctypes.data)


# Behind what every Python object begins with NumPy's arrays hold the address of their numbers.
DATA = object.__basicsize__


@inline
def data_of(array):
    """Address of the numbers of the NumPy array of an `id` (`PyArrayObject`, ndarraytypes.h)."""
    return pointer_to(array + DATA, int64)[0]


@inline
def run_some_blocks(program, operations, width, params, x, x_stride, out, out_stride, rows, work,
                    block, context, counter):
    """Take blocks of rows until none is left, all layers in `work`; strides are bytes a row."""
    words = pointer_to(context, int64)
    words[0], words[1] = 0, 1
    words[BASES + PARAMS], words[BASES + WORK] = params, work
    while True:
        first = atomic_add(counter, 1) * block
        if first >= rows:
            break
        words[2], words[3] = min(block, rows - first), first
        words[BASES + X], words[BASES + OUT] = x + first * x_stride, out + first * out_stride
        walk(program, operations, width, context, 0, 1, 0)


@inline
def room(zeros, bytes_needed):
    """Memory that begins with some bytes of 0, and what stands behind them; addresses of both."""
    memory = np.empty(whole_lines(zeros) + whole_lines(bytes_needed) + LINE, np.uint8)
    start, piece, _ = pieces(address(memory), zeros, bytes_needed)
    return memory, start, piece


@inline
def pieces(start, zeros, bytes_needed):
    """What memory from an address on is cut into: some bytes that are set to 0, then pieces;
    address of the zeros, of the first piece, both on a cache line, and the pieces' distance.
    """
    head = whole_lines(zeros)
    start += -start % LINE
    words = pointer_to(start, int64)
    for i in range(head // 8):
        words[i] = 0
    return start, start + head, whole_lines(bytes_needed)


# What a call of `run_blocks` and its like may need besides pieces.
HEAD_BYTES = TEAM_BYTES + 2 * LINE


def memory_bytes(work_bytes, pieces):
    """Bytes of the memory that `run_blocks`, `run_blocks_alone` and `run_together` work in.

    A piece for each thread; of `run_together` one for all, and where threads write for themselves
    alone one for each. The caller keeps it from call to call: new pages take longer to come by than
    small networks.
    """
    contexts = config.NUMBA_NUM_THREADS * CONTEXT_BYTES
    return HEAD_BYTES + contexts + -(-(work_bytes + CONTEXT_BYTES) // LINE) * LINE * pieces


@inline
def whole_lines(size):
    """Bytes rounded up to whole cache lines."""
    return (size + LINE - 1) // LINE * LINE


@inline
def keep(memory):
    """Use an array, which Numba frees after its last use: an address is none, nor is `size`."""
    memory[0] = 0


@inline
def put(words, at, value):
    """One word; in a function, since Numba takes what a parallel one writes to a pointer for dead.
    """
    pointer_to(words, int64)[at] = value


# Within `prange` stand integers alone: every array that a parallel loop captures costs 1 us a call,
# and so does every array that is filled outside of a function: Numba makes a parallel loop of it.


# All arguments are integers, too: to look at an array takes Numba as long as a small kernel does.
# Arrays come by their `id`, C-contiguous and aligned, and whoever calls holds them meanwhile.


@functools.partial(_Lazy, parallel=True)
def run_blocks(table, operations, width, params, x, x_stride, out, out_stride, rows, work_bytes,
               memory, block, threads):
    counter, work, piece = pieces(data_of(memory), LINE, work_bytes + CONTEXT_BYTES)
    program, base = data_of(table), data_of(params)
    source, target = data_of(x), data_of(out)
    for t in prange(threads):
        context = work + int64(t) * piece
        run_some_blocks(program, operations, width, base, source, x_stride, target, out_stride,
                        rows, context + CONTEXT_BYTES, block, context, counter)


@_Lazy
def run_blocks_alone(table, operations, width, params, x, x_stride, out, out_stride, rows,
                     work_bytes, memory, block):
    counter, context, _ = pieces(data_of(memory), LINE, work_bytes + CONTEXT_BYTES)
    run_some_blocks(data_of(table), operations, width, data_of(params), data_of(x), x_stride,
                    data_of(out), out_stride, rows, context + CONTEXT_BYTES, block, context,
                    counter)


@functools.partial(_Lazy, parallel=True)
def run_together(table, operations, width, params, x, out, rows, work_bytes, memory, threads):
    """One block of rows: all threads on each operation, each with as much memory of its own."""
    team, contexts, piece = pieces(data_of(memory), TEAM_BYTES + LINE, work_bytes + CONTEXT_BYTES)
    steps, work = team + TEAM_BYTES, contexts + threads * CONTEXT_BYTES
    put(steps, 0, rows)
    program, base = data_of(table), data_of(params)
    source, target = data_of(x), data_of(out)
    for t in range(threads):
        context = contexts + t * CONTEXT_BYTES
        bind(context, source, source, target, base, base, base, work)
        put(context, BASES + PRIVATE, work + (t + 1) * (piece - CONTEXT_BYTES))
    for _ in prange(threads):
        me = join(team, threads)
        if me >= 0:
            run_member(program, operations, width, steps, 1, contexts, team, me,
                       atomic_load(team + SIZE))


# On rows of stored elements, whose arrays the contexts name beforehand; by addresses alone.


@functools.partial(_Lazy, parallel=True)
def run_sparse_blocks(program, operations, width, params, x, out, out_stride, rows, block, work,
                      work_bytes, contexts, counter, threads):
    for t in prange(threads):
        run_some_blocks(program, operations, width, params, x, 0, out, out_stride, rows,
                        work + int64(t) * work_bytes, block, contexts + int64(t) * CONTEXT_BYTES,
                        counter)


@_Lazy
def run_sparse_blocks_alone(program, operations, width, params, x, out, out_stride, rows, block,
                            work, work_bytes, contexts, counter, threads):
    run_some_blocks(program, operations, width, params, x, 0, out, out_stride, rows, work, block,
                    contexts, counter)


@inline
def bind(context, x, y, out, gamma, beta, state, work):
    """Base addresses of a call on the caller's arrays."""
    words = pointer_to(context, int64)
    words[BASES + X], words[BASES + Y], words[BASES + OUT] = x, y, out
    words[BASES + GAMMA], words[BASES + BETA] = gamma, beta
    words[BASES + PARAMS], words[BASES + WORK] = state, work


@functools.partial(_Lazy, parallel=True)
def run_call(table, operations, width, x, y, out, gamma, beta, state, work_bytes, threads):
    memory, team, contexts = room(TEAM_BYTES + LINE, threads * CONTEXT_BYTES + work_bytes)
    program, steps = data_of(table), team + TEAM_BYTES
    work = contexts + threads * CONTEXT_BYTES
    for t in range(threads):
        bind(contexts + t * CONTEXT_BYTES, data_of(x), data_of(y), data_of(out), data_of(gamma),
             data_of(beta), data_of(state), work)
    for _ in prange(threads):
        me = join(team, threads)
        if me >= 0:
            run_member(program, operations, width, steps, 1, contexts, team, me,
                       atomic_load(team + SIZE))
    keep(memory)


@_Lazy
def run_call_alone(table, operations, width, x, y, out, gamma, beta, state, work_bytes):
    memory, steps, context = room(LINE, CONTEXT_BYTES + work_bytes)
    bind(context, data_of(x), data_of(y), data_of(out), data_of(gamma), data_of(beta),
         data_of(state), context + CONTEXT_BYTES)
    run_member(data_of(table), operations, width, steps, 1, context, 0, 0, 1)
    keep(memory)
