"""Batch norm of whole arrays, split by blocks of rows: for functions on the caller's own arrays.

The array is seen as virtual rows of `width` floats, whole vectors: `width` is the number of
channels times as many rows as it takes, so that each channel sits in `width / channels` virtual
columns and the sums of a row do not wait for each other. Rows that do not fill a virtual row are
the `tail`, counted in floats. All values are taken relative to an origin, the median of three rows,
which makes a constant channel exact and keeps a mean of 1e6, or an outlier of that size, harmless.
The number of blocks depends on the shape alone; partial results are merged in their order.

`state` has rows of `width` floats: ORIGIN, SHIFT (mean - origin), GAIN (gamma / std), BETA, INVSTD,
SLOPE and DROP (backward) repeat over the virtual columns; MEAN, VAR, DGAMMA, DBETA have one number
a channel.
"""

from __future__ import annotations

from nbbn.kernels.registry import Read, Real, Write, inline, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    maximum,
    minimum,
    scalar,
    shift,
    splat,
    sqrt,
    store,
    stream,
    where_positive,
)
from nbbn.kernels.team import share

ORIGIN, SHIFT, GAIN, BETA, INVSTD, SLOPE, DROP, MEAN, VAR, DGAMMA, DBETA = range(11)
STATE_ROWS = 11


# Rows taken at once.
TALL = 4


def _add_rows(height: int, squares: bool):
    """Add up `height` rows: each number per channel is loaded once for all of them."""
    @inline
    def add_rows(x, width, origin, mean, total):
        """`total += (x - origin).sum(0)`, or `((x - origin - mean)**2).sum(0)`."""
        for j in range(0, width, lanes(x)):
            o, t = load(origin, j), load(total, j)
            if squares:
                m = load(mean, j)
            for k in range(height):
                d = load(x, k * width + j) - o
                if squares:
                    d = d - m
                    t = fma(d, d, t)
                else:
                    t = t + d
            store(total, j, t)
    return add_rows


def _add_run(squares: bool):
    tall, single = _add_rows(TALL, squares), _add_rows(1, squares)
    @inline
    def add_run(x, width, first, end, origin, mean, total):
        """`total` of rows `first` to `end`, from 0."""
        fill_row(total, width, 0.0)
        r = first
        while r + TALL <= end:
            tall(shift(x, r * width), width, origin, mean, total)
            r += TALL
        while r < end:
            single(shift(x, r * width), width, origin, mean, total)
            r += 1
    return add_run


_sum_run, _square_run = _add_run(False), _add_run(True)


@inline
def _run_moments(x, width, first, end, origin, mean, m2):
    """`mean` and `m2` of rows `first` to `end`, without the origin."""
    _sum_run(x, width, first, end, origin, mean, mean)
    copy_row(mean, mean, width, 1.0 / (end - first))
    _square_run(x, width, first, end, origin, mean, m2)


@inline
def fill_row(row, width, value):
    """Every number of a row."""
    for j in range(0, width, lanes(row)):
        store(row, j, splat(row, value))


@inline
def copy_row(source, target, width, factor):
    """`target = factor * source` of one row."""
    scale = splat(source, factor)
    for j in range(0, width, lanes(source)):
        store(target, j, load(source, j) * scale)


@inline
def _merge(count, before, mean, m2, width, into_mean, into_m2):
    """Join `count` rows' moments to those of `before` (Chan, Golub and LeVeque, 1983, eq. 2.1)."""
    v = lanes(mean)
    part = splat(mean, count / (before + count))
    weight = splat(mean, before * count / (before + count))
    for j in range(0, width, v):
        old = load(into_mean, j)
        delta = load(mean, j) - old
        store(into_mean, j, fma(delta, part, old))
        store(into_m2, j, fma(delta * delta, weight, load(into_m2, j) + load(m2, j)))


PARTIAL_ROWS = 5


