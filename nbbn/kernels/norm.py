"""Batch norm: what all its forms are made of, the norm of own columns, and that of inference.

All forms compute `y = gain * ((x - origin) - shift) + beta`, with `gain = gamma * invstd`, and keep
`x`, from which the backward pass computes anew what it needs. They differ in who owns what: whole
columns (here), blocks of images (`norm_images.py`), or of an array's rows (`norm_rows.py`).

Per-channel numbers stand in blocks of rows of `width` floats: `state` is the layer's (GAMMA, BETA,
RUNNING_MEAN, RUNNING_VAR), `batch` what a step normalises with (ORIGIN, SHIFT, INVSTD), `dstate`
the gradients by GAMMA and BETA. A `step` is the floats from row to row, a vector of channels below
each other is a column.
"""

from __future__ import annotations

import math

from nbbn.kernels.registry import Read, Real, Write, inline, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    maximum,
    minimum,
    shift,
    splat,
    sqrt,
    store,
    stream,
    where_above,
)
from nbbn.kernels.team import share, share_lines
from nbbn.kernels.window import clear

GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR = range(4)
STATE_ROWS = 4
ORIGIN, SHIFT, INVSTD = range(3)
BATCH_ROWS = 3
M2 = 2  # third row of a block's partial, after origin and shift
# Rows summed in one go before they join the total: keeps the error of long float32 sums down
# (two-level summation).
BLOCK = 128


# -- the statistics of a column


@inline
def middle(a, b, c):
    """The median of three."""
    return maximum(minimum(a, b), minimum(maximum(a, b), c))


