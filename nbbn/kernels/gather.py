"""Rows of the caller's arrays: looked over, into the program's buffers, and results back out."""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, SOURCE, Read, Write, inline, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    prefetch,
    scalar,
    shift,
    splat,
    store,
    total,
)
from nbbn.kernels.team import share, share_images, share_rows

# Rows whose lines are asked for before they are copied: rows in random order come at memory's
# latency otherwise.
AHEAD = 8
CHUNK = 16  # items copied at once


@inline
def gather(x, order, out, width, out_stride, first, begin, end):
    """`out[r, :width] = x[order[first + r]]` of rows `begin` to `end`, converted; 0 behind."""
    v = lanes(out)
    padded = (width + v - 1) // v * v
    whole = width // CHUNK * CHUNK
    for r in range(begin, end):
        source, target = shift(x, order[first + r] * width), shift(out, r * out_stride)
        later = shift(x, order[first + min(r + AHEAD, end - 1)] * width)
        for j in range(0, whole, CHUNK):
            prefetch(later, j)
            for k in range(CHUNK):
                target[j + k] = scalar(out, source[j + k])
        for j in range(whole, width):
            target[j] = scalar(out, source[j])
        for j in range(width, padded):
            target[j] = scalar(out, 0.0)


@kernel
def gather_rows(x: SOURCE, order: INDICES, out: Write.ROWS, width, out_stride, first, rows, thread,
                threads):
    """The step's rows of a C-contiguous array, split by rows."""
    begin, end = share_rows(rows, thread, threads)
    gather(x, order, out, width, out_stride, first, begin, end)


@kernel
def gather_images(x: SOURCE, order: INDICES, out: Write.IMAGES, width, out_stride, blocks, first,
                  rows, thread, threads):
    """The step's images, each by the thread that owns it."""
    begin, end = share_images(rows, blocks, thread, threads)
    gather(x, order, out, width, out_stride, first, begin, end)


@kernel
def gather_all_rows(x: SOURCE, order: INDICES, out: Write.ROWS, width, out_stride, first, rows):
    """All of the step's rows, by every thread for itself.

    The caller's array is clean in every cache; rows that another thread has gathered are dirty in
    its own: a step of batch 256 or 1024 takes two threads 4 % less this way.
    """
    gather(x, order, out, width, out_stride, first, 0, rows)


@inline
def gather_in_panels(x, order, out, width, out_panel, first, begin, end):
    """`gather` into panels, `[panels][rows][lanes]`.

    A matrix product that goes down the rows, as a kernel's gradient does, then reads memory in its
    order.
    """
    v = lanes(out)
    whole = width // v * v
    for r in range(begin, end):
        source = shift(x, order[first + r] * width)
        later = shift(x, order[first + min(r + AHEAD, end - 1)] * width)
        for j in range(0, whole, v):
            prefetch(later, j)
            target = shift(out, j // v * out_panel + r * v)
            for k in range(v):
                target[k] = scalar(out, source[j + k])
        if whole < width:
            target = shift(out, whole // v * out_panel + r * v)
            for k in range(v):
                target[k] = scalar(out, source[whole + k] if whole + k < width else 0)


@kernel
def gather_panels(x: SOURCE, order: INDICES, out: Write.ROWS, width, out_panel, first, rows, thread,
                  threads):
    """The step's rows in panels, split by rows."""
    begin, end = share_rows(rows, thread, threads)
    gather_in_panels(x, order, out, width, out_panel, first, begin, end)


@kernel
def gather_all_panels(x: SOURCE, order: INDICES, out: Write.ROWS, width, out_panel, first, rows):
    """All of the step's rows in panels, by every thread for itself."""
    gather_in_panels(x, order, out, width, out_panel, first, 0, rows)


@kernel(inference=True)
def copy_rows(x: Read.ROWS, x_stride, width, out: Write.ROWS, out_stride, rows, thread, threads):
    """`out[r, :width] = x[r, :width]`, to padded buffers or back; the padding keeps its zeros."""
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        source, target = shift(x, r * x_stride), shift(out, r * out_stride)
        for j in range(width):
            target[j] = source[j]


@kernel
def keep_rows(x: Read.ROWS, x_stride, width, out: Write.ROWS, begins, out_width, first, rows,
              thread, threads):
    """`out[first + r, begins : begins + width] = x[r, :width]`, into an array of the caller's."""
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        source, target = shift(x, r * x_stride), shift(out, (first + r) * out_width + begins)
        for j in range(width):
            target[j] = source[j]


@kernel
def copy_finite(x: Read.ROWS, size, blocks, out: Write.ROWS, found: Write.ROWS, thread, threads):
    """`out = x`, both flat, and `found[block] += sum(0 * x)`: memory is read once."""
    v = lanes(x)
    zero = splat(x, 0.0)
    first_block, end_block = share(blocks, thread, threads)
    for block in range(first_block, end_block):
        first, end = share(size, block, blocks)
        a, b = zero, zero
        at = first
        while at + 2 * v <= end:
            p, q = shift(x, at), shift(out, at)
            one, two = load(p, 0), load(p, v)
            store(q, 0, one)
            store(q, v, two)
            a, b = fma(one, zero, a), fma(two, zero, b)
            at += 2 * v
        sums = total(a + b)
        while at < end:
            out[at] = x[at]
            sums += x[at] * 0
            at += 1
        found[block] += sums


@kernel(inference=True)
def scan_finite(x: Read.ROWS, size, blocks, out: Write.ROWS, thread, threads):
    """`out[block] = sum(0 * x)`: 0, or NaN where a block of the flat array is not finite."""
    v = lanes(x)
    zero = splat(x, 0.0)
    first_block, end_block = share(blocks, thread, threads)
    for block in range(first_block, end_block):
        first, end = share(size, block, blocks)
        a, b, c, d = zero, zero, zero, zero
        at = first
        while at + 4 * v <= end:
            p = shift(x, at)
            a, b = fma(load(p, 0), zero, a), fma(load(p, v), zero, b)
            c, d = fma(load(p, 2 * v), zero, c), fma(load(p, 3 * v), zero, d)
            at += 4 * v
        found = total((a + b) + (c + d))
        while at < end:
            found += x[at] * 0
            at += 1
        out[block] = found
