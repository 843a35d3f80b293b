"""Batch norm of whole arrays, split by blocks of rows: for functions on the caller's own arrays.

The array is seen as virtual rows of `width` floats, whole vectors: `width` is the number of
channels times as many rows as it takes, so that each channel sits in `width / channels` virtual
columns. Rows that do not fill a virtual row are the `tail`, counted in floats. All values are taken
relative to an origin, the median of three rows, which makes a constant channel exact and keeps a
mean of 1e6, or an outlier of that size, harmless. The number of blocks depends on the shape alone;
partial results are merged in their order.

`state` has rows of `width` floats: gamma and beta as in `norm.py`, from BATCH on a batch, from
GRADIENTS on dgamma and dbeta, all repeated over the virtual columns; MEAN and VAR have one number a
channel.
"""

from __future__ import annotations

from nbbn.kernels.norm import (
    BATCH_ROWS,
    BETA,
    GAMMA,
    INVSTD,
    ORIGIN,
    SHIFT,
    affine_of,
    block_moments,
    floor_of,
    gradient_sums,
    input_gradient,
    merge_block,
    normalise,
    origin_of,
    slope_of,
    store_batch,
)
from nbbn.kernels.registry import Read, Real, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, scalar, shift, splat, store
from nbbn.kernels.team import share
from nbbn.kernels.window import clear, copy

BATCH, GRADIENTS, MEAN, VAR = 2, 5, 7, 8
STATE_ROWS = 9
PARTIAL_ROWS = BATCH_ROWS
# Rows taken at once.
TALL = 4


# -- moments


