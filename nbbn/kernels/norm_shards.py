"""Batch norm over a batch whose shards several processes have.

Each shard leaves four rows of `width` numbers: ORIGIN, SHIFT (whose sum is the mean), M2 and COUNT,
its rows or the sum of their weights. All processes gather these and merge them in one order.
`batch`, `state` and `dstate` are those of `norm.py`. Forward and backward on rows, whose threads
own columns, stand here; images take the kernels of `norm_images.py` between what is gathered.
"""

from __future__ import annotations

from nbbn.kernels.norm import (
    BATCH_ROWS,
    BETA,
    GAMMA,
    INVSTD,
    M2,
    ORIGIN,
    SHIFT,
    affine_of,
    floor_of,
    gradient_sums,
    input_gradient,
    merge_block,
    middle,
    moments,
    normalise,
    origin_of,
    running_rate,
    slope_of,
    store_batch,
    update_running,
)
from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, shift, splat, store
from nbbn.kernels.team import share

COUNT = 3  # behind ORIGIN, SHIFT and M2
MOMENT_ROWS = 4


@inline
def store_shard(out, width, origin, mean, m2, count):
    """What a shard leaves of a vector of channels."""
    store(out, ORIGIN * width, origin)
    store(out, SHIFT * width, mean)
    store(out, M2 * width, m2)
    store(out, COUNT * width, splat(out, count))


@kernel
def shard_moments(x: Read.COLUMNS, x_stride, out: Write.COLUMNS, panels, rows, thread, threads):
    """Moments of the rows of own columns."""
    v = lanes(x)
    width, zero = panels * v, splat(x, 0.0)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        own, columns = shift(out, panel * v), shift(x, panel * v)
        if rows > 0:
            origin = origin_of(columns, x_stride, rows)
            mean, m2 = moments(columns, x_stride, rows, None, origin)
            store_shard(own, width, origin, mean, m2, float(rows))
        else:
            store_shard(own, width, zero, zero, zero, 0.0)


@kernel
def shard_weighted_moments(x: Read.COLUMNS, x_stride, shares: Read.ALL, out: Write.COLUMNS, panels,
                           rows, thread, threads):
    """The same of weighted rows; `shares` are their parts of the whole batch's weight."""
    v = lanes(x)
    width, zero = panels * v, splat(x, 0.0)
    first, end = share(panels, thread, threads)
    mass = 0.0
    for r in range(rows):
        mass += float(shares[r])
    for panel in range(first, end):
        own, columns = shift(out, panel * v), shift(x, panel * v)
        origin, mean, m2 = zero, zero, zero
        if mass > 0.0:
            origin = origin_of(columns, x_stride, rows)
            for r in range(rows):
                mean = fma(splat(x, shares[r]), load(columns, r * x_stride) - origin, mean)
            mean = mean * splat(x, 1.0 / mass)
            for r in range(rows):
                slip = (load(columns, r * x_stride) - origin) - mean
                m2 = fma(splat(x, shares[r]) * slip, slip, m2)
        store_shard(own, width, origin, mean, m2, mass)


@kernel
def merge_block_moments(partial: Read.ALL, pixels, out: Write.COLUMNS, panels, blocks, rows, thread,
                        threads):
    """A shard's moments from those of its blocks of images; COUNT is that of the images."""
    v = lanes(partial)
    width, zero = panels * v, splat(partial, 0.0)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        p, before = shift(partial, panel * v), 0
        origin, mean, m2 = zero, zero, zero
        for block in range(blocks):
            begin, stop = share(rows, block, blocks)
            count = (stop - begin) * pixels
            if count > 0:
                own = shift(p, block * BATCH_ROWS * width)
                if before == 0:
                    origin = load(own, ORIGIN * width)
                mean, m2 = merge_block(before, count, origin, mean, m2, own, width)
                before += count
        store_shard(shift(out, panel * v), width, origin, mean, m2, float(rows))


@inline
def shard_mean(partial, places, width, shard):
    """The mean of a shard's channels."""
    own = shift(partial, places[shard] * MOMENT_ROWS * width)
    return load(own, ORIGIN * width) + load(own, SHIFT * width)


@inline
def shard_count(partial, places, width, shard):
    """How many rows a shard has, or what they weigh."""
    return float(partial[places[shard] * MOMENT_ROWS * width + COUNT * width])