@inline
def origin_of(x, step, rows):
    """A number near most of a column: the median of the first, a middle, the last."""
    return middle(load(x, 0), load(x, rows // 2 * step), load(x, (rows - 1) * step))


@inline
def _with_row(x, step, r, shares, origin, mean, total):
    """`total` and `x - origin` of a row, or the square of what `mean` leaves; by its share."""
    t = load(x, r * step) - origin
    if mean is not None:
        t = t - mean
    if shares is None:
        return total + t if mean is None else fma(t, t, total)
    part = splat(x, shares[r])
    return fma(part, t, total) if mean is None else fma(part * t, t, total)


@inline
def _sum(x, step, rows, shares, origin, mean):
    """The sum of `_with_row`, four rows side by side."""
    zero = splat(x, 0.0)
    total = zero
    for start in range(0, rows, BLOCK):
        a, b, c, d = zero, zero, zero, zero
        end = min(start + BLOCK, rows)
        r = start
        while r + 4 <= end:
            a = _with_row(x, step, r, shares, origin, mean, a)
            b = _with_row(x, step, r + 1, shares, origin, mean, b)
            c = _with_row(x, step, r + 2, shares, origin, mean, c)
            d = _with_row(x, step, r + 3, shares, origin, mean, d)
            r += 4
        while r < end:
            a = _with_row(x, step, r, shares, origin, mean, a)
            r += 1
        total = total + ((a + b) + (c + d))
    return total


@inline
def moments(x, step, rows, shares, origin):
    """Mean less the origin, and the sum of squares about it; with shares, the variance.

    Two passes over values shifted by the origin (Chan, Golub and LeVeque, 1983, eq. 1.7 and
    section 3): exact for a constant column, and as precise at a mean of 1e6 as at 0, where the
    origin is one of the column's; an outlier is none if it is the median of three.
    """
    mean = _sum(x, step, rows, shares, origin, None)
    if shares is None:
        mean = mean * splat(x, 1.0 / rows)
    return mean, _sum(x, step, rows, shares, origin, mean)


@inline
def merge(before, count, delta, mean, m2, new_m2):
    """Mean and m2 of two sets whose means are `delta` apart (Chan and others, eq. 2.1)."""
    part = count / (before + count)
    return (fma(delta, splat(mean, part), mean),
            fma(delta * delta, splat(mean, before * part), m2 + new_m2))


@inline
def merge_block(before, count, origin, mean, m2, block, width):
    """Mean, less the origin, and m2 of so many rows so far and of a block's."""
    delta = (load(block, ORIGIN * width) - origin) + (load(block, SHIFT * width) - mean)
    if before == 0:
        return delta, load(block, M2 * width)
    return merge(float(before), float(count), delta, mean, m2, load(block, M2 * width))


@inline
def block_moments(x, step, rows, run, panels, out):
    """SHIFT and M2 of a block of rows into `out`, where its ORIGIN stands.

    Runs of `run` rows, which are read twice, stay in the cache.
    """
    v = lanes(x)
    width = panels * v
    for start in range(0, rows, run):
        count = min(run, rows - start)
        for panel in range(panels):
            o = shift(out, panel * v)
            mean, m2 = moments(shift(x, start * step + panel * v), step, count, None,
                               load(o, ORIGIN * width))
            if start > 0:
                old = load(o, SHIFT * width)
                mean, m2 = merge(float(start), float(count), mean - old, old, load(o, M2 * width),
                                 m2)
            store(o, SHIFT * width, mean)
            store(o, M2 * width, m2)


@inline
def running_rate(momentum, step, debias):
    """Weight of the old value; with `debias` no memory of the start (Kingma and Ba, 2015, s. 3)."""
    if debias == 0:
        return momentum
    if step == 0 or momentum == 0.0:
        return 0.0
    if momentum >= 1.0:
        return step / (step + 1.0)
    return momentum * (1.0 - momentum**step) / (1.0 - momentum ** (step + 1))


@inline
def update_running(state, width, keep, mean, var):
    """Move the running statistics: the old ones count `keep`."""
    old, new = splat(state, keep), splat(state, 1.0 - keep)
    old_mean, old_var = load(state, RUNNING_MEAN * width), load(state, RUNNING_VAR * width)
    store(state, RUNNING_MEAN * width, fma(new, mean, old * old_mean))
    store(state, RUNNING_VAR * width, fma(new, var, old * old_var))


@inline
def store_batch(batch, width, origin, mean, var, epsilon):
    """What a step normalises with."""
    store(batch, ORIGIN * width, origin)
    store(batch, SHIFT * width, mean)
    store(batch, INVSTD * width, splat(batch, 1.0) / sqrt(var + splat(batch, epsilon)))


# -- a column, normalised, and its gradients


@inline
def floor_of(x, relu):
    """Below which there is nothing: 0 behind a ReLU, else NaN, to which nothing compares."""
    return splat(x, 0.0 if relu != 0 else math.nan)


@inline
def affine_of(batch, state, width):
    """Origin, shift, gain and beta of a column."""
    gain = load(state, GAMMA * width) * load(batch, INVSTD * width)
    return load(batch, ORIGIN * width), load(batch, SHIFT * width), gain, load(state, BETA * width)


@inline
def centred(x, at, of):
    """`x` less the mean."""
    return (load(x, at) - of[0]) - of[1]


@inline
def normalised(x, at, of):
    """`gain * (x - mean) + beta`."""
    return fma(of[2], centred(x, at, of), of[3])


@inline
def normalise(x, x_step, y, y_step, rows, of, floor, past_caches):
    """`y` of a column, which may be `x`."""
    for r in range(rows):
        out = maximum(normalised(x, r * x_step, of), floor)
        if past_caches:
            stream(y, r * y_step, out)
        else:
            store(y, r * y_step, out)


@inline
def _masked(dy, dy_at, x, x_at, of, floor):
    """`x - mean`, and `dy` behind the mask of a ReLU, which is made anew."""
    t = (load(x, x_at) - of[0]) - of[1]
    return t, where_above(fma(of[2], t, of[3]), floor, load(dy, dy_at), splat(dy, 0.0))


@inline
def gradient_sums(dy, dy_step, x, x_step, rows, of, floor):
    """Sums of `g * (x - mean)` and of `g`, the masked gradient; two rows side by side."""
    zero = splat(dy, 0.0)
    slope, drop = zero, zero
    for start in range(0, rows, BLOCK):
        a, b, c, d = zero, zero, zero, zero
        end = min(start + BLOCK, rows)
        r = start
        while r + 2 <= end:
            t, g = _masked(dy, r * dy_step, x, r * x_step, of, floor)
            u, h = _masked(dy, (r + 1) * dy_step, x, (r + 1) * x_step, of, floor)
            a, b, c, d = fma(g, t, a), b + g, fma(h, u, c), d + h
            r += 2
        if r < end:
            t, g = _masked(dy, r * dy_step, x, r * x_step, of, floor)
            a, b = fma(g, t, a), b + g
        slope, drop = slope + (a + c), drop + (b + d)
    return slope, drop


@inline
def slope_of(batch, dstate, width, part):
    """What `dx` loses: by `x - mean`, and always; `part` is a row's share of the batch."""
    n = splat(batch, part)
    slope = load(dstate, GAMMA * width) * load(batch, INVSTD * width)
    return slope * n, load(dstate, BETA * width) * n


@inline
def input_gradient(dy, dy_step, x, x_step, dx, dx_step, rows, shares, of, floor, loss, past_caches):
    """`dx` of a column, which may be `dy` (Ioffe and Szegedy, 2015, section 3)."""
    for r in range(rows):
        t, g = _masked(dy, r * dy_step, x, r * x_step, of, floor)
        if shares is None:
            g = (g - loss[1]) - t * loss[0]
        else:
            g = g - splat(dy, shares[r]) * fma(t, loss[0], loss[1])
        if past_caches:
            stream(dx, r * dx_step, of[2] * g)
        else:
            store(dx, r * dx_step, of[2] * g)


@inline
def cleared_sums(partial, block, width):
    """A block's `dgamma, dbeta`, at 0."""
    sums = shift(partial, block * 2 * width)
    clear(sums, 2 * width)
    return sums


# -- kernels on own columns. Weighted, a row of weight 2 counts as the same row twice: `shares` is
# each row's part of the batch's weight; they sum to 1.


@inline
def _forward(x, x_stride, y, y_stride, batch, state, shares, relu, panels, epsilon, momentum,
             debias, rows, step, thread, threads):
    v = lanes(x)
    first, end = share(panels, thread, threads)
    width, keep = panels * v, running_rate(momentum, step, debias)
    for panel in range(first, end):
        at = panel * v
        own, b, s = shift(x, at), shift(batch, at), shift(state, at)
        origin = origin_of(own, x_stride, rows)
        mean, var = moments(own, x_stride, rows, shares, origin)
        if shares is None:
            var = var * splat(x, 1.0 / rows)
        store_batch(b, width, origin, mean, var, epsilon)
        update_running(s, width, keep, origin + mean, var)
        normalise(own, x_stride, shift(y, at), y_stride, rows, affine_of(b, s, width),
                  floor_of(x, relu), False)


@inline
def _backward(dy, dy_stride, x, x_stride, batch, state, dstate, shares, relu, panels, rows, thread,
              threads):
    v = lanes(dy)
    first, end = share(panels, thread, threads)
    width, floor = panels * v, floor_of(dy, relu)
    for panel in range(first, end):
        at = panel * v
        dp, xp, b, d = shift(dy, at), shift(x, at), shift(batch, at), shift(dstate, at)
        of = affine_of(b, shift(state, at), width)
        slope, drop = gradient_sums(dp, dy_stride, xp, x_stride, rows, of, floor)
        store(d, GAMMA * width, slope * load(b, INVSTD * width))
        store(d, BETA * width, drop)
        loss = slope_of(b, d, width, 1.0 / rows if shares is None else 1.0)
        input_gradient(dp, dy_stride, xp, x_stride, dp, dy_stride, rows, shares, of, floor, loss,
                       False)


@kernel
def norm_forward(x: Read.COLUMNS, x_stride, y: Write.COLUMNS, y_stride, batch: Write.COLUMNS,
                 state: Write.COLUMNS, relu, panels, epsilon: Real, momentum: Real, debias, rows,
                 step, thread, threads):
    """`y = gamma * xhat + beta`, with `relu` its positive part; the statistics."""
    _forward(x, x_stride, y, y_stride, batch, state, None, relu, panels, epsilon, momentum, debias,
             rows, step, thread, threads)


@kernel
def norm_weighted_forward(x: Read.COLUMNS, x_stride, y: Write.COLUMNS, y_stride,
                          batch: Write.COLUMNS, state: Write.COLUMNS, shares: Read.ALL, relu,
                          panels, epsilon: Real, momentum: Real, debias, rows, step, thread,
                          threads):
    """`norm_forward` with weighted statistics."""
    _forward(x, x_stride, y, y_stride, batch, state, shares, relu, panels, epsilon, momentum,
             debias, rows, step, thread, threads)


@kernel
def norm_backward(dy: Write.COLUMNS, dy_stride, x: Read.COLUMNS, x_stride, batch: Read.COLUMNS,
                  state: Read.COLUMNS, dstate: Write.COLUMNS, relu, panels, rows, thread, threads):
    """`dx` over `dy`; dgamma and dbeta into `dstate`."""
    _backward(dy, dy_stride, x, x_stride, batch, state, dstate, None, relu, panels, rows, thread,
              threads)


@kernel
def norm_weighted_backward(dy: Write.COLUMNS, dy_stride, x: Read.COLUMNS, x_stride,
                           batch: Read.COLUMNS, state: Read.COLUMNS, dstate: Write.COLUMNS,
                           shares: Read.ALL, relu, panels, rows, thread, threads):
    """`norm_backward` where the rows of `dy` hold their weights already."""
    _backward(dy, dy_stride, x, x_stride, batch, state, dstate, shares, relu, panels, rows, thread,
              threads)


@kernel(inference=True)
def norm_inference(x: Write.IMAGES, pixel, pixels, state: Read.ALL, relu, panels, epsilon: Real,
                   blocks, rows, thread, threads):
    """`x = gamma * (x - running_mean) / sqrt(running_var + epsilon) + beta` of own pixels."""
    v = lanes(x)
    width, zero = panels * v, splat(x, 0.0)
    first, end = share_lines(rows, pixels, blocks, thread, threads)
    for panel in range(panels):
        own, s = shift(x, first * pixel + panel * v), shift(state, panel * v)
        gain = load(s, GAMMA * width) / sqrt(load(s, RUNNING_VAR * width) + splat(x, epsilon))
        of = load(s, RUNNING_MEAN * width), zero, gain, load(s, BETA * width)
        normalise(own, pixel, own, pixel, end - first, of, floor_of(x, relu), False)
