"""Dense layers on rows of stored elements (CSR): forward, and the kernel's gradient.

Sums run over a row's elements by column, and over a column's by row: the order of the dense
kernels, which add the zeros in between as well. So the bits are theirs, for finite weights.
"""

from __future__ import annotations

import math

from nbbn.kernels.registry import INDICES, INDICES_32, Read, Write, inline, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    maximum,
    prefetch,
    scalar,
    shift,
    splat,
    stack,
    store,
    total,
)
from nbbn.kernels.team import share
from nbbn.kernels.tile import UPDATE_HEIGHT

# Panels whose sums are in registers at once.
WIDTH = 4
# Elements whose weights are asked for before they are used: 160,000 of them, in any of 60,000
# columns, against 96 units took 6 ms instead of 7.5; where panels are far apart, 10 instead of 12.
AHEAD = 12
# Rows of the kernel whose gradient is at hand at once.
BLOCK = 32
BLOCK_VECTORS = WIDTH * BLOCK


@inline
def multiply_four(values, columns, begin, end, weights, step, panel, bias, floor, z):
    """Four panels of one row of `z = max(x @ weights + bias, floor)`."""
    v = lanes(z)
    a, b, c, d = load(bias, 0), load(bias, v), load(bias, 2 * v), load(bias, 3 * v)
    for e in range(begin, end):
        later = shift(weights, columns[min(e + AHEAD, end - 1)] * step)
        prefetch(later, 0)
        prefetch(later, panel)
        prefetch(later, 2 * panel)
        prefetch(later, 3 * panel)
        x, w = splat(z, values[e]), shift(weights, columns[e] * step)
        a, b = fma(x, load(w, 0), a), fma(x, load(w, panel), b)
        c, d = fma(x, load(w, 2 * panel), c), fma(x, load(w, 3 * panel), d)
    store(z, 0, maximum(a, floor))
    store(z, v, maximum(b, floor))
    store(z, 2 * v, maximum(c, floor))
    store(z, 3 * v, maximum(d, floor))


@inline
def multiply_one(values, columns, begin, end, weights, step, bias, floor, z):
    """One panel."""
    a = load(bias, 0)
    for e in range(begin, end):
        a = fma(splat(z, values[e]), load(weights, columns[e] * step), a)
    store(z, 0, maximum(a, floor))


@kernel(inference=True)
def sparse_dense_forward(values: Read.ALL, columns: INDICES_32, starts: INDICES, order: INDICES,
                         weights: Read.COLUMNS, weight_step, weight_panel, bias: Read.COLUMNS,
                         relu, z: Write.COLUMNS, z_stride, panels, first, rows, thread, threads):
    """`z = x @ weights + bias`, then ReLU if asked, split by columns.

    The weights of a column stand `weight_step` apart, its panels `weight_panel`.
    """
    v = lanes(z)
    begin_panel, end_panel = share(panels, thread, threads)
    floor = splat(z, 0.0 if relu != 0 else -math.inf)
    for r in range(rows):
        row = order[first + r]
        begin, end = starts[row], starts[row + 1]
        p = begin_panel
        while p < end_panel:
            w, at = shift(weights, p * weight_panel), p * v
            b, c = shift(bias, at), shift(z, r * z_stride + at)
            if p + WIDTH <= end_panel:
                multiply_four(values, columns, begin, end, w, weight_step, weight_panel, b, floor,
                              c)
                p += WIDTH
            else:
                multiply_one(values, columns, begin, end, w, weight_step, b, floor, c)
                p += 1


@kernel
def sort_by_column(values: Read.ALL, columns: INDICES_32, starts: INDICES, order: INDICES, depth,
                   ends: Write.ALONE_I64, entry_rows: Write.ALONE_I32, entries: Write.ALONE, first,
                   rows, thread):
    """The step's elements by column, within one by row; `ends[c]` is where column `c` ends.

    By the first thread: it is little work beside the step on the kernel that follows.
    """
    if thread != 0:
        return
    for c in range(depth + 1):
        ends[c] = 0
    for r in range(rows):
        row = order[first + r]
        for e in range(starts[row], starts[row + 1]):
            ends[columns[e] + 1] += 1
    for c in range(depth):
        ends[c + 1] += ends[c]
    for r in range(rows):
        row = order[first + r]
        for e in range(starts[row], starts[row + 1]):
            c = columns[e]
            at = ends[c]  # where it begins, until its elements are in place
            ends[c] = at + 1
            entry_rows[at] = r
            entries[at] = values[e]


@inline
def column_of_four(entry_rows, entries, begin, end, dz, dz_stride, out):
    """Four panels of one row of `x.T @ dz`, into panels of a block's gradient."""
    v = lanes(dz)
    zero = splat(dz, 0.0)
    a, b, c, d = zero, zero, zero, zero
    for e in range(begin, end):
        x, row = splat(dz, entries[e]), shift(dz, entry_rows[e] * dz_stride)
        a, b = fma(x, load(row, 0), a), fma(x, load(row, v), b)
        c, d = fma(x, load(row, 2 * v), c), fma(x, load(row, 3 * v), d)
    store(out, 0, a)
    store(out, BLOCK * v, b)
    store(out, 2 * BLOCK * v, c)
    store(out, 3 * BLOCK * v, d)


@inline
def column_of_one(entry_rows, entries, begin, end, dz, dz_stride, out):
    """One panel."""
    a = splat(dz, 0.0)
    for e in range(begin, end):
        a = fma(splat(dz, entries[e]), load(dz, entry_rows[e] * dz_stride), a)
    store(out, 0, a)


@inline
def sparse_update(step, ends, entry_rows, entries, depth, dz, dz_stride, weights, slots, constants,
                  decay, squares, panels, rows, rate, mass, thread, threads):
    """`step(weights, x.T @ dz + decay * weights / mass)`, own columns; as `dense_update`.

    One pass over the weights: the gradient of a block of them is summed as they are at hand.
    """
    v = lanes(dz)
    first, last = share(panels, thread, threads)
    padded = (depth + v - 1) // v * v
    size = panels * padded * v
    decays = splat(dz, scalar(dz, decay) / mass)
    grad = stack(dz, BLOCK_VECTORS)
    panel = first
    while panel < last:
        width = WIDTH if panel + WIDTH <= last else 1
        d, begin = shift(dz, panel * v), 0
        for block in range(0, depth, BLOCK):
            count = min(BLOCK, depth - block)
            for k in range(count):
                end, out = ends[block + k], shift(grad, k * v)
                if width == WIDTH:
                    column_of_four(entry_rows, entries, begin, end, d, dz_stride, out)
                else:
                    column_of_one(entry_rows, entries, begin, end, d, dz_stride, out)
                begin = end
            for q in range(width):
                for tile in range(0, count, UPDATE_HEIGHT):
                    squared = splat(dz, 0.0)
                    for k in range(tile, min(tile + UPDATE_HEIGHT, count)):
                        i = ((panel + q) * padded + block + k) * v
                        p = load(weights, i)
                        squared = fma(p, p, squared)
                        g = fma(decays, p, load(grad, (q * BLOCK + k) * v))
                        step(p, g, weights, slots, i, size, constants, rate)
                    if decay != 0:
                        at = (block + tile) // v * panels + panel + q
                        squares[at] += total(squared) * (rows / mass)
        panel += width
