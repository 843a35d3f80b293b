"""Softmax: of rows of features, and of the channels of each pixel."""

from __future__ import annotations

import math

from nbbn.kernels import elementary
from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, scalar, shift, splat, store, total
from nbbn.kernels.team import share_images, share_rows

# A logit whose exponential is 0.
NO_LOGIT = -1e30


@inline
def softmax_row(z, units, panels):
    """`z = exp(z - max)` over one row, 0 beyond the last unit; return the maximum and the sum."""
    v = lanes(z)
    for j in range(units, panels * v):
        z[j] = scalar(z, NO_LOGIT)
    top = z[0]
    for j in range(1, units):
        top = max(top, z[j])
    peak = splat(z, top)
    acc = splat(z, 0.0)
    for panel in range(panels):
        e = elementary.exp(z, load(z, panel * v) - peak)
        store(z, panel * v, e)
        acc = acc + e
    return top, total(acc)


@kernel(inference=True)
def softmax_forward(x: Write.ROWS, x_stride, units, panels, rows, thread, threads):
    """Softmax of each row, in place, split by rows; lanes beyond the last unit become 0."""
    from_row, to_row = share_rows(rows, thread, threads)
    v = lanes(x)
    for r in range(from_row, to_row):
        row = shift(x, r * x_stride)
        _, denominator = softmax_row(row, units, panels)
        scale = splat(x, 1.0 / denominator)
        for panel in range(panels):
            store(row, panel * v, load(row, panel * v) * scale)


@kernel(inference=True)
def channel_softmax(x: Read.IMAGES, y: Write.IMAGES, pixel, channels, pixels, blocks, rows, thread,
                    threads):
    """`y = exp(x - max) / sum` over the channels of each pixel, in float64; `y` may be `x`."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        at = r * pixel
        peak = x[at]
        for c in range(1, channels):
            peak = max(peak, x[at + c])
        denominator = 0.0
        for c in range(channels):
            denominator += math.exp(float(x[at + c]) - float(peak))
        for c in range(channels):
            y[at + c] = scalar(y, math.exp(float(x[at + c]) - float(peak)) / denominator)


@kernel
def channel_softmax_slope(dy: Write.IMAGES, y: Read.IMAGES, pixel, channels, pixels, blocks, rows,
                          thread, threads):
    """`dx = y * (dy - sum(y * dy))` over the channels of each pixel, over `dy`."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        at = r * pixel
        total_of_pixel = 0.0
        for c in range(channels):
            total_of_pixel += float(y[at + c]) * float(dy[at + c])
        for c in range(channels):
            dy[at + c] = scalar(dy, float(y[at + c]) * (float(dy[at + c]) - total_of_pixel))