@kernel
def block_moments(x: Read.ROWS, channels, width, rows_total, run, blocks, partial: Write.ROWS,
                  thread, threads):
    """Moments of each block, `partial[block] = mean, m2` and three rows of scratch.

    Runs of `run` rows, which are read twice, stay in the cache.
    """
    first_block, end_block = share(blocks, thread, threads)
    origin = shift(partial, (PARTIAL_ROWS * first_block + 4) * width)
    if first_block < end_block:
        _origins(x, channels, width // channels * rows_total, origin)
        repeat_row(origin, channels, width)
    for block in range(first_block, end_block):
        first, end = share(rows_total, block, blocks)
        mean = shift(partial, PARTIAL_ROWS * block * width)
        m2, new_mean = shift(mean, width), shift(mean, 2 * width)
        new_m2 = shift(mean, 3 * width)
        for start in range(first, end, run):
            stop = min(start + run, end)
            if start == first:
                _run_moments(x, width, start, stop, origin, mean, m2)
            else:
                _run_moments(x, width, start, stop, origin, new_mean, new_m2)
                _merge(float(stop - start), float(start - first), new_mean, new_m2, width, mean, m2)


@kernel
def merge_moments(x: Read.ALL, channels, width, rows_total, tail, blocks, partial: Write.ALONE,
                  state: Write.ALONE, gamma: Read.ALL, beta: Read.ALL, epsilon: Real, thread):
    """Merge the blocks, then each channel's virtual columns and the tail; fill the state."""
    if thread != 0:
        return
    mean, m2 = shift(partial, 0), shift(partial, width)
    before = 0
    for block in range(blocks):
        first, end = share(rows_total, block, blocks)
        if block > 0:
            part = shift(partial, PARTIAL_ROWS * block * width)
            _merge(float(end - first), float(before), part, shift(part, width), width, mean, m2)
        before += end - first
    center, var = shift(state, SHIFT * width), shift(state, VAR * width)
    if width == channels and tail == 0:
        copy_row(mean, center, width, 1.0)
        copy_row(m2, var, width, 1.0 / rows_total)
    else:
        _merge_columns(x, channels, width, rows_total, tail, mean, m2, center, var)
    v = lanes(x)
    _origins(x, channels, width // channels * rows_total, shift(state, ORIGIN * width))
    copy_numbers(gamma, shift(state, GAIN * width), channels)
    copy_numbers(beta, shift(state, BETA * width), channels)
    one = splat(x, 1.0)
    for j in range(0, channels, v):  # a row of the state is whole vectors
        invstd = one / sqrt(load(var, j) + splat(x, epsilon))
        store(state, INVSTD * width + j, invstd)
        store(state, GAIN * width + j, load(state, GAIN * width + j) * invstd)
        store(state, MEAN * width + j, load(state, ORIGIN * width + j) + load(center, j))
    for row in range(INVSTD + 1):
        repeat_row(shift(state, row * width), channels, width)


@inline
def _origin(x, channels, channel, rows):
    """A number near most of a channel: the median of the first row, a middle one and the last."""
    a, c = x[channel], x[max(0, rows - 1) * channels + channel]
    b = x[rows // 2 * channels + channel]
    return max(min(a, b), min(max(a, b), c))


@inline
def _origins(x, channels, rows, origins):
    """`_origin` of every channel."""
    v = lanes(x)
    whole = channels // v * v if rows > 1 else 0
    middle, last = rows // 2 * channels, max(0, rows - 1) * channels
    for j in range(0, whole, v):
        a, b, c = load(x, j), load(x, middle + j), load(x, last + j)
        store(origins, j, maximum(minimum(a, b), minimum(maximum(a, b), c)))
    for c in range(whole, channels):
        origins[c] = _origin(x, channels, c, rows)


@inline
def copy_numbers(source, target, count):
    """`target[:count] = source[:count]`, which need not be whole vectors."""
    v = lanes(source)
    whole = count // v * v
    for j in range(0, whole, v):
        store(target, j, load(source, j))
    for c in range(whole, count):
        target[c] = source[c]


@inline
def repeat_row(row, channels, width):
    """Repeat the first `channels` numbers of a row over its virtual columns."""
    for at in range(channels, width, channels):
        copy_numbers(row, shift(row, at), channels)


@inline
def _merge_columns(x, channels, width, rows_total, tail, mean, m2, center_out, var_out):
    """Moments of each channel from those of its virtual columns and the tail, in float64.

    A virtual column has `rows_total` rows.
    """
    rest = shift(x, rows_total * width)
    columns = width // channels if rows_total > 0 else 0
    for c in range(channels):
        center, spread, n = 0.0, 0.0, float(columns * rows_total)
        origin = float(_origin(x, channels, c, columns * rows_total))
        if columns > 0:
            for j in range(c, width, channels):
                center += float(mean[j])
            center /= columns
            for j in range(c, width, channels):
                delta = float(mean[j]) - center
                spread += float(m2[j]) + rows_total * (delta * delta)
        for j in range(c, tail, channels):  # Welford (1962)
            n += 1.0
            value = float(rest[j]) - origin
            delta = value - center
            center += delta / n
            spread += delta * (value - center)
        center_out[c], var_out[c] = scalar(x, center), scalar(x, spread / n)


def _normalise_rows(height: int, clip: bool, past_caches: bool):
    @inline
    def normalise_rows(x, y, state, width):
        zero = splat(x, 0.0)
        for j in range(0, width, lanes(x)):
            origin, center = load(state, ORIGIN * width + j), load(state, SHIFT * width + j)
            gain, beta = load(state, GAIN * width + j), load(state, BETA * width + j)
            for k in range(height):
                out = fma(gain, (load(x, k * width + j) - origin) - center, beta)
                if clip:
                    out = maximum(out, zero)
                if past_caches:
                    stream(y, k * width + j, out)
                else:
                    store(y, k * width + j, out)
    return normalise_rows


@inline
def own_rows(rows_total, blocks, thread, threads):
    """First and last-plus-one of the rows of a thread's blocks."""
    first_block, end_block = share(blocks, thread, threads)
    return rows_total * first_block // blocks, rows_total * end_block // blocks


def _normalise_kernel(relu: str, streamed: str) -> None:
    """Register a kernel that normalises: with a ReLU or without, past the caches or not."""
    clip = bool(relu)
    tall, single = (_normalise_rows(height, clip, bool(streamed)) for height in (TALL, 1))
    @kernel(name=f"normalise{relu}_rows{streamed}")
    def normalise(x: Read.ROWS, width, rows_total, tail, blocks, state: Read.ALL, y: Write.ROWS,
                  thread, threads):
        """`y = GAIN * (x - mean) + BETA` of own blocks."""
        first, r = own_rows(rows_total, blocks, thread, threads)
        while r - TALL >= first:  # backwards: the rows read last are still in the cache
            r -= TALL
            tall(shift(x, r * width), shift(y, r * width), state, width)
        while r > first:
            r -= 1
            single(shift(x, r * width), shift(y, r * width), state, width)
        if thread == threads - 1:
            at = rows_total * width
            for j in range(tail):
                t = (x[at + j] - state[ORIGIN * width + j]) - state[SHIFT * width + j]
                out = state[GAIN * width + j] * t + state[BETA * width + j]
                if clip and out < 0:
                    out = scalar(x, 0.0)
                y[at + j] = out


# -- gradients


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


def _sums_kernel(relu: str) -> None:
    """Register the kernel of the sums, with a ReLU, whose mask is made anew, or without."""
    tall, single = _add_gradients(TALL, bool(relu)), _add_gradients(1, bool(relu))
    @kernel(name=f"gradient_sums{relu}")
    def gradient_sums(x: Read.ROWS, dy: Read.ROWS, width, rows_total, blocks, state: Read.ALL,
                      partial: Write.ROWS, thread, threads):
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


def _gradient_kernel(relu: str, streamed: str) -> None:
    """Register the kernel of `dx`: with a ReLU or without, to memory past the caches or not."""
    clip = bool(relu)
    tall, single = (_gradient_rows(height, clip, bool(streamed)) for height in (TALL, 1))
    @kernel(name=f"input_gradient{relu}{streamed}")
    def input_gradient(x: Read.ROWS, dy: Read.ROWS, width, rows_total, tail, blocks,
                       state: Read.ALL, dx: Write.ROWS, thread, threads):
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


for _relu in ("", "_relu"):
    _sums_kernel(_relu)
    for _streamed in ("", "_streamed"):
        _normalise_kernel(_relu, _streamed)
        _gradient_kernel(_relu, _streamed)


@kernel
def merge_gradients(x: Read.ALL, dy: Read.ALL, channels, width, rows_total, tail, blocks, clip,
                    partial: Write.ALONE, state: Write.ALONE, thread):
    """Add up blocks, virtual columns and the tail: dgamma, dbeta, and what `dx` needs."""
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
