"""Gradients of the batch norm of whole arrays, split by blocks of rows.

The layout and `state` are those of `norm_rows`.
"""

from __future__ import annotations

from nbbn.kernels.norm_rows import (
    BETA,
    DBETA,
    DGAMMA,
    DROP,
    GAIN,
    INVSTD,
    ORIGIN,
    PARTIAL_ROWS,
    SHIFT,
    SLOPE,
    TALL,
    copy_row,
    fill_row,
    own_rows,
    repeat_row,
    suffixed,
)
from nbbn.kernels.registry import READ_ALL, READ_ROWS, WRITE_ALONE, WRITE_ROWS, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, scalar, shift, splat, store, stream, where_positive
from nbbn.kernels.team import share


def _add_gradients(height: int, clip: bool):
    @inline
    def add_gradients(x, dy, width, state, dbeta, dgamma):
        zero = splat(x, 0.0)
        for j in range(0, width, lanes(x)):
            origin, center = load(state, ORIGIN * width + j), load(state, SHIFT * width + j)
            gain, beta = load(state, GAIN * width + j), load(state, BETA * width + j)
            a, b = load(dbeta, j), load(dgamma, j)
            for k in range(height):
                t = (load(x, k * width + j) - origin) - center
                g = load(dy, k * width + j)
                if clip:
                    g = where_positive(fma(gain, t, beta), g, zero)
                a, b = a + g, fma(g, t, b)
            store(dbeta, j, a)
            store(dgamma, j, b)

    return add_gradients


def _sums_kernel(clip: bool) -> None:
    """Register the kernel of the sums, with a ReLU, whose mask is made anew, or without."""
    tall, single = _add_gradients(TALL, clip), _add_gradients(1, clip)

    def gradient_sums(x: READ_ROWS, dy: READ_ROWS, width, rows_total, blocks, state: READ_ALL,
                      partial: WRITE_ROWS, thread, threads):
        """Sums of `dy` and of `dy * (x - mean)` of each block."""
        first_block, end_block = share(blocks, thread, threads)
        for block in range(first_block, end_block):
            r, end = share(rows_total, block, blocks)
            dbeta = shift(partial, PARTIAL_ROWS * block * width)
            dgamma = shift(dbeta, width)
            fill_row(dbeta, 2 * width, 0.0)
            while r + TALL <= end:
                tall(shift(x, r * width), shift(dy, r * width), width, state, dbeta, dgamma)
                r += TALL
            while r < end:
                single(shift(x, r * width), shift(dy, r * width), width, state, dbeta, dgamma)
                r += 1

    gradient_sums.__name__ = suffixed("gradient_sums", clip, "", False)
    kernel(gradient_sums)


def _gradient_rows(height: int, clip: bool, past_caches: bool):
    @inline
    def gradient_rows(x, dy, dx, state, width):
        zero = splat(x, 0.0)
        for j in range(0, width, lanes(x)):
            origin, center = load(state, ORIGIN * width + j), load(state, SHIFT * width + j)
            gain, beta = load(state, GAIN * width + j), load(state, BETA * width + j)
            drop, slope = load(state, DROP * width + j), load(state, SLOPE * width + j)
            for k in range(height):
                t = (load(x, k * width + j) - origin) - center
                g = load(dy, k * width + j)
                if clip:
                    g = where_positive(fma(gain, t, beta), g, zero)
                out = gain * ((g - drop) - t * slope)
                if past_caches:
                    stream(dx, k * width + j, out)
                else:
                    store(dx, k * width + j, out)

    return gradient_rows


def _gradient_kernel(clip: bool, past_caches: bool) -> None:
    """Register the kernel of `dx`: with a ReLU or without, to memory past the caches or not."""
    tall = _gradient_rows(TALL, clip, past_caches)
    single = _gradient_rows(1, clip, past_caches)

    def input_gradient(x: READ_ROWS, dy: READ_ROWS, width, rows_total, tail, blocks,
                       state: READ_ALL, dx: WRITE_ROWS, thread, threads):
        """`dx = GAIN * (dy - mean(dy) - xhat * mean(dy * xhat))`, blocks in reverse.

        Ioffe and Szegedy (2015), section 3.
        """
        first, r = own_rows(rows_total, blocks, thread, threads)
        while r - TALL >= first:
            r -= TALL
            tall(shift(x, r * width), shift(dy, r * width), shift(dx, r * width), state, width)
        while r > first:
            r -= 1
            single(shift(x, r * width), shift(dy, r * width), shift(dx, r * width), state, width)
        if thread == threads - 1:
            at = rows_total * width
            for j in range(tail):
                t = (x[at + j] - state[ORIGIN * width + j]) - state[SHIFT * width + j]
                g = dy[at + j]
                if clip and not state[GAIN * width + j] * t + state[BETA * width + j] > 0:
                    g = scalar(x, 0.0)
                slip = (g - state[DROP * width + j]) - t * state[SLOPE * width + j]
                dx[at + j] = state[GAIN * width + j] * slip

    input_gradient.__name__ = suffixed("input_gradient", clip, "", past_caches)
    kernel(input_gradient)


for _clip in (False, True):
    _sums_kernel(_clip)
    for _past_caches in (False, True):
        _gradient_kernel(_clip, _past_caches)


@kernel
def merge_gradients(x: READ_ALL, dy: READ_ALL, channels, width, rows_total, tail, blocks, clip,
                    partial: WRITE_ALONE, state: WRITE_ALONE, thread):
    """Add up the blocks, each channel's virtual columns and the tail.

    Gives dgamma, dbeta, and what `dx` needs.
    """
    if thread != 0:
        return
    v = lanes(x)
    for block in range(1, blocks):
        part = shift(partial, PARTIAL_ROWS * block * width)
        for j in range(0, 2 * width, v):
            store(partial, j, load(partial, j) + load(part, j))
    dbeta, slope = shift(state, DBETA * width), shift(state, DGAMMA * width)
    if width == channels and tail == 0:
        copy_row(partial, dbeta, width, 1.0)
        copy_row(shift(partial, width), slope, width, 1.0)
    else:
        _add_columns(x, dy, channels, width, rows_total, tail, clip, partial, state, dbeta, slope)
    per_row = splat(x, 1.0 / ((rows_total * width + tail) // channels))
    for j in range(0, channels, v):
        invstd = load(state, INVSTD * width + j)
        dgamma = load(slope, j) * invstd
        store(slope, j, dgamma)
        store(state, DROP * width + j, load(dbeta, j) * per_row)
        store(state, SLOPE * width + j, dgamma * invstd * per_row)
    repeat_row(shift(state, DROP * width), channels, width)
    repeat_row(shift(state, SLOPE * width), channels, width)


@inline
def _add_columns(x, dy, channels, width, rows_total, tail, clip, partial, state, dbeta_out,
                 slope_out):
    """Sums of each channel from those of its virtual columns and the tail, in float64."""
    rest, drest = shift(x, rows_total * width), shift(dy, rows_total * width)
    for c in range(channels):
        dbeta, slope = 0.0, 0.0
        if rows_total > 0:
            for j in range(c, width, channels):
                dbeta += float(partial[j])
                slope += float(partial[width + j])
        for j in range(c, tail, channels):
            t = (rest[j] - state[ORIGIN * width + c]) - state[SHIFT * width + c]
            if clip == 0 or state[GAIN * width + c] * t + state[BETA * width + c] > 0:
                dbeta += float(drest[j])
                slope += float(drest[j]) * float(t)
        dbeta_out[c], slope_out[c] = scalar(x, dbeta), scalar(x, slope)
