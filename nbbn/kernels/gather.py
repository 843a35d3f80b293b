"""Rows of the caller's arrays into the program's buffers, and results back out."""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, READ_ROWS, SOURCE, WRITE_ROWS, kernel
from nbbn.kernels.simd import lanes, scalar, shift
from nbbn.kernels.team import share_rows


@kernel
def gather_rows(x: SOURCE, order: INDICES, out: WRITE_ROWS, width, out_stride, first, rows, thread, threads):
    """`out[r, :width] = x[order[first + r]]`, converted; the rest of a row is 0. `x` is C-contiguous."""
    begin, end = share_rows(rows, thread, threads)
    v = lanes(out)
    padded = (width + v - 1) // v * v
    for r in range(begin, end):
        source, target = shift(x, order[first + r] * width), shift(out, r * out_stride)
        for j in range(width):
            target[j] = scalar(out, source[j])
        for j in range(width, padded):
            target[j] = scalar(out, 0.0)


@kernel
def copy_rows(x: READ_ROWS, x_stride, width, out: WRITE_ROWS, out_stride, rows, thread, threads):
    """`out[r, :width] = x[r, :width]`: between the caller's arrays and padded buffers, whose padding keeps its zeros."""
    begin, end = share_rows(rows, thread, threads)
    for r in range(begin, end):
        source, target = shift(x, r * x_stride), shift(out, r * out_stride)
        for j in range(width):
            target[j] = source[j]