@inline
def full_shard(partial, places, width, shard, step, shards):
    """The next shard with rows, from one on; -1 where there is none."""
    while 0 <= shard < shards:
        if shard_count(partial, places, width, shard) > 0.0:
            return shard
        shard += step
    return -1


@kernel
def merge_shard_moments(partial: Read.ALL, places: INDICES, shards, pixels, batch: Write.COLUMNS,
                        state: Write.COLUMNS, panels, epsilon: Real, momentum: Real, debias, update,
                        step, thread, threads):
    """Merge the shards that stand in `places` into `batch`; running statistics into `state`."""
    v = lanes(partial)
    width = panels * v
    first, end = share(panels, thread, threads)
    keep = running_rate(momentum, step, debias)
    head = max(0, full_shard(partial, places, width, 0, 1, shards))
    tail = max(0, full_shard(partial, places, width, shards - 1, -1, shards))
    centre = max(head, full_shard(partial, places, width, (head + tail) // 2, 1, shards))
    for panel in range(first, end):
        p, s = shift(partial, panel * v), shift(state, panel * v)
        origin = middle(shard_mean(p, places, width, head), shard_mean(p, places, width, centre),
                        shard_mean(p, places, width, tail))
        before, mean, m2 = 0.0, splat(p, 0.0), splat(p, 0.0)
        for shard in range(shards):
            count = shard_count(p, places, width, shard) * pixels
            if count > 0.0:
                own = shift(p, places[shard] * MOMENT_ROWS * width)
                mean, m2 = merge_block(before, count, origin, mean, m2, own, width)
                before += count
        var = m2 * splat(p, 1.0 / before)
        store_batch(shift(batch, panel * v), width, origin, mean, var, epsilon)
        if update != 0:
            update_running(s, width, keep, origin + mean, var)


@kernel
def shard_norm_forward(x: Read.COLUMNS, x_stride, y: Write.COLUMNS, y_stride, batch: Read.COLUMNS,
                       state: Read.COLUMNS, relu, panels, rows, thread, threads):
    """`y = gamma * xhat + beta`, with `relu` its positive part."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        normalise(shift(x, at), x_stride, shift(y, at), y_stride, rows,
                  affine_of(shift(batch, at), shift(state, at), panels * v), floor_of(x, relu),
                  False)


@kernel
def shard_norm_sums(dy: Read.COLUMNS, dy_stride, x: Read.COLUMNS, x_stride, batch: Read.COLUMNS,
                    state: Read.COLUMNS, out: Write.COLUMNS, relu, panels, rows, thread, threads):
    """A shard's `dgamma, dbeta`."""
    v = lanes(dy)
    width, floor = panels * v, floor_of(dy, relu)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        b = shift(batch, at)
        slope, drop = gradient_sums(shift(dy, at), dy_stride, shift(x, at), x_stride, rows,
                                    affine_of(b, shift(state, at), width), floor)
        store(out, GAMMA * width + at, slope * load(b, INVSTD * width))
        store(out, BETA * width + at, drop)


@inline
def _backward(dy, dy_stride, x, x_stride, batch, state, dstate, shares, relu, panels, rows, part,
              thread, threads):
    v = lanes(dy)
    width, floor = panels * v, floor_of(dy, relu)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        own, b = shift(dy, at), shift(batch, at)
        input_gradient(own, dy_stride, shift(x, at), x_stride, own, dy_stride, rows, shares,
                       affine_of(b, shift(state, at), width), floor,
                       slope_of(b, shift(dstate, at), width, part), False)


@kernel
def shard_norm_backward(dy: Write.COLUMNS, dy_stride, x: Read.COLUMNS, x_stride,
                        batch: Read.COLUMNS, state: Read.COLUMNS, dstate: Read.COLUMNS, relu,
                        panels, rows, batch_rows, thread, threads):
    """`dx` over `dy` from the merged dgamma and dbeta."""
    _backward(dy, dy_stride, x, x_stride, batch, state, dstate, None, relu, panels, rows,
              1.0 / batch_rows, thread, threads)


@kernel
def shard_weighted_norm_backward(dy: Write.COLUMNS, dy_stride, x: Read.COLUMNS, x_stride,
                                 batch: Read.COLUMNS, state: Read.COLUMNS, dstate: Read.COLUMNS,
                                 shares: Read.ALL, relu, panels, rows, thread, threads):
    """The same of weighted rows, whose gradients hold their weights already."""
    _backward(dy, dy_stride, x, x_stride, batch, state, dstate, shares, relu, panels, rows, 1.0,
              thread, threads)