@kernel
def row_moments(x: Read.ROWS, channels, width, rows_total, run, blocks, partial: Write.ROWS, thread,
                threads):
    """`partial[block] = origin, shift, m2` of each own block, in runs of `run` rows."""
    first_block, end_block = share(blocks, thread, threads)
    for block in range(first_block, end_block):
        first, end = share(rows_total, block, blocks)
        out = shift(partial, PARTIAL_ROWS * block * width)
        _origins(x, channels, width // channels * rows_total, out)
        repeat_row(out, channels, width)
        block_moments(shift(x, first * width), width, end - first, run, width // lanes(x), out)


@kernel
def merge_moments(x: Read.ALL, channels, width, rows_total, tail, blocks, partial: Write.ALONE,
                  state: Write.ALONE, gamma: Read.ALL, beta: Read.ALL, epsilon: Real, thread):
    """Merge the blocks, each channel's virtual columns and the tail; fill the state."""
    if thread != 0:
        return
    v = lanes(x)
    batch, var = shift(state, BATCH * width), shift(state, VAR * width)
    copy(gamma, shift(state, GAMMA * width), channels)
    copy(beta, shift(state, BETA * width), channels)
    _origins(x, channels, width // channels * rows_total, shift(batch, ORIGIN * width))
    whole = channels % v == 0 and tail == 0
    n = splat(x, 1.0 / max(1, rows_total * (width // channels)))
    for j in range(0, channels if whole else width, v):
        origin = load(partial, ORIGIN * width + j)
        mean, m2, before = splat(x, 0.0), splat(x, 0.0), 0
        for column in range(j, width if whole else j + 1, channels):
            for block in range(blocks):
                first, end = share(rows_total, block, blocks)
                mean, m2 = merge_block(before, end - first, origin, mean, m2,
                                       shift(partial, PARTIAL_ROWS * block * width + column), width)
                before += end - first
        store(batch, SHIFT * width + j, mean)
        store(var, j, m2 * n)
    if not whole:
        _merge_columns(x, channels, width, rows_total, tail, batch, var)
    for j in range(0, channels, v):  # a row of the state is whole vectors
        origin, mean = load(batch, ORIGIN * width + j), load(batch, SHIFT * width + j)
        store_batch(shift(batch, j), width, origin, mean, load(var, j), epsilon)
        store(state, MEAN * width + j, origin + mean)
    for row in range(GRADIENTS):
        repeat_row(shift(state, row * width), channels, width)


@inline
def _origins(x, channels, rows, origins):
    """A number near most of each channel: as `origin_of`."""
    v = lanes(x)
    whole = channels // v * v if rows > 1 else 0
    for j in range(0, whole, v):
        store(origins, j, origin_of(shift(x, j), channels, rows))
    for c in range(whole, channels):
        a, b = x[c], x[rows // 2 * channels + c]
        origins[c] = max(min(a, b), min(max(a, b), x[max(0, rows - 1) * channels + c]))


@inline
def repeat_row(row, channels, width):
    """Repeat the first `channels` numbers of a row over its virtual columns."""
    for at in range(channels, width, channels):
        copy(row, shift(row, at), channels)


@inline
def _merge_columns(x, channels, width, rows_total, tail, batch, var):
    """Moments of each channel from those of its virtual columns and the tail, in float64.

    A virtual column has `rows_total` rows; its mean and variance (times `rows_total / rows`) stand
    where those of the channel go.
    """
    rest, mean = shift(x, rows_total * width), shift(batch, SHIFT * width)
    columns = width // channels if rows_total > 0 else 0
    rows = float(columns * rows_total)
    for c in range(channels):
        center, spread, n = 0.0, 0.0, rows
        origin = float(batch[ORIGIN * width + c])
        if columns > 0:
            for j in range(c, width, channels):
                center += float(mean[j])
            center /= columns
            for j in range(c, width, channels):
                delta = float(mean[j]) - center
                spread += float(var[j]) * rows + rows_total * (delta * delta)
        for j in range(c, tail, channels):  # Welford (1962)
            n += 1.0
            value = float(rest[j]) - origin
            delta = value - center
            center += delta / n
            spread += delta * (value - center)
        mean[c], var[c] = scalar(x, center), scalar(x, spread / n)


# -- what is normalised


@inline
def _affine(state, width, j):
    return affine_of(shift(state, BATCH * width + j), shift(state, j), width)


@inline
def _normalise(x, y, width, rows, state, floor, past_caches):
    for j in range(0, width, lanes(x)):
        normalise(shift(x, j), width, shift(y, j), width, rows, _affine(state, width, j), floor,
                  past_caches)


@inline
def _input_gradient(x, dy, dx, width, rows, state, floor, part, past_caches):
    for j in range(0, width, lanes(x)):
        loss = slope_of(shift(state, BATCH * width + j), shift(state, GRADIENTS * width + j), width,
                        part)
        input_gradient(shift(dy, j), width, shift(x, j), width, shift(dx, j), width, rows, None,
                       _affine(state, width, j), floor, loss, past_caches)


@inline
def _scalar_affine(x, j, width, state):
    """Of a number of the tail `x - mean`, the gain, and what is normalised."""
    at = BATCH * width + j
    t = (x - state[ORIGIN * width + at]) - state[SHIFT * width + at]
    gain = state[GAMMA * width + j] * state[INVSTD * width + at]
    y = gain * t + state[BETA * width + j]
    return t, gain, y


def _kernels(suffix: str) -> None:
    """Register the kernels that write to the caller's array, past the caches or not.

    Each block is cut in the same way whoever owns it: a row that is alone may get another sign of 0
    than one of several.
    """
    past_caches = bool(suffix)

    @kernel(name=f"normalise_rows{suffix}")
    def normalise_rows(x: Read.ROWS, width, rows_total, tail, relu, blocks, state: Read.ALL,
                       y: Write.ROWS, thread, threads):
        """`y = gamma * xhat + beta` of own blocks, with `relu` its positive part."""
        first_block, end_block = share(blocks, thread, threads)
        floor = floor_of(x, relu)
        for block in range(end_block - 1, first_block - 1, -1):  # the rows read last first
            first, r = share(rows_total, block, blocks)
            while r - TALL >= first:
                r -= TALL
                _normalise(shift(x, r * width), shift(y, r * width), width, TALL, state, floor,
                           past_caches)
            while r > first:
                r -= 1
                _normalise(shift(x, r * width), shift(y, r * width), width, 1, state, floor,
                           past_caches)
        if thread == threads - 1:
            at = rows_total * width
            for j in range(tail):
                _, _, out = _scalar_affine(x[at + j], j, width, state)
                y[at + j] = scalar(x, 0.0) if relu != 0 and out < 0 else out

    @kernel(name=f"input_gradient{suffix}")
    def input_gradient_rows(x: Read.ROWS, dy: Read.ROWS, width, rows_total, rows_of_channel, tail,
                            relu, blocks, state: Read.ALL, dx: Write.ROWS, thread, threads):
        """`dx = gain * (dy - mean(dy) - xhat * mean(dy * xhat))`, blocks in reverse."""
        first_block, end_block = share(blocks, thread, threads)
        floor, part = floor_of(x, relu), 1.0 / rows_of_channel
        for block in range(end_block - 1, first_block - 1, -1):
            first, r = share(rows_total, block, blocks)
            while r - TALL >= first:
                r -= TALL
                at = r * width
                _input_gradient(shift(x, at), shift(dy, at), shift(dx, at), width, TALL, state,
                                floor, part, past_caches)
            while r > first:
                r -= 1
                at = r * width
                _input_gradient(shift(x, at), shift(dy, at), shift(dx, at), width, 1, state, floor,
                                part, past_caches)
        if thread == threads - 1:
            at = rows_total * width
            for j in range(tail):
                t, gain, out = _scalar_affine(x[at + j], j, width, state)
                g = scalar(x, 0.0) if relu != 0 and out <= 0 else dy[at + j]
                own, per_row = GRADIENTS * width + j, scalar(x, part)
                drop = state[own + BETA * width] * per_row
                slope = state[own + GAMMA * width] * state[(BATCH + INVSTD) * width + j] * per_row
                dx[at + j] = gain * ((g - drop) - t * slope)


for _suffix in ("", "_streamed"):
    _kernels(_suffix)


# -- sums of gradients


@inline
def _add_sums(x, dy, width, rows, state, floor, sums):
    for j in range(0, width, lanes(x)):
        slope, drop = gradient_sums(shift(dy, j), width, shift(x, j), width, rows,
                                    _affine(state, width, j), floor)
        store(sums, GAMMA * width + j, load(sums, GAMMA * width + j) + slope)
        store(sums, BETA * width + j, load(sums, BETA * width + j) + drop)


@kernel
def row_sums(x: Read.ROWS, dy: Read.ROWS, width, rows_total, relu, blocks, state: Read.ALL,
             partial: Write.ROWS, thread, threads):
    """Sums of `dy * (x - mean)` and `dy` of each own block."""
    first_block, end_block = share(blocks, thread, threads)
    floor = floor_of(x, relu)
    for block in range(first_block, end_block):
        r, end = share(rows_total, block, blocks)
        sums = shift(partial, PARTIAL_ROWS * block * width)
        clear(sums, 2 * width)
        while r + TALL <= end:
            _add_sums(shift(x, r * width), shift(dy, r * width), width, TALL, state, floor, sums)
            r += TALL
        if r < end:
            _add_sums(shift(x, r * width), shift(dy, r * width), width, end - r, state, floor, sums)


@kernel
def merge_row_sums(x: Read.ALL, dy: Read.ALL, channels, width, rows_total, tail, relu, blocks,
                   partial: Write.ALONE, state: Write.ALONE, thread):
    """Add up blocks, virtual columns and the tail: dgamma and dbeta."""
    if thread != 0:
        return
    v = lanes(x)
    gradients = shift(state, GRADIENTS * width)
    whole = channels % v == 0 and tail == 0
    for j in range(0, channels if whole else width, v):
        slope, drop = splat(x, 0.0), splat(x, 0.0)
        for column in range(j, width if whole else j + 1, channels):
            for block in range(blocks):
                part = shift(partial, PARTIAL_ROWS * block * width + column)
                slope = slope + load(part, GAMMA * width)
                drop = drop + load(part, BETA * width)
        store(gradients, GAMMA * width + j, slope)
        store(gradients, BETA * width + j, drop)
    if not whole:
        _add_columns(x, dy, channels, width, rows_total, tail, relu, state, gradients)
    for j in range(0, channels, v):
        invstd = load(state, (BATCH + INVSTD) * width + j)
        store(gradients, GAMMA * width + j, load(gradients, GAMMA * width + j) * invstd)
    for row in (GAMMA, BETA):
        repeat_row(shift(gradients, row * width), channels, width)


@inline
def _add_columns(x, dy, channels, width, rows_total, tail, relu, state, sums):
    """Sums of each channel from those of its virtual columns and the tail, in float64."""
    rest, drest = shift(x, rows_total * width), shift(dy, rows_total * width)
    for c in range(channels):
        slope, drop = 0.0, 0.0
        if rows_total > 0:
            for j in range(c, width, channels):
                slope += float(sums[GAMMA * width + j])
                drop += float(sums[BETA * width + j])
        for j in range(c, tail, channels):
            t, _, out = _scalar_affine(rest[j], c, width, state)
            if relu == 0 or out > 0:
                slope += float(drest[j]) * float(t)
                drop += float(drest[j])
        sums[GAMMA * width + c], sums[BETA * width + c] = scalar(x, slope), scalar(x, drop)
